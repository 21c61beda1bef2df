"""Detection of motion: a dim scene that does, objects that go their own ways, light that changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from denoscope.runtime import estimate_intensity, moves_anywhere
from denoscope.runtime.motion.moves import Watch, moves

FloatArray = npt.NDArray[np.float64]


def scene_of(rng: np.random.Generator, size: int = 160) -> FloatArray:
    scene: FloatArray = ndimage.gaussian_filter(rng.random((size, size)) ** 8, 1.5)
    return scene / scene.mean()


def recorded(scene: FloatArray, walk: FloatArray, photons: float, rng: np.random.Generator) -> FloatArray:
    moved = (ndimage.shift(scene, step, order=3) if step.any() else scene for step in walk)
    frames = [each[16:-16, 16:-16] for each in moved]
    return rng.poisson(np.maximum(frames, 0) * photons).astype(np.uint16)


@pytest.mark.parametrize(
    ("size", "photons"),
    [
        (128, 0.3),
        (128, 2.0),
        (128, 50.0),
        pytest.param(600, 2.0, marks=pytest.mark.slow),
        pytest.param(600, 0.3, marks=pytest.mark.slow),
        pytest.param(600, 50.0, marks=pytest.mark.slow),
    ],
)
def test_motion_of_half_a_pixel_is_seen_and_none_is_not(photons: float, size: int) -> None:
    rng = np.random.default_rng(1)
    scene = scene_of(rng, size)
    walk = ndimage.gaussian_filter1d(rng.normal(0, 1, (32, 2)), 3, axis=0)
    walk *= 0.5 / walk.std()
    for moving in (True, False):
        movie = recorded(scene, walk * moving, photons, rng)
        assert moves(movie, estimate_intensity(movie)) is moving


def test_brightness_that_changes_is_no_motion() -> None:
    rng = np.random.default_rng(2)
    scene = scene_of(rng)
    spots = ndimage.gaussian_filter((rng.random(scene.shape) > 0.998).astype(float), 2.5) * 60
    frames = [scene * np.exp(-t / 40) + spots * np.abs(np.sin(t / 5)) for t in range(96)]
    movie = rng.poisson(np.array(frames) * 5).astype(np.uint16)
    intensity = estimate_intensity(movie[:32])
    assert not moves(movie[:32], intensity)
    assert not moves_anywhere(movie, intensity)


def test_rows_that_flicker_are_no_motion() -> None:
    rng = np.random.default_rng(3)
    scene = scene_of(rng)
    movie = recorded(scene, np.zeros((96, 2)), 20, rng) + rng.poisson(20, (96, 128, 1)).astype(np.uint16)
    intensity = estimate_intensity(movie[:32])
    assert not moves(movie[:32], intensity)
    assert not moves_anywhere(movie, intensity)


@pytest.mark.slow
def test_a_recording_that_moves_late_is_found_and_a_short_start_is_not_enough() -> None:
    rng = np.random.default_rng(4)
    scene = scene_of(rng)
    walk = np.cumsum(rng.normal(0, 0.3, (400, 2)), axis=0) * (np.arange(400) >= 250)[:, None]
    movie = recorded(scene, walk, 2.0, rng)
    intensity = estimate_intensity(movie[:32])
    assert not moves(movie[:32], intensity)
    assert moves_anywhere(movie, intensity)
    assert not moves_anywhere(movie[:250], intensity)
    watch = Watch((128, 128), intensity)
    for frame in movie[:250]:
        watch.see(frame)
        assert not watch.moves()
    found = []
    for frame in movie[250:]:
        watch.see(frame)
        found.append(watch.moves())
    assert any(found)
    watch.restart()
    assert not watch.moves()


@pytest.mark.parametrize("shape", [(16, 16), (20, 300), (48, 49), (5, 5)])
def test_any_size_is_taken(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    movie = rng.poisson(5, (40, *shape)).astype(np.uint16)
    intensity = estimate_intensity(movie)
    watch = Watch(shape, intensity)
    for frame in movie:
        watch.see(frame)
    assert not watch.moves()


def test_a_scene_that_moves_far_and_in_parts_is_seen() -> None:
    rng = np.random.default_rng(6)
    scene = scene_of(rng)
    rows, columns = np.indices(scene.shape)
    frames = []
    for whole in np.cumsum(rng.normal(0, 1.0, (32, 2)), axis=0):
        parts = [ndimage.gaussian_filter(rng.normal(size=scene.shape), 25) for _ in range(2)]
        shifts = [w + 1.5 * part / part.std() for w, part in zip(whole, parts, strict=True)]
        moved = ndimage.map_coordinates(scene, [rows + shifts[0], columns + shifts[1]], order=1, mode="wrap")
        frames.append(moved[16:-16, 16:-16])
    movie = rng.poisson(np.array(frames) * 2).astype(np.uint16)
    assert moves(movie, estimate_intensity(movie))
