"""Fixtures of every test."""

from __future__ import annotations

import logging
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchsent.config import ScoreConfig
from batchsent.job import run_job
from batchsent.reporting.run_report import RunReport
from batchsent.shares import ALONE, Share
from batchsent.stop import StopSignal
from support import WORDS, make_bert

Score = Callable[..., RunReport]


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A command that runs in this process handles signals to its end, which is not the end of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def log_settings() -> Iterator[None]:
    """A command in this process sets up logging, which must not decide what the next test captures."""
    logger = logging.getLogger("batchsent")
    level, handlers, propagate = logger.level, [*logger.handlers], logger.propagate
    yield
    logger.setLevel(level)
    logger.handlers[:], logger.propagate = handlers, propagate


@pytest.fixture(autouse=True, scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache is left alone; converted models are shared by the tests."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT classifier that scores thousands of rows a second."""
    return make_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def reviews() -> Callable[[int], list[str]]:
    """n random reviews of 1 to 60 words; the same for the same n, some of them twice."""

    def make(count: int) -> list[str]:
        chooser = random.Random(count)
        texts = [" ".join(chooser.choices(WORDS, k=chooser.randint(1, 60))) for _ in range(count)]
        for index in range(0, count, 17):
            texts[index] = texts[index // 2]
        return texts

    return make


@pytest.fixture
def score(tiny_model: Path) -> Score:
    """run_job with the tiny model, fp32 and one thread, unless told otherwise."""

    def run(
        *inputs: Path | str,
        output: Path,
        load_model: Any = None,
        progress: Any = None,
        share: Share = ALONE,
        stop: StopSignal | None = None,
        **options: Any,
    ) -> RunReport:
        defaults: dict[str, Any] = {"model": str(tiny_model), "precision": "fp32", "threads": 1, "device": "cpu"}
        defaults |= {"backend": "torch", "rows_per_part": 50}
        config = ScoreConfig(inputs=tuple(map(str, inputs)), output=str(output), **(defaults | options))
        return run_job(config, load_model=load_model, progress=progress, share=share, stop=stop)

    return run


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An S3 server behind a proxy that injects faults; see ``objects/cloud.py``."""
    from objects.cloud import running

    with running(tmp_path_factory.mktemp("cloud")) as there:
        yield there
