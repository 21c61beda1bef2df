"""A recorded movie is aligned as a live session would align it."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from denoscope.runtime import (
    LazyMovie,
    align_movie,
    estimate_intensity,
    follow_motion,
    open_movie,
    shown_by_all,
)


def moving_movie(length: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    scene = np.kron(rng.random((40, 40)), np.ones((4, 4))) * 900 + 100
    walk = np.clip(np.cumsum(rng.integers(-1, 2, (length, 2)), 0), -8, 8)
    walk -= walk[0]
    frames = [scene[20 + y : 116 + y, 20 + x : 124 + x] for y, x in walk]
    return rng.poisson(np.array(frames)).astype(np.uint16), walk


def test_the_walk_is_found_and_undone() -> None:
    movie, walk = moving_movie()
    motion = follow_motion(movie, estimate_intensity(movie[:32]))
    assert motion is not None
    found = motion.displacements
    # The scene is cut further down when the walk is positive, so it appears further up.
    np.testing.assert_array_equal(np.rint(found), -walk)
    assert np.abs(found + walk).max() < 0.1, "there is no rest of whole pixels"
    assert motion.fields[20:].std(axis=0).max() < 0.1, "and no part moves by itself"
    still = np.asarray(align_movie(movie, found, "walk"), float)[:, 16:-16, 16:-16]
    changes = still.var(axis=0).mean() / still.mean()
    assert 0.9 < changes < 1.1, "only shot noise is left"


@pytest.mark.parametrize(("photons", "error_px"), [(1.5, 0.2), (20.0, 0.12)])
def test_the_rest_of_whole_pixels_is_found(photons: float, error_px: float) -> None:
    rng = np.random.default_rng(3)
    scene = ndimage.gaussian_filter(rng.random((170, 170)) ** 6, 1.5)
    scene *= photons / scene.mean()
    walk = np.clip(np.cumsum(rng.normal(0, 0.8, (60, 2)), 0), -6, 6)
    walk -= walk[0]
    frames = [ndimage.shift(scene, step, order=3)[20:140, 20:150] for step in walk]
    movie = rng.poisson(np.maximum(frames, 0)).astype(np.uint16)
    motion = follow_motion(movie, estimate_intensity(movie[:32]))
    assert motion is not None
    found = motion.displacements
    off = found - walk
    off = off[20:] - np.median(
        off[20:], axis=0
    )  # the first frames, which the others are compared with, are noisy
    assert np.sqrt(np.mean(off**2)) < error_px, "whole pixels alone are 0.29 off"
    assert (np.abs(found - np.rint(found)) < 0.5).all()


def test_motion_of_less_than_a_pixel_is_followed() -> None:
    rng = np.random.default_rng(4)
    scene = ndimage.gaussian_filter(rng.random((150, 150)) ** 8, 1.5)
    scene *= 5 / scene.mean()
    walk = ndimage.gaussian_filter1d(rng.normal(0, 1, (40, 2)), 3, axis=0)
    walk *= 0.4 / walk.std()
    frames = [ndimage.shift(scene, step, order=3)[15:135, 15:135] for step in walk]
    movie = rng.poisson(np.maximum(frames, 0)).astype(np.uint16)
    assert follow_motion(movie, estimate_intensity(movie[:32])) is not None


def test_objects_that_go_their_own_ways_are_not_followed() -> None:
    rng = np.random.default_rng(6)
    places = rng.uniform(10, 118, (25, 2)) + np.cumsum(rng.normal(0, 1.0, (40, 25, 2)), axis=0)
    movie = np.zeros((40, 128, 128))
    rows, columns = np.indices((128, 128))
    for frame, spots in zip(movie, places, strict=True):
        for y, x in spots:
            frame += 40 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
    noisy = rng.poisson(movie + 3).astype(np.uint16)
    assert follow_motion(noisy, estimate_intensity(noisy[:32])) is None


def test_what_every_frame_shows_has_no_repeated_border() -> None:
    movie, _ = moving_movie()
    stamped = np.arange(movie[0].size, dtype=np.float32).reshape(movie[0].shape) + np.zeros_like(
        movie, np.float32
    )
    found = np.array([[0, 0], [5, -3], [-2, 7]], np.intp)
    part = shown_by_all(movie.shape[1:], found)
    assert part == (slice(2, 91), slice(3, 97))
    inside = np.asarray(align_movie(stamped, found, "walk", part=part))
    whole = np.asarray(align_movie(stamped, found, "walk"))
    np.testing.assert_array_equal(inside, whole[:, 2:91, 3:97])
    for frame in inside:
        assert len(np.unique(frame)) == frame.size, "no pixel stands twice"
    wider = np.asarray(align_movie(stamped, found, "walk", part=(slice(1, 91), slice(3, 97))))
    assert len(np.unique(wider[2])) < wider[2].size
    far = np.array([[0, 0], [200, 0]], np.intp)
    rows, _ = shown_by_all(movie.shape[1:], far)
    assert rows.stop <= rows.start


def test_a_still_movie_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    still = rng.poisson(np.kron(rng.random((24, 24)) * 50 + 5, np.ones((4, 4))), (40, 96, 96))
    assert follow_motion(still.astype(np.uint16), estimate_intensity(still[:32])) is None


def test_a_lazy_movie_gives_the_same_pixels_as_one_in_memory(tmp_path) -> None:
    movie, _ = moving_movie()
    tifffile.imwrite(tmp_path / "walk.tif", movie, compression="zlib")
    lazy = open_movie(tmp_path / "walk.tif")
    found = np.random.default_rng(0).integers(-9, 10, (50, 2))
    aligned = align_movie(lazy, found, "walk")
    whole = np.asarray(align_movie(movie, found, "walk"))
    assert isinstance(aligned, LazyMovie)
    assert aligned.shape == whole.shape == (50, 96, 104)
    for part in (np.s_[3:7, 10:50, 5:9], np.s_[0:1, 0:4, 100:104], np.s_[40:50, 90:96, 0:104]):
        np.testing.assert_array_equal(aligned[part], whole[part])
    np.testing.assert_array_equal(aligned[7], whole[7])
    y, x = found[20]
    rows, columns = np.clip(np.arange(96) + y, 0, 95), np.clip(np.arange(104) + x, 0, 103)
    np.testing.assert_array_equal(whole[20], movie[20][np.ix_(rows, columns)])


def test_a_scene_that_drifts_away_is_cut_there() -> None:
    rng = np.random.default_rng(2)
    scene = np.kron(rng.random((60, 60)), np.ones((4, 4))) * 900 + 100
    frames = [scene[20:116, 20 + t : 124 + t] for t in range(60)]
    movie = rng.poisson(np.array(frames)).astype(np.uint16)
    motion = follow_motion(movie, estimate_intensity(movie[:32]))
    assert motion is not None
    found = motion.displacements
    assert 15 <= len(found) < 30
    assert len(motion.fields) == len(found)
    assert np.asarray(align_movie(movie, found, "drift")).shape == (len(found), 96, 104)
