"""``batchsent verify``: every published file read again and held against what vouches for it.

_SUCCESS vouches for the manifest, the manifest for the settings and for every file. No recorded hash is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent import checkpoint
from batchsent.checkpoint import FileEntry, Manifest, ShardEntry
from batchsent.errors import BatchsentError, IncompleteError
from batchsent.identity import Identity
from batchsent.reporting.status import not_ours
from batchsent.storage import hash_stream
from batchsent.stores import Store


@dataclass(frozen=True)
class Verification:
    """What was read, and what is wrong with it."""

    problems: tuple[str, ...]
    """One line each; empty if every byte is as it was published."""
    file_count: int
    row_count: int
    size_bytes: int


def verify(store: Store) -> Verification:
    """Read everything that DIR published. Writes nothing.

    Raises UsageError if DIR is not a batchsent directory, IncompleteError if it is not published.
    """
    success, data = store.read_bytes(checkpoint.SUCCESS), store.read_bytes(checkpoint.MANIFEST)
    config = store.read_bytes(checkpoint.CONFIG)
    if success is None and data is None and config is None:
        raise not_ours(store)
    if success is None:
        raise IncompleteError(
            f"{store.root} is not published: it has no {checkpoint.SUCCESS}",
            "the output of a run that has published it",
            f"'batchsent status {store.root}' says why, and what to do",
        )
    if data is None:
        return Verification((f"{checkpoint.MANIFEST} is missing",), 1, 0, len(success))
    try:
        manifest = Manifest.from_json(data)
    except ValueError as error:
        return Verification((f"{checkpoint.MANIFEST} is damaged ({error})",), 2, 0, len(success) + len(data))
    problems = [
        *_manifest_problems(manifest, data, success),
        *_config_problems(config, manifest),
        *(problem for entry in manifest.shards for problem in _shard_problems(store, entry)),
        *_unlisted(store, manifest),
    ]
    files = [file for entry in manifest.shards for file in entry.files]
    return Verification(
        problems=tuple(problems),
        file_count=len(files) + 3,
        row_count=sum(entry.row_count for entry in manifest.shards),
        size_bytes=sum(file.size_bytes for file in files) + len(success) + len(data) + len(config or b""),
    )


def _manifest_problems(manifest: Manifest, data: bytes, success: bytes) -> Iterator[str]:
    if success != checkpoint.success_line(data).encode():
        # The checksum leaves white space out, so the bytes tell which of the two files is the damaged one.
        changed = checkpoint.SUCCESS if data == manifest.to_json() else checkpoint.MANIFEST
        yield f"{changed} was changed: {checkpoint.SUCCESS} is not the SHA-256 of {checkpoint.MANIFEST}"
    for shard in manifest.failed:
        yield f"{checkpoint.MANIFEST} lists {shard} as failed, so nothing should have been published"
    if manifest.audit is not None and not manifest.audit.is_passed:
        yield f"{checkpoint.MANIFEST} has an audit that failed, so nothing should have been published"


def _config_problems(config: bytes | None, manifest: Manifest) -> Iterator[str]:
    if config is None:
        yield f"{checkpoint.CONFIG} is missing"
        return
    try:
        identity = Identity.from_json(config)
        is_unchanged, fingerprint = identity.to_json() == config, identity.fingerprint
    except (ValueError, TypeError, KeyError):
        yield f"{checkpoint.CONFIG} is damaged: it is not the settings of a run"
        return
    if fingerprint != manifest.fingerprint:
        yield f"{checkpoint.CONFIG} was changed: its settings are not those that the manifest was made with"
    elif not is_unchanged:
        yield f"{checkpoint.CONFIG} was changed: the same settings, but not as they were written"


def _shard_problems(store: Store, entry: ShardEntry) -> Iterator[str]:
    reject_count = sum(entry.reject_counts.values())
    for file, row_count in ((entry.output, entry.row_count), (entry.rejects, reject_count)):
        problem = _file_problem(store, file, row_count)
        if problem is not None:
            yield problem
    if entry.row_count + reject_count != entry.record_count:
        yield (
            f"{entry.shard}: {entry.row_count:,} scored and {reject_count:,} rejected rows are not its "
            f"{entry.record_count:,} records"
        )


def _file_problem(store: Store, file: FileEntry, row_count: int) -> str | None:
    """What is wrong with a listed file; None if nothing is."""
    try:
        # Not a file also where a pipe or a folder has its name: neither can be read.
        found = store.signature(file.path) if store.exists(file.path) else None
        if found is None:
            return f"{file.path} is missing"
        size_bytes = found.size_bytes
        if size_bytes != file.size_bytes:
            return f"{file.path} has {size_bytes:,} bytes instead of {file.size_bytes:,}"
        with store.open(file.path) as stream:
            sha256 = hash_stream(stream)
            if sha256 != file.sha256:
                return f"{file.path} was changed: its SHA-256 is {sha256[:12]}... instead of {file.sha256[:12]}..."
            stream.seek(0)
            rows = pq.read_metadata(stream).num_rows
    except (OSError, pa.ArrowException, BatchsentError) as error:
        return f"{file.path} cannot be read ({error})"
    return None if rows == row_count else f"{file.path} has {rows:,} rows; the manifest counts {row_count:,}"


def _unlisted(store: Store, manifest: Manifest) -> Iterator[str]:
    """Whoever reads all of DIR would read these too."""
    listed = {file.path for entry in manifest.shards for file in entry.files}
    for name in [*store.outputs(), *store.outputs(checkpoint.REJECTS)]:
        if name not in listed:
            yield f"{name} is not in the manifest: it does not belong to what was published"
