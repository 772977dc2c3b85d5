"""One device, many tokenizer processes: a PyTorch DataLoader whose sampler is the stream of parts."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from batchsent.errors import DeviceError, ModelError
from batchsent.records import EncodedPart
from batchsent.stop import leave_with

Encode = Callable[[Any], EncodedPart]


def tokenized(texts: Iterable[Any], make_encode: Callable[[], Encode], *, workers: int) -> Iterator[EncodedPart]:
    """Encode each of ``texts`` (review columns) in ``workers`` processes, in order.

    ``make_encode`` is called in each process. Memory is bounded by two parts a process.
    Raises what ``texts`` raises, ModelError from ``make_encode``, and DeviceError if a process is killed.
    """
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
            # A spawned worker would import the caller's __main__ again; macOS cannot fork what uses its frameworks.
            multiprocessing_context="fork" if sys.platform == "linux" else "spawn",
            worker_init_fn=_start_worker,
            collate_fn=_as_it_is,
        )
        iterator = iter(loader)  # forks now, so that the processes work while the caller loads the model
    return _results(iterator)


def _results(iterator: Iterator[EncodedPart | ModelError]) -> Iterator[EncodedPart]:
    while True:
        try:
            encoded = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            # torch has no class of its own for it (_MultiProcessingDataLoaderIter._try_get_data).
            if "DataLoader worker" not in str(error):
                raise
            raise DeviceError(
                "a tokenizer process was killed", "memory for it", "run again to resume, with fewer --workers"
            ) from error
        if isinstance(encoded, ModelError):
            raise encoded
        yield encoded


@contextlib.contextmanager
def _own_child_signals() -> Iterator[None]:
    """Keep SIGCHLD as it is: torch's handler raises the death of a worker wherever the main thread is just then.

    Without it the death is noticed where the worker's result is waited for.
    """
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the job's handler, which came with the fork
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        leave_with(parent.pid)
    # A process a core beats threads: ids freed across threads cost more than they gain.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _as_it_is(item: Any) -> Any:
    return item
