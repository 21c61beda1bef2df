"""Parts of a scene that move by themselves are followed; a scene that moves as a whole gets no field."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from denoscope.runtime import Intensity, estimate_intensity, follow_motion
from denoscope.runtime.motion.field import KNOTS, between, constant, interpolation, inverse, lead
from denoscope.runtime.motion.local_motion import LocalMotion

SHAPE = (120, 136)


def scene_with(rng: np.random.Generator, photons: float) -> np.ndarray:
    scene = ndimage.gaussian_filter(rng.random((SHAPE[0] + 40, SHAPE[1] + 40)) ** 6, 1.5)
    return scene * photons / scene.mean()


def wandering(rng: np.random.Generator, frames: int, size: float) -> np.ndarray:
    """Fields (T, 2, KNOTS, KNOTS) whose parts wander by `size` pixels, smooth in space and time."""
    fields = ndimage.gaussian_filter(rng.normal(size=(frames, 2, KNOTS, KNOTS)), (6, 0, 2, 2), mode="wrap")
    fields -= fields.mean(axis=(2, 3), keepdims=True)
    return fields * size / fields.std()


def recorded(scene: np.ndarray, fields: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames with ``frame(p + field(p)) = scene(p)``, of Poisson noise."""
    rows, columns = (interpolation((np.arange(n) + 0.5) / n) for n in SHAPE)
    at = np.mgrid[: SHAPE[0], : SHAPE[1]] + 20.0
    movie = []
    for field in fields:
        back = rows @ inverse(field, SHAPE) @ columns.T
        movie.append(rng.poisson(np.maximum(ndimage.map_coordinates(scene, at - back, order=3), 0)))
    return np.array(movie, np.uint16)


def off_by(found: np.ndarray, true: np.ndarray) -> float:
    """How far off fields are, as root mean square, but for what never changes: the scene may lie anywhere."""
    off = (found - true)[20:, :, 1:-1, 1:-1]
    return float(np.sqrt(np.mean(np.square(off - off.mean(axis=0)))))


@pytest.mark.parametrize(("photons", "share"), [(1.5, 0.7), (5.0, 0.45), (50.0, 0.25)])
def test_parts_that_wander_are_followed(photons: float, share: float) -> None:
    rng = np.random.default_rng(1)
    true = wandering(rng, 60, 1.0)
    movie = recorded(scene_with(rng, photons), true, rng)
    local = LocalMotion(SHAPE, 0, estimate_intensity(movie[:32]))
    found = np.array([local.follow(frame, (0, 0), (0.0, 0.0)) for frame in movie])
    assert found.shape == (60, 2, KNOTS, KNOTS)
    assert off_by(found, true) < share * off_by(np.zeros_like(true), true)


def test_a_scanner_that_moves_within_a_frame_shears_it() -> None:
    rng = np.random.default_rng(2)
    ramp = np.linspace(-1, 1, KNOTS)[:, None] * np.ones(KNOTS)
    true = rng.normal(0, 0.5, (50, 2, 1, 1)) * ramp
    movie = recorded(scene_with(rng, 8.0), true, rng)
    local = LocalMotion(SHAPE, 0, estimate_intensity(movie[:32]))
    found = np.array([local.follow(frame, (0, 0), (0.0, 0.0)) for frame in movie])
    assert off_by(found, true) < 0.5 * off_by(np.zeros_like(true), true)


@pytest.mark.parametrize("photons", [0.5, 5.0])
def test_a_scene_that_moves_as_a_whole_gets_no_field(photons: float) -> None:
    rng = np.random.default_rng(3)
    shifts = rng.integers(-2, 3, (50, 2))
    fields = np.broadcast_to(shifts[:, :, None, None], (50, 2, KNOTS, KNOTS)).astype(float)
    movie = recorded(scene_with(rng, photons), fields, rng)
    local = LocalMotion(SHAPE, 16, estimate_intensity(movie[:32]))
    found = np.array(
        [local.follow(frame, tuple(shift), (0.0, 0.0)) for frame, shift in zip(movie, shifts, strict=True)]
    )
    assert off_by(found, np.zeros_like(fields)) < 0.06


