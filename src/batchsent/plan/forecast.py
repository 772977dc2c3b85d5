"""From a few stretches of the input, and what was measured of them, to all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchsent.distributions import LENGTH_EDGES
from batchsent.plan.commits import CommitCosts
from batchsent.plan.kept import Remainder
from batchsent.plan.passes import Batched, PassCosts
from batchsent.plan.results import Between, Sample, Texts

MACHINE_ERROR = 0.05
"""Of the time, whatever was measured: some seconds of passes do not tell what else the machine will do meanwhile."""
STARTUP_ERROR = 0.2
UNSEEN_ERROR = 0.1
"""Of the work in a record, where only the beginning of a file could be read: nobody knows what is further on."""
_SIGMAS = 2
_LAST_SHAPES = 500
"""Last batches of parts have shapes of their own; so many at most, because they come again."""


@dataclass(frozen=True)
class Machine:
    """How much of it a run may use."""

    cores: int
    is_gpu: bool
    threads: int
    """Of the model, on a CPU."""
    tokenizer_count: int


class Forecast:
    """Sums over the whole input."""

    def __init__(self, parts: list[Batched], remainders: list[Remainder], costs: PassCosts) -> None:
        self._parts, self._costs = _weighted(parts, remainders), costs
        self._remainders = remainders
        self._uncounted_bytes = sum(
            remainder.shard.size_bytes - remainder.kept_bytes
            for remainder in remainders
            if remainder.layout is None and not remainder.is_finished
        )
        self._counted_rows = sum(remainder.open_rows for remainder in remainders if remainder.layout is not None)

    def _sum(self, value: str) -> float:
        return float(sum(part.stretch.weight * getattr(part.stretch, value) for part in self._parts))

    @property
    def record_count(self) -> float:
        """That are left."""
        return self._counted_rows + sum(
            part.stretch.weight * part.stretch.record_count for part in self._parts if not part.stretch.is_counted
        )

    @property
    def open_shard_count(self) -> int:
        """Shards of which something is left."""
        return sum(not remainder.is_finished for remainder in self._remainders)

    @property
    def part_count(self) -> float:
        """Parts that are left."""
        counted = sum(len(remainder.open_parts) for remainder in self._remainders)
        others = sum(remainder.layout is None and not remainder.is_finished for remainder in self._remainders)
        return counted + max(others, sum(part.stretch.weight for part in self._parts if not part.stretch.is_counted))

    # --- texts

    def texts(self, sample: Sample) -> Texts:
        """What the sample says of all texts."""
        records = self.record_count
        spread = _SIGMAS * self._density_error()
        is_exact = sample.is_whole or not self._uncounted_bytes
        uncounted = records - self._counted_rows
        low, high = (records, records) if is_exact else (records - spread * uncounted, records + spread * uncounted)
        lengths, weights, truncated = self._records()
        scorable, texts = float(weights.sum()) or 1.0, self._sum("text_count")
        positions = sum(p.stretch.weight * (int(p.lengths.sum()) + p.padding_count) for p in self._parts)
        tokens = sum(p.stretch.weight * int(p.lengths.sum()) for p in self._parts)
        encoded_tokens = sum(p.stretch.weight * sum(map(len, p.stretch.encoded.ids)) for p in self._parts) or 1.0
        unknown = sum(p.stretch.weight * p.stretch.encoded.unknown_token_count for p in self._parts)
        bins = np.searchsorted(LENGTH_EDGES, lengths, side="left")
        counts = np.bincount(bins, weights, minlength=len(LENGTH_EDGES) + 1)
        return Texts(
            record_count=Between(records, max(0.0, low), high),
            token_count=tokens,
            mean_tokens=float(lengths @ weights) / scorable,
            length_counts=tuple(np.rint(counts).astype(int).tolist()),
            rejected_share=_missing_share(texts, self._sum("record_count")),
            truncated_share=float(truncated @ weights) / scorable,
            duplicate_share=_missing_share(self._sum("distinct_count"), texts),
            unknown_token_share=unknown / encoded_tokens,
            padding_share=_missing_share(tokens, positions),
            part_count=round(self.part_count),
            pass_count=round(sum(part.stretch.weight * len(part.ends) for part in self._parts)),
        )

    def _records(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every record whose text was tokenized: its tokens, how many it stands for, whether it is cut."""
        lengths, weights, truncated = [np.empty(0)], [np.empty(0)], [np.empty(0)]
        for part in self._parts:
            texts, stretch = part.stretch.encoded, part.stretch
            own = texts.text_of_record[texts.text_of_record >= 0]
            if not len(own):
                continue
            ends = np.cumsum(texts.window_counts)
            sizes = np.array([len(ids) for ids in texts.ids])
            tokens = np.add.reduceat(sizes, ends - texts.window_counts)
            lengths.append(tokens[own])
            weights.append(np.full(len(own), stretch.weight * stretch.text_count / len(own)))
            truncated.append(texts.truncated[own].astype(np.float64))
        return np.concatenate(lengths), np.concatenate(weights), np.concatenate(truncated)

    # --- time

    def stage_seconds(self, commits: CommitCosts, hash_seconds: float) -> dict[str, float]:
        """Of each stage, were it alone."""
        records, parts, shards = self.record_count, self.part_count, self.open_shard_count
        tokenizing = sum(
            part.stretch.weight * part.stretch.encoded.encode_seconds / part.stretch.share_encoded
            for part in self._parts
        )
        writing = parts * commits.part.once + records * commits.part.each
        writing += shards * commits.shard.once + records * commits.shard.each
        return {
            "reading": self._sum("read_seconds"),
            "tokenizing": float(tokenizing),
            "forward": sum(part.stretch.weight * self._costs.seconds_of(part) for part in self._parts),
            "new shapes": self._shape_count() * self._costs.shape_seconds,
            "restoring": parts * commits.restoring.once + records * commits.restoring.each,
            "writing": writing,
            "hashing": hash_seconds,
        }

    def _shape_count(self) -> float:
        """Different shapes that a run will meet: those of full batches, which come again, and last ones of parts."""
        full = {shape for part in self._parts for shape in part.shapes[:-1]}
        return len(full) + min(self.part_count, _LAST_SHAPES)

    # --- how sure

    def sample(self) -> Sample:
        """What it rests on, and what may be wrong."""
        stretches = [part.stretch for part in self._parts]
        is_whole = sum(stretch.record_count for stretch in stretches) == round(self.record_count)
        is_encoded = all(stretch.share_encoded == 1 for stretch in stretches)
        text_error = 0.0 if is_encoded else self._single_error()
        return Sample(
            text_count=sum(len(stretch.encoded.window_counts) for stretch in stretches),
            stretch_count=len(stretches),
            shard_count=len({stretch.shard for stretch in stretches}),
            pass_count=self._costs.pass_count,
            pass_seconds=self._costs.seconds,
            is_whole=is_whole and is_encoded,
            is_beginning=not is_whole and any(stretch.is_beginning for stretch in stretches),
            length_error=text_error if is_whole else self._work_error(),
            timing_error=self._costs.spread,
        )

    def _work_error(self) -> float:
        """Standard error of the work, as a share: from how much the stretches differ in it."""
        seconds = np.array([part.stretch.weight * self._costs.seconds_of(part) for part in self._parts])
        sizes = np.array([part.stretch.weight * part.stretch.size for part in self._parts])
        return self._ratio_error(seconds, sizes)

    def _density_error(self) -> float:
        """The same of records in a byte, where they are not counted."""
        others = [part.stretch for part in self._parts if not part.stretch.is_counted]
        rows = np.array([stretch.weight * stretch.record_count for stretch in others])
        return self._ratio_error(rows, np.array([stretch.weight * stretch.size for stretch in others]))

    def _ratio_error(self, values: np.ndarray, sizes: np.ndarray) -> float:
        count = len(values)
        unseen = UNSEEN_ERROR * self._beginning_share()
        if not count or not values.sum():
            return unseen
        if count == 1:
            return max(unseen, self._single_error())
        rest = values - values.sum() / sizes.sum() * sizes
        error = float(np.sqrt(count / (count - 1) * (rest**2).sum()) / values.sum())
        return float(np.hypot(error, unseen))

    def _single_error(self) -> float:
        """From the texts of the one stretch there is."""
        lengths, _, _ = self._records()
        return float(lengths.std() / max(1.0, lengths.mean()) / np.sqrt(max(1, len(lengths)))) if len(lengths) else 0.0

    def _beginning_share(self) -> float:
        """Of the records that are left: those behind the beginning of a file that could be read only there."""
        total = self._sum("record_count")
        unseen = sum((p.stretch.weight - 1) * p.stretch.record_count for p in self._parts if p.stretch.is_beginning)
        return unseen / total if total else 0.0


