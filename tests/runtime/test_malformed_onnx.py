"""240 broken graphs on each backend: a clear error, or a stream that runs; never a crash, a hang or a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from denoscope.runtime import BundleDamaged
from denoscope.runtime.bundle.graph_check import GraphNames, check_graph
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
