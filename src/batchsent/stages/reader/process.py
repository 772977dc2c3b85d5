"""The reader's two ends: ``ReaderProcess`` in the job, ``serve`` in the child that runs the parsers.

One shard is read at a time; the answers stream, and the pipe's buffer is the only read-ahead, so the child is never
more than a part ahead of the job. Many are inspected at a time: a message each would wait for the scheduler each, and
objects by several threads: a request each would wait for the store each.
"""

from __future__ import annotations

import itertools
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Self

from batchsent.errors import BatchsentError, DeviceError, ShardError
from batchsent.records import Inspection, Part, Signature
from batchsent.stages.reader.shards import InspectRequest, ReadRequest, inspect_shard, read_parts
from batchsent.stages.reader.survey import Survey, SurveyRequest, survey_shard
from batchsent.stop import leave_with, out_of_reach
from batchsent.stores import signature

MEMORY_LIMIT_BYTES = 4 << 30
"""Address space of the reader beyond what its libraries map at start: 64 MiB parts need a tenth of it."""

Request = ReadRequest | InspectRequest | SurveyRequest

_POLL_SECONDS = 0.1
_INSPECTED_AT_ONCE = 500
"""Shards: few enough that all their names are a small message."""
_OBJECTS_AT_ONCE = 16
"""Threads that wait for a store, each with a few hundred KiB of what it answered."""

_PACKAGE_ROOT = str(Path(__file__).parents[3])
_CHILD = """
import sys
sys.path.append(sys.argv[1])
from batchsent.stages.reader import serve
serve(int(sys.argv[2]), int(sys.argv[3]))
"""


class ReaderProcess:
    """The child. ``check`` is called while waiting for it, and may raise.

    It is started at once, and again at the next request after a crash or an answer that nobody read to its end.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._is_clean = True
        self._start()

    def _start(self) -> None:
        ours, theirs = Pipe()
        # A plain child, not multiprocessing's: that one would import the caller's __main__ again. -P: nothing is
        # imported from the folder that the command happens to run in.
        with out_of_reach():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, _PACKAGE_ROOT, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        theirs.close()
        self._pipe: Connection[Any, Any] = ours
        self._is_clean = True

    def inspect(self, requests: list[InspectRequest]) -> Iterator[Inspection]:
        """One answer a shard, in order; a shard that kills the reader is one that cannot be read."""
        done = 0
        while done < len(requests):
            try:
                for answer in self._ask(_alike(requests[done : done + _INSPECTED_AT_ONCE])):
                    yield _inspection(requests[done], answer)
                    done += 1
            except ShardError as error:
                # Where several are looked at, it may have been another one that killed the reader.
                request = requests[done]
                yield self._inspect_alone(request) if request.shard.version else _inspection(request, error)
                done += 1

    def _inspect_alone(self, request: InspectRequest) -> Inspection:
        try:
            (answer,) = self._ask([request])
        except ShardError as error:
            return _inspection(request, error)
        return _inspection(request, answer)

    def survey(self, request: SurveyRequest) -> Survey:
        """What the columns of a shard hold; a shard that kills the reader is one that cannot be read."""
        try:
            (answer,) = self._ask([request])
        except ShardError as error:
            answer = error
        if isinstance(answer, ShardError):
            return Survey(request.shard, error=str(answer))
        if isinstance(answer, BatchsentError):
            raise answer
        found: Survey = answer
        return found

    def read(self, request: ReadRequest) -> Iterator[Part]:
        """The parts that are not done. Raises ShardError if the shard cannot be read to its end."""
        error: BatchsentError | None = None
        for answer in self._ask([request]):
            if isinstance(answer, BatchsentError):
                error = answer  # the last answer
            else:
                yield answer
        if error is not None:
            raise error

    def _ask(self, requests: Sequence[Request]) -> Iterator[Any]:
        """The answers, errors among them, to one request after the other. Raises ShardError if one kills the reader."""
        if not self._is_clean:
            self.close()
            self._start()
        self._is_clean = False
        answered = 0
        try:
            self._pipe.send(requests)
            while (answer := self._receive()) is not None:
                yield answer
                answered += 1
            self._is_clean = True
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._process.wait()
            if code == -signal.SIGKILL:  # which no parser raises
                self._check()
                raise DeviceError("the reader was killed", "memory for it", "run again to resume") from None
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            raise ShardError(
                f"reading {requests[min(answered, len(requests) - 1)].shard.name} killed the reader ({how})",
                "a file that its parser survives",
                "check the file",
            ) from None

    def _receive(self) -> Any:
        self._check()  # also where every answer is there at once, as with ten thousand small shards
        while not self._pipe.poll(_POLL_SECONDS):
            self._check()
        return self._pipe.recv()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def close(self) -> None:
        """End the child."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _alike(requests: list[InspectRequest]) -> list[InspectRequest]:
    """Of ``requests`` those at the beginning that are files, or objects: these are looked at by several threads."""
    is_object = bool(requests[0].shard.version)
    return list(itertools.takewhile(lambda request: bool(request.shard.version) == is_object, requests))


