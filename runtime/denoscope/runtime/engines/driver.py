"""The NVIDIA GPU of this machine, asked of its driver; TensorRT must not be touched without one."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["LocalGpu", "local_gpu"]

# Of the CUDA driver API (cuda.h).
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class LocalGpu:
    """A GPU that the driver sees.

    Attributes
    ----------
    name
        For example `NVIDIA GeForce RTX 4090`.
    capability
        Compute capability (major, minor).
    driver
        Newest CUDA version that the driver runs (major, minor).
    """

    name: str
    capability: tuple[int, int]
    driver: tuple[int, int]


def local_gpu(index: int = 0) -> LocalGpu | str:
    """Return the GPU with this index, or one clause that says why there is none."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"no NVIDIA driver is installed ({library} was not found)"
    return _ask(driver, index)


def _ask(driver: Any, index: int) -> LocalGpu | str:
    if code := driver.cuInit(0):
        return f"the NVIDIA driver does not start (cuInit returned {code})"
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or count.value <= index:
        return f"the NVIDIA driver sees {count.value} GPUs"
    device, version = ctypes.c_int(), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    codes = (
        driver.cuDeviceGet(ctypes.byref(device), index),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
        driver.cuDriverGetVersion(ctypes.byref(version)),
    )
    if any(codes):
        return f"the NVIDIA driver does not describe its GPU (it returned {max(codes)})"
    return LocalGpu(
        name=name.value.decode(errors="replace"),
        capability=(major.value, minor.value),
        driver=(version.value // 1000, version.value % 1000 // 10),
    )
