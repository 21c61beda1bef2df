"""Bundles that ask for gigabytes, minutes, devices or pipes: refused in one sentence, within seconds."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from denoscope.runtime import Bundle, BundleDamaged
from support.hostile_graphs import HOSTILE, hostile_bundle
from support.tiny_bundle import tiny_bundle

from . import Case, Outcome

LIMIT_S = 10.0


def cases() -> list[Case]:
    """Return a case for each graph and each kind of file."""
    graphs = [
        Case("hostile_bundles", f"graph: {name}", "refused in one sentence", partial(_graph, name))
        for name in HOSTILE
    ]
    kinds: dict[str, Callable[[Path], None]] = {"12 GB sparse": _sparse}
    if sys.platform != "win32":
        kinds |= {"pipe": _pipe, "link to /dev/zero": _device}
    files = [
        Case("hostile_bundles", f"{kind}: {name}", "refused in one sentence", partial(_file, name, put))
        for kind, put in kinds.items()
        for name in ("bundle.json", "encode.onnx", "weights.safetensors")
    ]
    return [*graphs, *files]


def _graph(name: str, folder: Path) -> Outcome:
    pattern = hostile_bundle(folder / "b.denoscope", name)
    return _refused(folder / "b.denoscope", pattern)


def _file(name: str, put: Callable[[Path], None], folder: Path) -> Outcome:
    bundle = tiny_bundle(folder / "b.denoscope").folder
    (bundle / name).unlink()
    put(bundle / name)
    return _refused(bundle, re.escape(name))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(12_000_000_000)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _refused(bundle: Path, pattern: str) -> Outcome:
    began = time.perf_counter()
    try:
        Bundle.load(bundle)
    except BundleDamaged as error:
        text = str(error).replace(str(bundle), "BUNDLE")
        quick = time.perf_counter() - began < LIMIT_S
        return Outcome(text, passed=quick and "\n" not in text and re.search(pattern, text) is not None)
    return Outcome("loaded", passed=False)
