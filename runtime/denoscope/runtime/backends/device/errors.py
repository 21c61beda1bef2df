"""Turn errors of CUDA and of the libraries on it into sentences for the user."""

from __future__ import annotations

import re

from denoscope.runtime.errors import BackendUnavailable, DenoscopeError, DeviceFailed

__all__ = ["explain"]

# Words of cuda-core, ONNX Runtime and TensorRT; what happened; what to do; whether frames were under way.
# The first that matches counts.
_MEANINGS: tuple[tuple[re.Pattern[str], str, str, type[DenoscopeError]], ...] = (
    (
        re.compile(r"OUT_?OF_?MEMORY|out of memory|failed to allocate memory|bad_alloc", re.IGNORECASE),
        "{gpu} is out of memory",
        "close other programs that use it, choose a smaller region of interest, or another backend",
        DeviceFailed,
    ),
    (
        re.compile(
            r"INSUFFICIENT_DRIVER|driver version is insufficient|UNSUPPORTED_PTX|unsupported toolchain|"
            r"SYSTEM_DRIVER_MISMATCH|OLD_CUDA_DRIVER|COMPAT_NOT_SUPPORTED",
            re.IGNORECASE,
        ),
        "the NVIDIA driver is too old for the installed CUDA libraries",
        "install the newest driver from nvidia.com and restart",
        BackendUnavailable,
    ),
    (
        re.compile(r"driver library|libcuda\.so|nvcuda\.dll|SHARED_OBJECT_INIT|STUB_LIBRARY", re.IGNORECASE),
        "no NVIDIA driver was found",
        "install it from nvidia.com and restart, or use openvino",
        BackendUnavailable,
    ),
    (
        re.compile(
            r"ERROR_NO_DEVICE|no CUDA-capable device|INVALID_DEVICE|invalid device ordinal", re.IGNORECASE
        ),
        "the NVIDIA driver sees no GPU",
        "look with nvidia-smi whether it is there, and whether CUDA_VISIBLE_DEVICES hides it",
        BackendUnavailable,
    ),
    (
        re.compile(
            r"DEVICE_UNAVAILABLE|all CUDA-capable devices are busy|DEVICE_NOT_LICENSED|SYSTEM_NOT_READY",
            re.IGNORECASE,
        ),
        "{gpu} is held by another program",
        "close that program, and look at the compute mode with nvidia-smi",
        BackendUnavailable,
    ),
    (
        re.compile(r"LAUNCH_TIMEOUT|launch timed out|LAUNCH_TIMED_OUT", re.IGNORECASE),
        "the operating system stopped {gpu} because one frame took too long",
        "choose a smaller region of interest, or raise the time limit of display drivers (TdrDelay)",
        DeviceFailed,
    ),
    (
        re.compile(
            r"LAUNCH_FAILED|unspecified launch failure|ILLEGAL_ADDRESS|illegal memory access|MISALIGNED_ADDRESS|"
            r"ILLEGAL_INSTRUCTION|HARDWARE_STACK|ECC_UNCORRECTABLE|uncorrectable ECC|NVLINK|CONTEXT_IS_DESTROYED|"
            r"context is destroyed|DEVICE_LOST|fallen off the bus|ERROR_UNKNOWN\b|ERROR_DEINITIALIZED|"
            r"CUDA (failure|error):? (4|46|201|214|226|700|702|709|714|715|716|717|718|719|999)\b",
            re.IGNORECASE,
        ),
        "{gpu} was lost",
        "restart the program, and the computer if it happens again; the driver's log says more",
        DeviceFailed,
    ),
)


def explain(error: Exception, gpu: str) -> Exception:
    """Return the one sentence for an error, or the error itself if it is not of the GPU.

    Parameters
    ----------
    error
        What was raised.
    gpu
        The GPU's name.
    """
    if isinstance(error, DenoscopeError):
        return error
    words = " ".join(str(error).split())
    for pattern, what, remedy, kind in _MEANINGS:
        if pattern.search(words):
            happened = what.format(gpu=gpu)
            return kind(f"{happened[0].upper()}{happened[1:]} ({words[:200]}): {remedy}.")
    return error
