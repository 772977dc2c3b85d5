"""What the stages of one run share, once DIR is locked and its settings are settled."""

from __future__ import annotations

from dataclasses import dataclass

from batchsent.config import ScoreConfig
from batchsent.digests import DigestCache
from batchsent.identity import Identity
from batchsent.ledger import Ledger
from batchsent.reporting.run_report import RunReport
from batchsent.stop import StopSignal
from batchsent.stores import Store


@dataclass(frozen=True)
class Run:
    """One run: of ``batchsent score``, or of what a replica on a cluster does of it."""

    config: ScoreConfig
    """What was asked for this time."""
    store: Store
    """DIR."""
    identity: Identity
    """What DIR records, and every run on it keeps."""
    ledger: Ledger
    digests: DigestCache
    report: RunReport
    stop: StopSignal
