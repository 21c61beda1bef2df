"""Simulated movies with known truth, to train on and to measure against.

A scene (two-photon, one-photon, moving cells, confocal) is a sum of non-negative parts that follow
their traces; rigid and local motion and the raster scan displace it; the camera turns expected
photons into counts: Poisson arrivals, spread of the detector's gain, Gaussian read noise, bleed of a
share of each pixel into the next one of its row, an offset for each row, unequal pixels, a converter
of 8 to 16 bits. The parts are in `_simulator`; `docs/how/simulator.md` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from denoscope.runtime import InvalidInput

from . import (
    ALL_KINDS,
    SCENES,
    CameraSettings,
    Motion,
    SceneSettings,
    SceneTruth,
    add_flashes,
    margin_px,
    pixel_maps,
    random_settings,
    record,
)
from .displacement import flow_between

__all__ = [
    "ALL_KINDS",
    "TEST_MOVIES",
    "CameraSettings",
    "SceneSettings",
    "SimulatedMovie",
    "random_settings",
    "simulate",
    "test_movie",
    "test_movies",
]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SimulatedMovie:
    """One simulated recording.

    Attributes
    ----------
    noisy
        Counts as the camera delivers them, (T, H, W) float32; not rounded or clipped unless the camera
        has a number of bits.
    clean
        Expected counts of a camera with equal pixels and no bleed, at most what its converter delivers,
        (T, H, W) float32; shares the motion with `noisy`.
    shifts
        Rigid displacement of each frame from rest, (T, 2) float32 as (y, x) in pixels.
    traces
        Relative fluorescence of each soma, cell or particle, (cells, T) float32.
    centres
        Position of each of them at rest, in frame 0 if they move, (cells, 2) float32 as (y, x) in pixels.
    scene, camera
        The settings that the movie was made with.
    pixel_gain, pixel_offset
        Counts per photon and counts without light of each pixel, (H, W); None if all are alike.
    """

    noisy: FloatArray
    clean: FloatArray
    shifts: FloatArray
    traces: FloatArray
    centres: FloatArray
    scene: SceneSettings
    camera: CameraSettings
    pixel_gain: FloatArray | None = field(repr=False)
    pixel_offset: FloatArray | None = field(repr=False)
    _truth: SceneTruth = field(repr=False)
    _motion: Motion = field(repr=False)
    _photons: float = field(repr=False)  # per unit of the scene's light

    @property
    def flow(self) -> FloatArray:
        """Flow from each frame to the next, (T - 1, 2, H, W): entry t is ``flow_between(t, t + 1)``."""
        pairs = [self.flow_between(t, t + 1) for t in range(len(self.clean) - 1)]
        return np.stack(pairs) if pairs else np.zeros((0, 2, *self.clean.shape[1:]), np.float32)

    def flow_between(self, a: int, b: int) -> FloatArray:
        """Return the true flow with ``frame_a(p + flow(p)) = frame_b(p)``.

        Parameters
        ----------
        a, b
            Frame numbers. Where cells or particles move in the scene, the flow is that of the brightest
            contribution to the pixel in frame b.

        Returns
        -------
        ndarray
            (2, H, W) float32, rows then columns, in pixels, on the grid of frame b.
        """
        moved, inner = self._truth.flow(a, b), self._motion.inner
        if moved is None and self._motion.is_rigid:
            step = self.shifts[a] - self.shifts[b]
            return np.broadcast_to(step[:, None, None], (2, *self.clean.shape[1:])).copy()
        flow = flow_between(self._motion.position(a), self._motion.position(b), moved)
        return flow[:, inner[0], inner[1]].copy()

    def footprint(self, cell: int, frame: int) -> FloatArray:
        """Return the expected photons of one cell per unit of its trace in one frame, (H, W).

        `clean` in that frame is `offset + gain * (footprint * trace, summed over the cells, + the rest)`, where
        that does not saturate the camera.
        """
        light = self._motion.apply(self._truth.footprint(cell, frame), frame) * np.float32(self._photons)
        return np.asarray(light * illumination(self.scene), np.float32)

    def path(self, cell: int) -> FloatArray:
        """Return where one cell or particle is in each frame of the movie, (T, 2) as (y, x) in pixels."""
        at_rest = np.broadcast_to(self._truth.paths[cell], (len(self.clean), 2)) - self._motion.margin
        if self._motion.local is None and not self._motion.raster and self._motion.rows is None:
            return np.asarray(at_rest + self.shifts, np.float32)
        return np.stack([self._motion.seen_at(p, t) for t, p in enumerate(at_rest)])

    def as_uint16(self) -> npt.NDArray[np.uint16]:
        """Return the noisy movie rounded and clipped to a camera's 16 bits, (T, H, W)."""
        return np.clip(np.rint(self.noisy), 0, 65535).astype(np.uint16)

    def as_frames(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """Return the movie as the camera would save it: uint8 for 8 bits, uint16 otherwise, (T, H, W)."""
        frames = self.as_uint16()
        return frames.astype(np.uint8) if self.camera.bits == 8 else frames


def simulate(
    scene: SceneSettings | None = None, camera: CameraSettings | None = None, *, seed: int
) -> SimulatedMovie:
    """Simulate one movie; the same settings and seed give the same movie.

    Parameters
    ----------
    scene, camera
        What is seen and how it is recorded; the defaults are a 30 Hz two-photon movie at 1.5 photons a
        pixel.
    seed
        Seed of every random choice.

    Returns
    -------
    SimulatedMovie
        The noisy movie with its truth.

    Examples
    --------
    >>> movie = simulate(SceneSettings(frames=8, height=48, width=64), seed=1)
    >>> movie.noisy.shape, movie.clean.shape
    ((8, 48, 64), (8, 48, 64))
    """
    scene = scene or SceneSettings()
    camera = camera or CameraSettings()
    rng = np.random.default_rng(seed)
    margin = margin_px(scene)
    padded = replace(scene, height=scene.height + 2 * margin, width=scene.width + 2 * margin)
    brightness, truth = SCENES[scene.kind](padded, rng)
    if scene.flashes:
        add_flashes(brightness, scene.flashes, rng)
    motion = Motion.draw(scene, margin, rng)
    if margin:
        brightness = np.stack([motion.apply(image, t) for t, image in enumerate(brightness)])
    if scene.falloff:
        brightness *= illumination(scene)
    photons = camera.photons / float(brightness.mean())
    brightness *= photons
    clean = brightness * np.float32(camera.gain) + np.float32(camera.offset)
    np.minimum(clean, np.float32(camera.most_counts), out=clean)
    maps = pixel_maps(camera, (scene.height, scene.width), rng)
    noisy = record(brightness, camera, maps, rng)
    gain, offset = maps if maps is not None else (None, None)
    centres = truth.paths[:, 0] - np.float32(margin)
    return SimulatedMovie(
        noisy,
        clean,
        motion.shifts,
        truth.traces,
        centres,
        scene,
        camera,
        gain,
        offset,
        truth,
        motion,
        photons,
    )


def illumination(scene: SceneSettings) -> FloatArray:
    """Return the share of the light that reaches each pixel, (H, W): one in the middle."""
    y = np.linspace(-1, 1, scene.height, dtype=np.float32) if scene.height > 1 else np.zeros(1, np.float32)
    x = np.linspace(-1, 1, scene.width, dtype=np.float32) if scene.width > 1 else np.zeros(1, np.float32)
    return np.asarray(1 - scene.falloff * (y[:, None] ** 2 + x**2) / 2, np.float32)


# Seeds from 2,000,000,001 on are for tests; all but the first are beyond what training can draw.
TEST_MOVIES: Mapping[str, tuple[SceneSettings, CameraSettings, int]] = MappingProxyType(
    {
        "two-photon": (
            SceneSettings(frames=300, height=128, width=128),
            CameraSettings(photons=1.5, bleed=0.06),
            2_000_000_001,
        ),
        "two-photon-moving": (
            SceneSettings(
                frames=200,
                motion_px=2.0,
                jitter_px=0.7,
                local_motion_px=0.5,
                local_length_px=30.0,
                raster=True,
                row_jitter_px=0.2,
            ),
            CameraSettings(photons=5.0, bleed=0.06),
            4_000_000_001,
        ),
        "two-photon-fast": (
            SceneSettings(frames=200, frame_rate_hz=500.0, spike_rate_hz=1.0),
            CameraSettings(photons=0.3, gain=40.0, read_noise=10.0, bits=12),
            4_000_000_002,
        ),
        "one-photon": (
            SceneSettings(kind="one-photon", frames=200, background=10.0, falloff=0.3, bleaching=0.1),
            CameraSettings(
                photons=300.0,
                gain=2.0,
                gain_spread=0.0,
                read_noise=3.0,
                pixel_gain_spread=0.01,
                pixel_offset_spread=2.0,
                bits=16,
            ),
            4_000_000_003,
        ),
        "one-photon-dim": (
            SceneSettings(kind="one-photon", frames=200, background=6.0, motion_px=1.0, jitter_px=0.3),
            CameraSettings(photons=10.0, gain=2.0, gain_spread=0.0, read_noise=4.0, row_noise=4.0, bits=12),
            4_000_000_004,
        ),
        "moving-cells": (
            SceneSettings(kind="moving-cells", frames=200, soma_radius_px=8.0, speed_px=0.4, background=0.5),
            CameraSettings(photons=4.0, gain=4.0, gain_spread=0.0, read_noise=6.0, bits=12),
            4_000_000_005,
        ),
        "confocal": (
            SceneSettings(kind="confocal", frames=200, background=0.8, speed_px=1.0),
            CameraSettings(photons=1.0, gain=12.0, gain_spread=0.3, read_noise=2.0, offset=10.0, bits=8),
            4_000_000_006,
        ),
        "confocal-row-noise": (
            SceneSettings(kind="confocal", frames=200, background=1.5, jitter_px=0.5, motion_px=1.0),
            CameraSettings(
                photons=20.0, gain=20.0, gain_spread=0.2, read_noise=10.0, row_noise=30.0, bits=14
            ),
            4_000_000_007,
        ),
    }
)


def test_movie(name: str = "two-photon") -> SimulatedMovie:  # noqa: PT028
    """Return a simulated movie that results are quoted on; nothing is ever trained on its seed.

    Parameters
    ----------
    name
        One of `TEST_MOVIES`. The default is 30 Hz GCaMP, 1.5 photons a pixel, 6 % bleed, 300 frames of
        128 x 128 pixels.

    Returns
    -------
    SimulatedMovie
        Raw counts, truth and what they were made of.

    Raises
    ------
    InvalidInput
        If there is no test movie of that name.
    """
    if name not in TEST_MOVIES:
        raise InvalidInput(f"There is no test movie {name!r}; choose one of {', '.join(TEST_MOVIES)}.")
    scene, camera, seed = TEST_MOVIES[name]
    return simulate(scene, camera, seed=seed)


def test_movies() -> dict[str, SimulatedMovie]:
    """Return all test movies by name: every kind of scene, dim and bright, still and moving.

    Returns
    -------
    dict of str to SimulatedMovie
        In the order of `TEST_MOVIES`.
    """
    return {name: test_movie(name) for name in TEST_MOVIES}
