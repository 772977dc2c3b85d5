"""The tables and pictures of docs/benchmarks.md, from results that were made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tables
from contenders import table

ENVIRONMENT = {
    "date": "2026-01-02",
    "cpu": "a CPU",
    "cores": 2,
    "native_bf16": True,
    "versions": {"torch": "2", "transformers": "5", "pyarrow": "26", "python": "3.11", "onnxruntime": "1"},
    "command": "python benchmarks/side_by_side.py",
}
SIDE_BY_SIDE: dict[str, Any] = {
    "environment": ENVIRONMENT,
    "model": "embedded",
    "device": "cpu",
    "gpu": None,
    "threads": 2,
    "texts": {"source": "generated", "rows": 10, "tokens": 1_000, "longest": 300},
    "preparation_seconds": {"OpenVINO int8": 31.4},
    "contenders": [
        {"name": "products", "precision": "int8", "begins_with": "matrices", "rows": 10, "tokens": 1_000}
        | {"setting": {"rows": 256}, "seconds": [0.5], "load_seconds": 1.0},
        {"name": "batchsent", "precision": "int8", "begins_with": "token ids", "rows": 10, "tokens": 1_000}
        | {"setting": {"batch_tokens": 2_048}, "seconds": [1.0, 2.0, 1.0], "load_seconds": 3.0}
        | {"same_labels": 0.9, "largest_difference": 0.05},
        {"name": "pipeline", "precision": "fp32", "begins_with": "texts", "rows": 10, "tokens": 1_000}
        | {"absent": "not installed: it"},
    ],
}
SERIES = {"rows": 10, "seconds": 2.0, "fastest_seconds": 1.0, "slowest_seconds": 3.0, "peak_mb": 900.0, "tokens": 100}
RESUMED = {"left": 0.5, "seconds": 5.1, "expected_seconds": 5.0, "whole": 10.0}
OVERHEAD = {"overhead": 0.01, "smallest_overhead": -0.002, "largest_overhead": 0.02}
GROWTH: dict[str, Any] = {
    "environment": ENVIRONMENT,
    "axes": {name: [{"x": 2} | SERIES] for name in ("rows", "text_length", "part_size", "labels", "duplicates")}
    | {"resume": [{"x": 0.5} | RESUMED | OVERHEAD]},
}


def test_a_contender_is_one_line_and_whoever_is_absent_is_named() -> None:
    lines = table.lines(SIDE_BY_SIDE)
    assert "![Tokens per second of every contender](images/cpu_embedded.svg)" in lines
    ours = next(line for line in lines if line.startswith("| batchsent"))
    cells = ["batchsent", "int8", "token ids", "batch tokens 2,048", "**1,000** (500 to 1,000)", "10.0", "50%"]
    assert ours == f"| {' | '.join([*cells, '90.0%', '5.0e-02'])} |"
    assert "Not measured: pipeline, fp32: not installed: it." in lines
    assert lines[-1] == "Conversion, once: OpenVINO int8 31 s. Import, load and compile: batchsent, int8 3.0 s."
    assert table.lines(SIDE_BY_SIDE | {"loaded_at_once": 8})[-1].endswith(
        "compile, 8 at a time: batchsent, int8 3.0 s."
    )


def test_a_cpu_without_int8_has_a_table_of_its_own() -> None:
    lines = table.lines(SIDE_BY_SIDE | {"environment": ENVIRONMENT | {"int8_dot_products": False}})
    assert "![Tokens per second of every contender](images/cpu_embedded_without_int8.svg)" in lines
    assert tables.TABLES["cpu_embedded_without_int8"] is tables.TABLES["cpu_embedded"]


def test_the_table_of_growth_has_a_part_for_every_axis() -> None:
    text = "\n".join(tables.TABLES["growth"](GROWTH))
    assert "| times as many rows | rows |" in text
    assert "| 2 | 10 | 2.00 (1.00 to 3.00) | 5 | 900 MB |" in text
    assert "| 50% | 50% | 5.10 | 5.00 | +1.0% (-0.2% to +2.0%) |" in text


def test_a_profile_says_what_a_pass_takes_and_how_long_the_device_waits() -> None:
    kinds = {"matrix products": 0.02, "attention": 0.01}
    row = {"precision": "fp16", "variant": "packed", "passes": 10, "tokens": 50_000, "seconds": 0.04}
    row |= {"first_seconds": 9.0, "first_seconds_again": None}
    row |= {"starting_seconds": 0.008, "device_seconds": kinds, "longest": {}, "host_longest": {}}
    again = row | {"variant": "compiled", "first_seconds_again": 3.0}
    lines = tables.TABLES["pass_profile_cuda"]({"model": "distilbert", "gpu": "a GPU", "rows": [row, again]})
    assert "| fp16 | packed | **4.0** | 0.8 | 75% | 2.00 | 1.00 | 9.0 s |" in lines
    assert "| fp16 | compiled | **4.0** | 0.8 | 75% | 2.00 | 1.00 | 9.0 s, in the next process 3.0 s |" in lines
    assert lines[-1] == "distilbert, 10 passes of 5,000 tokens on average (fp16, packed), on one a GPU."


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_sm90_hsh_128x256_64x4_2x1_v_bz_coopA_bias_TNN", "matrix products"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>", "attention"),
        ("fmha_cutlassF_f16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel)", "attention"),
        ("void at::native::vectorized_elementwise_kernel<8, at::native::float16_copy_kernel_cuda>", "copies"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("triton_per_fused__to_copy_add_native_layer_norm_view_7", "joined by the compiler"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>", "everything else"),
    ],
)
def test_a_kernel_is_of_a_kind_by_its_name(name: str, kind: str) -> None:
    import pass_profile

    assert pass_profile.kind_of(name) == kind


def test_what_was_not_measured_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "HERE", tmp_path)
    text = "before\n<!-- result: growth -->\nNot measured yet.\n<!-- end -->\nafter\n"
    assert tables.updated(text) == text
    (tmp_path / "results").mkdir()
    (tmp_path / "results/growth.json").write_text(json.dumps(GROWTH), encoding="utf-8")
    updated = tables.updated(text)
    assert "Not measured yet." not in updated
    assert updated.startswith("before\n<!-- result: growth -->\n![How the cost grows]")
    assert (
        "2 cores of a CPU (native bf16), torch 2, transformers 5, pyarrow 26, python 3.11, onnxruntime 1.\n" in updated
    )
    assert updated.endswith("<!-- end -->\nafter\n")


@pytest.mark.bench
def test_the_same_results_give_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import plots

    (tmp_path / "results").mkdir()
    (tmp_path / "results/cpu_embedded.json").write_text(json.dumps(SIDE_BY_SIDE), encoding="utf-8")
    (tmp_path / "results/growth.json").write_text(json.dumps(GROWTH), encoding="utf-8")
    monkeypatch.setattr(plots, "HERE", tmp_path)
    drawn = []
    for name in ("first", "second"):
        monkeypatch.setattr(plots, "IMAGES", tmp_path / name)
        plots.main()
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert drawn[0] == drawn[1]
    assert drawn[0].keys() == {"cpu_embedded.svg", "growth.svg"}
    assert b"2 cores of a CPU, 2026-01-02" in drawn[0]["cpu_embedded.svg"]
