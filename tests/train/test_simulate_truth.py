"""The truth that comes with a simulated movie: flow, paths, footprints and traces agree with the pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.train import ALL_KINDS, TEST_MOVIES, CameraSettings, SceneSettings, SimulatedMovie, simulate
from denoscope.train.simulator.displacement import warp

FloatArray = npt.NDArray[np.float32]

CAMERA = CameraSettings(photons=10, gain=5, offset=20)
QUIET = {"spike_rate_hz": 1e-9, "background_drift": 0.0, "neuropil_contrast": 0.6}
MOTION = {
    "rigid": {"motion_px": 2.0, "jitter_px": 0.7},
    "local": {"local_motion_px": 1.0, "local_length_px": 24.0, "local_time_frames": 2.0},
    "all": {
        "motion_px": 1.0,
        "local_motion_px": 0.6,
        "local_length_px": 30.0,
        "raster": True,
        "row_jitter_px": 0.3,
    },
}


def _unexplained(movie: SimulatedMovie, a: int, b: int, margin: int = 12) -> float:
    """Return the share of the power of two frames' difference that is left once the flow is taken away."""
    inner = np.s_[margin:-margin, margin:-margin]
    led = warp(movie.clean[a], movie.flow_between(a, b))
    before = ((movie.clean[a] - movie.clean[b])[inner] ** 2).mean()
    return float(((led - movie.clean[b])[inner] ** 2).mean() / before)


def _leads_inside(flow: FloatArray) -> npt.NDArray[np.bool_]:
    """Return the pixels (H, W) from which a flow (2, H, W) leads to what was recorded."""
    to = flow + np.mgrid[: flow.shape[1], : flow.shape[2]]
    return np.asarray((to[0] >= 0) & (to[0] < len(to[0])) & (to[1] >= 0) & (to[1] < to.shape[2]))


@pytest.mark.parametrize("motion", MOTION)
def test_the_flow_leads_from_frame_to_frame(motion: str) -> None:
    scene = SceneSettings(
        frames=8, height=90, width=101, kind="one-photon", soma_radius_px=9, **QUIET, **MOTION[motion]
    )
    movie = simulate(scene, CAMERA, seed=21)
    for a, b in ((0, 1), (5, 4), (1, 6)):
        assert _unexplained(movie, a, b) < 0.02  # what linear interpolation blurs


@pytest.mark.parametrize("motion", [{}, MOTION["local"]], ids=["alone", "in moving tissue"])
def test_the_flow_follows_crawling_cells(motion: dict[str, float]) -> None:
    scene = SceneSettings(
        frames=9,
        height=96,
        width=96,
        kind="moving-cells",
        soma_radius_px=9,
        somata_per_10000_px=2,
        speed_px=1.5,
        background=0.05,
        **QUIET,
        **motion,
    )
    movie = simulate(scene, CAMERA, seed=4)
    flow = movie.flow_between(0, 8)
    light = movie.clean[8] - CAMERA.offset
    bright = (light > 0.4 * light.max()) & _leads_inside(flow)
    error = (warp(movie.clean[0], flow) - movie.clean[8])[bright]
    change = (movie.clean[0] - movie.clean[8])[bright]
    assert np.abs(flow).max() > 4
    assert (error**2).mean() < 0.08 * (change**2).mean()


def test_the_flow_follows_particles() -> None:
    scene = SceneSettings(
        frames=4,
        height=80,
        width=72,
        kind="confocal",
        particles_per_10000_px=12,
        particle_radius_px=2,
        directed=1.0,
        speed_px=2.5,
        diffusion_px=0.1,
        background=0.1,
        **QUIET,
    )
    movie = simulate(scene, CAMERA, seed=4)
    light = movie.clean[1] - CAMERA.offset
    flow = movie.flow[0]
    bright = (light > 0.2 * light.max()) & _leads_inside(flow)
    error = (warp(movie.clean[0], flow) - movie.clean[1])[bright]
    change = (movie.clean[0] - movie.clean[1])[bright]
    assert (error**2).mean() < 0.15 * (change**2).mean()  # particles change their light too
    alone = 0
    for cell, trace in enumerate(movie.traces):
        before, now = movie.path(cell)[:2]
        y, x = np.rint(now).astype(int).clip(0, (79, 71))
        if movie.footprint(cell, 1)[y, x] * trace[1] * CAMERA.gain > 0.9 * light[y, x]:
            np.testing.assert_allclose(flow[:, y, x], before - now, atol=0.01)
            alone += 1
    assert alone > 2


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_cells_are_seen_where_their_paths_say(kind: str) -> None:
    scene = SceneSettings(
        frames=5,
        height=70,
        width=83,
        kind=kind,
        soma_radius_px=4,
        speed_px=2,
        deformation=0.0,
        **MOTION["all"],
    )
    movie = simulate(scene, CAMERA, seed=9)
    y, x = np.mgrid[:70, :83]
    seen = 0
    for cell in range(len(movie.traces)):
        for frame, (row, column) in enumerate(movie.path(cell)):
            if 14 < row < 56 and 14 < column < 69:
                light = movie.footprint(cell, frame).astype(float)
                middle = (light * y).sum() / light.sum(), (light * x).sum() / light.sum()
                assert middle == pytest.approx((row, column), abs=1.5)
                seen += 1
    assert seen > 2


