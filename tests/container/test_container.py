"""The image, built and run for real: read-only, without a network, as a user with no rights. `make test-container`."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container import images
from support import WORDS, published, rows, write_csv

pytestmark = pytest.mark.container

ROOT = Path(__file__).parents[2]
OPTIONS = ("--device=cpu", "--threads=1", "--rows-per-part=64", "--progress=none")
STOP_SECONDS = 10


@pytest.fixture(scope="session", autouse=True)
def image() -> None:
    images.build()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder for /data that the container's user may write to."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def run(*arguments: str, data: Path | None = None, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """``batchsent`` with these arguments in a container, to its end."""
    line = images.command(*arguments, data=data, options=options)
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)


def look(program: str, *arguments: str, user: int = 0) -> str:
    """What another program of the image prints."""
    result = run(*arguments, options=(f"--user={user}", f"--entrypoint={program}"))
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def long_run(data: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a run over ``data/r.csv`` that takes a while; it has committed something when this returns."""
    write_csv(data / "r.csv", [" ".join([*WORDS[i % 7 :], str(i)]) for i in range(4000)])
    name = "batchsent-test-run"

    def start() -> subprocess.Popen[str]:
        options = (f"--name={name}", "--replace")
        line = images.command("score", "r.csv", "--output=out", *OPTIONS, data=data, options=options)
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while len(list(data.glob("out/_batchsent/parts/*/*.parquet"))) < 2 and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        return process

    yield start
    subprocess.run(["podman", "rm", "--force", "--ignore", name], capture_output=True, check=False)


# --- what it does


def test_without_arguments_it_says_what_it_can_do() -> None:
    result = run()
    assert result.returncode == 0, result.stderr
    assert result.stdout == run("--help").stdout
    assert "score" in result.stdout


def test_reviews_are_scored_read_only_without_a_network_as_nobody(data: Path) -> None:
    write_csv(data / "r.csv", ["A great kettle, I love it.", "Broke within a week. Awful."], id=[1, 2])
    result = run("score", "r.csv", "--output=out", "--keep=id", *OPTIONS, data=data)
    assert result.returncode == 0, result.stderr
    assert [row["label"] for row in rows(data / "out/r.parquet")] == ["POSITIVE", "NEGATIVE"]
    assert result.stderr == "", "no library complains about the file system, the network or the user"
    assert {path.stat().st_uid for path in data.glob("out/**/*")} == {10001}
    assert run("verify", "out", data=data).returncode == 0


def test_a_user_whom_the_image_does_not_know_can_run_it(data: Path) -> None:
    write_csv(data / "r.csv", ["good"])
    result = run("score", "r.csv", "--output=out", *OPTIONS, data=data, options=("--user=12345:12345",))
    assert result.returncode == 0, result.stderr
    assert (data / "out/r.parquet").stat().st_uid == 12345


def test_pictures_are_drawn_without_a_home_to_write_to(data: Path) -> None:
    write_csv(data / "r.csv", ["Great, I love it.", "Awful."], truth=["POSITIVE", "NEGATIVE"])
    result = run("evaluate", "r.csv", "--label-column=truth", "--output=judged", "--progress=none", data=data)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert (data / "judged/confusion-embedded.png").exists()


def test_models_can_be_kept_for_the_next_container() -> None:
    script = "import os, pathlib; pathlib.Path(os.environ['HF_HOME'], 'x').touch()"
    look("python", "-c", script, user=10001)


# --- exit codes and signals


@pytest.mark.parametrize(
    ("texts", "options", "code", "said"),
    [
        (["good"], ["--text-column=body"], 2, "body"),
        (["good"], ["--device=cuda"], 2, "cuda"),
        (["good", b"\xff", b"\xff"], [], 3, "2 of 3 records are bad"),
    ],
)
def test_exit_codes_are_passed_on(
    data: Path, texts: list[str | bytes], options: list[str], code: int, said: str
) -> None:
    lines = [b"text", *(text if isinstance(text, bytes) else text.encode() for text in texts)]
    (data / "r.csv").write_bytes(b"\n".join(lines) + b"\n")
    result = run("score", "r.csv", "--output=out", *OPTIONS, *options, data=data)
    assert result.returncode == code, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_second_container_is_kept_out_and_the_first_is_stopped_and_goes_on(
    data: Path, long_run: Callable[[], subprocess.Popen[str]]
) -> None:
    process = long_run()
    second = run("score", "r.csv", "--output=out", *OPTIONS, data=data)
    assert second.returncode == 75, second.stderr

    began = time.monotonic()
    images.podman("stop", f"--time={3 * STOP_SECONDS}", "batchsent-test-run")
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < STOP_SECONDS
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM" in errors.splitlines()[-1]
    assert not (data / "out/_SUCCESS").exists()

    assert run("score", "r.csv", "--output=out", *OPTIONS, data=data).returncode == 0
    assert run("score", "r.csv", "--output=whole", *OPTIONS, data=data).returncode == 0
    assert published(data / "out") == published(data / "whole")


