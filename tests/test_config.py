"""Every option: its limits, its choices, its kind; and the identity that a run's numbers hang on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from batchsent.config import ScoreConfig
from batchsent.errors import UsageError
from batchsent.identity import SCHEMA_VERSION, Identity, canonical_json, changed_fields
from batchsent.options import AUTO, option_fields, option_name

TABLE: dict[str, tuple[object, str]] = {
    "text-column": ("text", "identity"),
    "keep": ((), "identity"),
    "keep-all": (False, "identity"),
    "label-column": (None, "identity"),
    "encoding": ("utf-8", "identity"),
    "delimiter": (None, "identity"),
    "model": ("embedded", "identity"),
    "revision": (None, "identity"),
    "task": (AUTO, "identity"),
    "prompt": (None, "identity"),
    "verbalizer": ((), "identity"),
    "calibrate-prompt": (False, "identity"),
    "calibration": (None, "identity"),
    "precision": (AUTO, "identity"),
    "backend": (AUTO, "identity"),
    "batching": (AUTO, "identity"),
    "batch-tokens": (AUTO, "identity"),
    "threads": (AUTO, "identity"),
    "rows-per-part": (AUTO, "identity"),
    "max-length": (AUTO, "identity"),
    "long-text": ("truncate", "identity"),
    "window-overlap": (None, "identity"),
    "window-aggregate": (None, "identity"),
    "limit": (None, "identity"),
    "on-bad-row": ("reject", "gate"),
    "max-reject-rate": (0.01, "gate"),
    "baseline": (None, "gate"),
    "max-drift": (None, "gate"),
    "audit": (0, "gate"),
    "device": (AUTO, "machine"),
    "workers": (AUTO, "machine"),
    "engine": ("local", "machine"),
    "replicas": (None, "machine"),
    "ray-address": (None, "machine"),
    "gpus-per-replica": (None, "machine"),
    "restart": (False, "other"),
    "progress": (AUTO, "machine"),
    "log-format": ("text", "machine"),
    "metrics-file": (None, "machine"),
    "report": (None, "machine"),
}
"""The table of the public contract: name → default and kind."""

CHOICES = {
    "task": "auto sequence-classification text-to-text causal",
    "precision": "auto fp32 fp16 fp16-weights bf16 int8",
    "backend": "auto torch openvino",
    "batching": "auto padded packed",
    "long_text": "truncate window",
    "window_aggregate": "mean max",
    "on_bad_row": "reject fail",
    "engine": "local ray",
    "progress": "auto bar log none",
    "log_format": "text json",
}


def config_of(**options: Any) -> ScoreConfig:
    return ScoreConfig(**({"inputs": ("reviews.csv",), "output": "scored"} | options))


def identity_of(**settings: Any) -> Identity:
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "text_column": "text",
        "keep": ("id", "stars=rating"),
        "keep_all": False,
        "label_column": None,
        "encoding": "utf-8",
        "delimiter": None,
        "limit": None,
        "model": "embedded",
        "requested_revision": None,
        "revision": None,
        "model_files": {"config.json": "00", "model.safetensors": "11"},
        "labels": ("NEGATIVE", "POSITIVE"),
        "multi_label": False,
        "task": "sequence-classification",
        "prompt": None,
        "rendered_prompt": None,
        "verbalizers": (),
        "calibrate_prompt": False,
        "temperature": None,
        "precision": "fp32",
        "calibration_texts": None,
        "backend": "torch",
        "batching": "padded",
        "compiled": False,
        "batch_tokens": 2048,
        "threads": 2,
        "rows_per_part": 2048,
        "max_length": 128,
        "long_text": "truncate",
        "window_overlap": None,
        "window_aggregate": None,
    }
    return Identity(**(values | settings))


# --- the contract


def test_options_are_those_of_the_contract() -> None:
    found = {option_name(f.name): (f.default, f.metadata["kind"]) for f in option_fields(ScoreConfig)}
    assert found == TABLE
    assert {name: type(default) for name, (default, _) in found.items()} == {
        name: type(default) for name, (default, _) in TABLE.items()
    }


def test_choices_are_those_of_the_contract() -> None:
    found = {f.name: " ".join(f.metadata["choices"]) for f in option_fields(ScoreConfig) if f.metadata["choices"]}
    assert found == CHOICES


def test_every_option_has_help_and_a_metavar_or_choices() -> None:
    for definition in option_fields(ScoreConfig):
        rule = definition.metadata
        assert rule["help"].endswith(".")
        assert "\n" not in rule["help"]
        assert bool(rule["metavar"]) == (not rule["choices"] and not isinstance(definition.default, bool))


def test_the_job_file_of_the_repository_has_every_option() -> None:
    text = (Path(__file__).parents[1] / "jobs/reviews.toml").read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:# +)?([a-z][a-z-]*) = ", text, re.MULTILINE))
    assert named == {"input", "output", *(option_name(field.name) for field in option_fields(ScoreConfig))}


def test_defaults_are_a_valid_config() -> None:
    config = config_of()
    assert {option_name(f.name): getattr(config, f.name) for f in option_fields(ScoreConfig)} == {
        name: default for name, (default, _) in TABLE.items()
    }


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config_of().limit = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity_of().threads = 3  # type: ignore[misc]


# --- inputs and output


@pytest.mark.parametrize("missing", [{"inputs": ()}, {"output": ""}])
def test_input_and_output_are_required(missing: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"INPUT|--output"):
        config_of(**missing)


# --- limits, choices, types


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_every_choice_is_taken(name: str) -> None:
    needed = {"long_text": "window"} if name == "window_aggregate" else {}
    for choice in CHOICES[name].split():
        assert getattr(config_of(**needed | {name: choice}), name) == choice


@pytest.mark.parametrize("name", sorted(CHOICES))
@pytest.mark.parametrize("wrong", ["", "AUTO", "no such choice", 3, True, ("auto",)])
def test_what_is_no_choice_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(UsageError, match=f"--{option_name(name)} is .*one of ") as caught:
        config_of(**{name: wrong})
    for choice in CHOICES[name].split():
        assert choice in str(caught.value)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("limit", 1, None),
        ("max_length", 8, None),
        ("batch_tokens", 1, None),
        ("threads", 1, None),
        ("rows_per_part", 1, 1_000_000),
        ("workers", 1, None),
        ("max_reject_rate", 0.0, 1.0),
    ],
)
def test_limits(name: str, least: float, most: float | None) -> None:
    step = 1 if isinstance(least, int) else 0.001
    assert getattr(config_of(**{name: least}), name) == least
    with pytest.raises(UsageError, match=f"--{option_name(name)} is .*at least {least}"):
        config_of(**{name: least - step})
    if most is None:
        assert getattr(config_of(**{name: 10**9}), name) == 10**9
    else:
        assert getattr(config_of(**{name: most}), name) == most
        with pytest.raises(UsageError, match=f"--{option_name(name)} is .*at most {most}"):
            config_of(**{name: most + step})


@pytest.mark.parametrize(("name", "value"), [("audit", -1), ("window_overlap", -1), ("max_drift", -0.1)])
def test_limits_of_what_may_be_nothing(name: str, value: float) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        config_of(**{name: value})


@pytest.mark.parametrize(
    "name",
    ["limit", "max_length", "batch_tokens", "threads", "rows_per_part", "workers", "max_reject_rate", "audit"],
)
@pytest.mark.parametrize("wrong", ["12", "automatic", (3,), True, b"3"])
def test_numbers_are_numbers(name: str, wrong: object) -> None:
    with pytest.raises(UsageError, match=f"--{option_name(name)} is "):
        config_of(**{name: wrong})


@pytest.mark.parametrize(
    "name", ["limit", "max_length", "batch_tokens", "threads", "rows_per_part", "workers", "audit", "window_overlap"]
)
@pytest.mark.parametrize("wrong", [20.5, 20.0, math.inf])
def test_counts_are_whole(name: str, wrong: float) -> None:
    with pytest.raises(UsageError, match=f"--{option_name(name)} is .*whole number"):
        config_of(**{name: wrong})


@pytest.mark.parametrize("name", ["max_reject_rate", "max_drift"])
def test_a_gate_is_never_nan(name: str) -> None:
    # Nothing is above nan: the gate would never close.
    with pytest.raises(UsageError, match=f"--{option_name(name)} is nan"):
        config_of(**{name: math.nan})


@pytest.mark.parametrize(
    "name",
    ["text_column", "label_column", "encoding", "delimiter", "model", "revision", "device"],
)
@pytest.mark.parametrize("wrong", [5, True, ("text",), b"text"])
def test_names_are_strings(name: str, wrong: object) -> None:
    with pytest.raises(UsageError, match=f"--{option_name(name)} is "):
        config_of(**{name: wrong})


@pytest.mark.parametrize("name", ["text_column", "encoding", "model", "device", "task", "keep", "max_length"])
def test_what_has_a_default_is_never_none(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{option_name(name)} is None"):
        config_of(**{name: None})


@pytest.mark.parametrize(("name", "wrong"), [("keep_all", 1), ("keep_all", "yes"), ("restart", 1), ("restart", "no")])
def test_flags_are_booleans(name: str, wrong: object) -> None:
    with pytest.raises(UsageError, match=f"--{option_name(name)} is "):
        config_of(**{name: wrong})


@pytest.mark.parametrize(("name", "wrong"), [("keep_all", 0), ("audit", False), ("audit", 0.0)])
def test_what_only_equals_the_default_is_not_of_its_type(name: str, wrong: object) -> None:
    # keep_all=0 would be written as 0 instead of false, and so have a fingerprint of its own.
    with pytest.raises(UsageError, match=f"--{option_name(name)} is "):
        config_of(**{name: wrong})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:17"])
def test_devices(device: str) -> None:
    assert config_of(device=device).device == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "CPU", "cpu:0", "cuda:1:2"])
def test_no_such_device(device: str) -> None:
    with pytest.raises(UsageError, match=r"--device is .*auto, cpu, cuda or cuda:N"):
        config_of(device=device)


# --- keep


@pytest.mark.parametrize(
    ("keep", "label_column", "expected"),
    [
        ((), None, {}),
        (("id",), None, {"id": "id"}),
        (("b", "a"), None, {"b": "b", "a": "a"}),
        (("id=key", "stars=a=b"), None, {"id": "key", "stars": "a=b"}),
        (("id",), "gold", {"id": "id", "gold": "gold"}),
        (("gold=truth", "id"), "gold", {"gold": "truth", "id": "id"}),
        (("naïve col", "日付=date"), None, {"naïve col": "naïve col", "日付": "date"}),
    ],
)
def test_kept_columns(keep: tuple[str, ...], label_column: str | None, expected: dict[str, str]) -> None:
    kept = config_of(keep=keep, label_column=label_column).kept_columns()
    assert list(kept.items()) == list(expected.items())


@pytest.mark.parametrize("keep", [("",), ("=x",), ("x=",), ("=",), ("ok", "")])
def test_keep_names_a_column(keep: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"--keep '.*NAME or NAME=NEW"):
        config_of(keep=keep)


@pytest.mark.parametrize("keep", [("a", "a"), ("a", "a=b"), ("a=b", "a=c")])
def test_keep_names_a_column_once(keep: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="'a' twice"):
        config_of(keep=keep)


@pytest.mark.parametrize("wrong", ["id", ["id"], ("id", 5), (None,)])
def test_keep_is_a_tuple_of_names(wrong: object) -> None:
    with pytest.raises(UsageError, match="--keep"):
        config_of(keep=wrong)


@pytest.mark.parametrize(
    ("replicas", "expected"), [(None, (1, None)), ("1", (1, 1)), ("8", (8, 8)), ("2:16", (2, 16)), ("3:3", (3, 3))]
)
def test_a_range_of_replicas(replicas: str | None, expected: tuple[int, int | None]) -> None:
    assert config_of(engine="ray", replicas=replicas).replica_range() == expected


@pytest.mark.parametrize("replicas", ["", "0", "-1", "2:", ":2", "4:2", "0:3", "1:2:3", "two", "1.5", "²"])
def test_what_is_no_range_of_replicas(replicas: str) -> None:
    with pytest.raises(UsageError, match="--replicas is"):
        config_of(engine="ray", replicas=replicas)


@pytest.mark.parametrize(
    ("name", "value"), [("replicas", "2"), ("ray_address", "10.0.0.5:6379"), ("gpus_per_replica", 0.5)]
)
def test_options_of_the_ray_engine_go_with_it(name: str, value: object) -> None:
    assert getattr(config_of(engine="ray", **{name: value}), name) == value
    with pytest.raises(UsageError, match=f"--{option_name(name)} with --engine local; expected --engine ray"):
        config_of(**{name: value})


@pytest.mark.parametrize("gpus", [1.5, 2.25])
def test_gpus_are_whole_or_a_share_of_one(gpus: float) -> None:
    with pytest.raises(UsageError, match="a share of one GPU, or whole GPUs"):
        config_of(engine="ray", gpus_per_replica=gpus)
    assert config_of(engine="ray", gpus_per_replica=2.0).gpus_per_replica == 2.0
    with pytest.raises(UsageError, match="--gpus-per-replica 0 with --device cuda"):
        config_of(engine="ray", gpus_per_replica=0, device="cuda")


# --- identity


def test_identity_round_trip() -> None:
    identity = identity_of(labels=("schlecht", "大好き"), keep=("a=ü",), limit=3, model_files={"b": "2", "a": "1"})
    again = Identity.from_json(identity.to_json())
    assert again == identity
    assert again.fingerprint == identity.fingerprint
    assert again.to_json() == identity.to_json()


def test_identity_round_trip_through_a_config() -> None:
    # What comes back compares equal to what was asked for: tuples, not lists.
    identity = identity_of()
    assert changed_fields(config_of(keep=("id", "stars=rating")), Identity.from_json(identity.to_json())) == []


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()
    assert identity_of(model_files={"a": "1", "b": "2"}).fingerprint == (
        identity_of(model_files={"b": "2", "a": "1"}).fingerprint
    )


def test_fingerprint_is_the_hash_of_the_canonical_json() -> None:
    values = json.loads(identity_of().to_json())
    assert values.pop("fingerprint") == identity_of().fingerprint
    assert identity_of().fingerprint == hashlib.sha256(canonical_json(values)).hexdigest()


OTHER: dict[str, object] = {
    "schema_version": SCHEMA_VERSION + 1,
    "text_column": "body",
    "keep": ("stars=rating", "id"),
    "keep_all": True,
    "label_column": "gold",
    "encoding": "latin-1",
    "delimiter": ";",
    "limit": 10,
    "model": "other",
    "requested_revision": "main",
    "revision": "0" * 40,
    "model_files": {"config.json": "00", "model.safetensors": "12"},
    "labels": ("POSITIVE", "NEGATIVE"),
    "multi_label": True,
    "task": "causal",
    "prompt": "{text}?",
    "rendered_prompt": ("<s>", "?"),
    "verbalizers": ("bad", "good"),
    "calibrate_prompt": True,
    "temperature": 1.5,
    "precision": "bf16",
    "calibration_texts": "22" * 32,
    "backend": "openvino",
    "batching": "packed",
    "compiled": True,
    "batch_tokens": 2049,
    "threads": 3,
    "rows_per_part": 2047,
    "max_length": 127,
    "long_text": "window",
    "window_overlap": 16,
    "window_aggregate": "max",
}


def test_fingerprint_changes_with_every_field() -> None:
    assert OTHER.keys() == {f.name for f in dataclasses.fields(Identity)}
    fingerprints = [identity_of(**{name: value}).fingerprint for name, value in OTHER.items()]
    assert len({identity_of().fingerprint, *fingerprints}) == len(OTHER) + 1


def test_model_version() -> None:
    assert identity_of(revision="c" * 40).model_version == "c" * 40
    by_hash = {identity_of(model_files=files).model_version for files in ({"a": "1"}, {"a": "2"}, {"b": "1"})}
    assert len(by_hash) == 3
    assert all(version.startswith("sha256:") for version in by_hash)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'"text"', b"5", b"{}", b"\xff\xfe\x00", b'{"keep": [], "labels": []}'],
)
def test_what_is_not_an_identity_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Identity.from_json(data)


@pytest.mark.parametrize("change", [{"window": 3}, {"labels": 5}, {"temperature": 2.0}])
def test_an_identity_of_another_shape_is_refused(change: dict[str, object]) -> None:
    values = json.loads(identity_of().to_json()) | change
    with pytest.raises((ValueError, TypeError)):
        Identity.from_json(json.dumps(values).encode())


# --- changed fields

ASKED_OTHERWISE: dict[str, object] = {
    "text_column": "body",
    "keep": ("id",),
    "keep_all": True,
    "label_column": "gold",
    "encoding": "latin-1",
    "delimiter": ";",
    "limit": 10,
    "precision": "bf16",
    "backend": "openvino",
    "batching": "packed",
    "batch_tokens": 2049,
    "threads": 3,
    "rows_per_part": 2047,
    "max_length": 127,
    "task": "causal",
    "calibrate_prompt": True,
    "long_text": "window",
}
KEPT = {"keep": ("id", "stars=rating")}


@pytest.mark.parametrize("name", sorted(ASKED_OTHERWISE))
def test_a_changed_option_is_named(name: str) -> None:
    changes = changed_fields(config_of(**(KEPT | {name: ASKED_OTHERWISE[name]})), identity_of())
    assert len(changes) == 1
    assert changes[0].startswith(f"{option_name(name)}: ")
    assert " → " in changes[0]


@pytest.mark.parametrize(("name", "value"), [("window_overlap", 7), ("window_aggregate", "mean")])
def test_settings_of_windows_are_compared_where_they_are_given(name: str, value: object) -> None:
    recorded = identity_of(long_text="window", window_overlap=16, window_aggregate="max")
    assert changed_fields(config_of(**KEPT, long_text="window"), recorded) == []
    (change,) = changed_fields(config_of(**KEPT, long_text="window", **{name: value}), recorded)
    assert change.startswith(f"{option_name(name)}: ")


@pytest.mark.parametrize("name", ["text_column", "label_column", "encoding", "delimiter", "limit", "keep_all"])
def test_a_default_differs_from_what_was_recorded(name: str) -> None:
    # Only the word auto accepts; an option that is left out asks for its default.
    (change,) = changed_fields(config_of(**KEPT), identity_of(**{name: OTHER[name]}))
    assert change.startswith(f"{option_name(name)}: ")


@pytest.mark.parametrize("name", sorted(n for n, (default, _) in TABLE.items() if default == AUTO))
def test_auto_accepts_what_was_recorded(name: str) -> None:
    field = name.replace("-", "_")
    recorded = identity_of(**{field: OTHER[field]}) if field in OTHER else identity_of()
    assert changed_fields(config_of(**KEPT), recorded) == []


@pytest.mark.parametrize("name", ["text_column", "label_column", "encoding"])
def test_a_column_that_is_called_auto_is_a_name(name: str) -> None:
    (change,) = changed_fields(config_of(**(KEPT | {name: AUTO})), identity_of())
    assert change.startswith(f"{option_name(name)}: ")


def test_order_of_kept_columns_counts() -> None:
    (change,) = changed_fields(config_of(keep=("stars=rating", "id")), identity_of())
    assert change == "keep: id,stars=rating → stars=rating,id"


def test_every_change_is_named() -> None:
    changes = changed_fields(config_of(**ASKED_OTHERWISE), identity_of())
    assert sorted(change.partition(":")[0] for change in changes) == sorted(map(option_name, ASKED_OTHERWISE))


def test_gate_and_machine_options_are_never_compared() -> None:
    others: dict[str, object] = {
        "on_bad_row": "fail",
        "max_reject_rate": 0.5,
        "baseline": "manifest.json",
        "max_drift": 0.25,
        "audit": 100,
        "device": "cuda:3",
        "workers": 7,
        "progress": "none",
        "log_format": "json",
        "metrics_file": "m.prom",
        "engine": "ray",
        "ray_address": "10.0.0.5:6379",
        "replicas": "4:8",
        "gpus_per_replica": 0.5,
        "restart": True,
        "report": "report.html",
    }
    asked = config_of(**KEPT, **others)
    assert changed_fields(asked, identity_of()) == []
    free = {name.replace("-", "_") for name, (_, kind) in TABLE.items() if kind != "identity"}
    assert free == set(others)
    assert not free & {f.name for f in dataclasses.fields(Identity)}


def test_every_available_identity_option_is_compared_or_is_the_models() -> None:
    available = {name.replace("-", "_") for name, (_, kind) in TABLE.items() if kind == "identity"}
    of_the_model = {"model", "revision", "prompt", "verbalizer", "calibration"}
    assert available - of_the_model - {"window_overlap", "window_aggregate"} == set(ASKED_OTHERWISE)
