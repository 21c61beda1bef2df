"""Registration follows rigid motion, leaves still movies alone, and is not led by single objects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import estimate_intensity
from denoscope.runtime.motion.moves import moves
from denoscope.runtime.motion.register import Registration

FloatArray = npt.NDArray[np.float64]


def tissue(height: int, width: int, seed: int = 0) -> FloatArray:
    """Return expected photons of a textured scene, periodic."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    blur = np.exp(-2 * (np.pi * np.hypot(fy, fx) * 2.5) ** 2)
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) * blur).real
    return np.exp(0.8 * field / field.std())


def recorded(
    scene: FloatArray, shifts: npt.NDArray[np.int64], photons: float, seed: int = 1
) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    margin = 20
    frames = [np.roll(scene, tuple(s), axis=(0, 1))[margin:-margin, margin:-margin] for s in shifts]
    return (rng.poisson(np.stack(frames) * photons) * 20 + 100).astype(np.uint16)


def random_walk(length: int, seed: int = 2) -> npt.NDArray[np.int64]:
    steps = np.random.default_rng(seed).integers(-2, 3, (length, 2))
    steps[0] = 0
    return np.clip(np.cumsum(steps, axis=0), -12, 12)


@pytest.mark.parametrize(
    ("size", "photons", "error_px"), [(120, 1.0, 0.15), (120, 10.0, 0.01), (300, 1.0, 0.3)]
)
def test_follows_a_moving_scene(size: int, photons: float, error_px: float) -> None:
    shifts = random_walk(60)
    movie = recorded(tissue(size + 40, size + 52), shifts, photons)
    intensity = estimate_intensity(movie[:32])
    registration = Registration(movie.shape[1:], intensity, reach=16)
    found = np.array([registration.follow(frame) for frame in movie])
    assert np.abs(found - shifts).mean() <= error_px
    assert registration.explained > 0.7
    assert moves(movie[:32], intensity)


@pytest.mark.parametrize("photons", [0.1, 1.0, 30.0])
def test_a_still_scene_is_not_moved_at_all(photons: float) -> None:
    movie = recorded(tissue(160, 160), np.zeros((200, 2), np.int64), photons)
    intensity = estimate_intensity(movie[:32])
    registration = Registration(movie.shape[1:], intensity, reach=16)
    assert {registration.follow(frame) for frame in movie} == {(0, 0)}
    assert not moves(movie[:32], intensity)


def test_objects_that_go_their_own_ways_are_no_motion_of_the_frame() -> None:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:96, :96]
    centres, speeds = rng.uniform(0, 96, (25, 2)), rng.normal(0, 1.0, (25, 2))
    frames = []
    for t in range(32):
        spots = [np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8) for cy, cx in (centres + speeds * t) % 96]
        frames.append(rng.poisson(2 + 30 * np.sum(spots, axis=0)))
    movie = np.stack(frames).astype(np.uint16)
    assert not moves(movie, estimate_intensity(movie))


@pytest.mark.parametrize("photons", [0.2, 20.0])
@pytest.mark.parametrize("size", [48, 128, 256])
def test_light_without_structure_does_not_move(photons: float, size: int) -> None:
    for seed in range(3):
        movie = np.random.default_rng(seed).poisson(photons, (32, size, size)).astype(np.uint16)
        assert not moves(movie, estimate_intensity(movie))


def test_a_constant_movie_does_not_move() -> None:
    movie = np.full((20, 40, 40), 7, np.uint16)
    assert not moves(movie, estimate_intensity(movie))
