"""``--metrics-file``: a run's counts for Prometheus, replaced as a whole every few seconds and at the run's end.

The file is OpenMetrics text that node_exporter's textfile collector reads as well. Its parser is that of the older
format: it takes ``# EOF`` and ``# UNIT`` for comments, and a counter, whose type stands under another name there, as
untyped; but an ``info`` or a ``stateset`` makes it refuse the file. So there are counters and gauges alone. All that
lies in the collector's folder becomes one answer, so every sample says of which DIR and rank it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from batchsent.checkpoint import Audit
from batchsent.config import ScoreConfig
from batchsent.errors import BatchsentError, StorageError, UsageError, exit_code_of, without_secrets
from batchsent.objects.uris import is_object
from batchsent.reporting.progress import share_done
from batchsent.reporting.run_report import RunReport, State
from batchsent.schema import REJECT_REASONS
from batchsent.shares import Share
from batchsent.storage import may_be_replaced, write_file

if TYPE_CHECKING:
    from prometheus_client import Metric

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
"""Between two writings, while the run goes."""
PREFIX = "batchsent"
LAST_SUCCESS = f"{PREFIX}_last_success_timestamp_seconds"


@contextmanager
def metrics_of(config: ScoreConfig, share: Share, report: RunReport) -> Iterator[MetricsFile | None]:
    """The metrics file of a run, if one was asked for; at the end it says how the run ended.

    Raises UsageError if it cannot be written where it shall be.
    """
    if config.metrics_file is None:
        yield None
        return
    file = MetricsFile(config, share, report)
    file.begin()
    try:
        yield file
    except BaseException as error:
        file.end(exit_code_of(error))
        raise
    file.end(0)


class MetricsFile:
    """One file, of one run."""

    def __init__(self, config: ScoreConfig, share: Share, report: RunReport) -> None:
        """Of several ranks each has a file of its own: the rank stands before the extension."""
        self._path = metrics_path(str(config.metrics_file), share)
        self._report = report
        self._began = self._written_at = time.monotonic()
        self._exit_code: int | None = None
        output = config.output if "://" in config.output else str(Path(config.output).absolute())
        self._labels = {"output": without_secrets(output)}
        if not share.is_whole:
            self._labels["rank"] = str(share.rank)
        self._last_success: float | None = None
        self._has_warned = False

    def begin(self) -> None:
        """Take over when the last run succeeded, and say that this one runs. Raises UsageError."""
        self._last_success = _last_success(self._path)
        try:
            write_file(self._path, self._text())
        except UsageError as error:
            found = f"--metrics-file {error.args[0]}"
            raise UsageError(found, "a file that this user may write", "choose another") from error
        except StorageError as error:
            self._warn(error)

    def write(self) -> None:
        """Say how far the run is by now. That it cannot be said does not end the run."""
        self._written_at = time.monotonic()
        try:
            write_file(self._path, self._text())
        except BatchsentError as error:
            self._warn(error)

    def write_in_time(self) -> None:
        """The same, if that was not done just now; also where nothing is scored, that the run is alive."""
        if time.monotonic() - self._written_at > INTERVAL_SECONDS:
            self.write()

    def end(self, exit_code: int) -> None:
        """Say how the run ended."""
        self._exit_code = exit_code
        if exit_code == 0:
            self._last_success = time.time()
        self.write()

    def _warn(self, error: BatchsentError) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("the metrics file is not up to date: %s; the run goes on", error.args[0])

    def _text(self) -> bytes:
        from prometheus_client import CollectorRegistry
        from prometheus_client.openmetrics.exposition import generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
        return text

    def collect(self) -> Iterator[Metric]:
        """What the library's registry asks for."""
        for families in (self._run_families(), self._work_families(), self._quality_families()):
            for family in families:
                for sample in family.samples:
                    sample.labels.update(self._labels)
                yield family

    def _run_families(self) -> Iterator[Metric]:
        """Which run it is, and how it is going."""
        report = self._report
        state: State = report.state
        if self._exit_code is not None and state == "running":
            # Before it had a DIR to say so in.
            state = "stopped" if self._exit_code > 128 else "failed"
        yield self._info()
        states = {name: float(name == state) for name in get_args(State)}
        yield _gauge("run_state", "1 for the state that the run is in.", states, by="state")
        if self._exit_code is not None:
            yield _gauge("exit_code", "Of the run; there is none while it runs.", self._exit_code)
        seconds = time.monotonic() - self._began
        yield _gauge("run_duration_seconds", "How long the run has been going, or went.", seconds)
        started = datetime.fromisoformat(report.started_at).timestamp()
        yield _gauge("start_timestamp_seconds", "When the run began.", started)
        yield _gauge("last_update_timestamp_seconds", "When this was written.", time.time())
        if self._last_success is not None:
            name = LAST_SUCCESS.removeprefix(f"{PREFIX}_")
            yield _gauge(name, "When a run that wrote this file last ended with exit code 0.", self._last_success)

    def _info(self) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        report, family = self._report, GaugeMetricFamily(f"{PREFIX}_run_info", "The run, its model and where it runs.")
        version, model = report.versions.get("batchsent", ""), without_secrets(report.model)
        about = {"run_id": report.run_id, "version": version, "model": model, "precision": report.precision}
        family.add_sample(family.name, {**about, "device": report.device}, 1)
        return family

    def _work_families(self) -> Iterator[Metric]:
        """What this run has done itself."""
        report = self._report
        yield _counter("records", "Records that the run has committed.", report.record_count)
        yield _counter("rows", "Of these: those with a prediction.", report.row_count)
        rejects = dict.fromkeys(REJECT_REASONS, 0) | report.reject_counts.copy()
        yield _counter("rejects", "Of these: those without, by reason.", rejects, by="reason")
        yield _counter("tokens", "Tokens that the model has read; identical texts count once.", report.token_count)
        yield _counter("padding_tokens", "Tokens of padding besides.", report.padding_count)
        yield _gauge("padding_ratio", "Share of padding in all token positions.", report.padding_share)
        yield _counter("parts", "Parts that the run has committed.", report.part_count)
        splits = "Batches that were halved because the device ran out of memory."
        yield _counter("out_of_memory_splits", splits, report.split_count)
        yield _counter("fp32_reruns", "Texts that were run again in fp32.", report.rerun_count)
        stages = "Seconds spent in each stage; they run side by side."
        yield _counter("stage_seconds", stages, vars(report.stage_seconds), by="stage")
        yield _gauge("scoring_seconds", "From the first tokens to the last commit.", report.scoring_seconds)
        yield _gauge("rows_per_second", "Records committed per second of scoring.", report.rows_per_second)
        yield _gauge("input_bytes", "Size of the input that is the run's to score.", report.own_bytes)
        yield _gauge("input_done_bytes", "Of these: what is committed, by this run or before.", report.done_bytes)
        yield _gauge("progress_ratio", "Share of these bytes.", share_done(report))
        yield _gauge("shards", "Shards of the input, by what became of them.", _shards(report), by="state")

    def _quality_families(self) -> Iterator[Metric]:
        """What the gates found."""
        report = self._report
        if report.drift:
            indices = {name: report.drift[name] for name in ("labels", "confidence", "lengths")}
            yield _gauge("drift_index", "Population stability index against the baseline.", indices, by="distribution")
        if report.audit:
            audit = Audit(**report.audit)
            yield _gauge("audit_rows", "Rows that were scored again, each alone in fp32.", audit.row_count)
            found = "By how much a probability differed at most there."
            yield _gauge("audit_largest_difference", found, audit.largest_difference)
            yield _gauge("audit_changed_labels", "Labels that differed there.", audit.changed_label_count)
            yield _gauge("audit_limit", "By how much a probability may differ there.", audit.limit)


