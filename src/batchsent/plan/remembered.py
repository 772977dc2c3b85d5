"""What was planned for a run, kept in the user's cache: so that the run's summary can say how far off the plan was.

A plan writes nothing to DIR. Losing the cache costs that line and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterable
from typing import Any

from batchsent.config import ScoreConfig
from batchsent.errors import BatchsentError
from batchsent.identity import Identity, checksum_of
from batchsent.models.cache import cache_directory
from batchsent.plan.results import Plan
from batchsent.records import Shard
from batchsent.reporting.run_report import RunReport
from batchsent.shares import Share
from batchsent.storage import LocalStore
from batchsent.stores import signature

log = logging.getLogger(__name__)

_FORMAT = 1
_FOLDER = "plans"
_KEPT_PLANS = 100
"""The newest; a plan is a few hundred bytes."""


def plan_key(identity: Identity, config: ScoreConfig, device: str, shards: Iterable[Shard]) -> str:
    """Of the settings, the device and the input as it is now: what a plan and the run that it is for have in common."""
    inputs = sorted([shard.name, shard.size_bytes, shard.version or _modified_ns(shard)] for shard in shards)
    machine = {"device": device, "workers": config.workers, "engine": config.engine}
    return checksum_of({"format": _FORMAT, "settings": identity.fingerprint, "input": inputs, **machine})


def _modified_ns(shard: Shard) -> int:
    found = signature(shard.path)
    return 0 if found is None else found.mtime_ns


def remember(plan: Plan) -> None:
    """Keep what a run will be compared with."""
    store = LocalStore(cache_directory() / _FOLDER)
    content = {
        "planned_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "seconds": plan.seconds.expected,
        "low": plan.seconds.low,
        "high": plan.seconds.high,
        "kept_bytes": plan.kept.size_bytes,
    }
    try:
        store.create()
        for name in _oldest(store):
            store.remove(name)
        store.publish_bytes(f"{plan.key}.json", json.dumps(content).encode())
    except (BatchsentError, OSError) as error:
        log.warning("the plan is not kept, so that the run's summary will not say how far off it was (%s)", error)


def _oldest(store: LocalStore) -> list[str]:
    """All but those that are kept, and one less for the new one."""
    names = [name for name in store.list("") if name.endswith(".json")]
    by_age = sorted(names, key=lambda name: store.modified_seconds(name) or 0.0)
    return by_age[: max(0, len(names) - _KEPT_PLANS + 1)]


def planned_for(
    report: RunReport, identity: Identity, config: ScoreConfig, share: Share, shards: Iterable[Shard]
) -> dict[str, Any]:
    """What was planned for the run of ``report``, if something was, and it began where the plan thought; else empty.

    A rank does a share of what was planned, so there is nothing to compare.
    """
    content: Any = None
    if not share.is_whole or not report.device:
        return {}
    # The cache may be a folder that this user must not even look into; the run is done, and shall be published.
    with contextlib.suppress(BatchsentError, OSError, ValueError):
        store = LocalStore(cache_directory() / _FOLDER)
        if not store.root.exists():
            return {}
        key = plan_key(identity, config, report.device, shards)
        content = json.loads(store.read_bytes(f"{key}.json") or b"null")
    if not isinstance(content, dict) or content.pop("kept_bytes", None) != report.kept_bytes:
        return {}
    is_whole = all(isinstance(content.get(name), float) for name in ("seconds", "low", "high"))
    return content if is_whole and content["seconds"] > 0 else {}
