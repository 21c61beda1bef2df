"""The kernels compile for every supported GPU, and the same C text gives numpy's numbers on the processor."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import Intensity
from denoscope.runtime.backends.device.convert_raw import kernel_source
from denoscope.runtime.noise.counts import normalise_into, restore
from support.lazy_device import run_kernel
from support.nvrtc import nvrtc

DTYPES = ("uint8", "uint16", "int16")
CAMERA = Intensity(offset=101.7, scale=6.3, noise_slope=0.0, noise_floor=1.0)

PLAIN_C = """
#include <math.h>
#define PLAIN_C
#define KERNEL void
#define FIRST 0
#define STRIDE 1
#define RINT rintf
#define CLIP(x, low, high) fminf(fmaxf(x, low), high)
typedef unsigned short half_bits;
static half_bits to_half(float x) { _Float16 h = (_Float16)x; half_bits b; __builtin_memcpy(&b, &h, 2); return b; }
static float from_half(half_bits b) { _Float16 h; __builtin_memcpy(&h, &b, 2); return (float)h; }
"""


@pytest.mark.parametrize("capability", ["75", "80", "86", "89", "90", "100", "120"])
def test_nvrtc_compiles_them_without_a_gpu(capability: str) -> None:
    if reason := nvrtc():
        pytest.skip(reason)
    from denoscope.runtime.backends.device.cuda import compile_kernels

    code = bytes(compile_kernels(f"sm_{capability}").code)
    assert code.startswith(b"\x7fELF")
    for counts in DTYPES:
        for number in ("float32", "float16"):
            assert f"{counts}_to_{number}".encode() in code
            assert f"{number}_to_{counts}".encode() in code


@pytest.fixture(scope="module")
def plain_c(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as a C library; without contraction, as NVRTC is told."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler is here")
    folder = tmp_path_factory.mktemp("kernels")
    source, library = folder / "convert.c", folder / "convert.so"
    source.write_text(PLAIN_C + kernel_source(), encoding="utf-8")
    command = [
        compiler,
        "-O1",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        str(source),
        "-o",
        str(library),
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the compiler knows no half precision: {done.stderr[-200:]}")
    return ctypes.CDLL(str(library))


def call(
    library: ctypes.CDLL, kernel: str, source: npt.NDArray[Any], intensity: tuple[float, float], dtype: str
) -> npt.NDArray[Any]:
    """Run a kernel compiled as C, and what the tests' device does in its place; they must agree."""
    offset, factor = (np.array([value], np.float32) for value in intensity)
    target, again = np.empty(source.shape, dtype), np.empty(source.shape, dtype)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (source, offset, factor, target)]
    getattr(library, kernel)(*pointers, ctypes.c_ulonglong(source.size))
    run_kernel(kernel, source.size, [source.reshape(-1), offset, factor, again.reshape(-1)])
    np.testing.assert_array_equal(target, again)
    return target


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_become_normalised_as_numpy_does_it(plain_c: ctypes.CDLL, dtype: str) -> None:
    limits = np.iinfo(dtype)
    counts = np.linspace(limits.min, limits.max, 40 * 50).astype(dtype).reshape(40, 50)
    expected = np.empty(counts.shape, np.float32)
    normalise_into(counts, CAMERA, expected, (slice(0, 40), slice(0, 50)))
    numbers = CAMERA.offset, float(np.float32(1 / CAMERA.scale))
    np.testing.assert_array_equal(call(plain_c, f"{dtype}_to_float32", counts, numbers, "float32"), expected)
    half = call(plain_c, f"{dtype}_to_float16", counts, numbers, "float16")
    np.testing.assert_array_equal(half, expected.astype(np.float16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_means_become_counts_as_numpy_does_it(plain_c: ctypes.CDLL, dtype: str) -> None:
    limits, rng = np.iinfo(dtype), np.random.default_rng(0)
    mean = rng.normal(0, limits.max / CAMERA.scale, (40, 50)).astype(np.float32)
    mean[0, :3] = np.inf, -np.inf, 1e30
    numbers = CAMERA.offset, CAMERA.scale
    expected = restore(mean.copy(), CAMERA, np.dtype(dtype))
    np.testing.assert_array_equal(call(plain_c, f"float32_to_{dtype}", mean, numbers, dtype), expected)
    halves = (np.arange(-96, 96, dtype=np.float32) / 2).reshape(8, 24)
    unit = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=1)
    tied = call(plain_c, f"float32_to_{dtype}", halves, (0.0, 1.0), dtype)
    np.testing.assert_array_equal(tied, restore(halves.copy(), unit, np.dtype(dtype)))
    short = mean.clip(-6e4, 6e4).astype(np.float16)
    expected = restore(short.astype(np.float32), CAMERA, np.dtype(dtype))
    np.testing.assert_array_equal(call(plain_c, f"float16_to_{dtype}", short, numbers, dtype), expected)