@pytest.mark.parametrize("kind", ["moving-cells", "confocal"])
def test_moving_objects_and_background_add_up_to_the_movie(kind: str) -> None:
    scene = SceneSettings(
        frames=4,
        height=61,
        width=50,
        kind=kind,
        neuropil_contrast=0.0,
        bleaching=0.3,
        falloff=0.4,
        background=0.3,
    )
    movie = simulate(scene, CAMERA, seed=5)
    photons = (movie.clean - CAMERA.offset) / CAMERA.gain
    for frame in range(4):
        cells = sum(movie.footprint(c, frame) * t[frame] for c, t in enumerate(movie.traces))
        rest = photons[frame] - cells
        rest /= 1 - 0.4 * (np.linspace(-1, 1, 61)[:, None] ** 2 + np.linspace(-1, 1, 50) ** 2) / 2
        assert rest.std() < 1e-3 * rest.mean()  # only the flat background is left
        assert rest.mean() > 0.1


@pytest.mark.parametrize("kind", ["two-photon", "one-photon"])
def test_the_trace_is_the_footprint_weighted_sum(kind: str) -> None:
    """With one cell, the light on its footprint is its trace plus the traces of the background."""
    scene = SceneSettings(
        frames=150,
        height=40,
        width=44,
        kind=kind,
        somata_per_10000_px=0,
        process_count=0,
        punctum_count=0,
        blurred_per_10000_px=0,
        spike_rate_hz=1.0,
    )
    movie = simulate(scene, CAMERA, seed=6)
    photons = ((movie.clean - CAMERA.offset) / CAMERA.gain).reshape(150, -1).astype(float)
    footprint = movie.footprint(0, 0).ravel().astype(float)
    outside = photons[:, footprint < 1e-7 * footprint.max()]
    background = np.linalg.svd(outside, full_matrices=False)[0][:, :4]
    design = np.column_stack([movie.traces[0], background])
    weighted = photons @ footprint
    found, *_ = np.linalg.lstsq(design, weighted, rcond=None)
    assert found[0] == pytest.approx((footprint**2).sum(), rel=1e-2)
    assert np.abs(design @ found - weighted).max() < 1e-2 * np.ptp(weighted)


def test_one_frame_has_no_flow() -> None:
    assert simulate(SceneSettings(frames=1, height=20, width=21), seed=0).flow.shape == (0, 2, 20, 21)


def test_the_test_movies_cover_what_users_record() -> None:
    scenes = [scene for scene, _, _ in TEST_MOVIES.values()]
    cameras = [camera for _, camera, _ in TEST_MOVIES.values()]
    seeds = [seed for _, _, seed in TEST_MOVIES.values()]
    assert len(TEST_MOVIES) >= 6
    assert {s.kind for s in scenes} == set(ALL_KINDS)
    assert min(c.photons for c in cameras) < 0.5
    assert max(c.photons for c in cameras) > 100
    assert any(s.motion_px for s in scenes)
    assert any(s.local_motion_px for s in scenes)
    assert any(c.row_noise for c in cameras)
    assert {c.bits for c in cameras} > {8, 12, 16}
    assert len(set(seeds)) == len(seeds)
    assert all(seed >= 2**31 for seed in seeds[1:])  # `simulated_movies` draws its seeds below


@pytest.mark.parametrize("name", TEST_MOVIES)
def test_every_test_movie_can_be_made(name: str) -> None:
    from denoscope.train import test_movie

    movie = test_movie(name)
    scene, camera, _ = TEST_MOVIES[name]
    assert movie.noisy.shape == (scene.frames, 128, 128)
    lost = 0.02 if (movie.clean == camera.most_counts).any() else 1e-3  # of the light, to saturation
    assert (movie.clean - camera.offset).mean() == pytest.approx(camera.photons * camera.gain, rel=lost)
    error = movie.noisy - movie.clean
    assert abs(error.mean()) < 0.05 * camera.photons * camera.gain
