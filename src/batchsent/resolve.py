"""Every ``auto`` becomes a value, once, by a fixed rule: ScoreConfig + model + machine → Identity.

The numbers stand in docs/benchmarks.md. Nothing here is timed, so two machines of one kind decide alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from batchsent import machine
from batchsent.batching import choose_batching
from batchsent.calibration import temperature_of
from batchsent.config import ScoreConfig
from batchsent.errors import UsageError
from batchsent.identity import SCHEMA_VERSION, Identity
from batchsent.models.graphs import calibration_version, graph_of, require_convertible
from batchsent.models.openvino import is_installed, require_backend
from batchsent.models.resolution import ModelSource
from batchsent.options import AUTO

if TYPE_CHECKING:
    from batchsent.models.families import Answers

log = logging.getLogger(__name__)

CPU_BATCH_TOKENS = 1_024
"""The activations of so many tokens stay in the caches; from 512 to 2,048 the rate is within a tenth."""
OPENVINO_FP32_BATCH_TOKENS = 512
"""As many for each core's pass, of larger activations."""
CUDA_BATCH_TOKENS = 33_792
"""Six whole waves over the 132 multiprocessors of an H100; smaller devices halve what does not fit."""
CPU_ROWS_PER_PART = 2_048
"""Some ten seconds of work: what a kill costs at most."""
CUDA_ROWS_PER_PART = 16_384
"""About a second of work, and long enough that sorting within it leaves little padding."""


def resolve(
    config: ScoreConfig, source: ModelSource, device: str, check: Callable[[], None] = lambda: None
) -> Identity:
    """The settings of a run that begins now. Raises UsageError or ModelError.

    A model may be converted for that, which takes half a minute; ``check`` is called meanwhile, and may raise.
    """
    model = answers_to(config, source)
    if not model.has_label_names:
        log.warning(
            "%s has no label names; its labels are %s; set id2label in its config.json to name them",
            source.name,
            ", ".join(model.labels),
        )
    max_length = _max_length(config, source, model)
    speed = _speed(config, source, model, device, max_length, check)
    return Identity(
        schema_version=SCHEMA_VERSION,
        **{name: getattr(config, name) for name in _AS_ASKED},
        model=source.name,
        requested_revision=config.revision,
        revision=source.revision,
        model_files=source.files,
        labels=model.labels,
        multi_label=model.multi_label,
        task=model.task,
        **_question(model),
        temperature=temperature_of(
            config.calibration, source.version, model.prompt.description if model.prompt else None
        ),
        **asdict(speed),
        calibration_texts=calibration_version() if speed.precision == "int8" else None,
        max_length=max_length,
        **_windows(config, max_length),
    )


_AS_ASKED = (
    *("text_column", "keep", "keep_all", "label_column", "encoding", "delimiter", "limit"),
    *("calibrate_prompt", "long_text"),
)


def answers_to(config: ScoreConfig, source: ModelSource) -> Answers:
    """What a model answers when it is asked as ``config`` says. Raises UsageError or ModelError."""
    from batchsent.models.families import answers_of

    return answers_of(
        source.directory,
        task=config.task,
        prompt=config.prompt,
        verbalizer=config.verbalizer,
        calibrate_prompt=config.calibrate_prompt,
    )


def _max_length(config: ScoreConfig, source: ModelSource, model: Answers) -> int:
    if isinstance(config.max_length, str):
        return model.max_length
    if config.max_length > model.max_length:
        raise UsageError(
            f"--max-length {config.max_length}",
            f"at most {model.max_length}, the limit of {source.name}",
            "choose a smaller one",
        )
    return config.max_length


def _question(model: Answers) -> dict[str, Any]:
    """How the model is asked, where it is by a prompt."""
    prompt = model.prompt
    return {
        "prompt": prompt.template if prompt else None,
        "rendered_prompt": (prompt.before, prompt.after) if prompt else None,
        "verbalizers": prompt.words if prompt else (),
    }


