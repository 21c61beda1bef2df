"""Tell without truth which of two bundles is closer to it: by frames that neither of them has seen.

Every sixth frame is left out and the movie closed behind it, so that the noise of a frame left out is in no output. The
mean of the outputs before and after it is compared with it: the squared distance is that to the truth, plus noise that
is the same for both bundles. So the difference of two bundles needs no noise model, and says what it is worth by its
scatter over the frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import Bundle, FrameMeta, Stream, as_float32, calibrate_stream

from .records import HeldOutRecord
from .truth import unique_names

__all__ = ["LEAST_FRAMES", "compare_held_out", "outputs_beside"]

LEAST_FRAMES = 60
"""Frames that a movie needs."""

_EVERY, _MARGIN = 6, 8
_FRAMES, _SIDE = 240, 256  # of the middle that is looked at, in frames and pixels
_FEWEST = 5  # frames left out

FloatArray = npt.NDArray[np.float32]


def compare_held_out(
    noisy: npt.NDArray[Any],
    bundles: Sequence[Bundle],
    *,
    backend: str = "auto",
    on_share: Callable[[float], None] = lambda _: None,
) -> list[HeldOutRecord]:
    """Compare every bundle with the first one on frames left out of a movie; nothing where it is too short.

    Parameters
    ----------
    noisy
        (T, H, W) counts without NaN. At most 240 frames and 256 x 256 pixels of its middle are denoised.
    bundles, backend
        As for `Stream`.
    on_share
        Called after every frame with the share of all bundles' frames that is done, up to 1.

    Returns
    -------
    list of HeldOutRecord
        One for each bundle but the first.
    """
    if len(noisy) < LEAST_FRAMES or len(bundles) < 2:
        return []
    part = _middle(noisy)
    done = 0

    def share_of_all(share: float) -> None:
        on_share((done + share) / len(bundles))

    made = []
    for bundle in bundles:
        made.append(outputs_beside(part, bundle, backend=backend, on_share=share_of_all))
        done += 1
    first, *others = made
    than, *names = unique_names(bundles)
    found = []
    for name, other in zip(names, others, strict=True):
        numbers = sorted(first.keys() & other.keys())
        if len(numbers) < _FEWEST:
            continue
        seen = [(np.asarray(part[n], np.float64), first[n], other[n]) for n in numbers]
        noise = float(np.mean([np.square(y - a).mean() for y, a, _ in seen]))
        if not noise:  # every frame is the same: there is nothing to tell them apart by
            continue
        gains = np.array([((b - a) * (2 * y - a - b)).mean() for y, a, b in seen]) / noise
        error = float(gains.std(ddof=1)) / math.sqrt(len(gains))
        found.append(
            HeldOutRecord(bundle=name, than=than, gain=float(gains.mean()), error=error, frames=len(gains))
        )
    return found


def outputs_beside(
    noisy: npt.NDArray[Any],
    bundle: Bundle,
    *,
    backend: str = "auto",
    on_share: Callable[[float], None] = lambda _: None,
) -> dict[int, FloatArray]:
    """Return the mean of the outputs before and after each frame that was left out, by that frame's number.

    Parameters
    ----------
    noisy
        (T, H, W) counts without NaN.
    bundle, backend
        As for `Stream`.
    on_share
        Called after every frame with the share that is done, up to 1.
    """
    left_out = range(_MARGIN, len(noisy) - _MARGIN, _EVERY)
    numbers = np.delete(np.arange(len(noisy)), left_out)
    at = {int(number): index for index, number in enumerate(numbers)}
    pairs = {n: (at[n - 1], at[n + 1]) for n in left_out}
    wanted = {index for pair in pairs.values() for index in pair}
    frames = as_float32(noisy[numbers])
    outputs: dict[int, FloatArray] = {}
    with Stream(bundle, backend) as stream:
        calibrate_stream(stream, frames)
        stream.survey(frames, 0, len(frames))
        for index in range(len(frames) + 1):
            if index < len(frames):
                skip = None if index - stream.look_ahead in wanted else "not compared"
                outs = stream.push(np.asarray(frames[index]), FrameMeta(index, 0.0), skip=skip)
            else:
                outs = stream.flush()
            outputs |= {out.meta.number: np.asarray(out.frame, np.float32) for out in outs}
            on_share((index + 1) / (len(frames) + 1))
    return {
        n: np.asarray((outputs[a] + outputs[b]) / 2, np.float32)
        for n, (a, b) in pairs.items()
        if {a, b} <= outputs.keys()
    }


def _middle(movie: npt.NDArray[Any]) -> npt.NDArray[Any]:
    most = (_FRAMES, _SIDE, _SIDE)
    starts = [max(0, (length - limit) // 2) for length, limit in zip(movie.shape, most, strict=True)]
    return movie[tuple(slice(start, start + limit) for start, limit in zip(starts, most, strict=True))]
