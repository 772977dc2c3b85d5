"""Fixtures of the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import write_csv
from trainings import CROPPED, Train, labelled, make_base, trainer_of


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model."""
    return make_base(tmp_path_factory.mktemp("models") / "tiny-base")


@pytest.fixture(scope="session")
def reviews_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 labelled reviews."""
    texts, labels = labelled(160)
    return write_csv(tmp_path_factory.mktemp("reviews") / "reviews.csv", texts, label=labels)


@pytest.fixture
def train(base: Path, reviews_csv: Path, tmp_path: Path) -> Train:
    """``finetune`` with the tiny base, fp32 and one thread, unless told otherwise; into a folder of the test's own."""
    return trainer_of(base, reviews_csv, tmp_path / "model")


@pytest.fixture(scope="session")
def whole(base: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``train()`` gives, uninterrupted."""
    output = tmp_path_factory.mktemp("whole") / "model"
    trainer_of(base, reviews_csv, output)()
    return output


@pytest.fixture(scope="session")
def cropped(base: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``train(**CROPPED)`` gives, uninterrupted."""
    output = tmp_path_factory.mktemp("cropped") / "model"
    trainer_of(base, reviews_csv, output)(**CROPPED)
    return output