Values = float | Mapping[str, float]
"""One value, or one for each value of a label."""


def _gauge(name: str, help_text: str, values: Values, by: str = "") -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"{PREFIX}_{name}", help_text), "", values, by)


def _counter(name: str, help_text: str, values: Values, by: str = "") -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"{PREFIX}_{name}", help_text), "_total", values, by)


def _filled(family: Metric, suffix: str, values: Values, by: str) -> Metric:
    """``by`` names the label that ``values`` are by."""
    for label, value in values.items() if isinstance(values, Mapping) else [("", values)]:
        family.add_sample(family.name + suffix, {by: label} if by else {}, value)
    return family


def _shards(report: RunReport) -> Values:
    finished = max(0, report.finished_shard_count - report.kept_shard_count)
    counts = {"kept": report.kept_shard_count, "finished": finished, "failed": len(report.failed_shards)}
    return counts | {"open": max(0, report.shard_count - sum(counts.values()))}


def metrics_path(given: str, share: Share) -> Path:
    """Where the file of a rank goes. Raises UsageError where none can be written, or where another file is."""
    if is_object(given) or "://" in given:
        raise UsageError(f"--metrics-file is {given}", "a file on this machine", "choose another")
    path = Path(given)
    if not path.parent.is_dir():
        raise UsageError(f"--metrics-file {given}: {path.parent} is not a directory", "one that is there", "make it")
    if path.is_dir():
        raise UsageError(f"--metrics-file {given} is a directory", "a file in it", "name one")
    path = path if share.is_whole else path.with_name(f"{path.stem}-rank{share.rank}{path.suffix}")
    if not may_be_replaced(path, by=b"#"):
        raise UsageError(f"--metrics-file {path} is there and holds no metrics", "a new file", "choose another")
    return path


def _last_success(path: Path) -> float | None:
    """When, as the file of an earlier run has it."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    try:
        text = path.read_text(encoding="utf-8")
        families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    except (OSError, ValueError):  # there is none, or it is another program's
        return None
    samples = (sample for family in families for sample in family.samples if sample.name == LAST_SUCCESS)
    return next((float(sample.value) for sample in samples), None)
