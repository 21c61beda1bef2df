"""240 broken graphs on each backend: a clear error, or a stream that runs; never a crash, a hang or a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from denoscope.runtime import BundleDamaged
from denoscope.runtime.bundle import graph_check
from denoscope.runtime.bundle.graph_check import GraphNames, Grid, check_graph
from support.broken_graphs import WAYS, broken_graph
from support.tiny_bundle import tiny_bundle

SCRIPT = Path(__file__).with_name("broken_graph_process.py")
KNOWN = {"BundleDamaged", "BackendUnavailable", "InvalidInput", "ran"}
SEARCHED = [
    str(Path(__file__).parents[2] / part) for part in ("train", "export", "runtime", "acquisition", "tests")
]


@pytest.mark.parametrize("seeds", [60, pytest.param(240, marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_no_broken_graph_harms_the_process(backend: str, seeds: int, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), backend, "0", str(seeds), str(tmp_path / "broken.denoscope")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SEARCHED), "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    lines = done.stdout.splitlines()
    last = lines[-1] if lines else "nothing was printed"
    assert done.returncode == 0, f"ended with {done.returncode} at: {last}\n{done.stderr[-2000:]}"
    assert len(lines) == seeds
    results = [line.split(" ", 2)[2] for line in lines]
    assert {result.split(" ")[0] for result in results} <= KNOWN
    errors = [result for result in results if result != "ran"]
    assert len(errors) > seeds * 3 // 4
    assert all(len(error) < 600 and "Traceback" not in error for error in errors)


def test_what_an_engine_cannot_be_trusted_with_is_refused_before_it(tmp_path: Path) -> None:
    data = tiny_bundle(tmp_path / "tiny.denoscope").graph_bytes("encode")
    names = GraphNames(("frame", "noise"), ("features",))
    check_graph("encode.onnx", data, names)
    for way, complaint in {
        "_unknown_domain": "operators of",
        "_cycle": "no valid ONNX model",
        "_own_input": "no valid ONNX model",
        "_huge_dims": "of .* elements",
        "_external": "outside itself",
        "_deep": "graphs within its graph",
        "_recursive_function": "operators of local, functions",
    }.items():
        place = next(i for i, change in enumerate(WAYS) if change.__name__ == way)
        with pytest.raises(BundleDamaged, match=complaint):
            check_graph("encode.onnx", broken_graph(data, place), names)


def test_a_graph_is_looked_at_once_and_again_where_anything_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = graph_check._check
    monkeypatch.setattr(graph_check, "_check", lambda file, *rest: (looks.append(file), look(file, *rest)))
    monkeypatch.setattr(graph_check, "_sound", set())
    data = tiny_bundle(tmp_path / "tiny.denoscope").graph_bytes("encode")
    names = GraphNames(("frame", "noise"), ("features",))
    looks.clear()
    for _ in range(3):
        check_graph("encode.onnx", data, names, Grid(stride=16))
    assert len(looks) == 1
    check_graph("encode.onnx", data, names, Grid(stride=32))
    assert len(looks) == 2
    for _ in range(2):
        with pytest.raises(BundleDamaged, match=r"^encode.onnx has the inputs"):
            check_graph("encode.onnx", data, GraphNames(("frames",), ("features",)), Grid(stride=16))
        with pytest.raises(BundleDamaged):
            check_graph("encode.onnx", data[:-1], names, Grid(stride=16))
    assert len(looks) == 6
