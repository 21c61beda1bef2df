"""The kernels that are made from a bundle's graphs, compiled as plain C: one place after the other."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

__all__ = ["compile_as_c"]

PRELUDE = r"""
#define PLAIN_C
#include <math.h>
#include <string.h>
typedef struct { unsigned int x, y, z, w; } uint4;
typedef _Float16 half;
#define KERNEL void
#define FUNCTION static
#define EACH(H, W) for (int y = 0; y < (H); ++y) for (int x = 0; x < (W); ++x)
#define ONCE
#define INFINITE INFINITY
static float half_of(unsigned short bits) { half h; memcpy(&h, &bits, 2); return (float)h; }
static float LOW(unsigned int both) { return half_of((unsigned short)(both & 0xffff)); }
static float HIGH(unsigned int both) { return half_of((unsigned short)(both >> 16)); }
static unsigned int BOTH(float low, float high) {
    half two[2] = {(half)fminf(fmaxf(low, -65504.0f), 65504.0f), (half)fminf(fmaxf(high, -65504.0f), 65504.0f)};
    unsigned int both;
    memcpy(&both, two, 4);
    return both;
}
/* Halves by a table: without hardware for them each conversion would be a call. */
static float table[65536];
__attribute__((constructor)) static void fill(void) {
    for (int i = 0; i < 65536; ++i) table[i] = half_of((unsigned short)i);
}
static void weigh(const half *from, const half *weights, int tap, int cin, int cout, float *sums) {
    const unsigned short *a = (const unsigned short *)from, *b = (const unsigned short *)weights;
    for (int k = 0; k < cin; ++k) {
        float value = table[a[k]];
        if (value == 0.0f) continue;
        for (int n = 0; n < cout; ++n) {
            int at = ((tap * cin / 16 + k / 16) * cout / 8 + n / 8) * 8 + n % 8;
            at = (at * 4 + k % 8 / 2) * 4 + k % 16 / 8 * 2 + k % 2;
            sums[n] += value * table[b[at]];
        }
    }
}
static void finish(const float *sums, const float *bias, const float *more, const half *added, half *output,
                   int cout, int relu) {
    for (int n = 0; n < cout; ++n) {
        float sum = sums[n] + bias[n];
        if (more) sum += more[n];
        if (added) sum += (float)added[n];
        if (relu) sum = fmaxf(sum, 0.0f);
        output[n] = (half)fminf(fmaxf(sum, -65504.0f), 65504.0f);
    }
}
#define CONVOLUTION(NAME, CIN, COUT, SIZE, STRIDE, DILATION, TY, SPLIT, KEPT, RELU, MORE, ADDED)               \
    void NAME(const half *input, const half *weights, const float *bias, const float *more, const half *added, \
              half *output, int height, int width) {                                                           \
        EACH(height, width) {                                                                                  \
            float sums[COUT] = {0};                                                                            \
            for (int tap = 0; tap < (SIZE) * (SIZE); ++tap) {                                                  \
                int v = y * (STRIDE) + (tap / (SIZE) - (SIZE) / 2) * (DILATION);                               \
                int u = x * (STRIDE) + (tap % (SIZE) - (SIZE) / 2) * (DILATION);                               \
                if (v < 0 || u < 0 || v >= height * (STRIDE) || u >= width * (STRIDE)) continue;               \
                weigh(input + (v * width * (STRIDE) + u) * (CIN), weights, tap, CIN, COUT, sums);              \
            }                                                                                                  \
            int at = (y * width + x) * (COUT);                                                                 \
            finish(sums, bias, MORE ? more : 0, ADDED ? added + at : 0, output + at, COUT, RELU);              \
        }                                                                                                      \
    }
#define GATHERED(NAME, CIN, COUT, TY, KEPT, RELU, MORE, ADDED, SIGNATURE, BODY)                                \
    void NAME(const half *weights, const float *bias, const float *more, const half *added, half *output,      \
              SIGNATURE, int height, int width) {                                                              \
        EACH(height, width) {                                                                                  \
            uint4 into[(CIN) / 8];                                                                             \
            float sums[COUT] = {0};                                                                            \
            { BODY }                                                                                           \
            weigh((const half *)into, weights, 0, CIN, COUT, sums);                                            \
            int at = (y * width + x) * (COUT);                                                                 \
            finish(sums, bias, MORE ? more : 0, ADDED ? added + at : 0, output + at, COUT, RELU);              \
        }                                                                                                      \
    }
"""


@lru_cache(maxsize=64)
def compile_as_c(source: str) -> ctypes.CDLL:
    """Compile kernels with the machine's C compiler and load them; skip the test where there is none."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = Path(tempfile.mkdtemp(prefix="kernels-"))
    try:
        text = folder / "kernels.c"
        text.write_text(PRELUDE + source, encoding="utf-8")
        library = folder / "kernels.so"
        command = [
            compiler,
            "-O2",
            "-fno-strict-aliasing",
            "-shared",
            "-fPIC",
            "-w",
            "-o",
            str(library),
            str(text),
            "-lm",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]
        return ctypes.CDLL(str(library))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
