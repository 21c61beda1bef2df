"""Energy and memory of the GPU while a case is measured, as NVML tells them; nothing where there is no NVML."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from denoscope.acquisition.errors import one_line

from .results import DeviceMemory, Energy

__all__ = ["Gpu", "GpuMeter", "open_meter"]

_EVERY_S = 0.05
_REST_S = 1.0
# Boards renew their numbers about ten times a second; over less than this the error passes a tenth.
_SHORTEST_S = 1.0


@dataclass
class Gpu:
    """One GPU, and what it did before the case began.

    Attributes
    ----------
    index, name
        As NVML has them.
    handle
        NVML's own.
    counts
        Whether it has a counter of all its energy; otherwise its power is sampled, if it says that.
    idle_power_w
        Mean power before the case opened its backend, None where unknown.
    used_before_bytes
        Memory that everybody together used then.
    """

    index: int
    name: str
    handle: Any
    counts: bool
    idle_power_w: float | None = None
    used_before_bytes: int | None = None


@dataclass
class _Samples:
    """Joules where the GPU counts them, else watts; bytes as `whose` says."""

    time_s: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    whose: str | None = None
    problem: str | None = None


class GpuMeter:
    """Watches the GPU that a case runs on, from a separate thread.

    Parameters
    ----------
    nvml
        The module ``pynvml``, initialised; None where there is none.
    problem
        Why there is none.
    """

    def __init__(self, nvml: Any, problem: str | None = None) -> None:
        self._nvml, self._problem = nvml, problem
        self._gpu: Gpu | None = None
        self._process = os.getpid()
        self._samples = _Samples()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        count = nvml.nvmlDeviceGetCount() if nvml is not None else 0
        self.gpus: list[Gpu] = [self._describe(index) for index in range(count)]

    def rest(self) -> None:
        """Measure what each GPU draws and holds before the case begins; takes a second where there is one."""
        readings = []
        for gpu in self.gpus:
            gpu.used_before_bytes = self._used(gpu)
            readings.append((gpu, self._read(gpu), time.perf_counter()))
        if not any(value is not None for _, value, _ in readings):
            return
        time.sleep(_REST_S)
        for gpu, first, began in readings:
            second = self._read(gpu)
            if first is None or second is None:
                continue
            passed = time.perf_counter() - began
            gpu.idle_power_w = (second - first) / passed if gpu.counts else (first + second) / 2

    def begin(self, device: str, process: int | None = None) -> None:
        """Watch the GPU that a backend names as its device, alone or with more in brackets; else nothing.

        Parameters
        ----------
        device
            As the backend describes it.
        process
            Number of the process that uses it; None for this one.
        """
        self._process = os.getpid() if process is None else process
        if self._nvml is None:
            return
        found = self._named(device)
        if isinstance(found, str):
            self._problem = found
            return
        self._gpu = found
        self._sample()
        self._thread = threading.Thread(target=self._watch, name="denoscope-gpu-meter", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop watching."""
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self._thread = None
            self._sample()

    def memory(self) -> DeviceMemory:
        """Return the most memory that was used while watching."""
        seen = self._samples
        problem: str | None = None
        if seen.peak_bytes is None:
            problem = self._problem
            if problem is None and self._gpu is not None:
                problem = f"{self._gpu.name} does not tell its memory"
        return DeviceMemory(
            device_peak_bytes=seen.peak_bytes, device_peak_of=seen.whose, device_peak_problem=problem
        )

    def energy(self, start: float, stop: float, frames: int) -> tuple[Energy | None, str | None]:
        """Return what the GPU drew between two times of `time.perf_counter`.

        Parameters
        ----------
        start, stop
            In seconds.
        frames
            Denoised frames that were delivered for it.

        Returns
        -------
        Energy or None
            What it drew.
        str or None
            Why it is unknown.
        """
        gpu, seen = self._gpu, self._samples
        problem = self._problem or seen.problem
        stop = min(stop, seen.time_s[-1]) if seen.time_s else stop
        if gpu is not None and problem is None:
            if not seen.time_s:
                problem = f"{gpu.name} tells neither its energy nor its power"
            elif round(stop - start, 3) < _SHORTEST_S or seen.time_s[0] > start:
                problem = (
                    f"the measured part of {max(stop - start, 0):.2f} s is too short for the energy, which takes "
                    f"{_SHORTEST_S:g} s: ask for more `frames`"
                )
        if gpu is None or problem is not None:
            return None, problem
        joules = _joules(seen, counts=gpu.counts)
        drawn = float(np.diff(np.interp([start, stop], seen.time_s, joules))[0])
        idle = None if gpu.idle_power_w is None else gpu.idle_power_w * (stop - start)
        energy = Energy(
            gpu=gpu.name,
            source="counter" if gpu.counts else "sampled power",
            idle_power_w=gpu.idle_power_w,
            mean_power_w=drawn / (stop - start),
            duration_s=stop - start,
            energy_j=drawn,
            per_frame_j=drawn / frames if frames else None,
            above_idle_per_frame_j=(drawn - idle) / frames if frames and idle is not None else None,
        )
        return energy, None

    def _describe(self, index: int) -> Gpu:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        try:
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            counts = True
        except nvml.NVMLError:  # before Volta
            counts = False
        return Gpu(index, str(nvml.nvmlDeviceGetName(handle)), handle, counts)

    def _read(self, gpu: Gpu) -> float | None:
        """Return joules since the driver was loaded, else watts, else None."""
        nvml = self._nvml
        ask = nvml.nvmlDeviceGetTotalEnergyConsumption if gpu.counts else nvml.nvmlDeviceGetPowerUsage
        try:
            return float(ask(gpu.handle)) / 1e3
        except nvml.NVMLError:
            return None

    def _used(self, gpu: Gpu) -> int | None:
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(gpu.handle).used)
        except self._nvml.NVMLError:
            return None

    def _held(self, gpu: Gpu) -> tuple[int | None, str | None]:
        """Return the bytes of this process, else by how much the memory of everybody has grown."""
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)
        except self._nvml.NVMLError:
            processes = []
        for process in processes:
            # Windows does not tell it; in a container the numbers of processes are others.
            if process.pid == self._process and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory), "this process"
        used = self._used(gpu)
        if used is None or gpu.used_before_bytes is None:
            return None, None
        return used - gpu.used_before_bytes, "all processes, less what they held before"

    def _named(self, device: str) -> Gpu | str:
        alike = [gpu for gpu in self.gpus if device == gpu.name or device.startswith(f"{gpu.name} (")]
        if not alike:
            return f"the backend runs on {device}, which is no GPU that NVML knows"
        if len(alike) == 1:
            return alike[0]
        try:
            # The backends take CUDA's first GPU, which need not be NVML's.
            bus = import_module("cuda.core").Device(0).pci_bus_id
            handle = self._nvml.nvmlDeviceGetHandleByPciBusId(bus)
            index = int(self._nvml.nvmlDeviceGetIndex(handle))
        except (ImportError, self._nvml.NVMLError) as error:
            return f"which of {len(alike)} GPUs {device} is used is not known ({one_line(error)})"
        return self.gpus[index]

    def _sample(self) -> None:
        assert self._gpu is not None
        seen = self._samples
        value, now = self._read(self._gpu), time.perf_counter()
        if value is not None:
            seen.time_s.append(now)
            seen.value.append(value)
        elif seen.time_s:
            seen.problem = f"{self._gpu.name} stopped telling its energy in mid-run"
        held, whose = self._held(self._gpu)
        if held is not None and (seen.peak_bytes is None or held > seen.peak_bytes):
            seen.peak_bytes, seen.whose = held, whose

    def _watch(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._sample()


def _joules(seen: _Samples, *, counts: bool) -> Any:
    values = np.asarray(seen.value)
    if counts:
        return values
    steps = np.diff(seen.time_s) * (values[1:] + values[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(steps)])


@contextmanager
def open_meter() -> Iterator[GpuMeter]:
    """Give a meter for this process; one that says why it measures nothing where NVML is missing."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        yield GpuMeter(None, 'nvidia-ml-py is not installed: python -m pip install ".[cuda]"')
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        yield GpuMeter(None, f"NVML does not start ({one_line(error)})")
        return
    meter = None
    try:
        try:
            meter = GpuMeter(nvml)
        except nvml.NVMLError as error:
            meter = GpuMeter(None, f"NVML does not describe the GPUs ({one_line(error)})")
        yield meter
    finally:
        if meter is not None:
            meter.end()
        nvml.nvmlShutdown()
