"""The simulator delivers the noise, motion and activity that it says it does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from denoscope import train
from denoscope.runtime import InvalidInput
from denoscope.train import ALL_KINDS, CameraSettings, SceneSettings, random_settings, simulate

SCENE = SceneSettings(frames=120, height=64, width=80)
PLAIN = CameraSettings(photons=20, gain=10, gain_spread=0, read_noise=5, bleed=0, offset=100)


def _projections(values: npt.NDArray[np.float32]) -> list[float]:
    """Two random projections; any change beyond the last bits of the arithmetic shows in them."""
    rng = np.random.default_rng(0)
    return [float((rng.standard_normal(values.shape) * values).sum()) for _ in range(2)]


def test_the_movie_that_results_are_quoted_on_never_changes() -> None:
    movie = train.test_movie()
    assert _projections(movie.noisy) == pytest.approx([209979.154, -541524.156], abs=1)
    assert _projections(movie.clean) == pytest.approx([152822.358, -723711.126], abs=1)
    assert _projections(movie.traces) == pytest.approx([50.78910979, 31.23937002], abs=1e-4)
    assert _projections(movie.centres) == pytest.approx([-221.5435224, 515.3019410], abs=1e-4)


def test_a_moving_bleaching_movie_never_changes() -> None:
    scene = SceneSettings(frames=20, height=48, width=40, motion_px=1.5, jitter_px=0.5, bleaching=0.2)
    movie = simulate(scene, CameraSettings(photons=4, bleed=0.05), seed=11)
    assert _projections(movie.noisy) == pytest.approx([187514.410, -92846.039], abs=0.1)
    assert _projections(movie.clean) == pytest.approx([112170.234, -101624.820], abs=0.1)
    assert _projections(movie.shifts) == pytest.approx([-2.817346593, 7.698431512], abs=1e-4)


def test_the_settings_that_models_were_trained_with_never_change() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        scene, camera = random_settings(rng, frames=8, height=32, width=40)
    assert scene.frame_rate_hz == pytest.approx(28.2035642862661)
    assert scene.neuropil_contrast == pytest.approx(0.5827385559638495)
    assert camera.photons == pytest.approx(0.13612466416608662)
    assert camera.offset == pytest.approx(342.9381098577698)
    assert rng.random() == pytest.approx(0.04796030669598956)
    assert camera == CameraSettings(
        camera.photons, camera.gain, camera.gain_spread, camera.read_noise, camera.bleed, camera.offset
    )


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_same_seed_same_movie(kind: str) -> None:
    scene = SceneSettings(
        frames=6,
        height=40,
        width=48,
        kind=kind,
        motion_px=1,
        local_motion_px=0.3,
        row_jitter_px=0.2,
        raster=True,
    )
    camera = CameraSettings(row_noise=3, pixel_gain_spread=0.02, pixel_offset_spread=1)
    first, second = simulate(scene, camera, seed=5), simulate(scene, camera, seed=5)
    np.testing.assert_array_equal(first.noisy, second.noisy)
    np.testing.assert_array_equal(first.flow, second.flow)
    assert not np.array_equal(first.noisy, simulate(scene, camera, seed=6).noisy)


@pytest.mark.parametrize("photons", [0.3, 5.0])
def test_noise_has_the_stated_mean_and_variance(photons: float) -> None:
    camera = CameraSettings(photons=photons, gain=50, gain_spread=0.3, read_noise=10, bleed=0, offset=200)
    movie = simulate(SCENE, camera, seed=1)
    error = movie.noisy - movie.clean
    assert movie.clean.mean() == pytest.approx(200 + 50 * photons, rel=1e-3)
    assert error.mean() == pytest.approx(0, abs=0.01 * 50 * photons)
    expected = 50**2 * photons * (1 + 0.3**2) + 10**2
    assert error.var() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_variance_rises_with_the_mean_as_the_camera_says(kind: str) -> None:
    """The photon-transfer line: variance = gain (1 + spread^2) (mean - offset) + read noise^2."""
    camera = CameraSettings(photons=8, gain=20, gain_spread=0.4, read_noise=30, bleed=0, offset=50)
    movie = simulate(SceneSettings(frames=120, height=64, width=80, kind=kind), camera, seed=4)
    light = (movie.clean - 50).ravel()
    squares = (movie.noisy - movie.clean).ravel() ** 2
    slope, floor = np.polyfit(light, squares, 1, w=1 / (light + 50))
    assert slope == pytest.approx(20 * (1 + 0.4**2), rel=0.05)
    assert floor == pytest.approx(30**2, rel=0.2)


def test_bleed_correlates_neighbours_in_a_row_only() -> None:
    movie = simulate(SCENE, CameraSettings(bleed=0.08), seed=2)
    error = movie.noisy - movie.clean
    error = error - error.mean(axis=0)
    along = (error[:, :, 1:] * error[:, :, :-1]).mean() / error.var()
    across = (error[:, 1:] * error[:, :-1]).mean() / error.var()
    assert along == pytest.approx(0.08 * 0.92 / (0.08**2 + 0.92**2), abs=0.015)
    assert across == pytest.approx(0, abs=0.01)


def test_row_noise_is_shared_by_a_row_of_one_frame_only() -> None:
    movie = simulate(SCENE, CameraSettings(photons=2, gain=10, row_noise=6), seed=2)
    error = movie.noisy - movie.clean
    rows = error.mean(axis=2)
    white = (error.var() - 36) / error.shape[2]
    assert rows.var() == pytest.approx(36 + white, rel=0.05)
    assert (rows[:, 1:] * rows[:, :-1]).mean() == pytest.approx(0, abs=1.5)
    assert (rows[1:] * rows[:-1]).mean() == pytest.approx(0, abs=1.5)


def test_unequal_pixels_keep_their_gain_and_offset() -> None:
    camera = CameraSettings(
        photons=50, gain=2, gain_spread=0, read_noise=0, pixel_gain_spread=0.05, pixel_offset_spread=4
    )
    movie = simulate(SCENE, camera, seed=3)
    assert movie.pixel_gain is not None
    assert movie.pixel_offset is not None
    assert movie.pixel_gain.std() / movie.pixel_gain.mean() == pytest.approx(0.05, rel=0.05)
    assert movie.pixel_offset.mean() == pytest.approx(100, abs=0.3)
    assert movie.pixel_offset.std() == pytest.approx(4, rel=0.05)
    photons = (movie.clean - 100) / 2
    expected = movie.pixel_gain * photons + movie.pixel_offset
    error = (movie.noisy - expected).mean(axis=0)
    assert error.std() == pytest.approx(2 * np.sqrt(50 / 120), rel=0.1)  # what Poisson noise leaves of a mean


@pytest.mark.parametrize(("bits", "kept"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_a_converter_rounds_and_saturates(bits: int, kept: type) -> None:
    camera = CameraSettings(photons=50, gain=2.0**bits / 100, gain_spread=0, bleed=0.05, bits=bits)
    movie = simulate(SCENE, camera, seed=3)
    assert movie.noisy.max() == 2**bits - 1
    assert movie.clean.max() == 2**bits - 1, "no truth beyond what the camera can say"
    assert movie.as_frames().dtype == kept
    np.testing.assert_array_equal(movie.as_frames(), movie.noisy)


def test_motion_moves_the_scene_by_the_stated_shifts() -> None:
    scene = SceneSettings(
        frames=40, height=64, width=64, motion_px=3, spike_rate_hz=1e-6, rise_s=0.01, neuropil_contrast=0.9
    )
    movie = simulate(scene, seed=3)
    assert movie.shifts.std() == pytest.approx(3, rel=0.2)
    a, b = int(np.argmin(movie.shifts[:, 1])), int(np.argmax(movie.shifts[:, 1]))
    inner = np.s_[14:-14, 14:-14]
    moved = ndimage.shift(movie.clean[a], movie.shifts[b] - movie.shifts[a], order=1)
    assert np.corrcoef(moved[inner].ravel(), movie.clean[b][inner].ravel())[0, 1] > 0.7
    assert np.corrcoef(movie.clean[a][inner].ravel(), movie.clean[b][inner].ravel())[0, 1] < 0.4


def test_jitter_alone_moves_too() -> None:
    scene = SceneSettings(frames=30, height=40, width=40, jitter_px=1.0, spike_rate_hz=1e-6)
    movie = simulate(scene, seed=3)
    assert np.diff(movie.shifts, axis=0).std() == pytest.approx(1.0, rel=0.3)
    assert np.abs(np.diff(movie.clean, axis=0)).mean() > 0.05 * (movie.clean - 100).mean()


def test_transients_decay_with_the_stated_time_constant() -> None:
    scene = SceneSettings(
        frames=3000, height=16, width=16, frame_rate_hz=30, spike_rate_hz=0.02, decay_s=1.0, rise_s=0.01
    )
    trace = simulate(scene, seed=4).traces[0]
    falling = np.diff(trace) < 0
    rates = -np.diff(np.log(np.maximum(trace - trace.min(), 1e-3)))[
        falling & (trace[:-1] > trace.min() + 0.5)
    ]
    assert np.median(rates) == pytest.approx(1 / 30, rel=0.1)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_bleaching_takes_its_share(kind: str) -> None:
    scene = SceneSettings(frames=90, height=48, width=48, kind=kind)
    bleached = (simulate(replace(scene, bleaching=0.5), seed=8).clean - 100).mean(axis=(1, 2))
    bleached /= (simulate(scene, seed=8).clean - 100).mean(axis=(1, 2))
    assert bleached[-1] / bleached[0] == pytest.approx(1 - 0.5 * (1 - np.exp(-3)), rel=0.02)
    assert (np.diff(bleached) < 1e-6).all()


def test_random_settings_stay_in_their_range() -> None:
    rng = np.random.default_rng(0)
    photons = []
    for _ in range(200):
        scene, camera = random_settings(rng, frames=8, height=32, width=32)
        photons.append(camera.photons)
        assert 0.1 <= camera.photons <= 100
        assert camera.read_noise > 0
        assert scene.frames == 8
        assert scene.kind == "two-photon"
        assert camera.bits is None
    assert min(photons) < 0.3
    assert max(photons) > 30


def test_the_full_variety_is_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_settings(rng, frames=8, height=32, width=32, kinds=ALL_KINDS) for _ in range(400)]
    scenes, cameras = [s for s, _ in drawn], [c for _, c in drawn]
    assert {s.kind for s in scenes} == set(ALL_KINDS)
    assert {c.bits for c in cameras} == {8, 10, 11, 12, 14, 16}
    assert min(c.photons for c in cameras) < 0.2
    assert max(c.photons for c in cameras) > 500
    assert all(7 <= s.frame_rate_hz <= 1000 for s in scenes)
    assert any(s.flashes for s in scenes)
    speeds = [np.hypot(s.jitter_px, s.local_motion_px) for s in scenes]
    assert max(speeds) <= 3.0 + 1e-9
    assert max(speeds) > 2.5
    assert 0.3 < np.mean(np.asarray(speeds) == 0) < 0.7
    for feature in ("row_noise", "bleed", "pixel_gain_spread"):
        assert 0.05 < np.mean([getattr(c, feature) > 0 for c in cameras]) < 0.6, feature


def test_drawn_cameras_lose_little_at_the_ends_of_their_range() -> None:
    rng = np.random.default_rng(2)
    ends = []
    for seed in range(40):
        kind = ALL_KINDS[seed % 4]
        scene, camera = random_settings(rng, frames=4, height=32, width=32, kinds=(kind, kind))
        noisy = simulate(scene, camera, seed=seed).noisy
        assert camera.bits is not None
        ends.append(((noisy == 0).mean(), (noisy == 2**camera.bits - 1).mean()))
    assert np.max(ends, axis=0)[0] < 0.05
    assert np.mean(ends, axis=0)[1] < 0.01
    assert np.max(ends, axis=0)[1] > 0  # but some do saturate


def test_every_drawn_setting_can_be_simulated_at_odd_sizes() -> None:
    rng = np.random.default_rng(1)
    for seed in range(24):
        kind = (ALL_KINDS[seed % 4], ALL_KINDS[seed % 4])
        height, width = (int(n) for n in rng.integers(17, 45, 2))
        scene, camera = random_settings(rng, frames=5, height=height, width=width, kinds=kind)
        movie = simulate(scene, camera, seed=seed)
        assert movie.noisy.shape == movie.clean.shape == (5, height, width)
        assert np.isfinite(movie.noisy).all()
        assert np.isfinite(movie.flow).all()
        assert movie.clean.min() >= camera.offset
        assert movie.traces.shape == (len(movie.centres), 5)
        assert camera.bits is not None
        assert movie.noisy.max() <= 2**camera.bits - 1


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no scene of kind 'widefield'"):
        SceneSettings(kind="widefield")
    with pytest.raises(InvalidInput, match="0 frames"):
        SceneSettings(frames=0)
    with pytest.raises(InvalidInput, match="20 bits"):
        CameraSettings(bits=20)
    with pytest.raises(InvalidInput, match="0 photons"):
        CameraSettings(photons=0)
    with pytest.raises(InvalidInput, match="'x-ray'"):
        random_settings(np.random.default_rng(0), frames=1, height=8, width=8, kinds=("x-ray",))
    with pytest.raises(InvalidInput, match="no test movie 'mouse'"):
        train.test_movie("mouse")
