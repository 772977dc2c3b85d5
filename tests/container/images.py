"""The image of this repository, built and run by podman.

Its base is a Debian that debootstrap makes here, for which one has to be root: nothing is pulled. The environment may
name another one (``BASE=debian:12-slim``), and ``EXTRAS``.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/batchsent-test"
BASE_IMAGE = "localhost/batchsent-test-base"
RELEASE = "bookworm"
"""Of Debian: the one of ``debian:12-slim``, which the Dockerfile names for nodes without a GPU."""

LIMITS = ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
"""Podman would raise these limits of its own process, which not every host allows."""

PIP_SETTINGS = ("cert", "extra-index-url", "find-links", "index-url", "proxy", "trusted-host")
"""What pip has to know to reach its packages; in the build it gets what it has here."""


@dataclass(frozen=True)
class Layer:
    """A layer of an image, the lowest first."""

    digest: str
    size_bytes: int
    made_by: str


class MissingToolsError(Exception):
    """What builds and runs containers is not installed."""


def podman(*arguments: str | Path) -> str:
    """What podman prints; its messages go where those of the tests go. Raises CalledProcessError."""
    result = subprocess.run(["podman", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout.strip()


def command(
    *arguments: str | Path,
    data: Path | None = None,
    options: tuple[str, ...] = (),
    image: str = IMAGE,
) -> list[str]:
    """The command that runs a container as a careful cluster does: read-only, without a network, without rights."""
    # runc where there is one: crun refuses to run where a host has both versions of cgroups.
    runtime = ["--runtime=runc"] if shutil.which("runc") else []
    limits = ["--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges", *LIMITS]
    places = ["--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", *([f"--volume={data}:/data"] if data else [])]
    return ["podman", *runtime, "run", "--rm", *limits, *places, *options, image, *map(str, arguments)]


def build(context: Path = ROOT, tag: str = IMAGE) -> None:
    """Build the image from the Dockerfile in ``context``; steps that are built already are not built again."""
    for tool in ("podman", *(() if "BASE" in os.environ else ("debootstrap",))):
        if shutil.which(tool) is None:
            raise MissingToolsError(f"{tool} is not there; apt-get install podman runc debootstrap")
    base = os.environ.get("BASE") or debian()
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"--build-arg=BASE={base}", f"--build-arg=EXTRAS={os.environ.get('EXTRAS', '')}"]
        # chroot: a step of the build then needs no more than this process may do.
        podman(
            "build", "--isolation=chroot", "--quiet", *arguments, *pip_volumes(Path(folder)), f"--tag={tag}", context
        )


def debian() -> str:
    """The name of an image of Debian that is made here, once, from its package archive."""
    if subprocess.run(["podman", "image", "exists", BASE_IMAGE], check=False).returncode == 0:
        return BASE_IMAGE
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["debootstrap", "--variant=minbase", RELEASE, f"{folder}/root"], stdout=subprocess.DEVNULL, check=True
        )
        for package in Path(folder).glob("root/var/cache/apt/archives/*.deb"):
            package.unlink()
        subprocess.run(["tar", "-C", f"{folder}/root", "-cf", f"{folder}/root.tar", "."], check=True)
        podman("import", f"{folder}/root.tar", BASE_IMAGE)
    return BASE_IMAGE


def pip_volumes(folder: Path) -> list[str]:
    """Options by which pip in the build is told what pip is told here: a file made in ``folder``, and what it names."""
    listing = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(listing, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    settings: dict[str, str] = {}
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):  # the environment wins
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = ast.literal_eval(value)
    written, volumes = ["[global]"], []
    for name in sorted(settings.keys() & PIP_SETTINGS):
        words = []
        for word in settings[name].split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                # The packages of an index in a folder lie beside its pages. Not where it is here: the build brings
                # certificates of its own.
                place = path.parent if word.startswith("file://") else path
                volumes.append(f"--volume={place}:/run/pip{place}:ro")
                word = word.replace(str(path), f"/run/pip{path}")
            words.append(word)
        written.append(f"{name} = {' '.join(words)}")
    (folder / "pip.conf").write_text("\n".join(written) + "\n", encoding="utf-8")
    return [*volumes, f"--volume={folder}/pip.conf:/etc/pip.conf:ro"]


def layers(image: str = IMAGE) -> list[Layer]:
    """Those that hold anything, the lowest first."""
    digests = json.loads(podman("image", "inspect", "--format={{json .RootFS.Layers}}", image))
    steps = reversed(json.loads(podman("history", "--format=json", "--no-trunc", image)))
    filled = [step for step in steps if step["size"]]
    return [Layer(digest, step["size"], step["CreatedBy"]) for digest, step in zip(digests, filled, strict=True)]
