"""Denoise frames as they come in your own acquisition loop, each with its predicted error."""

import time

import numpy as np

from denoscope.runtime import FrameMeta, Stream

rng = np.random.default_rng(0)


def snap() -> np.ndarray:
    """Return the next camera frame; your camera takes the place of this function."""
    return rng.poisson(30, (64, 64)).astype(np.uint16)


delays = []
# A look-ahead of one: each denoised frame comes one frame after its raw frame.
with Stream("live-fast", look_ahead=1, std=True) as stream:
    for number in range(60):
        received = time.perf_counter()
        for result in stream.push(snap(), FrameMeta(number=number, t_received_s=received)):
            delays.append(time.perf_counter() - result.meta.t_received_s)
            brightest = np.unravel_index(result.frame.argmax(), result.frame.shape)
            error = result.std[brightest]
    result = stream.flush()[-1]

print(f"frame {result.meta.number}: brightest pixel {brightest}")
print(f"{result.frame.max()} +- {error:.1f} counts")
print(f"{len(delays)} frames denoised while recording")
