"""NVIDIA GPUs and their driver, found without any CUDA library of Python."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass

__all__ = ["Driver", "Gpu", "find_driver", "parse_nvidia_smi"]

_QUERY = "name,driver_version,memory.total,compute_cap"
_CUDA = re.compile(r"CUDA Version:\s*([\d.]+)")
_TIMEOUT_S = 20
_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """One device.

    Attributes
    ----------
    name
        Its product name.
    memory_bytes
        Its memory, None where unknown.
    compute_capability
        As in ``8.9``, None where unknown.
    """

    name: str
    memory_bytes: int | None = None
    compute_capability: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Driver:
    """Facts from the driver.

    Attributes
    ----------
    source
        ``nvidia-smi`` or the name of the driver's library.
    gpus
        The devices.
    version
        Of the driver, None where unknown.
    cuda
        Highest CUDA version that the driver supports, None where unknown.
    problem
        Why a driver that is installed does not work, or None.
    """

    source: str
    gpus: tuple[Gpu, ...] = ()
    version: str | None = None
    cuda: str | None = None
    problem: str | None = None


def find_driver() -> Driver | None:
    """Ask ``nvidia-smi``, else the driver's library; None when neither is there."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        return _ask_nvidia_smi(program)
    return _ask_library()


def parse_nvidia_smi(rows: str, header: str) -> Driver:
    """Return what ``nvidia-smi`` said.

    Parameters
    ----------
    rows
        Output of the query for name, driver version, memory in MiB and compute capability, as CSV.
    header
        Output without arguments, which alone names the CUDA version.
    """
    gpus, version = [], None
    for row in rows.strip().splitlines():
        name, driver, memory, capability = (f"{cell.strip()}" for cell in row.rsplit(",", 3))
        version = driver
        gpus.append(
            Gpu(name, int(memory) * 2**20 if memory.isdigit() else None, capability.strip("[]") or None)
        )
    cuda = _CUDA.search(header)
    return Driver("nvidia-smi", tuple(gpus), version, cuda[1] if cuda else None)


def _ask_nvidia_smi(program: str) -> Driver:
    outputs = []
    for words in ([f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"], []):
        try:
            done = subprocess.run(  # noqa: S603  fixed words
                [program, *words], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Driver("nvidia-smi", problem=f"{program} does not answer ({error})")
        if done.returncode != 0:
            said = " ".join((done.stdout + done.stderr).split()) or "it said nothing"
            return Driver("nvidia-smi", problem=f"nvidia-smi ended with {done.returncode}: {said}")
        outputs.append(done.stdout)
    try:
        return parse_nvidia_smi(outputs[0], outputs[1])
    except ValueError:
        return Driver("nvidia-smi", problem=f"nvidia-smi answers {outputs[0].strip()!r}")


def _ask_library() -> Driver | None:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return None
    code = library.cuInit(0)
    if code != 0:
        return Driver(name, problem=f"{name} is there but does not start (CUDA error {code})")
    number, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    library.cuDeviceGetCount(ctypes.byref(count))
    gpus = []
    for index in range(count.value):
        label = ctypes.create_string_buffer(_NAME_BYTES)
        library.cuDeviceGetName(label, _NAME_BYTES, index)
        gpus.append(Gpu(label.value.decode(errors="replace")))
    return Driver(name, tuple(gpus), cuda=f"{number.value // 1000}.{number.value % 1000 // 10}")
