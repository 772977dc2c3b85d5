"""Labelled data: read as ``score`` reads them, so that a record, a text and a label are the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from batchsent.errors import InputError, ShardError
from batchsent.records import Part, Shard, ShardDigest
from batchsent.stages.reader import InspectRequest, ReaderProcess, ReadRequest

_ROWS_PER_PART = 16_384


@dataclass(frozen=True)
class Columns:
    """What is read of each record, and how."""

    text: str
    label: str
    encoding: str
    delimiter: str | None
    limit: int | None = None
    """Records of each shard that are read."""


def read_parts(
    shards: Sequence[Shard], columns: Columns, digest_of: Callable[[str], ShardDigest], check: Callable[[], None]
) -> Generator[Part, None, None]:
    """Every record of ``shards`` with its text and, as a kept column, its label; close what is not read to its end.

    ``check`` is called meanwhile, and may raise. Raises InputError if a shard cannot be read to its end, or does not
    have the columns; before the first part, if that can be told.
    """
    with ReaderProcess(check) as reader:
        for inspection in reader.inspect([_inspection(shard, columns) for shard in shards]):
            if inspection.error is not None:
                raise InputError(inspection.error)
        for shard in shards:
            try:
                for part in reader.read(_request(shard, columns, digest_of(shard.path))):
                    check()
                    yield part
            except ShardError as error:
                raise InputError(*error.args) from error


def _inspection(shard: Shard, columns: Columns) -> InspectRequest:
    return InspectRequest(
        shard, columns.text, (columns.label,), columns.encoding, columns.delimiter, label_column=columns.label
    )


def _request(shard: Shard, columns: Columns, digest: ShardDigest) -> ReadRequest:
    return ReadRequest(
        shard=shard,
        unit="",
        digest=digest,
        done={},
        text_column=columns.text,
        kept=(columns.label,),
        encoding=columns.encoding,
        delimiter=columns.delimiter,
        rows_per_part=_ROWS_PER_PART,
        limit=columns.limit,
    )
