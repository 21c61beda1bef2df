from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acquisition.conftest import environment
from denoscope.acquisition.diagnostics import gpu as gpu_module
from denoscope.acquisition.diagnostics import recording as recording_module
from denoscope.acquisition.diagnostics.compute import (
    check_auto,
    check_backends,
    check_bundles,
    judge_driver,
    judge_onnxruntime,
)
from denoscope.acquisition.diagnostics.finding import Status
from denoscope.acquisition.diagnostics.gpu import Driver, Gpu, find_driver, parse_nvidia_smi
from denoscope.acquisition.diagnostics.recording import check_disk, judge_disk, judge_micromanager
from support.plain_results import doctor

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ROWS = """NVIDIA GeForce RTX 4090, 580.65.06, 24564, 8.9
NVIDIA Jetson, Orin, 580.65.06, [N/A], [N/A]
"""
HEADER = "| NVIDIA-SMI 580.65.06    Driver Version: 580.65.06    CUDA Version: 13.0     |"


def test_what_nvidia_smi_says() -> None:
    driver = parse_nvidia_smi(ROWS, HEADER)
    assert (driver.version, driver.cuda, driver.problem) == ("580.65.06", "13.0", None)
    assert driver.gpus == (
        Gpu("NVIDIA GeForce RTX 4090", 24564 * 2**20, "8.9"),
        Gpu("NVIDIA Jetson, Orin", None, "N/A"),
    )


def script(folder: Path, code: int) -> str:
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncase "$1" in --query*) cat "{folder}/rows";; *) echo "{HEADER}";; esac\n')
    (folder / "rows").write_text(ROWS)
    if code:
        program.write_text(f"#!/bin/sh\necho 'No devices were found'\nexit {code}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")
@pytest.mark.parametrize("code", [0, 6])
def test_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    program = script(tmp_path, code)
    monkeypatch.setattr(gpu_module.shutil, "which", lambda _: program)
    driver = find_driver()
    assert driver is not None
    if code:
        assert driver.problem == "nvidia-smi ended with 6: No devices were found"
    else:
        assert driver == parse_nvidia_smi(ROWS, HEADER)


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(gpu_module.shutil, "which", lambda _: None)
    monkeypatch.setattr(gpu_module.ctypes, "CDLL", missing)
    assert find_driver() is None


RTX = Driver("nvidia-smi", (Gpu("RTX 4090", 24 * 2**30, "8.9"),), "580.65", "13.0")
DRIVERS: dict[str, tuple[Driver | None, dict[str, str | None], Status, str, str | None]] = {
    "none": (None, {}, Status.NOTE, "no NVIDIA driver", None),
    "broken": (Driver("nvidia-smi", problem="it failed"), {}, Status.IMPROVE, "it failed", "reinstall"),
    "no device": (Driver("libcuda.so.1"), {}, Status.NOTE, "sees no GPU", None),
    "no backend": (RTX, {"openvino": None}, Status.NOTE, "no backend for it", None),
    "used": (RTX, {"tensorrt": None}, Status.OK, "used by tensorrt", None),
    "unused": (
        RTX,
        {"openvino": None, "tensorrt": 'it is missing: run `python -m pip install ".[gpu]"`'},
        Status.IMPROVE,
        "RTX 4090 (24 GiB, compute capability 8.9), driver 580.65, CUDA up to 13.0",
        'python -m pip install ".[gpu]"',
    ),
}


@pytest.mark.parametrize("case", DRIVERS)
def test_what_a_driver_means(case: str) -> None:
    driver, backends, status, words, remedy = DRIVERS[case]
    finding = judge_driver(driver, backends, {})
    assert finding.status is status
    assert words in finding.found
    assert (finding.remedy or "").startswith(remedy or "")
    assert (finding.remedy is None) == (remedy is None)