def _inspection(request: InspectRequest, answer: Inspection | BatchsentError) -> Inspection:
    if isinstance(answer, Inspection):
        return answer
    if isinstance(answer, ShardError):
        return Inspection(request.shard, (), None, error=str(answer))
    raise answer


def serve(descriptor: int, parent: int) -> None:
    """The child's loop: answer requests until the job, process ``parent``, is gone."""
    leave_with(parent)
    _limit_memory()
    pipe: Connection[Any, Any] = Connection(descriptor)
    try:
        while True:
            requests = pipe.recv()
            if len(requests) > 1 and requests[0].shard.version:
                with ThreadPoolExecutor(_OBJECTS_AT_ONCE) as threads:
                    for answer in threads.map(_last_answer, requests):
                        pipe.send(answer)
            else:
                for request in requests:
                    for answer in _answers_or_error(request):
                        pipe.send(answer)
            pipe.send(None)
    except (EOFError, ConnectionError):
        return


def _last_answer(request: InspectRequest) -> Inspection | BatchsentError:
    """There is one to an inspection, or an error."""
    answer: Inspection | BatchsentError
    *_, answer = _answers_or_error(request)
    return answer


def _answers_or_error(request: Request) -> Iterator[Any]:
    """What there is to say to ``request``; an error comes last."""
    try:
        if isinstance(request, SurveyRequest):
            yield survey_shard(request)
        else:
            yield from answers(request)
    except BatchsentError as error:
        yield error
    except MemoryError:
        yield ShardError(
            f"{request.shard.name} needs more memory than the reader may use",
            f"a file that is read within {MEMORY_LIMIT_BYTES >> 30} GiB",
            "write it with smaller row groups or fields",
        )
    except Exception as error:  # noqa: BLE001 - whatever a parser raises is about this shard
        # Not its message, which may quote a review: this one ends in the manifest and in logs.
        found = f"{request.shard.name} cannot be read ({type(error).__name__})"
        yield ShardError(found, "a file that its parser understands", "check the file")


def _limit_memory() -> None:
    if sys.platform != "linux":
        return  # elsewhere RLIMIT_AS does not hold what it promises
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        mapped = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def answers(request: ReadRequest | InspectRequest) -> Iterator[Part | Inspection]:
    """What the reader answers to a request. Raises ShardError."""
    if isinstance(request, InspectRequest):
        yield inspect_shard(request)
        return
    _require_unchanged(request)
    began = time.perf_counter()
    for part in read_parts(request):
        # The bytes of this part were read before this look at the file, and hashed before that: if it looks
        # as it did then, they are the bytes that the unit is named after.
        _require_unchanged(request)
        yield replace(part, read_seconds=time.perf_counter() - began)
        began = time.perf_counter()


def _require_unchanged(request: ReadRequest) -> None:
    found: Signature | None = signature(request.shard.path)
    if found != request.digest.signature:
        what = "is gone" if found is None else "changed"
        raise ShardError(
            f"{request.shard.name} {what} while it was scored",
            "input that holds still",
            "run again to score what is there now",
        )
