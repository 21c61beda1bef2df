"""Time to the first denoised frame of a slow recording, and stability of its baseline afterwards."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from denoscope.runtime import FrameMeta
from support.field_inputs import active_cells, counts

from . import Case, Outcome
from ._warm import denoised

_LENGTH = 48
_START_S = 2.0


def cases() -> list[Case]:
    """Return the cases of this module: frames a second, at two look-aheads, in one stream and in several."""
    rates = (1 / 30, 0.2, 1.0, 3.0, 10.0, 30.0)
    return [
        Case(
            "start",
            f"{rate:.3g} frames/s, look-ahead {look_ahead}",
            f"first output after {look_ahead + 3} frames or 2 s; baseline steady",
            lambda _folder, rate=rate, look_ahead=look_ahead: _start(rate, look_ahead),
        )
        for rate in rates
        for look_ahead in (1, 3)
    ] + [
        Case("start", "a slow session, 2 channels", "each channel after 4 frames of its own", _two_channels),
    ]


def _movie(seed: int = 0) -> np.ndarray:
    return counts(active_cells(_LENGTH, 64, 64, seed=seed)[1])


@cache
def _at_once(look_ahead: int) -> list[float]:
    """Return the frame means where all frames come at once."""
    return [out.frame.mean() for out in denoised(_movie(), look_ahead=look_ahead)[0]]


def _start(rate: float, look_ahead: int) -> Outcome:
    outputs, _, reached = denoised(_movie(), rate=rate, look_ahead=look_ahead)
    first = next(i for i, count in enumerate(reached) if count) + 1
    seconds = (first - 1) / rate
    noise = float(np.std(np.diff(_movie().astype(float), axis=0))) / 2**0.5
    waited = _at_once(look_ahead)
    jump = max(abs(a.frame.mean() - b) for a, b in zip(outputs, waited, strict=True)) / noise
    in_time = first <= look_ahead + 3 or seconds <= _START_S
    return Outcome(
        f"after {first} frames, {seconds:.1f} s; baseline within {jump:.1%} of the noise",
        passed=in_time and jump < 0.05 and len(outputs) == _LENGTH,
    )


def _two_channels(folder: Path) -> Outcome:
    from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser
    from denoscope.runtime import StreamKey

    del folder
    keys = [StreamKey(channel=name) for name in ("GFP", "RFP")]
    first: dict[str, int] = {}
    denoiser = LocalDenoiser(DenoiserRequest("live", look_ahead=1))
    try:
        for number, frame in enumerate(_movie()[:12]):
            for key in keys:
                for out in denoiser.push(frame, FrameMeta(number, 5.0 * number, key)):
                    first.setdefault(out.meta.key.channel, number + 1)
        denoiser.flush()
    finally:
        denoiser.close()
    return Outcome(f"after {first}", passed=first == {"GFP": 4, "RFP": 4})
