"""Grains, dendrites and axons of the simulator, and the share of scenes that have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from denoscope.train import (
    ALL_KINDS,
    CameraSettings,
    SceneSettings,
    random_settings,
    simulate,
    simulated_movies,
)
from denoscope.train.simulator.fine import fibres, granular

SCENE = SceneSettings(
    frames=24,
    height=64,
    width=64,
    somata_per_10000_px=4,
    process_count=0,
    punctum_count=0,
    neuropil_contrast=0.2,
    spike_rate_hz=2,
)


def _detail(scene: SceneSettings, seed: int) -> tuple[float, float]:
    """Return the power above 0.2 cycles a pixel that stays, and that changes with time, of the median pixel."""
    light = simulate(scene, CameraSettings(offset=0), seed=seed).clean
    light = light / light.mean()
    fine = light - ndimage.gaussian_filter(light, (0, 1, 1))
    still = fine.mean(0)
    return float(np.median(still**2)), float(np.median((fine - still).var(0)))


def test_fine_structure_adds_detail_that_stays_and_detail_that_changes() -> None:
    without = np.array([_detail(SCENE, seed) for seed in range(3)])
    there = np.array([_detail(replace(SCENE, fine_structure=1.0), seed) for seed in range(3)])
    assert (there.mean(axis=0) > 3 * without.mean(axis=0)).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_of_scene_has_fine_structure_and_repeats_with_its_seed(kind: str) -> None:
    scene = SceneSettings(
        frames=3, height=20, width=36, kind=kind, motion_px=1, jitter_px=0.3, fine_structure=0.8
    )
    first, second = simulate(scene, seed=4), simulate(scene, seed=4)
    np.testing.assert_array_equal(first.clean, second.clean)
    assert np.isfinite(first.clean).all()
    assert first.clean.min() >= 100  # the offset: there is no light below zero
    assert not np.array_equal(first.clean, simulate(replace(scene, fine_structure=0.0), seed=4).clean)


def test_the_other_choices_stay_when_some_scenes_have_fine_structure() -> None:
    drawn = []
    for number in range(100):
        plain, fine = (
            random_settings(
                np.random.default_rng((9, number)), frames=4, height=32, width=32, kinds=ALL_KINDS, fine=f
            )
            for f in (0.0, 0.4)
        )
        assert replace(fine[0], fine_structure=0.0) == plain[0]
        assert fine[1] == plain[1]
        drawn.append(fine[0].fine_structure)
    share = np.mean(np.array(drawn) > 0)
    assert share == pytest.approx(0.4, abs=0.15)
    assert all(0.15 <= strength <= 1 for strength in drawn if strength)


def test_movies_to_train_on_have_fine_structure_where_it_is_asked_for() -> None:
    shown = {f: simulated_movies(1, frames=12, size=32, seed=2, fine=f)[0].clean for f in (0.0, 1.0)}
    assert shown[0.0] is not None
    assert shown[1.0] is not None
    assert not np.array_equal(shown[0.0], shown[1.0])


def test_a_fibre_is_one_bright_along_its_middle_and_ends_at_the_border() -> None:
    rng = np.random.default_rng(1)
    one = fibres((40, 90), np.array([[20.0, 45.0]]), 300.0, rng, width=0.8, wander=0.02)
    bright = np.sort(one.ravel())[-40:]
    assert 0.4 < np.median(bright) < 4  # beads vary about one
    assert fibres((8, 8), np.array([[-30.0, -30.0]]), 5.0, rng, width=0.8).max() == 0


def test_grains_have_a_mean_of_one() -> None:
    grains = granular((64, 64), 0.2, np.random.default_rng(0))
    assert grains.mean() == pytest.approx(1, abs=0.02)
    assert 0.1 < grains.std() < 0.4
