"""Flashes are short, positive and where they are said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from denoscope.train import CameraSettings, SceneSettings, simulate
from denoscope.train.simulator import add_flashes, random_settings


@pytest.mark.parametrize("per_frame", [0.05, 0.5])
def test_as_many_begin_as_asked_for(per_frame: float) -> None:
    still = np.ones((400, 100, 100), np.float32)
    alone = []
    for seed in range(6):
        movie = still.copy()
        add_flashes(movie, per_frame, np.random.default_rng(seed))
        assert (movie >= 1).all()
        alone.append((movie - 1).sum())
    # Mean light of a flash, from many of them, gives the number of flashes in the movies.
    one = np.ones((400, 100, 100), np.float32)
    add_flashes(one, 4.0, np.random.default_rng(99))
    light = (one - 1).sum() / (4.0 * 400)
    assert np.mean(alone) / light == pytest.approx(per_frame * 400, rel=0.35)


def test_a_flash_ends_within_a_second_of_frames_and_leaves_the_rest_untouched() -> None:
    movie = np.ones((300, 40, 40), np.float32)
    add_flashes(movie, 1 / (300 * 40 * 40 / 1e4), np.random.default_rng(4))
    lit = np.flatnonzero((movie > 1.001).any((1, 2)))
    assert len(lit) > 0
    quiet = np.setdiff1d(np.arange(300), lit)
    assert len(quiet) > 200
    assert (movie[quiet] < 1.002).all()


def test_a_movie_without_flashes_is_the_same_as_before_there_were_any() -> None:
    scene, camera = SceneSettings(frames=30, height=48, width=48), CameraSettings()
    plain, flashing = simulate(scene, camera, seed=3), simulate(replace(scene, flashes=0.5), camera, seed=3)
    assert simulate(scene, camera, seed=3).clean.tobytes() == plain.clean.tobytes()
    peaks = (flashing.clean / flashing.clean.mean()).max((1, 2)) / (plain.clean / plain.clean.mean()).max(
        (1, 2)
    )
    assert (peaks > 1.1).any()


def test_some_of_the_drawn_movies_have_flashes() -> None:
    drawn = [
        random_settings(np.random.default_rng(s), frames=9, height=32, width=32, kinds=("two-photon",) * 2)[0]
        for s in range(60)
    ]
    share = np.mean([scene.flashes > 0 for scene in drawn])
    assert 0.4 < share < 0.8