def expected_seconds(stages: dict[str, float], startup: float, machine: Machine, sample: Sample) -> Between:
    """Of the run: stages go on side by side, so the slowest of them counts, or the processors that they share."""
    device = stages["forward"] + stages["new shapes"] + stages["restoring"]
    lanes = [device, stages["tokenizing"] / machine.tokenizer_count, stages["reading"], stages["writing"]]
    beside = stages["tokenizing"] + stages["reading"] + stages["writing"] + stages["hashing"]
    busy = stages["restoring"] if machine.is_gpu else (stages["forward"] + stages["new shapes"]) * machine.threads
    work = max(*lanes, stages["hashing"], (busy + beside) / machine.cores)
    error = _SIGMAS * float(np.sqrt(sample.length_error**2 + sample.timing_error**2 + MACHINE_ERROR**2))
    low = startup * (1 - STARTUP_ERROR) + work * max(0.0, 1 - error)
    return Between(startup + work, low, startup * (1 + STARTUP_ERROR) + work * (1 + error))


def _missing_share(there: float, whole: float) -> float:
    return 1 - there / whole if whole else 0.0


def _weighted(parts: list[Batched], remainders: list[Remainder]) -> list[Batched]:
    """Parquet: weights such that the records, which are known, are all there."""
    rows = sum(remainder.open_rows for remainder in remainders if remainder.layout is not None)
    drawn = sum(part.stretch.weight * part.stretch.record_count for part in parts if part.stretch.is_counted)
    factor = rows / drawn if drawn else 1.0
    return [
        replace(part, stretch=replace(part.stretch, weight=part.stretch.weight * factor))
        if part.stretch.is_counted
        else part
        for part in parts
    ]
