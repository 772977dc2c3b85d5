"""Every option on the command line and in a job file, as one list; the command line wins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from batchsent.cli import main, score
from batchsent.config import ScoreConfig
from batchsent.options import AUTO, option_fields, option_name

Score = Callable[..., ScoreConfig]
Refused = Callable[..., str]

AVAILABLE: dict[str, tuple[str, object]] = {
    "text-column": ("body", "body"),
    "label-column": ("gold", "gold"),
    "encoding": ("latin-1", "latin-1"),
    "delimiter": (";", ";"),
    "limit": ("5", 5),
    "model": ("ns/m", "ns/m"),
    "revision": ("v1", "v1"),
    "task": ("causal", "causal"),
    "prompt": ("sentiment-zh", "sentiment-zh"),
    "calibration": ("t.json", "t.json"),
    "max-length": ("64", 64),
    "long-text": ("window", "window"),
    "precision": ("bf16", "bf16"),
    "backend": ("torch", "torch"),
    "batching": ("padded", "padded"),
    "batch-tokens": ("4096", 4096),
    "threads": ("2", 2),
    "rows-per-part": ("100", 100),
    "on-bad-row": ("fail", "fail"),
    "max-reject-rate": ("0.25", 0.25),
    "baseline": ("m.json", "m.json"),
    "audit": ("100", 100),
    "device": ("cpu", "cpu"),
    "workers": ("3", 3),
    "engine": ("local", "local"),
    "progress": ("none", "none"),
    "log-format": ("json", "json"),
    "metrics-file": ("m.prom", "m.prom"),
    "report": ("r.html", "r.html"),
}
"""Options that take one value: as it is written, and as it arrives."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[ScoreConfig]:
    made: list[ScoreConfig] = []
    monkeypatch.setattr(score, "run", made.append)
    return made


@pytest.fixture
def scored(configs: list[ScoreConfig], capsys: pytest.CaptureFixture[str]) -> Score:
    """Call ``batchsent score``; returns the config that the job is given."""

    def call(*arguments: str) -> ScoreConfig:
        with pytest.raises(SystemExit) as ended:
            main(["score", *arguments])
        assert (ended.value.code, capsys.readouterr().err) == (0, "")
        return configs.pop()

    return call


@pytest.fixture
def refused(configs: list[ScoreConfig], capsys: pytest.CaptureFixture[str]) -> Refused:
    """Call ``batchsent score``, which must end with exit 2 and one line; returns that line."""

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["score", *arguments])
        out, err = capsys.readouterr()
        assert (ended.value.code, out, configs) == (2, "", []), err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return call


def job(text: str, name: str = "job.toml") -> tuple[str, str]:
    Path(name).write_text(text, encoding="utf-8")
    return "--config", name


def of_score() -> dict[str, click.Parameter]:
    return {parameter.opts[0]: parameter for parameter in score.command.params}


# --- the command line


def test_every_option_is_on_the_command_line() -> None:
    expected = {f"--{option_name(f.name)}" for f in option_fields(ScoreConfig)}
    assert of_score().keys() == expected | {"--output", "--config", "--dry-run", "inputs"}
    fields = {f.name: f for f in option_fields(ScoreConfig)}
    for parameter in of_score().values():
        if parameter.name in fields:
            definition = fields[parameter.name]
            assert isinstance(parameter, click.Option)
            assert parameter.help == definition.metadata["help"]
            assert parameter.default == definition.default
            if definition.metadata["choices"]:
                assert isinstance(parameter.type, click.Choice)
                assert tuple(parameter.type.choices) == definition.metadata["choices"]


def test_options_stand_in_the_order_of_the_fields() -> None:
    names = [name.removeprefix("--") for name in of_score()]
    assert [n for n in names if n not in ("inputs", "output", "config", "dry-run")] == [
        option_name(f.name) for f in option_fields(ScoreConfig)
    ]


def test_every_option_of_this_version_is_tried_here() -> None:
    others = {"keep", "keep-all", "calibrate-prompt", "verbalizer", "restart", "window-overlap", "window-aggregate"}
    others |= {"ray-address", "replicas", "gpus-per-replica", "max-drift"}
    assert AVAILABLE.keys() | others == {option_name(f.name) for f in option_fields(ScoreConfig)}


