"""One device, many tokenizer processes: a PyTorch DataLoader whose sampler is the stream of parts."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import queue
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from batchsent.errors import DeviceError, ModelError
from batchsent.records import EncodedPart, Part
from batchsent.schema import TEXT
from batchsent.stop import StopSignal, leave_with

Encode = Callable[[Any], EncodedPart]
Encoded = tuple[Part, EncodedPart]

_POLL_SECONDS = 0.1
_CLOSE_SECONDS = 2.0
"""For the thread to notice that it is over; it has nothing to finish."""


@contextlib.contextmanager
def tokenizing(
    parts: Iterable[Part], make_encode: Callable[[], Encode], *, workers: int, pin_memory: bool, stop: StopSignal
) -> Iterator[Iterator[Encoded]]:
    """Encode ``parts`` in ``workers`` processes; gives them back in order, each with its batches.

    ``make_encode`` is called in each process; ``pin_memory`` is for a GPU. Memory is bounded by two parts a process
    and one that waits.
    Taking raises what ``parts`` raises, ModelError from ``make_encode``, DeviceError if a process died,
    StoppedError after a signal; within a moment each, whatever the processes are doing.
    """
    children = set(multiprocessing.active_children())
    waiting: deque[Part] = deque()
    # Forks now, so that the processes work while the caller loads the model.
    ahead = _Ahead(_loaded(_texts(parts, waiting), make_encode, workers, pin_memory))
    processes = set(multiprocessing.active_children()) - children

    def check() -> None:
        stop.check()
        for process in processes:
            if process.exitcode:
                raise _died(process.exitcode)

    try:
        yield ((waiting.popleft(), encoded) for encoded in ahead.items(check))
    except BaseException:
        stop.abandon()
        for process in processes:
            process.kill()  # they hold nothing that would be missed
        raise
    finally:
        ahead.close()


def _texts(parts: Iterable[Part], waiting: deque[Part]) -> Iterator[Any]:
    """The text alone travels; the part waits here for its batches."""
    for part in parts:
        waiting.append(part)
        yield part.records.column(TEXT)


def _loaded(
    texts: Iterable[Any], make_encode: Callable[[], Encode], workers: int, pin_memory: bool
) -> Iterator[EncodedPart]:
    with warnings.catch_warnings(), _own_child_signals():
        # Advice to use no more workers than processors; --workers is the user's to choose.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        # Python 3.12 warns of forking with threads about; ours start after the workers.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        loader: DataLoader[EncodedPart | ModelError] = DataLoader(
            _Encoding(make_encode),
            batch_size=None,  # a part is one item, and brings its own batches
            sampler=_Stream(texts),
            num_workers=workers,
            prefetch_factor=2,
            pin_memory=pin_memory,
            # A spawned worker would import the caller's __main__ again; macOS cannot fork what uses its frameworks.
            multiprocessing_context="fork" if sys.platform == "linux" else "spawn",
            worker_init_fn=_start_worker,
            collate_fn=_as_it_is,
        )
        with _garbage_left_behind():
            iterator = iter(loader)
    return (_not_an_error(item) for item in iterator)


@contextlib.contextmanager
def _garbage_left_behind() -> Iterator[None]:
    """Fork without giving the children anything of this process to collect.

    Of an earlier run there may be cyclic garbage, such as a compiled OpenVINO model: to destroy it where its threads
    are not, waits for ever.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _not_an_error(item: EncodedPart | ModelError) -> EncodedPart:
    if isinstance(item, ModelError):
        raise item
    return item


class _Ahead:
    """Takes from an iterator on a thread of its own, one item ahead of who consumes them.

    The thread may wait for ever: a worker that is killed leaves half a message in the pipe of results, and the pipe
    does not end, because this process holds its other end too (torch's own check of the workers comes too late
    there). Whoever consumes is not caught in that; the thread is a daemon and goes with the process. That the
    next part is read while the device computes is the other reason for it.
    """

    def __init__(self, iterator: Iterator[EncodedPart]) -> None:
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[EncodedPart | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._answer, args=(iterator,), name="ahead", daemon=True)

    def _answer(self, iterator: Iterator[EncodedPart]) -> None:
        while self._asked.get():
            try:
                self._answers.put(next(iterator, None))
            except BaseException as error:  # noqa: BLE001 - raised again where the item is taken
                self._answers.put(error)

    def items(self, check: Callable[[], None]) -> Iterator[EncodedPart]:
        """What the iterator gives and raises; ``check`` is called while waiting, and may raise."""
        self._thread.start()
        self._asked.put(True)
        while True:
            answer = self._await(check)
            if isinstance(answer, BaseException):
                check()  # that a process died says more than what torch makes of it
                raise answer
            if answer is None:
                return
            self._asked.put(True)
            yield answer

    def _await(self, check: Callable[[], None]) -> EncodedPart | BaseException | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=_POLL_SECONDS)
            check()

    def close(self) -> None:
        """Let the thread end; whoever's iterator it was may take it apart then."""
        if self._thread.is_alive():
            self._asked.put(False)
            self._thread.join(_CLOSE_SECONDS)


def _died(exit_code: int) -> DeviceError:
    how = signal.Signals(-exit_code).name if exit_code < 0 else f"exit status {exit_code}"
    return DeviceError(
        f"a tokenizer process was killed ({how})", "memory for it", "run again to resume, with fewer --workers"
    )


@contextlib.contextmanager
def _own_child_signals() -> Iterator[None]:
    """Keep SIGCHLD as it is: torch's handler raises the death of a worker wherever the main thread is just then."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)


class _Stream(Sampler[Any]):
    """A sampler may yield any object: this one yields the texts themselves."""

    def __init__(self, texts: Iterable[Any]) -> None:
        self._texts = texts

    def __iter__(self) -> Iterator[Any]:
        return iter(self._texts)


class _Encoding(Dataset[EncodedPart | ModelError]):
    """Maps a part's texts to its batches, with a tokenizer made at the first of them."""

    def __init__(self, make_encode: Callable[[], Encode]) -> None:
        self._make_encode = make_encode
        self._encode: Encode | None = None

    def __getitem__(self, texts: Any) -> EncodedPart | ModelError:
        try:
            if self._encode is None:
                self._encode = self._make_encode()
            return self._encode(texts)
        except ModelError as error:
            # DataLoader would wrap it in a traceback of its own.
            return error


def _start_worker(_worker_index: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the job decides when to stop
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        leave_with(parent.pid)
    # A process a core beats threads: ids freed across threads cost more than they gain.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _as_it_is(item: Any) -> Any:
    return item