def test_bright_objects_on_nothing_do_not_carry_the_field_away() -> None:
    rng = np.random.default_rng(7)
    rows, columns = np.indices(SHAPE)
    at = rng.uniform(20, 110, (6, 2)) + np.cumsum(rng.normal(0, 1.5, (80, 6, 2)), axis=0)
    movie = np.full((80, *SHAPE), 0.5)
    for frame, spots in zip(movie, at, strict=True):
        for y, x in spots:
            frame += 400 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 50)
    noisy = rng.poisson(movie).astype(np.uint16)
    local = LocalMotion(SHAPE, 16, estimate_intensity(noisy[:32]))
    found = np.array([local.follow(frame, (0, 0), (0.0, 0.0)) for frame in noisy])
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 11.5, "a part is never far from where it began"


@pytest.mark.parametrize("shape", [(16, 16), (33, 131), (300, 40)])
@pytest.mark.parametrize("kind", ["constant", "saturated", "flashing", "noise", "brighter"])
def test_frames_without_a_scene_to_follow_do_no_harm(kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(8)
    levels = {
        "constant": np.full(30, 7.0),
        "saturated": np.full(30, 65535.0),
        "flashing": np.where(np.arange(30) % 7 == 0, 60000.0, 3.0),
        "noise": np.full(30, 5.0),
        "brighter": np.where(np.arange(30) < 15, 3.0, 3000.0),
    }[kind]
    movie = np.broadcast_to(levels[:, None, None], (30, *shape))
    frames = rng.poisson(movie) if kind in ("noise", "brighter") else movie
    local = LocalMotion(shape, 16, Intensity(offset=3.0, scale=1.5, noise_slope=0.2, noise_floor=0.01))
    found = np.array([local.follow(frame.astype(np.uint16), (1, -2), (0.2, 0.1)) for frame in frames])
    assert np.isfinite(found).all()


def test_a_frame_larger_than_is_looked_at_gives_pixels_of_its_own() -> None:
    rng = np.random.default_rng(4)
    true = wandering(rng, 40, 1.0)
    movie = recorded(scene_with(rng, 20.0), true, rng)
    large = movie.repeat(3, axis=1).repeat(3, axis=2)
    unit = Intensity(offset=0.0, scale=4.0, noise_slope=1.0, noise_floor=0.1)
    local = LocalMotion((large.shape[1], large.shape[2]), 0, unit)
    found = np.array([local.follow(frame, (0, 0), (0.0, 0.0)) for frame in large])
    assert off_by(found, 3 * true) < 0.5 * off_by(np.zeros_like(true), 3 * true)


def test_fields_of_a_followed_movie_are_over_its_frames() -> None:
    rng = np.random.default_rng(5)
    walk = np.clip(np.cumsum(rng.normal(0, 0.8, (60, 2)), 0), -6, 6)
    true = wandering(rng, 60, 0.8) + walk[:, :, None, None]
    movie = recorded(scene_with(rng, 20.0), true, rng)
    motion = follow_motion(movie, estimate_intensity(movie[:32]))
    assert motion is not None
    whole = np.rint(motion.displacements)[:, :, None, None]
    rigid = motion.displacements[:, :, None, None] + np.zeros_like(true)
    assert off_by(motion.fields + whole, true) < 0.6 * off_by(rigid, true)


def test_fields_are_turned_round_and_joined() -> None:
    rng = np.random.default_rng(6)
    fields = ndimage.gaussian_filter(rng.normal(0, 5, (2, 2, KNOTS, KNOTS)), (0, 0, 2, 2))
    back = inverse(fields[0], SHAPE)
    assert np.abs(lead(fields[0], back, SHAPE)).max() < 0.02, "a frame lies on itself"
    np.testing.assert_allclose(inverse(constant((1.5, -2.0)), SHAPE), constant((1.5, -2.0)))
    np.testing.assert_allclose(lead(constant((1.0, 2.0)), constant((0.5, -1.0)), SHAPE), constant((0.5, 3.0)))
    whole = between(fields, SHAPE, (slice(0, SHAPE[0]), slice(0, SHAPE[1])))
    np.testing.assert_allclose(whole, fields, rtol=0, atol=1e-5)
    half = between(fields, SHAPE, (slice(60, 120), slice(0, 136)))
    np.testing.assert_allclose(
        half[..., -1, :], fields[..., -1, :] * 1.25 - fields[..., -2, :] * 0.25, atol=1e-5
    )