def test_a_cluster(scored: Score, refused: Refused) -> None:
    given = ("--ray-address", "10.0.0.5:6379", "--replicas", "2:8", "--gpus-per-replica", "0.5")
    config = scored("x.csv", "--output", "o", "--engine", "ray", *given)
    assert (config.ray_address, config.replicas, config.gpus_per_replica) == ("10.0.0.5:6379", "2:8", 0.5)
    job_file = job('engine = "ray"\nray-address = "10.0.0.5:6379"\nreplicas = "2:8"\ngpus-per-replica = 0.5')
    assert scored("x.csv", "--output", "o", *job_file) == config
    assert "--ray-address with --engine local" in refused("x.csv", "--output", "o", *given)


def test_windows(scored: Score) -> None:
    config = scored("a", "--output", "o", "--long-text=window", "--window-overlap=4", "--window-aggregate=max")
    assert (config.window_overlap, config.window_aggregate) == (4, "max")


@pytest.mark.parametrize("written", ["Review: {text}\\nIt is ", "Review: {text}\nIt is "])
def test_a_prompt_has_lines(scored: Score, written: str) -> None:
    config = scored("a", "--output", "o", "--prompt", written, "--verbalizer", "A=b", "--verbalizer", "C=d e")
    assert (config.prompt, config.verbalizer) == ("Review: {text}\nIt is ", ("A=b", "C=d e"))


def test_defaults_are_those_of_the_config(scored: Score) -> None:
    assert scored("x.csv", "--output", "o") == ScoreConfig(inputs=("x.csv",), output="o")


@pytest.mark.parametrize("name", sorted(AVAILABLE))
def test_every_value_arrives(scored: Score, name: str) -> None:
    written, expected = AVAILABLE[name]
    field = name.replace("-", "_")
    for arguments in (("x.csv", f"--{name}", written), (f"--{name}={written}", "x.csv")):
        config = scored(*arguments, "--output", "o")
        assert config == ScoreConfig(inputs=("x.csv",), output="o", **{field: expected})  # type: ignore[arg-type]
        assert type(getattr(config, field)) is type(expected)


@pytest.mark.parametrize("name", sorted(n for n, (_, _) in AVAILABLE.items() if n != "audit"))
def test_auto_is_taken_where_it_is_the_default(scored: Score, refused: Refused, name: str) -> None:
    field = next(f for f in option_fields(ScoreConfig) if option_name(f.name) == name)
    if field.default == AUTO:
        assert getattr(scored("x.csv", "--output", "o", f"--{name}", "auto"), field.name) == AUTO
    elif not isinstance(field.default, str | None) or field.metadata["choices"] or name == "limit":
        assert f"--{name}" in refused("x.csv", "--output", "o", f"--{name}", "auto")


def test_flags_and_repeated_options(scored: Score, refused: Refused) -> None:
    config = scored("a", "b", "--output", "o", "--keep-all", "--restart", "--keep", "id", "--keep", "stars=rating")
    assert (config.inputs, config.keep) == (("a", "b"), ("id", "stars=rating"))
    assert config.keep_all is True
    assert config.restart is True
    assert scored("a", "--output", "o", "--calibrate-prompt").calibrate_prompt is True


def test_a_name_that_begins_with_a_dash(scored: Score) -> None:
    assert scored("--output", "o", "--", "-x.csv").inputs == ("-x.csv",)


def test_a_tab_can_be_written(scored: Score) -> None:
    for written in ("\t", "\\t"):
        assert scored("x.csv", "--output", "o", "--delimiter", written).delimiter == "\t"
    assert scored("x.csv", "--output", "o", *job('delimiter = "\\t"')).delimiter == "\t"


# --- job files


def test_a_job_file_says_all_of_it(scored: Score) -> None:
    lines = ['input = ["a.csv", "b.csv"]', 'output = "o"', 'keep = ["id", "stars=rating"]', "keep-all = true"]
    values: dict[str, Any] = {}
    for name, (_, value) in AVAILABLE.items():
        lines.append(f"{name} = {json.dumps(value)}")
        values[name.replace("-", "_")] = value
    config = scored(*job("\n".join([*lines, "restart = true"])))
    assert config == ScoreConfig(
        inputs=("a.csv", "b.csv"), output="o", keep=("id", "stars=rating"), keep_all=True, restart=True, **values
    )


@pytest.mark.parametrize("written", ['"a.csv"', '["a.csv"]'])
def test_input_is_a_string_or_a_list(scored: Score, written: str) -> None:
    assert scored(*job(f'input = {written}\noutput = "o"')).inputs == ("a.csv",)


