"""A plan of objects, for a bucket: rows from their footers, what is kept from their versions, nothing put."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.config import ScoreConfig
from batchsent.plan import passes
from batchsent.plan.results import Plan
from batchsent.plan.run import make_plan
from batchsent.reporting.run_report import RunReport
from faults.inline import KillAfter, KilledError
from objects.cloud import Cloud
from support import write_csv

pytestmark = pytest.mark.process

Reviews = Callable[[int], list[str]]


def test_what_a_bucket_holds_and_what_is_kept_in_another(
    cloud: Cloud,
    score: Callable[..., RunReport],
    tiny_model: Path,
    tmp_path: Path,
    reviews: Reviews,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passes, "FORWARD_SECONDS", 0.2)
    folder = tmp_path / "dumps"
    write_csv(folder / "a.csv", reviews(130))
    pq.write_table(pa.table({"text": reviews(170)}), folder / "b.parquet", row_group_size=60)
    source, out = cloud.put_all(folder, f"{cloud.bucket()}/dumps"), f"{cloud.bucket()}/out"

    def plan() -> Plan:
        options: dict[str, Any] = {"model": str(tiny_model), "precision": "fp32", "threads": 1, "device": "cpu"}
        options |= {"backend": "torch", "rows_per_part": 50}
        return make_plan(ScoreConfig(inputs=(source,), output=out, **options))

    fresh = plan()
    assert not cloud.names(out)
    assert fresh.texts is not None
    assert (fresh.shard_count, fresh.texts.record_count.expected, fresh.texts.part_count) == (2, 300, 7)
    with pytest.raises(KilledError):
        score(source, output=out, progress=KillAfter(4))
    before = cloud.names(out)
    resumed = plan()
    assert cloud.names(out) == before
    report = score(source, output=out)
    assert resumed.texts is not None
    assert resumed.kept.size_bytes == report.kept_bytes
    assert resumed.kept.record_count == 300 - report.record_count > 0
    assert resumed.texts.part_count == report.part_count
    assert plan().is_done
