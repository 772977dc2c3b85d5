"""INPUT... → shards: names, order, what is never read and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchsent.errors import InputError, NotAvailableError, UsageError
from batchsent.stages.planner import local_path, plan_shards, split_extension


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))


def names(*inputs: str | Path, output: Path = Path("/nowhere/scored")) -> list[str]:
    return [shard.name for shard in plan_shards(tuple(map(str, inputs)), output)]


def stems(*inputs: str | Path) -> list[str]:
    return [shard.output_stem for shard in plan_shards(tuple(map(str, inputs)), Path("/nowhere/scored"))]


# --- files


def test_a_file(folder: Path) -> None:
    make(folder, "a/reviews.csv")
    (shard,) = plan_shards(("a/reviews.csv",), Path("/nowhere"))
    assert (shard.name, shard.path) == ("reviews.csv", str(folder / "a/reviews.csv"))
    assert (shard.format, shard.compression, shard.output_stem) == (".csv", "", "reviews")
    assert shard.size_bytes == len("a/reviews.csv")


@pytest.mark.parametrize(
    ("name", "split", "stem"),
    [
        ("x.parquet", (".parquet", ""), "x"),
        ("x.csv", (".csv", ""), "x"),
        ("x.tsv.gz", (".tsv", ".gz"), "x"),
        ("x.jsonl.zst", (".jsonl", ".zst"), "x"),
        ("x.ndjson.bz2", (".ndjson", ".bz2"), "x"),
        ("x.csv.xz", (".csv", ".xz"), "x"),
        ("x.2026.11.csv.gz", (".csv", ".gz"), "x.2026.11"),
        ("x.csv.csv", (".csv", ""), "x.csv"),
        ("x.csv.parquet", (".parquet", ""), "x.csv"),
    ],
)
def test_formats(folder: Path, name: str, split: tuple[str, str], stem: str) -> None:
    assert split_extension(name) == split
    make(folder, f"sub.csv/{name}")
    assert stems(folder) == [f"sub.csv/{stem}"]


@pytest.mark.parametrize("name", ["X.CSV", "X.Csv.GZ", "X.PARQUET", "X.jsonl.Zst"])
def test_the_case_of_an_extension_does_not_matter(folder: Path, name: str) -> None:
    make(folder, name)
    assert names(name) == [name]
    assert stems(name) == ["X"]


@pytest.mark.parametrize(
    "name",
    ["x.txt", "x", "csv", "x.csv.zip", "x.gz", "x.parquet.gz", "x.csv.gz.gz", "x.csv~", "x.csv.tmp", "x.json", "xcsv"],
)
def test_other_extensions_are_not_read(folder: Path, name: str) -> None:
    assert split_extension(name) is None
    make(folder, name, "read.csv")
    assert names(folder) == ["read.csv"]
    with pytest.raises(InputError, match="nothing to read in") as caught:
        names(name)
    for extension in (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".gz", ".zst", ".bz2", ".xz"):
        assert extension in str(caught.value)


# --- directories


def test_a_directory_keeps_nested_names_in_order(folder: Path) -> None:
    make(folder, "b.csv", "a/z.csv", "a/b/c.jsonl", "c/x.parquet", "a.tsv", "b10.csv", "b9.csv")
    expected = ["a/b/c.jsonl", "a/z.csv", "a.tsv", "b.csv", "b10.csv", "b9.csv", "c/x.parquet"]
    for spelling in (folder, ".", f"{folder}/", f"{folder}/a/..", "../in"):
        assert names(spelling) == expected


def test_hidden_names_are_not_read(folder: Path) -> None:
    make(folder, "x.csv", "_x.csv", ".x.csv", "_SUCCESS", ".git/x.csv", "_temporary/0/x.csv", "a/_b/c.csv", "a/.d.csv")
    assert names(folder) == ["x.csv"]
    assert names("*") == ["x.csv"]
    assert names("**", "**/*.csv") == ["x.csv"]


def test_hidden_names_are_not_read_even_if_named(folder: Path) -> None:
    make(folder, "_x.csv", ".x.csv")
    for argument in ("_x.csv", ".x.csv", "_*.csv", ".*.csv"):
        with pytest.raises(InputError, match="nothing to read"):
            names(argument)


def test_a_folder_above_the_input_may_be_hidden(folder: Path) -> None:
    make(folder, "_landing/.cache/x.csv")
    assert names("_landing/.cache/x.csv") == ["x.csv"]
    assert names("_landing/.cache/*.csv") == ["x.csv"]
    assert names("_landing/.cache") == ["x.csv"]


def test_dir_inside_input_is_not_read(folder: Path) -> None:
    make(folder, "x.csv", "scored/x.parquet", "scored/old/y.csv", "scored2/z.csv")
    output = folder / "scored"
    for argument in (".", "**/*", "**", "*"):
        assert sorted(names(argument, output=output)) == ["scored2/z.csv", "x.csv"]
    with pytest.raises(InputError, match="not in the output directory"):
        names("scored/*", output=output)
    with pytest.raises(InputError, match="scored is the --output too"):
        names("scored", output=output)
    with pytest.raises(InputError):
        names(".", output=folder)


@pytest.mark.parametrize("argument", ["scored/x.parquet", "./scored/x.parquet", "link/x.parquet"])
def test_a_file_in_dir_is_not_read_even_if_named(folder: Path, argument: str) -> None:
    make(folder, "scored/x.parquet")
    (folder / "link").symlink_to("scored")
    with pytest.raises(InputError):
        names(argument, output=folder / "scored")


def test_dir_through_a_link_is_not_read(folder: Path) -> None:
    make(folder, "x.csv", "real/scored/x.parquet")
    (folder / "link").symlink_to("real/scored")
    assert names(".", output=folder / "real/scored") == ["x.csv"]


def test_an_unreadable_folder_is_one_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder that is passed over in silence would be rows that are lost.
    make(folder, "a/x.csv", "b/y.csv")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="b"):
        names(folder)


# --- links


def test_links_are_followed_once(folder: Path) -> None:
    make(folder, "a/x.csv", "b/y.csv")
    (folder / "a/loop").symlink_to("..")
    (folder / "b/itself").symlink_to(".")
    (folder / "c").symlink_to("b")
    (folder / "x-link.csv").symlink_to("a/x.csv")
    found = plan_shards((str(folder),), Path("/nowhere"))
    assert len({Path(shard.path).resolve() for shard in found if not shard.name.startswith("x-link")}) == 2
    assert [shard.name for shard in found] == ["a/x.csv", "b/y.csv", "x-link.csv"]


def test_a_loop_of_links_is_followed_once_by_a_glob(folder: Path) -> None:
    # Two rows of one file must not be scored forty times under forty names.
    make(folder, "a/x.csv")
    (folder / "a/loop").symlink_to("..")
    assert names("**/*.csv") == ["a/x.csv"]


@pytest.mark.parametrize("argument", [".", "*", "**", "**/*.csv"])
def test_a_link_to_itself_or_to_nothing_is_passed_over(folder: Path, argument: str) -> None:
    make(folder, "x.csv")
    (folder / "loop").symlink_to("loop")
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "broken.csv").symlink_to("none.csv")
    assert names(argument) == ["x.csv"]


@pytest.mark.parametrize("target", ["none.csv", "link.csv"])
def test_a_broken_link_that_is_named_is_an_error(folder: Path, target: str) -> None:
    (folder / "link.csv").symlink_to(target)
    with pytest.raises(InputError):
        names("link.csv")


def test_what_is_no_file_is_passed_over(folder: Path) -> None:
    make(folder, "x.csv")
    os.mkfifo(folder / "pipe.csv")
    assert names(folder) == ["x.csv"]
    with pytest.raises(InputError):
        names("pipe.csv")


# --- globs


def test_globs_name_from_the_first_wildcard(folder: Path) -> None:
    make(folder, "d/2026/11/x.csv", "d/2026/12/x.csv", "d/2025/12/x.csv", "d/top.csv")
    assert names("d/2026/*/x.csv") == ["11/x.csv", "12/x.csv"]
    assert names("d/*/12/x.csv") == ["2025/12/x.csv", "2026/12/x.csv"]
    assert names(f"{folder}/d/*.csv") == ["top.csv"]
    assert names("d/20*/[1][12]/?.csv") == ["2025/12/x.csv", "2026/11/x.csv", "2026/12/x.csv"]
    assert sorted(names("d/**/*.csv")) == ["2025/12/x.csv", "2026/11/x.csv", "2026/12/x.csv", "top.csv"]
    assert sorted(names("d/**")) == ["2025/12/x.csv", "2026/11/x.csv", "2026/12/x.csv", "top.csv"]


def test_directories_that_a_glob_matches(folder: Path) -> None:
    make(folder, "d/2026-11-01/a.csv", "d/2026-11-02/b/c.csv", "d/2026-12-01/a.csv", "d/2026-11-03.csv")
    assert names("d/2026-11-*") == ["2026-11-01/a.csv", "2026-11-02/b/c.csv", "2026-11-03.csv"]


@pytest.mark.parametrize("pattern", ["**/day*", "d/**/day*"])
def test_directories_that_a_deep_glob_matches(folder: Path, pattern: str) -> None:
    make(folder, "d/m/day1.csv", "d/m/day2/part.csv")
    found = [name.removeprefix("d/") for name in names(pattern)]
    assert found == ["m/day1.csv", "m/day2/part.csv"]


def test_a_name_with_wildcards_is_first_a_name(folder: Path) -> None:
    make(folder, "x[1].csv", "x1.csv", "d[1]/y.csv")
    assert names("x[1].csv") == ["x[1].csv"]
    assert names("d[1]") == ["y.csv"]


@pytest.mark.parametrize("pattern", ["none/*.csv", "*.none", "[", "/none*/**"])
def test_a_glob_that_matches_nothing(folder: Path, pattern: str) -> None:
    make(folder, "x.csv")
    with pytest.raises(InputError) as caught:
        names("x.csv", pattern)
    assert pattern in str(caught.value)


# --- several inputs


def test_inputs_stay_in_the_order_given(folder: Path) -> None:
    make(folder, "b.csv", "a.csv", "d/z.csv", "d/y.csv")
    assert names("b.csv", "d", "a.csv") == ["b.csv", "y.csv", "z.csv", "a.csv"]


def test_the_same_file_twice_is_one_shard(folder: Path) -> None:
    make(folder, "x.csv", "y.csv")
    (folder / "again").symlink_to(".")
    assert names("x.csv", "./x.csv", folder / "x.csv", "*.csv", ".", "again/x.csv") == ["x.csv", "y.csv"]


@pytest.mark.parametrize(
    ("made", "inputs"),
    [
        (("x.csv", "x.csv.gz"), (".",)),
        (("x.csv", "x.jsonl"), ("*",)),
        (("x.csv", "x.parquet"), ("x.csv", "x.parquet")),
        (("a/x.csv", "b/x.csv"), ("a/x.csv", "b/x.csv")),
        (("a/x.csv", "b/x.csv"), ("a", "b")),
        (("a/x.csv", "b/x.tsv"), ("a/*.csv", "b")),
        (("x.csv", "x.CSV"), (".",)),
    ],
)
def test_two_shards_of_one_output_are_refused(folder: Path, made: tuple[str, ...], inputs: tuple[str, ...]) -> None:
    make(folder, *made)
    with pytest.raises(UsageError, match=r"would both write .*x\.parquet") as caught:
        names(*inputs)
    for name in made:
        assert str(folder / name) in str(caught.value)


def test_an_output_that_is_a_folder_of_another_is_refused(folder: Path) -> None:
    # x.csv → x.parquet; x.parquet/part.csv → x.parquet/part.parquet, as Spark names its folders.
    make(folder, "x.csv", "x.parquet/part.csv")
    with pytest.raises(UsageError):
        names(folder)


def test_one_input_of_several_that_names_nothing_is_an_error(folder: Path) -> None:
    make(folder, "x.csv")
    (folder / "empty").mkdir()
    for argument in ("none.csv", "empty"):
        with pytest.raises(InputError, match=argument) as caught:
            names("x.csv", argument)
        assert caught.value.exit_code == 2


def test_what_does_not_exist_is_said_so(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        names("none.csv")


# --- names that are not for everybody


def test_names_in_other_scripts(folder: Path) -> None:
    make(folder, "日本/批評 2.csv", "a b/c'd\"e.jsonl", "-n.csv")
    assert names(folder) == ["-n.csv", "a b/c'd\"e.jsonl", "日本/批評 2.csv"]


def test_a_name_that_is_not_unicode_is_refused(folder: Path) -> None:
    # Neither the manifest nor a Parquet string can hold it; better said before than in the middle of the run.
    make(folder, os.fsdecode(b"caf\xe9.csv"))
    with pytest.raises(UsageError) as caught:
        names(folder)
    str(caught.value).encode()


# --- URIs


def test_file_uris(folder: Path) -> None:
    make(folder, "a b/x.csv", "100%/y.csv")
    assert names(f"file://{folder}/a%20b/x.csv") == ["x.csv"]
    assert names(f"file://{folder}/a b") == ["x.csv"]
    assert names(f"FILE://{folder}/100%25/*.csv") == ["y.csv"]
    assert local_path(f"file://{folder}/a%20b", "INPUT") == f"{folder}/a b"
    assert local_path("a b", "INPUT") == "a b"


@pytest.mark.parametrize("uri", ["abfs://c/x.csv", "hdfs://n/x", "abfs://c/*.csv", "http://h/x.csv", "HDFS://n/x"])
def test_other_uris_are_refused_plainly(folder: Path, uri: str) -> None:
    message = f"INPUT is a {uri[:2].lower()}.*:// URI.*a path on this machine"
    with pytest.raises(NotAvailableError, match=message) as caught:
        names(uri)
    assert caught.value.exit_code == 2


def test_a_file_uri_of_another_machine_is_refused(folder: Path) -> None:
    # file://in/x.csv has two slashes where three are needed; /x.csv is not what is meant.
    with pytest.raises(UsageError):
        local_path("file://elsewhere/x.csv", "INPUT")
    assert local_path("file://localhost/x.csv", "INPUT") == "/x.csv"


@pytest.mark.parametrize("argument", ["//[ab]c/*.csv", "[", "x]y.csv", "//[::1/x.csv"])
def test_brackets_are_no_addresses(folder: Path, argument: str) -> None:
    with pytest.raises(InputError):
        names(argument)
