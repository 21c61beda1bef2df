"""The light of frames with few photons or strong pulses is kept, whatever the network makes of skewed noise."""

from __future__ import annotations

import numpy as np
import pytest

from denoscope.runtime import FrameMeta, Intensity, Stream
from denoscope.runtime.noise.few_photons_mean import keep_mean, light_of
from support.field_inputs import detected

UNKNOWN = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=1)


@pytest.mark.parametrize(("detector", "offset"), [("gamma pulses", 1500.0), ("emccd", 1000.0)])
@pytest.mark.parametrize(("photons", "length"), [(0.05, 5), (0.01, 16)])
def test_the_light_is_kept(detector: str, offset: float, photons: float, length: int) -> None:
    """A sixth to three quarters of it were lost: the median of few pulses is none."""
    clean, variance, frames = detected(detector, photons, length, seed=3)
    with Stream("live") as stream:
        outputs = [out for t, frame in enumerate(frames) for out in stream.push(frame, FrameMeta(t, 0.0))]
        outputs += stream.flush()
    made = np.stack([out.frame for out in outputs])
    assert made.dtype == np.uint16
    error = np.sqrt(variance.mean() / frames.size)
    light = clean.mean() - offset
    assert abs(made.mean() - frames.mean()) < 0.01 * light + error


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_only_skewed_noise_moves_the_mean(dtype: str) -> None:
    random = np.random.default_rng(0)
    made = np.full((64, 64), 100, dtype)
    even = (103 + random.normal(0, 20, made.shape)).astype(dtype)
    pulses = (90 + 300 * (random.random(made.shape) < 0.05)).astype(dtype)
    kept = light_of(even, UNKNOWN)
    assert kept is not None
    assert keep_mean(made, kept) is made
    lost = light_of(pulses, UNKNOWN)
    assert lost is not None
    moved = keep_mean(made, lost)
    assert moved.dtype == made.dtype
    assert moved.mean() == pytest.approx(pulses.mean(), abs=0.5 if dtype != "float32" else 1e-3)


def test_frames_of_many_photons_cost_nothing() -> None:
    frame = np.zeros((16, 16), np.uint16)
    assert light_of(frame, Intensity(offset=0, scale=1, noise_slope=0.3, noise_floor=1)) is None
    assert light_of(frame, None) is None


def test_a_frame_with_holes_is_left_alone() -> None:
    frame = np.full((16, 16), np.nan, np.float32)
    assert light_of(frame, UNKNOWN) is None


@pytest.mark.parametrize(("level", "end"), [(100, 65535), (2000, 0)])
def test_counts_stay_in_their_range(level: int, end: int) -> None:
    random = np.random.default_rng(1)
    made = np.full((64, 64), level, np.uint16)
    made[0, 0] = end
    light = light_of((500 + 30000 * (random.random(made.shape) < 0.02)).astype(np.uint16), UNKNOWN)
    assert light is not None
    moved = keep_mean(made, light)
    assert moved[0, 0] == end
    assert (moved != made).sum() == made.size - 1
