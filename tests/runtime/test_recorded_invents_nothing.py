"""The shipped bundle `recorded` shows nothing in noise alone, nor in a movie whose frames are in no order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import Bundle, FrameMeta, Stream, calibrate_stream

FRAMES, EDGE = 40, 48


def denoise(movie: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what `recorded` makes of a movie, and its predicted deviations."""
    with Stream(Bundle.load("recorded"), std=True) as stream:
        calibrate_stream(stream, movie)
        stream.survey(movie, 0, len(movie))
        outputs = [o for n, frame in enumerate(movie) for o in stream.push(frame, FrameMeta(n, 0.0))]
        outputs += stream.flush()
    return (
        np.stack([o.frame for o in outputs]).astype(np.float64),
        np.stack([o.std for o in outputs if o.std is not None]).astype(np.float64),
    )


def measured(scene: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.uint16]:
    """Return frames of a scene (T, H, W) in photons: 100 counts a photon, 8 of read noise."""
    rng = np.random.default_rng(seed)
    return (
        np.rint(100 + 100 * rng.poisson(scene) + rng.normal(0, 8, scene.shape))
        .clip(0, 65535)
        .astype(np.uint16)
    )


def test_noise_alone_stays_flat() -> None:
    """No event beyond the predicted deviation, and no texture."""
    mean, std = denoise(measured(np.full((FRAMES, EDGE, EDGE), 1.5), seed=3))
    off = (mean - 250) / std
    assert np.mean(np.abs(off) > 2) < 0.10
    assert np.mean(np.abs(off) > 4) < 2e-3
    assert np.std(mean) < 0.25 * 122, "a single frame scatters by 122 counts"


@pytest.mark.slow
def test_frames_in_no_order_become_no_event() -> None:
    """A cell that is bright in every second of the shuffled frames: what is not in a frame is not shown in it."""
    rng = np.random.default_rng(4)
    rows, columns = np.indices((EDGE, EDGE))
    cell = np.exp(-((rows - 24) ** 2 + (columns - 24) ** 2) / 50)
    bright = rng.permutation(np.arange(FRAMES) % 2)
    truth = 3 + 0.8 * rng.random((EDGE, EDGE)) + 4 * bright[:, None, None] * cell
    mean, _ = denoise(measured(truth, seed=5))
    inside = cell > 0.5
    shown = (mean[:, inside].mean(axis=1) - mean[bright == 0][:, inside].mean()) / 100
    # Every bright frame is shown as one, and no dark one.
    assert shown[bright == 1].min() > shown[bright == 0].max()
    background = cell < 0.01
    wrong = (mean - (100 + 100 * truth))[:, background]
    assert np.abs(wrong.mean(axis=1)).max() < 25, "the mean of a frame's background is measured to 5 counts"
    assert wrong.std() < 0.35 * 185, "a single frame scatters by 185 counts"
