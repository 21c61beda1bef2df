"""Displacement fields have the stated statistics, and flows lead from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from denoscope.runtime import InvalidInput
from denoscope.train.simulator.displacement import (
    flow_between,
    position_rms,
    smooth_displacement,
    warp,
    warp_movie,
)


@pytest.mark.parametrize("tau", [0.0, 1.0, 6.0])
def test_steps_have_the_stated_size(tau: float) -> None:
    rng = np.random.default_rng(0)
    field = smooth_displacement(rng, 80, (90, 110), rms_px=0.5, length_px=16, time_constant_frames=tau)
    assert field.shape == (80, 2, 90, 110)
    assert field.dtype == np.float32
    assert np.sqrt((np.diff(field, axis=0) ** 2).mean()) == pytest.approx(0.5, rel=0.1)
    assert field.std() == pytest.approx(position_rms(0.5, tau), rel=0.2)


def test_correlation_falls_with_the_stated_length_and_time() -> None:
    rng = np.random.default_rng(1)
    field = smooth_displacement(rng, 200, (160, 160), rms_px=0.2, length_px=10, time_constant_frames=4)
    power = (field**2).mean()
    along = (field[..., 10:] * field[..., :-10]).mean() / power
    across = (field[..., 10:, :] * field[..., :-10, :]).mean() / power
    later = (field[4:] * field[:-4]).mean() / power
    assert along == pytest.approx(np.exp(-0.5), abs=0.06)
    assert across == pytest.approx(np.exp(-0.5), abs=0.06)
    assert later == pytest.approx(np.exp(-0.25), abs=0.06)


@pytest.mark.parametrize("shape", [(1, 1), (7, 65), (33, 2)])
def test_odd_sizes_and_seeds(shape: tuple[int, int]) -> None:
    def draw(seed: int) -> np.ndarray:
        return smooth_displacement(
            np.random.default_rng(seed), 3, shape, rms_px=0.3, length_px=9, time_constant_frames=2
        )

    assert draw(0).shape == (3, 2, *shape)
    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def test_motion_that_would_fold_the_picture_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInput, match=r"folds the picture within 8 pixels.*at least"):
        smooth_displacement(rng, 9, (32, 32), rms_px=2, length_px=8, time_constant_frames=5)
    with pytest.raises(InvalidInput, match="must be positive"):
        smooth_displacement(rng, 0, (32, 32), rms_px=2, length_px=8, time_constant_frames=5)


def test_a_rigid_flow_is_the_difference_of_the_positions() -> None:
    a = np.broadcast_to(np.array([2.0, -1.0], np.float32)[:, None, None], (2, 20, 30))
    b = np.broadcast_to(np.array([-1.0, 3.0], np.float32)[:, None, None], (2, 20, 30))
    flow = flow_between(a, b)
    np.testing.assert_allclose(flow[0], 3, atol=1e-5)
    np.testing.assert_allclose(flow[1], -4, atol=1e-5)


def test_warping_with_the_flow_gives_the_other_frame() -> None:
    rng = np.random.default_rng(2)
    still = ndimage.gaussian_filter(rng.standard_normal((128, 128)), 3).astype(np.float32)
    still /= still.std()
    positions = smooth_displacement(rng, 6, still.shape, rms_px=1.5, length_px=24, time_constant_frames=2)
    movie = warp_movie(still, positions, order=3)
    inner = np.s_[16:-16, 16:-16]
    before = after = 0.0
    for a, b in ((0, 1), (4, 3), (0, 5)):
        led = warp(movie[a], flow_between(positions[a], positions[b]), order=3)
        before += float(((movie[a] - movie[b])[inner] ** 2).mean())
        after += float(((led - movie[b])[inner] ** 2).mean())
    assert after < 1e-3 * before


def test_things_that_move_in_a_moving_scene() -> None:
    """A blob that moves by (0, 3) at rest, in frames that are displaced themselves."""
    y, x = np.mgrid[:64, :64].astype(np.float32)

    def blob(column: float) -> np.ndarray:
        return np.exp(-((y - 32) ** 2 + (x - column) ** 2) / 18).astype(np.float32)

    rng = np.random.default_rng(3)
    positions = smooth_displacement(rng, 2, (64, 64), rms_px=1, length_px=20, time_constant_frames=0)
    frames = warp_movie(np.stack([blob(30), blob(33)]), positions, order=3)
    scene_flow = np.zeros((2, 64, 64), np.float32)
    scene_flow[1] = -3
    flow = flow_between(positions[0], positions[1], scene_flow)
    error = warp(frames[0], flow, order=3) - frames[1]
    assert np.abs(error).max() < 0.02
    assert np.abs(frames[0] - frames[1]).max() > 0.3


def test_positions_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInput, match="must agree"):
        warp_movie(np.zeros((3, 8, 8), np.float32), np.zeros((2, 2, 8, 8), np.float32))
