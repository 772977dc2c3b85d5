"""Fixtures of the plan's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsent.config import NOWHERE, ScoreConfig
from batchsent.plan import passes
from batchsent.plan.results import Plan
from batchsent.plan.run import make_plan

MakePlan = Callable[..., Plan]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "FORWARD_SECONDS", 0.2)


@pytest.fixture
def plan(tiny_model: Path) -> MakePlan:
    """make_plan with the settings of the fixture ``score``."""

    def run(*inputs: Path | str, output: Path | str = NOWHERE, **options: Any) -> Plan:
        defaults: dict[str, Any] = {"model": str(tiny_model), "precision": "fp32", "threads": 1, "device": "cpu"}
        defaults |= {"backend": "torch", "rows_per_part": 50}
        return make_plan(ScoreConfig(inputs=tuple(map(str, inputs)), output=str(output), **(defaults | options)))

    return run
