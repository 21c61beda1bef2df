"""Denoise a movie that is in memory, and show how much noise is gone."""

import numpy as np

from denoscope.acquisition import demo_movie
from denoscope.runtime import FrameMeta, Stream

movie = demo_movie().frames[:48]  # (T, H, W) uint16; any array of this kind takes its place

with Stream("live") as stream:
    denoised = []
    for number, frame in enumerate(movie):
        # The frame that comes back is older than the one that went in: it waited for later frames.
        denoised += stream.push(frame, FrameMeta(number=number, t_received_s=number / 30))
    denoised += stream.flush()

clean = np.stack([each.frame for each in denoised])
print(clean.shape, clean.dtype)


def flicker(frames: np.ndarray) -> float:
    """Return the mean change of a pixel from one frame to the next, in counts."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


print(f"change from frame to frame: raw {flicker(movie):.0f}, denoised {flicker(clean):.0f} counts")
