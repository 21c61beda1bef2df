"""The measured light is given to denoised frames only where it is light, not noise that pixels share."""

from __future__ import annotations

import numpy as np

from denoscope.runtime import FrameMeta, Stream


def _denoised(movie: np.ndarray, *, light: bool) -> np.ndarray:
    with Stream("live-fast", light=light) as stream:
        outputs = [out for t, frame in enumerate(movie) for out in stream.push(frame, FrameMeta(t, t / 30))]
        outputs += stream.flush()
    return np.array([out.frame for out in outputs], float)


def test_noise_that_rows_share_is_not_taken_for_changing_light() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:128, :128]
    scene = 119 + 3 * np.exp(-((y - 60) ** 2 + (x - 50) ** 2) / 800)
    rows = rng.normal(0, 4, (60, 128, 1))
    movie = np.round(scene + rows + rng.normal(0, 7, (60, 128, 128))).astype(np.float32)
    plain, lit = (np.square(_denoised(movie, light=light)[8:] - scene).mean() for light in (False, True))
    assert lit < 1.03 * plain