def test_the_command_line_wins(scored: Score) -> None:
    file = job('input = "a.csv"\noutput = "o"\nlimit = 5\nkeep = ["id"]\ndevice = "cuda"\nmax-length = 64')
    for before, after in (((), file), (file, ())):
        config = scored(
            *before, "b.csv", "--output", "p", "--limit", "6", "--keep", "x", "--max-length", "auto", *after
        )
        assert (config.inputs, config.output, config.limit, config.keep) == (("b.csv",), "p", 6, ("x",))
        assert (config.max_length, config.device) == (AUTO, "cuda")


def test_the_command_line_wins_with_the_default(scored: Score) -> None:
    assert scored(*job('text-column = "body"'), "a.csv", "--output", "o", "--text-column", "text").text_column == "text"


def test_auto_and_comments_in_a_job_file(scored: Score) -> None:
    config = scored(*job('# nightly\ninput = "a"\noutput = "o" # here\nthreads = "auto"\nmax-length = "auto"\n'))
    assert (config.threads, config.max_length) == (AUTO, AUTO)


def test_an_empty_job_file(scored: Score) -> None:
    assert scored("x.csv", "--output", "o", *job("")) == scored("x.csv", "--output", "o")


def test_whole_numbers_where_a_share_is_asked_for(scored: Score) -> None:
    assert scored("x.csv", "--output", "o", *job("max-reject-rate = 1")).max_reject_rate == 1.0


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("text_column", "did you mean 'text-column'?"),
        ("textcolumn", "did you mean 'text-column'?"),
        ("inputs", "did you mean 'input'?"),
        ("Output", "did you mean 'output'?"),
        ("modle", "did you mean 'model'?"),
        ("zzzzzz", "remove it"),
        ("config", ""),
        ("debug", ""),
    ],
)
def test_an_unknown_key_is_an_error(refused: Refused, key: str, suggestion: str) -> None:
    line = refused(*job(f'input = "a"\noutput = "o"\n{key} = "x"'))
    assert f"job.toml has the unknown key '{key}'" in line
    assert suggestion in line


def test_a_table_is_an_unknown_key(refused: Refused) -> None:
    assert "unknown key 'score'" in refused(*job('[score]\ninput = "a"'))


@pytest.mark.parametrize("text", ["input = ", "input = a", "= 3", "limit = 1\nlimit = 2", "input = 'a", "\x00"])
def test_what_is_not_toml_is_one_clear_line(refused: Refused, text: str) -> None:
    assert "--config job.toml is not TOML" in refused(*job(text))


def test_a_job_file_that_cannot_be_read(refused: Refused, tmp_path: Path) -> None:
    assert "--config none.toml cannot be read" in refused("--config", "none.toml")
    (tmp_path / "folder").mkdir()
    assert "--config folder cannot be read" in refused("--config", "folder")
    (tmp_path / "latin.toml").write_bytes('input = "é"'.encode("latin-1"))
    assert "--config latin.toml cannot be read" in refused("--config", "latin.toml")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("input", "5"),
        ("input", "true"),
        ("input", "[1, 2]"),
        ("input", '["a.csv", 5]'),
        ("input", "{a = 1}"),
        ("output", "5"),
        ("output", '["o"]'),
        ("text-column", "5"),
        ("text-column", '["text"]'),
        ("text-column", "{a = 1}"),
        ("text-column", "2026-11-22"),
        ("model", "true"),
        ("limit", '"many"'),
        ("limit", "2.5"),
        ("limit", "true"),
        ("limit", "[5]"),
        ("limit", "0"),
        ("max-length", "20.5"),
        ("max-length", '"long"'),
        ("max-length", "4"),
        ("threads", "true"),
        ("threads", "1.9"),
        ("workers", "2.0"),
        ("rows-per-part", "1000001"),
        ("max-reject-rate", '"high"'),
        ("max-reject-rate", "nan"),
        ("max-reject-rate", "1.5"),
        ("max-reject-rate", "true"),
        ("keep", '"id"'),
        ("keep", "5"),
        ("keep", "[1]"),
        ("keep", '[["id"]]'),
        ("keep", '["id", "id"]'),
        ("keep-all", '"maybe"'),
        ("keep-all", "1"),
        ("keep-all", "[true]"),
        ("restart", "0"),
        ("precision", '"fp64"'),
        ("precision", "32"),
        ("device", '"gpu"'),
        ("progress", "false"),
    ],
)
def test_a_value_of_the_wrong_type_is_one_clear_line(refused: Refused, name: str, written: str) -> None:
    values = {"input": '"a.csv"', "output": '"o"', name: written}
    line = refused(*job("\n".join(f"{key} = {value}" for key, value in values.items())))
    assert name in line or (name == "input" and "INPUT" in line)
    assert "bug" not in line