def _windows(config: ScoreConfig, max_length: int) -> dict[str, Any]:
    """How a text longer than ``max_length`` is read, where it has several windows."""
    if config.long_text != "window":
        return {"window_overlap": None, "window_aggregate": None}
    # A quarter is enough for a sentence to stand whole in one of two.
    overlap = max_length // 4 if config.window_overlap is None else config.window_overlap
    return {"window_overlap": overlap, "window_aggregate": config.window_aggregate or "mean"}


@dataclass(frozen=True)
class _Speed:
    """What decides how fast a run is, and the last digits of its numbers."""

    precision: str
    backend: str
    batching: str
    compiled: bool
    batch_tokens: int
    threads: int
    rows_per_part: int


def _speed(
    config: ScoreConfig,
    source: ModelSource,
    model: Answers,
    device: str,
    max_length: int,
    check: Callable[[], None],
) -> _Speed:
    precision = machine.choose_precision(config.precision, device, model.task)
    if model.prompt is None:
        backend = _backend(config, source, device, precision, max_length, check)
        batching = choose_batching(
            config.batching, source.directory, precision=precision, device=device, max_length=max_length
        )
    else:
        backend, batching = _require_plain(config, model.task, precision, device), "padded"
    rows_per_part = CPU_ROWS_PER_PART if device == "cpu" else CUDA_ROWS_PER_PART
    return _Speed(
        precision=precision,
        backend=backend,
        batching=batching,
        compiled=False,  # until it is known how much there is to do
        batch_tokens=_or(config.batch_tokens, _batch_tokens(device, backend, precision)),
        threads=_or(config.threads, machine.available_cores()),
        rows_per_part=_or(config.rows_per_part, rows_per_part),
    )


def _backend(
    config: ScoreConfig,
    source: ModelSource,
    device: str,
    precision: str,
    max_length: int,
    check: Callable[[], None],
) -> str:
    """What runs the model: OpenVINO if it can and nothing speaks against it."""
    asked, is_packed = config.backend, config.batching == "packed"
    if is_packed and (asked == "openvino" or precision == "int8"):
        raise UsageError(
            "--batching packed with openvino", "padded batches there", "leave it out, or pass --backend torch"
        )
    can_openvino = device == "cpu" and is_installed() and not is_packed
    if asked == "torch" or (asked == AUTO and precision != "int8" and not can_openvino):
        machine.require_precision(precision, device, "torch")
        return "torch"
    try:
        require_backend("openvino", device)
        machine.require_precision(precision, device, "openvino")
        require_convertible(source.name, source.directory)
        quantized = precision == "int8"
        graph_of(source.directory, source.files, quantized=quantized, max_length=max_length, check=check)
    except UsageError as error:  # a model that is not converted is one, too
        if asked != AUTO or precision == "int8":
            raise
        machine.require_precision(precision, device, "torch")
        log.info("--backend auto takes torch: %s", error.args[0])
        return "torch"
    return "openvino"


def _require_plain(config: ScoreConfig, task: str, precision: str, device: str) -> str:
    """'torch', the one backend of a model that is asked by a prompt. Raises UsageError if another was asked for."""
    if config.batching == "packed" or config.backend == "openvino" or precision == "int8":
        asked = {"--batching packed": config.batching == "packed", "--backend openvino": config.backend == "openvino"}
        named = next((name for name, is_asked in asked.items() if is_asked), "--precision int8")
        raise UsageError(f"{named} for a {task} model", "padded batches by torch", "leave it out")
    machine.require_precision(precision, device, "torch", task)
    if config.backend == AUTO and device == "cpu" and is_installed():
        log.info("--backend auto takes torch: OpenVINO converts only models with a classification head")
    return "torch"


def _batch_tokens(device: str, backend: str, precision: str) -> int:
    if device != "cpu":
        return CUDA_BATCH_TOKENS
    return OPENVINO_FP32_BATCH_TOKENS if (backend, precision) == ("openvino", "fp32") else CPU_BATCH_TOKENS


def _or(asked: int | str, rule: int) -> int:
    return rule if isinstance(asked, str) else asked
