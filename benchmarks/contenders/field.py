"""Which contenders there are on a CPU and on a GPU, and the grid that each is tuned over."""

from __future__ import annotations

from functools import partial

from batchsent.machine import has_int8_dot_products, has_native_bf16, is_bf16_faster
from contenders import Contender, Setting

CPU_ROWS = (1, 4, 8, 16)
GPU_ROWS = (32, 64, 128, 256)
CPU_BUDGETS = (512, 1_024, 2_048)
GPU_BUDGETS = (16_896, 33_792, 67_584)
CPU_CHUNKS = (256, 512, 1_024, 2_048)
GPU_CHUNKS = (8_448, 33_792)

NO_CHOICE: tuple[Setting, ...] = ({"batch_tokens": "auto"},)
"""The job has a rule of its own; it is measured as it comes."""

OPENVINO = ("openvino", "nncf")
CROSS_ENCODER = ("sentence-transformers",)
ONNX = ("onnx", "onnxruntime", "onnxscript")


def contenders_for(device: str) -> tuple[Contender, ...]:
    """All of them, the limit first; those whose packages are missing as well."""
    return _cpu() if device == "cpu" else _gpu()


def _cpu() -> tuple[Contender, ...]:
    floats = ("fp32", "bf16") if has_native_bf16() else ("fp32",)
    integers = () if has_int8_dot_products() is False else ("int8",)
    chosen_by_auto = "bf16" if is_bf16_faster() else "fp32"
    return (
        *(_products_on_cpu(p) for p in floats),
        *(_products_on_cpu(p, "openvino") for p in (*floats, *integers)),
        *(
            Contender("transformers pipeline", "contenders.pipeline", p, "texts", _sorted_or_not(CPU_ROWS))
            for p in floats
        ),
        _cross_encoder("fp32", CPU_ROWS),
        *(_cross_encoder_on_openvino() for _ in integers),
        _onnx("fp32", ("ONNX fp32",)),
        *(_onnx(p, ("ONNX fp32", "ONNX int8")) for p in integers),
        *(
            Contender("torch, padded batches", "contenders.plain_torch", p, "token ids", _rows(CPU_ROWS))
            for p in floats
        ),
        *(_engine_on_cpu(p, "torch") for p in floats),
        *(_engine_on_cpu(p, "openvino") for p in (*floats, *integers)),
        *(contender for p in (chosen_by_auto, *integers) for contender in _jobs_on_cpu(p)),
    )


def _gpu() -> tuple[Contender, ...]:
    batchings = ("padded", "packed")
    halves, best = ("fp16", "fp16-weights"), batchings[-1]
    score = partial(Contender, module="contenders.job", begins_with="Parquet", grid=NO_CHOICE, is_process=True)
    return (
        Contender(
            "matrix products alone (torch)", "contenders.matrix_products", "fp16", "matrices", _each("rows", GPU_CHUNKS)
        ),
        *(_pipeline_on_gpu(p) for p in ("fp32", "fp16-weights")),
        _cross_encoder("fp16-weights", GPU_ROWS),
        *(
            Contender("torch, padded batches", "contenders.plain_torch", p, "token ids", _rows(GPU_ROWS))
            for p in halves
        ),
        *(_engine_on_gpu(p, batching) for batching in batchings for p in halves),
        *(_engine_on_gpu(p, "packed and compiled", GPU_BUDGETS[1:2]) for p in halves),
        score("batchsent score (defaults)", precision="fp16", variant="auto"),
        score(f"batchsent score ({best})", precision="fp16-weights", variant=best),
    )


def _products_on_cpu(precision: str, variant: str = "") -> Contender:
    name, packages = ("OpenVINO", OPENVINO) if variant else ("torch", ())
    return Contender(
        f"matrix products alone ({name})",
        "contenders.matrix_products",
        precision,
        "matrices",
        _each("rows", CPU_CHUNKS),
        packages,
        variant=variant,
    )


def _cross_encoder(precision: str, counts: tuple[int, ...]) -> Contender:
    return Contender(
        "CrossEncoder (torch)",
        "contenders.cross_encoder",
        precision,
        "texts",
        _rows(counts),
        CROSS_ENCODER,
        scores_pairs=True,
    )


def _cross_encoder_on_openvino() -> Contender:
    return Contender(
        "CrossEncoder (OpenVINO)",
        "contenders.cross_encoder",
        "int8",
        "texts",
        _rows(CPU_ROWS),
        (*CROSS_ENCODER, *OPENVINO),
        (_graph("int8"),),
        "openvino",
        scores_pairs=True,
    )


def _onnx(precision: str, preparations: tuple[str, ...]) -> Contender:
    return Contender(
        "ONNX Runtime", "contenders.onnx_runtime", precision, "token ids", _rows(CPU_ROWS), ONNX, preparations
    )


def _engine_on_cpu(precision: str, backend: str) -> Contender:
    grid = _each("batch_tokens", CPU_BUDGETS)
    if backend == "torch":
        return Contender(
            "batchsent, bare engine (torch)", "contenders.engine", precision, "token ids", grid, variant=backend
        )
    return Contender(
        "batchsent, bare engine (OpenVINO)",
        "contenders.engine",
        precision,
        "token ids",
        grid,
        OPENVINO,
        (_graph(precision),),
        backend,
    )


def _engine_on_gpu(precision: str, batching: str, budgets: tuple[int, ...] = GPU_BUDGETS) -> Contender:
    grid = _each("batch_tokens", budgets)
    return Contender(
        f"batchsent, bare engine ({batching})", "contenders.engine", precision, "token ids", grid, variant=batching
    )


def _jobs_on_cpu(precision: str) -> tuple[Contender, ...]:
    """The job, and the engine on its very batches."""
    made = partial(
        Contender,
        precision=precision,
        grid=NO_CHOICE,
        packages=OPENVINO,
        preparations=(_graph(precision),),
        variant="openvino",
        is_process=True,
    )
    return (
        made("batchsent score", "contenders.job", begins_with="Parquet"),
        made("batchsent, bare engine, new process", "contenders.new_engine", begins_with="token ids"),
    )


def _pipeline_on_gpu(precision: str) -> Contender:
    return Contender("transformers pipeline", "contenders.pipeline", precision, "texts", _sorted_or_not(GPU_ROWS[::2]))


def _graph(precision: str) -> str:
    return "OpenVINO int8" if precision == "int8" else "OpenVINO"


def _rows(counts: tuple[int, ...]) -> tuple[Setting, ...]:
    return _each("batch_size", counts)


def _each(name: str, values: tuple[int, ...]) -> tuple[Setting, ...]:
    return tuple({name: value} for value in values)


def _sorted_or_not(counts: tuple[int, ...]) -> tuple[Setting, ...]:
    """The pipeline leaves sorting to its user."""
    return tuple({"batch_size": count, "sorted": is_sorted} for is_sorted in (True, False) for count in counts)
