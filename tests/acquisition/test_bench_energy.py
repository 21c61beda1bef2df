"""Energy and memory of a GPU, with a stand-in for NVML: there is none where these tests usually run."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from acquisition.test_bench import case_of
from denoscope.acquisition.bench import gpu_meter as gpu_meter_module
from denoscope.acquisition.bench.against import compare
from denoscope.acquisition.bench.gpu_meter import open_meter
from denoscope.acquisition.bench.play import KEEP_UP
from denoscope.acquisition.bench.provenance import provenance
from denoscope.acquisition.bench.results import Benchmark, DeviceMemory, Energy, MeasuredCase
from denoscope.acquisition.bench.tables import line, markdown
from denoscope.acquisition.bench.worker import run_case
from support.gpu_on_host import CudaOnHost
from support.wrapped_backends import WrappedBackend

IDLE_W, BUSY_W = 20.0, 120.0
MIB = 2**20


class FakeNvml(ModuleType):
    """GPUs that draw 20 W until the first one watched is asked for its processes, and 120 W from then on."""

    class NVMLError(Exception):
        pass

    def __init__(self, *names: str, counts: bool = True, tells_processes: bool = True) -> None:
        super().__init__("pynvml")
        self.names, self.counts, self.tells_processes = names, counts, tells_processes
        self.running = False
        self.lost = False
        self._start = time.perf_counter()
        self._busy_since: float | None = None
        self.asked = 0

    def nvmlInit(self) -> None:  # noqa: N802
        assert not self.running
        self.running = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        assert self.running
        self.running = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return 100 + index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.names[handle - 100]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if not self.counts or self.lost:
            raise self.NVMLError("Not Supported")
        now = time.perf_counter()
        busy = 0.0 if self._busy_since is None else now - self._busy_since
        return round(1e3 * (IDLE_W * (now - self._start) + (BUSY_W - IDLE_W) * busy))

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        if self.lost:
            raise self.NVMLError("GPU is lost")
        return round(1e3 * (IDLE_W if self._busy_since is None else BUSY_W))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=(300 if self._busy_since is None else 812) * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:  # noqa: N802
        self.asked += 1
        self._busy_since = self._busy_since or time.perf_counter()
        own = SimpleNamespace(pid=os.getpid(), usedGpuMemory=(500 if self.asked == 3 else 400) * MIB)
        other = SimpleNamespace(pid=1, usedGpuMemory=900 * MIB)
        return [other, own] if self.tells_processes else [other]

    def nvmlDeviceGetHandleByPciBusId(self, bus: str) -> int:  # noqa: N802
        return {"0000:65:00.0": 101}[bus]

    def nvmlDeviceGetIndex(self, handle: int) -> int:  # noqa: N802
        return handle - 100


Install = Callable[..., FakeNvml]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    monkeypatch.setattr(gpu_meter_module, "_REST_S", 0.1)
    monkeypatch.setattr(gpu_meter_module, "_SHORTEST_S", 0.2)

    def put(*names: str, **options: bool) -> FakeNvml:
        nvml = FakeNvml(*names, **options)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return put


def watched(device: str, frames: int = 10) -> tuple[Energy | None, str | None, DeviceMemory]:
    with open_meter() as meter:
        meter.rest()
        meter.begin(device)
        time.sleep(0.1)
        start = time.perf_counter()
        time.sleep(0.3)
        stop = time.perf_counter()
        meter.end()
        return *meter.energy(start, stop, frames), meter.memory()


@pytest.mark.parametrize("counts", [True, False])
def test_watts_become_joules_a_frame(install: Install, counts: bool) -> None:
    nvml = install("RTX", counts=counts)
    energy, problem, memory = watched("RTX")
    assert problem is None
    assert energy is not None
    assert energy.source == ("counter" if counts else "sampled power")
    assert energy.duration_s is not None
    assert energy.energy_j is not None
    assert energy.idle_power_w == pytest.approx(IDLE_W, rel=0.2)
    assert energy.mean_power_w == pytest.approx(BUSY_W, rel=0.1)
    assert energy.energy_j == pytest.approx(BUSY_W * energy.duration_s, rel=0.1)
    assert energy.per_frame_j == pytest.approx(energy.energy_j / 10)
    assert energy.above_idle_per_frame_j == pytest.approx((BUSY_W - IDLE_W) * energy.duration_s / 10, rel=0.2)
    assert memory == DeviceMemory(device_peak_bytes=500 * MIB, device_peak_of="this process")
    assert not nvml.running


def test_memory_of_everybody_where_processes_are_not_told(install: Install) -> None:
    install("RTX", tells_processes=False)
    assert watched("RTX")[2] == DeviceMemory(
        device_peak_bytes=512 * MIB, device_peak_of="all processes, less what they held before"
    )


def test_nothing_delivered_has_no_energy_a_frame(install: Install) -> None:
    install("RTX")
    energy = watched("RTX", frames=0)[0]
    assert energy is not None
    assert energy.energy_j is not None
    assert energy.energy_j > 0
    assert (energy.per_frame_j, energy.above_idle_per_frame_j) == (None, None)


def test_a_backend_elsewhere_is_not_charged_for_the_gpu(install: Install) -> None:
    nvml = install("RTX")
    energy, problem, memory = watched("AMD EPYC")
    assert energy is None
    assert "AMD EPYC" in str(problem)
    assert memory == DeviceMemory(device_peak_problem=problem)
    assert nvml.asked == 0


def test_a_gpu_is_found_by_the_name_that_the_backends_give(install: Install) -> None:
    install("NVIDIA H200 NVL", "NVIDIA H200")
    with CudaOnHost() as backend, open_meter() as meter:
        backend.device.name = "NVIDIA H200"
        meter.begin(backend.describe()["device"])
        assert meter._gpu is meter.gpus[1]


def test_of_two_alike_the_one_that_cuda_takes(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("RTX", "RTX")
    cuda = ModuleType("cuda.core")
    cuda.Device = lambda index: SimpleNamespace(pci_bus_id="0000:65:00.0")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.core", cuda)
    with open_meter() as meter:
        meter.begin("RTX")
        assert meter._gpu is meter.gpus[1]
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    assert "which of 2 GPUs" in str(watched("RTX")[1])


def test_too_short_a_part_and_a_lost_gpu_are_said(install: Install) -> None:
    nvml = install("RTX")
    with open_meter() as meter:
        meter.begin("RTX")
        start = time.perf_counter()
        meter.end()
        assert "ask for more `frames`" in str(meter.energy(start, start + 10, 5)[1])
    with open_meter() as meter:
        meter.begin("RTX")
        start = time.perf_counter()
        time.sleep(0.3)
        nvml.lost = True
        meter.end()
        assert "stopped telling" in str(meter.energy(start, time.perf_counter(), 5)[1])


class NamedBackend(WrappedBackend):
    device = "RTX"

    def describe(self) -> dict[str, str]:
        return {**super().describe(), "device": self.device}


def whole_report(result: MeasuredCase) -> Benchmark:
    return Benchmark(provenance=provenance(), keep_up=KEEP_UP, cases=[result])


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["NVIDIA H100"], "RTX (compute capability 8.9), which is no GPU that NVML knows"),
        (None, 'python -m pip install ".[cuda]"'),
    ],
)
def test_a_case_on_a_gpu_says_why_nothing_is_known(
    install: Install, bundle: Any, monkeypatch: pytest.MonkeyPatch, names: list[str] | None, reason: str
) -> None:
    if names is None:
        monkeypatch.setitem(sys.modules, "pynvml", None)
    else:
        install(*names)
    monkeypatch.setattr(NamedBackend, "device", "RTX (compute capability 8.9)")
    result, _ = run_case(case_of(bundle, highest_rate=False), NamedBackend())
    assert result.energy is None
    assert reason in str(result.energy_problem)
    assert reason in str(result.memory.device_peak_problem)
    table = markdown(whole_report(result)).split("## Energy and memory of the GPU")[1]
    assert table.count(reason) == 2


def test_a_case_on_a_gpu(install: Install, bundle: Any) -> None:
    install("RTX")
    result, _ = run_case(case_of(bundle, highest_rate=False, frames=60), NamedBackend())
    energy = result.energy
    assert result.problem is None
    assert energy is not None
    assert energy.duration_s == pytest.approx(0.3, rel=0.1)
    assert energy.per_frame_j is not None
    assert energy.per_frame_j * result.frames.measured.delivered == pytest.approx(
        BUSY_W * (energy.duration_s or 0), rel=0.1
    )
    assert result.memory.device_peak_bytes == 500 * MIB
    report = whole_report(result)
    json.dumps(report.as_json())
    text = markdown(report)
    assert f"{energy.per_frame_j:.3g} | " in text
    assert "| RTX | 20" in text
    assert "J a frame" in line(result)
    more = energy.model_copy(update={"per_frame_j": 2 * energy.per_frame_j})
    twice = result.model_copy(update={"energy": more})
    report.comparison = compare(whole_report(twice), report, "old.json")
    assert report.comparison.cases[0].ratios["energy_per_frame"] == pytest.approx(2)
    table = markdown(report).split("## This run")[1]
    assert "| J a frame |" in table


@pytest.mark.parametrize("present", [False, True])
def test_without_nvml_nothing_changes(present: bool, bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml("RTX") if present else None

    def refuse() -> None:
        raise FakeNvml.NVMLError("NVML Shared Library Not Found")

    if nvml is not None:
        monkeypatch.setattr(nvml, "nvmlInit", refuse)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with open_meter() as meter:
        began = time.perf_counter()
        meter.rest()
        meter.begin("RTX")
        meter.end()
        assert time.perf_counter() - began < 60  # it rests only where there is something to measure
        energy, problem = meter.energy(0.0, 1.0, 5)
    assert energy is None
    assert ("NVML Shared Library Not Found" if present else ".[cuda]") in str(problem)
    assert meter.memory() == DeviceMemory(device_peak_problem=problem)


def test_tables_without_nvml_have_no_column_for_it(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    result, _ = run_case(case_of(bundle, highest_rate=False), WrappedBackend())
    assert result.energy is None
    report = whole_report(result)
    text = markdown(report)
    assert "J a frame" not in text + line(result)
    assert "GPU" not in text.split("## Start-up")[1]
    report.comparison = compare(report, report, "old.json")
    assert "J a frame" not in markdown(report)


def test_the_stand_in_has_only_what_the_module_has() -> None:
    nvml = pytest.importorskip("pynvml", reason="needs the extra 'cuda'")
    for name in vars(FakeNvml):
        if name.startswith("nvml"):
            ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (FakeNvml, nvml))
            assert len(ours) - 1 == sum(p.default is p.empty for p in theirs.values()), name
    assert issubclass(nvml.NVMLError, Exception)
