"""Importing the runtime loads nothing heavy, and every public name is really there."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import denoscope.runtime
from denoscope.runtime import backends
from denoscope.runtime.backends.onnxruntime_library import onnxruntime_library

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "onnx", "onnxruntime", "openvino", "pydantic", "safetensors", "numpy", "tifffile", "rich"}
PROBE = "import json, sys; sys.path.insert(0, {root!r}); {code}; print(json.dumps(sorted(sys.modules)))"


def modules_after(code: str) -> set[str]:
    probe = PROBE.format(root=str(ROOT / "runtime"), code=code)
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=120
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    assert modules_after("import denoscope.runtime") & HEAVY == set()


@pytest.mark.parametrize(
    "code",
    [
        "from denoscope.runtime.backends.openvino import OpenVino; OpenVino.unavailable()",
        "from denoscope.acquisition.diagnostics.compute import check_openvino; check_openvino()",
    ],
)
def test_openvino_is_loaded_without_its_telemetry(code: str) -> None:
    assert modules_after(code) & {"openvino", "openvino_telemetry"} == {"openvino"}


def test_libraries_with_telemetry_are_loaded_in_one_place_each() -> None:
    found = set()
    for part in ("acquisition", "export", "train", "runtime"):
        for path in (ROOT / part / "denoscope").rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if "import o" in text else ():
                names = {each.name for each in node.names} if isinstance(node, ast.Import) else set()
                if names & {"openvino", "onnxruntime"}:
                    found.add(path.name)
    assert found == {"onnxruntime_library.py", "openvino.py"}


@pytest.mark.parametrize(("asked", "calls"), [(None, 1), ("1", 1), ("0", 0)])
def test_the_events_of_onnxruntime_on_windows_are_off_unless_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None, calls: int
) -> None:
    (tmp_path / "onnxruntime.py").write_text("off = []\ndef disable_telemetry_events(): off.append(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if asked is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", asked)
    for _ in range(2):
        assert len(onnxruntime_library().off) == calls
    sys.modules.pop("onnxruntime")


def test_onnxruntime_leaves_nothing_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    code = (
        "from denoscope.runtime.backends.onnxruntime import OnnxRuntimeCpu; import os; "
        "OnnxRuntimeCpu.unavailable(); sys.modules[os.environ['ORT_DISABLE_TELEMETRY']] = sys"
    )
    assert modules_after(code) >= {"onnxruntime", "1"}
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_using_the_types_loads_no_engine() -> None:
    code = "from denoscope.runtime import Bundle, Stream, FrameMeta, Intensity, estimate_intensity, choose_backend"
    assert (
        modules_after(code) & {"torch", "onnx", "onnxruntime", "openvino", "safetensors", "pytest"} == set()
    )


@pytest.mark.parametrize("name", denoscope.runtime.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(denoscope.runtime, name).__doc__
    assert name in dir(denoscope.runtime)


def test_public_names_of_the_backends_exist() -> None:
    assert all(hasattr(backends, name) for name in backends.__all__)


def test_product_code_does_not_import_the_contract_kit() -> None:
    for part in ("runtime", "train", "export", "acquisition"):
        for path in (ROOT / part).rglob("*.py"):
            if path.name != "testing.py":
                assert "runtime.testing" not in path.read_text(encoding="utf-8").replace(
                    "`denoscope.runtime.testing", ""
                )
