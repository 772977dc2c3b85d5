"""The arithmetic of a plan: which parts are drawn, what passes cost, how long it takes altogether."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.plan.forecast import Machine, expected_seconds
from batchsent.plan.passes import _fit
from batchsent.plan.places import _systematic, inclusion_probabilities
from batchsent.plan.results import Between, Kept, Memory, Plan, Sample, Texts
from batchsent.plan.table import histogram_lines, plan_lines

SIZES = st.lists(st.floats(1, 1e6), min_size=1, max_size=60).map(np.array)


@given(SIZES, st.integers(1, 80))
def test_probabilities_add_up_to_what_is_drawn(sizes: Any, wanted: int) -> None:
    count = min(wanted, len(sizes))
    probabilities = inclusion_probabilities(sizes, count)
    assert probabilities.sum() == pytest.approx(count)
    assert (probabilities > 0).all()
    assert (probabilities <= 1).all()
    drawn = _systematic(probabilities, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == len(drawn)
    assert abs(len(drawn) - count) <= 1
    assert set(np.flatnonzero(probabilities > 1 - 1e-9)) <= set(drawn.tolist()), "what is certain is drawn"


def test_what_is_drawn_stands_for_all() -> None:
    random = np.random.default_rng(1)
    sizes = random.pareto(1.5, 300) + 1
    values = sizes * random.uniform(0.5, 1.5, 300)
    probabilities = inclusion_probabilities(sizes, 20)
    sums = []
    for seed in range(2_000):
        drawn = _systematic(probabilities, np.random.default_rng(seed))
        sums.append((values[drawn] / probabilities[drawn]).sum())
    assert np.mean(sums) == pytest.approx(values.sum(), rel=0.01)


def test_the_cost_of_passes_is_found_again() -> None:
    random = np.random.default_rng(2)
    longest = np.linspace(512, 8, 12)
    rows = np.floor(1_024 / longest)
    features = np.stack([np.full(12, 6.0), 6 * rows * longest, 6 * rows * longest**2], axis=1)
    true = np.array([2e-3, 1e-4, 5e-8])
    exact, spread = _fit(features, features @ true)
    assert exact == pytest.approx(true, rel=1e-3)
    assert spread < 1e-6
    noisy = features @ true * random.normal(1, 0.05, 12)
    found, spread = _fit(features, noisy)
    assert (found >= 0).all()
    assert (features @ found).sum() == pytest.approx(noisy.sum()), "the sum is what was measured"
    assert 0.005 < spread < 0.03


def test_one_measured_run_of_passes_is_enough() -> None:
    coefficients, spread = _fit(np.array([[1.0, 100.0, 1e4]]), np.array([0.5]))
    assert np.array([1.0, 100.0, 1e4]) @ coefficients == pytest.approx(0.5)
    assert spread == 0


STAGES = {
    "reading": 10.0,
    "tokenizing": 40.0,
    "forward": 100.0,
    "new shapes": 5.0,
    "restoring": 3.0,
    "writing": 8.0,
    "hashing": 2.0,
}


def test_stages_run_side_by_side_on_a_gpu_and_share_the_cores_of_a_cpu() -> None:
    gpu = Machine(cores=16, is_gpu=True, threads=16, tokenizer_count=12)
    assert expected_seconds(STAGES, 7, gpu, Sample()).expected == pytest.approx(7 + 108)
    starved = Machine(cores=4, is_gpu=True, threads=4, tokenizer_count=1)
    assert expected_seconds(STAGES | {"tokenizing": 400.0}, 7, starved, Sample()).expected == pytest.approx(7 + 400)
    cpu = Machine(cores=2, is_gpu=False, threads=2, tokenizer_count=1)
    assert expected_seconds(STAGES, 7, cpu, Sample()).expected == pytest.approx(7 + (2 * 105 + 60) / 2)
    spare = Machine(cores=8, is_gpu=False, threads=2, tokenizer_count=1)
    assert expected_seconds(STAGES, 7, spare, Sample()).expected == pytest.approx(7 + 108)


def test_the_range_grows_with_what_is_not_known() -> None:
    here = Machine(cores=2, is_gpu=False, threads=2, tokenizer_count=1)
    sure, unsure = (
        expected_seconds(STAGES, 7, here, Sample(length_error=error, timing_error=error)) for error in (0.0, 0.1)
    )
    assert sure.expected == unsure.expected
    assert unsure.low < sure.low < sure.expected < sure.high < unsure.high


def plan_of(**values: Any) -> Plan:
    texts = Texts(
        Between(1_000_000, 1_000_000, 1_000_000), 9e7, 92.4, (0, 10, 30, 0, 60), 0.01, 0.02, 0.1, 0.0, 0.03, 489, 90
    )
    defaults: dict[str, Any] = {
        "key": "",
        "model": "embedded",
        "backend": "torch",
        "precision": "fp16",
        "batching": "padded",
        "device": "cuda:0",
        "threads": 4,
        "batch_tokens": 33_792,
        "rows_per_part": 16_384,
        "max_length": 512,
        "shard_count": 3,
        "input_bytes": 10**9,
        "kept": Kept(),
        "seconds": Between(7_200, 6_480, 7_920),
        "startup_seconds": 20.0,
        "stage_seconds": {"forward": 7_100.0, "reading": 0.2},
        "texts": texts,
        "memory": Memory(2 * 10**9, 10**8, 10**9, 12, 10**10),
        "sample": Sample(4_096, 8, 3, 80, 9.0, length_error=0.02, timing_error=0.01),
    }
    return Plan(**(defaults | values))


def test_hours_and_cost() -> None:
    lines = dict(plan_lines(plan_of(), 2.5))
    assert lines["hours"] == "2.00, between 1.80 and 2.20 GPU-hours"
    assert lines["cost"] == "5.00, between 4.50 and 5.50 at 2.5 an hour"
    assert lines["time"] == "2 h 00 min, between 1 h 48 min and 2 h 12 min, 20 s of it start-up"
    assert "cost" not in dict(plan_lines(plan_of()))
    assert "machine-hours" in dict(plan_lines(plan_of(device="cpu")))["hours"]


def test_several_devices_share_all_but_the_start() -> None:
    found = plan_of(replicas=(4, 16))
    assert found.seconds_on(4).expected == pytest.approx(20 + 7_180 / 4)
    told = [value for name, value in plan_lines(found) if "devices like this one" in value]
    assert [line.split()[1] for line in told] == ["4", "16"]


def test_what_a_person_has_to_know_is_said() -> None:
    said = "\n".join(
        value for _, value in plan_lines(plan_of(failed_shards={"a.csv": "a.csv is damaged"}, is_held=True))
    )
    assert "a.csv is damaged" in said
    assert "exit 3" in said
    assert "exit 75" in said
    kept = Kept(2, 500, 10**8, 1, 10**9)
    said = "\n".join(value for _, value in plan_lines(plan_of(kept=kept)))
    assert "2 shards finished, 500 records" in said
    assert "only the size was looked at" in said
    assert "1.0 GB of other shards have to be hashed" in said


def test_a_busy_machine_is_told() -> None:
    said, unsaid = ("\n".join(v for _, v in plan_lines(plan_of(load=load, cores=2))) for load in (5.3, 1.9))
    assert "load 5.3 on 2 processors" in said
    assert "busy" not in unsaid


def test_a_histogram() -> None:
    assert histogram_lines(()) == []
    lines = histogram_lines((0, 10, 30, 0, 60))
    assert [line.split("%")[0].split()[-1] for line in lines] == ["10.0", "30.0", "0.0", "60.0"]
    assert [line.count("#") for line in lines] == [7, 20, 0, 40]
    assert lines[0].split()[:3] == ["5", "to", "8"]
    assert histogram_lines((*[0] * 20, 5))[0].split()[:2] == ["above", "8,192"]
