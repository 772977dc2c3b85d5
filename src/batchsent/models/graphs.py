"""The OpenVINO graph of a model, made once and kept in the user's cache.

Made in a process of its own (``conversion``): tracing and quantizing load libraries that nobody needs afterwards, and
use tokenizers and threads, which a process that is still to fork must not have used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from batchsent.errors import BatchsentError, ConversionError
from batchsent.identity import checksum_of
from batchsent.models.cache import cache_directory
from batchsent.models.conversion import CALIBRATION_TEXTS, REFUSED
from batchsent.models.openvino import read_graph
from batchsent.models.resolution import read_model_config, require_unchanged
from batchsent.stop import out_of_reach
from batchsent.storage import LocalStore

log = logging.getLogger(__name__)

CONVERTIBLE = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra")
"""Model types whose graphs are tested. Another one might be traced into something that is right by chance."""

_FORMAT = 2
"""Of what is kept in the cache, and of the way it is made."""
_POLL_SECONDS = 0.1
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_CHILD = """
import json, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from batchsent.models.cache import cache_directory
from batchsent.models.conversion import convert
convert(Path(sys.argv[2]), Path(sys.argv[3]), **json.loads(sys.argv[4]))
"""


def calibration_version() -> str:
    """SHA-256 in hex of the texts that int8 is calibrated on."""
    return hashlib.sha256(CALIBRATION_TEXTS.read_bytes()).hexdigest()


def require_convertible(name: str, directory: Path) -> None:
    """Raise ConversionError if this kind of model is not one that OpenVINO runs here."""
    model_type = str(read_model_config(directory).get("model_type"))
    if model_type not in CONVERTIBLE:
        raise ConversionError(
            f"OpenVINO and {name}, a model of type {model_type}",
            f"one of {', '.join(CONVERTIBLE)}",
            "use --backend torch",
        )


def graph_of(
    directory: Path, files: dict[str, str], *, quantized: bool, max_length: int, check: Callable[[], None]
) -> Any:
    """The graph of the model in ``directory``, whose ``files`` are name → SHA-256; from the cache if it is there.

    ``check`` is called while it is made, and may raise. Raises ConversionError if there is no graph that computes
    what the model does.
    """
    store = LocalStore(cache_directory())
    made_by = {name: version(name) for name in ("openvino", "nncf", "torch", "transformers")}
    made_from = {"calibration": calibration_version(), "max_length": max_length} if quantized else {}
    key = checksum_of({"format": _FORMAT, "files": files, "versions": made_by, **made_from})
    graph = _kept(store, key)
    if graph is None:
        log.info(
            "converting %s for OpenVINO%s; it is kept in %s",
            directory.name,
            ", with int8 quantization" if quantized else "",
            store.root,
        )
        graph = _made(directory, {"quantized": quantized, "max_length": max_length}, check)
        require_unchanged(directory, files)
        _keep(store, key, *graph)
    return read_graph(*graph)


def _kept(store: LocalStore, key: str) -> tuple[bytes, bytes] | None:
    """(xml, weights), if they are there and whole."""
    try:
        hashes = (store.read_bytes(f"{key}.sha256") or b"").decode("ascii", "replace").split()
        xml, weights = store.read_bytes(f"{key}.xml"), store.read_bytes(f"{key}.bin")
    except (OSError, BatchsentError):
        return None
    if xml is None or weights is None or hashes != [hashlib.sha256(data).hexdigest() for data in (xml, weights)]:
        return None
    return xml, weights


def _keep(store: LocalStore, key: str, xml: bytes, weights: bytes) -> None:
    try:
        store.create()
        hashes = [store.publish_bytes(f"{key}.{end}", data).sha256 for end, data in (("xml", xml), ("bin", weights))]
        store.publish_bytes(f"{key}.sha256", f"{' '.join(hashes)}\n".encode())
    except BatchsentError as error:
        log.warning("the converted model is not kept, so the next run converts it again (%s)", error)


def _made(directory: Path, options: dict[str, Any], check: Callable[[], None]) -> tuple[bytes, bytes]:
    """(xml, weights) from a process that converts."""
    with tempfile.TemporaryDirectory(prefix="batchsent-") as name:
        folder = Path(name)
        arguments = [str(directory.absolute()), str(folder), json.dumps({**options, "parent": os.getpid()})]
        said = folder / "said"
        with said.open("wb") as stream, out_of_reach():
            # -P: nothing is imported from the folder that the command happens to run in.
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, _PACKAGE_ROOT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            _await(process, check)
        finally:
            process.kill()
            process.wait()
        if (folder / REFUSED).exists():
            raise ConversionError(*json.loads((folder / REFUSED).read_bytes()))
        if process.returncode:
            last = (said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise ConversionError(
                f"converting {directory.name} for OpenVINO failed (exit status {process.returncode}: {last[:200]})",
                "a model that it converts",
                "use --backend torch",
            )
        return (folder / "graph.xml").read_bytes(), (folder / "graph.bin").read_bytes()


def _await(process: subprocess.Popen[bytes], check: Callable[[], None]) -> None:
    while True:
        try:
            process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            check()
        else:
            return