def test_a_killed_container_goes_on(data: Path, long_run: Callable[[], subprocess.Popen[str]]) -> None:
    process = long_run()
    images.podman("kill", "batchsent-test-run")
    process.communicate(timeout=60)
    assert process.returncode == 137
    assert run("score", "r.csv", "--output=out", *OPTIONS, data=data).returncode == 0
    assert (data / "out/_SUCCESS").exists()


# --- what is in it


def test_nothing_is_left_of_the_build() -> None:
    files = look("find", "/", "-xdev", "-not", "-path", "/proc/*", "-not", "-path", "/sys/*").splitlines()
    assert "/opt/batchsent/bin/batchsent" in files
    left = re.compile(
        r"/build(/|$)|/opt/program|/root/\.(cache|config|local)|/home/[^/]+/\.cache|/tmp/.|/var/lib/apt/lists/.*_|\.deb$|/\.git(/|$)"
        r"|dependencies\.txt$|constraints\.txt$|/opt/.*/(pip|hatchling)-[^/]*$|/bin/(pip|gcc|cc)[^/]*$|/var/cache/apt/.*\.bin$"
    )
    assert [file for file in files if left.search(file)] == []
    assert [file for file in files if file.startswith("/data/") or file.startswith("/models/")] == []


def test_the_layers_are_those_that_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    found = images.layers()
    with capsys.disabled():
        print()
        for layer in found:
            print(f"{layer.size_bytes / 1e6:8.1f} MB  {' '.join(layer.made_by.split())[:100]}")
        print(f"{sum(layer.size_bytes for layer in found) / 1e6:8.1f} MB  {images.IMAGE}")
    *_base, distribution, user, dependencies, program = found
    assert "apt-get install" in distribution.made_by
    assert distribution.size_bytes < 80e6
    assert user.size_bytes < 1e6
    assert program.size_bytes < 80e6 < dependencies.size_bytes


def test_what_is_installed_is_what_is_pinned() -> None:
    script = "from importlib.metadata import distributions as d; [print(x.name + '==' + x.version) for x in d()]"
    installed = dict(line.split("==") for line in look("python", "-c", script).splitlines())
    assert installed.pop("batchsent")
    assert "pip" not in installed
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    by_name = {normal(name): version for name, version in pins.items()}
    assert len(installed) > 30
    for name, version in installed.items():
        if not normal(name).startswith(("nvidia-", "cuda-", "triton")):  # torch asks for exact versions of these
            assert version.partition("+")[0] == by_name[normal(name)], name


def normal(name: str) -> str:
    """A package's name in the one spelling that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_module_has_to_be_compiled_again_at_every_start() -> None:
    # A root that cannot be written to keeps nothing, so what is stale or missing costs every container its time.
    script = """
import importlib.util, pathlib, struct
for source in pathlib.Path("/opt/batchsent/lib").rglob("*.py"):
    cached = pathlib.Path(importlib.util.cache_from_source(source))
    status = source.stat()
    if not cached.exists():
        print("missing", source)
    elif struct.unpack("<4xLLL", cached.read_bytes()[:16]) != (0, int(status.st_mtime), status.st_size):
        print("stale", source)
"""
    found = look("python", "-c", script).splitlines()
    assert [line for line in found if line.startswith("stale")] == []
    assert [line for line in found if "/batchsent/" in line.partition("site-packages")[2]] == []


def test_another_version_of_the_program_is_one_small_layer(tmp_path: Path) -> None:
    context, tag = tmp_path / "context", f"{images.IMAGE}-changed"
    context.mkdir()
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE"):
        shutil.copy2(ROOT / name, context / name)
    shutil.copytree(ROOT / "src", context / "src")
    with (context / "src/batchsent/__init__.py").open("a", encoding="utf-8") as handle:
        handle.write("# changed\n")
    before = images.layers()
    try:
        images.build(context, tag)
        after = images.layers(tag)
    finally:
        images.podman("rmi", "--force", "--ignore", tag)
    assert [layer.digest for layer in after[:-1]] == [layer.digest for layer in before[:-1]]
    assert after[-1].digest != before[-1].digest