CPU = ["CPUExecutionProvider"]
BUILDS: dict[str, tuple[dict[str, str], list[str] | None, str | None, Status, str]] = {
    "one": ({"onnxruntime": "1.31.1"}, CPU, None, Status.OK, "onnxruntime 1.31.1, providers CPU"),
    "two": (
        {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"},
        CPU,
        None,
        Status.IMPROVE,
        "onnxruntime and onnxruntime-gpu are both installed",
    ),
    "plugin": (
        {"onnxruntime": "1.31.1", "onnxruntime-ep-nv-tensorrt-rtx-cu13": "0.1"},
        CPU,
        None,
        Status.OK,
        "onnxruntime-ep-nv-tensorrt-rtx-cu13 0.1",
    ),
    "none": ({}, None, None, Status.IMPROVE, "not installed"),
    "damaged": ({"onnxruntime": "1.31.1"}, None, "no DLL", Status.IMPROVE, "no DLL"),
    "no CPU": ({"onnxruntime": "1.31.1"}, ["Other"], None, Status.IMPROVE, "Other"),
}


@pytest.mark.parametrize("case", BUILDS)
def test_builds_of_onnxruntime(case: str) -> None:
    versions, providers, problem, status, words = BUILDS[case]
    finding = judge_onnxruntime(versions, providers, problem)
    assert finding.status is status
    assert words in finding.found
    assert (finding.remedy is None) == (status is Status.OK)
    if case == "two":
        assert finding.remedy is not None
        first, second = finding.remedy.split(", then ")
        assert first == "python -m pip uninstall -y onnxruntime onnxruntime-gpu"
        again = 'python -m pip install --no-deps "onnxruntime-gpu==1.31.1"'
        assert second == again, "the one that uses the GPU stays"


FITTING: dict[str, str | None] = {
    "pycromanager": "1.0.2",
    "pymmcore": "12.5.1.75.0",
    "mm-test-adapters": "75.20261014.post1",
}
SETS: dict[str, tuple[dict[str, str | None], dict[str, str], Status, str]] = {
    "fitting": (FITTING, {"pymmcore": "12.5.1.75.0"}, Status.OK, "device interface 75 on both sides"),
    "other interface": (
        {**FITTING, "mm-test-adapters": "74.20250101"},
        {},
        Status.BROKEN,
        "device interface 75, mm-test-adapters 74.20250101 has 74",
    ),
    "missing": ({**FITTING, "pymmcore": None}, {}, Status.BROKEN, "pymmcore not installed"),
    "untested": (FITTING, {"pycromanager": "1.0.3"}, Status.IMPROVE, "pycromanager 1.0.2 (tested: 1.0.3)"),
}


@pytest.mark.parametrize("case", SETS)
def test_packages_of_micromanager(case: str) -> None:
    versions, pins, status, words = SETS[case]
    finding = judge_micromanager(versions, pins)
    assert finding.status is status
    assert words in finding.found
    assert (finding.remedy is None) == (status is Status.OK)


def test_a_disk_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (finding,) = check_disk(tmp_path / "not" / "there", 0.0)
    assert finding.facts["folder"] == str(tmp_path)
    assert finding.facts["write_bytes_per_s"] > 0
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert check_disk(tmp_path / "file", 0.0)[0].status is Status.BROKEN


def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> float:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(recording_module, "write_speed", refuse)
    (finding,) = check_disk(tmp_path, 0.0)
    assert finding.status is Status.BROKEN
    assert "Permission denied" in finding.found


@pytest.mark.parametrize(
    ("free", "speed", "status"),
    [(1e11, 5e8, Status.OK), (1e11, 1e7, Status.IMPROVE), (1e8, 5e8, Status.BROKEN)],
)
def test_room_and_speed(tmp_path: Path, free: float, speed: float, status: Status) -> None:
    finding = judge_disk(tmp_path, int(free), speed, 200.0)
    assert finding.status is status
    assert (finding.remedy is None) == (status is Status.OK)


def test_auto_and_the_table_of_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    from denoscope.runtime.backends.onnxruntime import OnnxRuntimeCpu
    from denoscope.runtime.backends.openvino import OpenVino

    gone = 'it was taken away: run `python -m pip install ".[cpu]"`'
    monkeypatch.setattr(OpenVino, "unavailable", classmethod(lambda _: gone))
    (chosen,) = check_auto()
    assert chosen.status is Status.IMPROVE
    assert "would choose onnxruntime-cpu" in chosen.found
    assert chosen.remedy == 'python -m pip install ".[cpu]"'
    row = next(f for f in check_backends() if f.topic == "backend openvino")
    assert (row.status, row.remedy) == (Status.NOTE, 'python -m pip install ".[cpu]"')
    monkeypatch.setattr(OnnxRuntimeCpu, "unavailable", classmethod(lambda _: gone))
    (none,) = check_auto()
    assert none.status is Status.BROKEN


def test_a_backend_without_engines_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from denoscope.runtime.backends.tensorrt import TensorRtRtx

    missing = "no engine has been built for the graph: run `denoscope build live --for sm89`"
    monkeypatch.setattr(TensorRtRtx, "unavailable", classmethod(lambda _: None))
    monkeypatch.setattr(TensorRtRtx, "obstacle", classmethod(lambda _, bundle: missing))
    row = next(f for f in check_backends() if f.topic == "backend tensorrt-rtx")
    assert (row.status, row.remedy) == (Status.NOTE, "denoscope build live --for sm89")
    assert row.found.startswith("can run here, but not yet the bundle live: no engine")
    (chosen,) = check_auto()
    assert (chosen.status, chosen.remedy) == (Status.IMPROVE, "denoscope build live --for sm89")
    assert "would choose openvino" in chosen.found


def test_a_computer_without_a_gpu_is_well_as_it_is() -> None:
    from denoscope.runtime.engines import local_gpu

    if not isinstance(local_gpu(), str):
        pytest.skip("there is a GPU")
    (chosen,) = check_auto()
    assert (chosen.status, chosen.remedy) == (Status.OK, None)
    assert chosen.found.count("no NVIDIA driver") == 1


def test_a_missing_driver_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from denoscope.runtime.backends.tensorrt import TensorRtRtx

    missing = "no NVIDIA driver is installed (libcuda.so.1 was not found); install the newest from nvidia.com"
    monkeypatch.setattr(TensorRtRtx, "unavailable", classmethod(lambda _: missing))
    row = next(f for f in check_backends() if f.topic == "backend tensorrt-rtx")
    assert (row.found, row.remedy) == ("only with an NVIDIA GPU and its driver", None)
    assert row.facts == {"obstacle": missing}
    assert "nvidia.com" in judge_driver(None, {}, {}).found


def test_a_damaged_default_bundle_stops_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    from denoscope.runtime import Bundle, BundleDamaged

    def damaged(name: str) -> Bundle:
        raise BundleDamaged(f"{name} is damaged: copy it again.")

    monkeypatch.setattr(Bundle, "load", damaged)
    assert check_bundles()[0].status is Status.BROKEN


def test_a_check_that_fails_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from denoscope.acquisition.diagnostics import checks as checks_module

    def fail() -> list[Any]:
        raise RuntimeError("the library is torn")

    monkeypatch.setattr(checks_module, "check_openvino", fail)
    report = doctor(tmp_path)
    row = next(f for f in report["findings"] if f["topic"] == "OpenVINO")
    assert "the library is torn" in row["found"]
    assert len(report["findings"]) > 8


def test_the_command(denoscope: Run, tmp_path: Path) -> None:
    run = denoscope("doctor", "--output", tmp_path, "--json", "--quiet")
    assert run.stderr == ""
    report = json.loads(run.stdout)
    broken = [f for f in report["findings"] if f["status"] == "broken"]
    assert report["can_record"] == (not broken)
    assert run.returncode == (1 if broken else 0)
    assert not (tmp_path / "run").exists()
    topics = {f["topic"] for f in report["findings"]}
    expected = {"processor", "GPU", "TensorRT", "ONNX Runtime", "OpenVINO", "auto", "Micro-Manager", "disk"}
    assert expected | {"backend onnxruntime-cpu", "bundle live"} <= topics
    for finding in report["findings"]:
        assert finding["status"] in ("ok", "note", "improve", "broken")
        assert finding["status"] not in ("improve", "broken") or finding["remedy"], finding
    text = denoscope("doctor", "--output", tmp_path)
    assert text.returncode == run.returncode
    assert "would choose" in text.stdout
    assert text.stdout.startswith("Not ready to record: repair" if broken else "Ready to record.\n")


def test_a_full_path_to_a_file_stops_a_recording(denoscope: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = denoscope("doctor", "--output", tmp_path / "file", "--quiet", "--json")
    assert run.returncode == 2
    assert "is a file: name a folder" in run.stderr


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from denoscope.acquisition.diagnostics.checks import doctor; "
        f"doctor(Path({str(tmp_path)!r})); "
        "print([m for m in ('torch', 'tensorrt', 'tensorrt_rtx', 'pymmcore', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert run.stdout.strip() == "[]"
