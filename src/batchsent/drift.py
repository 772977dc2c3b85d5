"""How far a run's predictions have moved from those of another run: the population stability index.

For two sets of rows that are counted over the same bins, with shares a and b, it is the sum over the bins of
(a - b) ln(a / b): the relative entropy of one to the other, both ways. It is 0 for equal shares; by convention, below
0.1 nothing of note has moved, above 0.25 much has (Siddiqi 2006, Credit Risk Scorecards). Between two samples of n and
m rows of one source over k bins, chance alone makes about (k - 1) (1/n + 1/m) of it (Yurdakul 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from batchsent import checkpoint
from batchsent.checkpoint import Manifest
from batchsent.config import ScoreConfig
from batchsent.errors import DriftError, UsageError, without_secrets
from batchsent.stages.planner import place
from batchsent.stores import open_file

MODERATE, LARGE = 0.1, 0.25
"""The conventional limits: above the first something has moved, above the second much has."""


@dataclass(frozen=True)
class Drift:
    """The population stability index of each distribution that the manifest holds."""

    labels: float
    confidence: float
    lengths: float

    def __str__(self) -> str:
        return f"labels {self.labels:.3f}, confidence {self.confidence:.3f}, lengths {self.lengths:.3f}"


def read_baseline(given: str) -> Manifest:
    """The manifest of the run to compare with. Raises UsageError if ``given`` is none, or counts no rows."""
    try:
        with open_file(place(given, "--baseline")) as stream:
            manifest = Manifest.from_json(stream.read())
    except IsADirectoryError:
        raise _unfit(f"{given} is a directory", f"pass {given.rstrip('/')}/{checkpoint.MANIFEST}") from None
    except OSError as error:
        raise _unfit(f"{given} cannot be read ({error.strerror or 'it is not there'})", "check the path") from error
    except ValueError as error:
        raise _unfit(f"{given} is not a manifest, is damaged or is of another version", "choose another") from error
    if not manifest.totals()["row_count"]:
        raise _unfit(f"{given} is of a run that scored no row", "choose another")
    return manifest


def _unfit(found: str, remedy: str) -> UsageError:
    return UsageError(f"--baseline {found}", "the _batchsent/manifest.json of an earlier run", remedy)


@dataclass(frozen=True)
class DriftGate:
    """``--baseline`` and ``--max-drift``."""

    given: str
    """The baseline, as the user names it."""
    baseline: Manifest
    limit: float | None
    """None where the drift is only to be told."""

    @classmethod
    def of(cls, config: ScoreConfig) -> Self | None:
        """Reads the baseline; None if none was given. Raises UsageError as :func:`read_baseline`."""
        if config.baseline is None:
            return None
        return cls(config.baseline, read_baseline(config.baseline), config.max_drift)

    def require_labels(self, labels: Sequence[str]) -> None:
        """Raise UsageError if the baseline has not these labels, so that their shares cannot be compared."""
        found = self.baseline.totals()["label_counts"].keys()
        if found != set(labels):
            raise UsageError(
                f"--baseline {self.given} is of a model with the labels {', '.join(sorted(found))}",
                f"those of this model: {', '.join(sorted(labels))}",
                "choose another manifest, or drop --baseline",
            )

    def told(self, manifest: Manifest) -> dict[str, Any]:
        """How far it has moved, as a run's record has it."""
        drift = drift_between(self.baseline, manifest)
        return {"baseline": without_secrets(self.given), "limit": self.limit, **asdict(drift)}

    def require_little_drift(self, manifest: Manifest, directory: object) -> None:
        """Raise DriftError if what has moved most is above the limit, or nothing could be scored that could move."""
        if self.limit is None:
            return
        totals, drift = manifest.totals(), drift_between(self.baseline, manifest)
        publish = f"'batchsent publish {directory} --accept-drift' publishes them all the same"
        if totals["record_count"] and not totals["row_count"]:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in totals["reject_counts"].items())
            raise DriftError(
                f"not one of {totals['record_count']:,} records could be scored ({reasons})",
                f"predictions to compare with {self.given} (--max-drift)",
                f"look at the input; {publish}",
            )
        if max(vars(drift).values()) > self.limit:
            raise DriftError(
                f"the predictions have moved from {self.given} ({drift})",
                f"no index above {self.limit} (--max-drift)",
                f"look at them; {publish}",
            )


def drift_between(baseline: Manifest, manifest: Manifest) -> Drift:
    """How far ``manifest`` has moved from ``baseline``; both are of models with the same labels."""
    return drift_of(baseline.totals(), manifest.totals())


def drift_of(expected: dict[str, Any], found: dict[str, Any]) -> Drift:
    """The same from what manifests count in all."""
    names = sorted(expected["label_counts"])
    return Drift(
        labels=stability_index(*([counts["label_counts"].get(n, 0) for n in names] for counts in (expected, found))),
        confidence=stability_index(expected["confidence_counts"], found["confidence_counts"]),
        lengths=stability_index(expected["length_counts"], found["length_counts"]),
    )


def stability_index(expected: Sequence[int], found: Sequence[int]) -> float:
    """Population stability index between two counts over the same bins; 0 where one of them counts nothing.

    Bins that are empty in both are left out. To every other half a row is added, so that one which is empty on one side
    weighs as much as the size of that sample allows, and not infinitely.
    """
    from scipy.special import rel_entr

    counts = np.array([expected, found], dtype=np.float64).reshape(2, -1)
    if not counts.sum(axis=1).all():
        return 0.0
    counts = counts[:, counts.any(axis=0)] + 0.5
    a, b = counts / counts.sum(axis=1, keepdims=True)
    return float(rel_entr(a, b).sum() + rel_entr(b, a).sum())
