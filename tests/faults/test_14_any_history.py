"""Fault 14: any history of runs, kills, changes and damage that hypothesis can think of."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from batchsent.storage import LocalStore
from batchsent.verify import verify
from faults.inline import Inline
from faults.system_calls import DeadError, Death, intercept
from faults.tally import Injections
from support import WORDS, published, write_csv

EXAMPLES = 10
"""A block of them is one injection."""
STEPS = 8

NAMES = st.sampled_from(["a", "b", "sub/c"])
CONTENTS = st.integers(0, 5)
CHOICES = st.floats(0, 1, exclude_max=True)


def _write(source: Path, name: str, content: int) -> None:
    chooser = random.Random(content)
    texts = [" ".join(chooser.choices(WORDS, k=chooser.randint(1, 9))) for _ in range(7 * content + 1)]
    write_csv(source / f"{name}.csv", [*texts, ""])


def _damage(path: Path, choice: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(choice * len(content))] ^= 0x10
    path.write_bytes(content)


class _AnyHistory(RuleBasedStateMachine):
    """One DIR: whole whenever it says that it is published, and one more run always makes it what it should be."""

    inline: Inline

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._source, self._out = self._folder / "in", self._folder / "out"
        self._max_length = 16
        self._damaged_success: tuple[int, int] | None = None
        """The _SUCCESS that was there when an output was damaged: until it goes, it does not hold."""
        _write(self._source, "a", 3)

    def _score(self, output: Path, **options: Any) -> None:
        self.inline.score(self._source, output=output, max_length=self._max_length, keep=("text",), **options)

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self._out.glob(pattern))

    def _success(self) -> tuple[int, int] | None:
        path = self._out / "_SUCCESS"
        return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None

    @rule()
    def run(self) -> None:
        self._score(self._out)
        assert self._success() is not None

    @rule(index=st.integers(0, 120), moment=st.sampled_from(["before", "after"]))
    def killed_run(self, index: int, moment: str) -> None:
        death = Death(index, moment)
        with pytest.MonkeyPatch.context() as patch:
            intercept(death, patch.setattr)
            try:
                self._score(self._out)
            except DeadError:
                assert death.happened

    @rule(name=NAMES, content=CONTENTS)
    def add_or_change_shard(self, name: str, content: int) -> None:
        _write(self._source, name, content)

    @precondition(lambda self: len(list(self._source.rglob("*.csv"))) > 1)
    @rule(choice=CHOICES)
    def remove_shard(self, choice: float) -> None:
        shards = sorted(self._source.rglob("*.csv"))
        shards[int(choice * len(shards))].unlink()

    @precondition(lambda self: self._files("_batchsent/parts/*/*"))
    @rule(which=CHOICES, where=CHOICES)
    def damage_part_or_entry(self, which: float, where: float) -> None:
        files = self._files("_batchsent/parts/*/*")
        _damage(files[int(which * len(files))], where)

    @precondition(lambda self: self._files("**/*.parquet"))
    @rule(which=CHOICES, where=CHOICES)
    def damage_output(self, which: float, where: float) -> None:
        files = self._files("**/*.parquet")
        _damage(files[int(which * len(files))], where)
        self._damaged_success = self._success()

    @rule()
    def delete_success(self) -> None:
        (self._out / "_SUCCESS").unlink(missing_ok=True)

    @rule(max_length=st.sampled_from([8, 16]))
    def restart(self, max_length: int) -> None:
        self._max_length = max_length
        self._score(self._out, restart=True)

    @invariant()
    def success_tells_the_truth(self) -> None:
        success = self._success()
        if success is not None and success != self._damaged_success:
            assert verify(LocalStore(self._out)).problems == ()

    def teardown(self) -> None:
        try:
            self._score(self._out)
            self._score(self._folder / "fresh")
            assert published(self._out) == published(self._folder / "fresh")
            assert not self._files("_batchsent/tmp/*")
        finally:
            shutil.rmtree(self._folder)


@pytest.mark.in_process
@pytest.mark.fault(14, f"fuzzing: any history of runs, kills, changes and damage, {EXAMPLES} examples each")
def test_14_any_history(injections: Injections, inline: Inline) -> None:
    quiet = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    for block in injections.of(range(100), quick=1):
        machine = type("AnyHistory", (_AnyHistory,), {"inline": inline})
        run_state_machine_as_test(seed(block)(machine), settings=quiet)
