"""Scenes that hold still: a sum of fixed non-negative images, each times its trace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .fine import fibres, granular, random_fibres
from .settings import SceneSettings
from .shapes import blurred_noise, disc, neuropil, process, punctum, soma, vessels
from .traces import activity, bleaching, smooth_trace

__all__ = ["StillScene", "one_photon", "two_photon"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StillScene:
    """Truth of a scene at rest, in the arbitrary units of its movie.

    Attributes
    ----------
    traces
        Relative fluorescence of each soma, (cells, T).
    paths
        Where each soma is, (cells, 1, 2) as (y, x): it never moves.
    images
        Light of each soma per unit of its trace, (cells, H, W), before bleaching.
    light
        Share of the light that is left, (T,).
    """

    traces: FloatArray
    paths: FloatArray
    images: FloatArray
    light: FloatArray

    def footprint(self, cell: int, frame: int) -> FloatArray:
        """Light of one soma per unit of its trace in one frame, (H, W)."""
        return np.asarray(self.images[cell] * self.light[frame], np.float32)

    def flow(self, a: int, b: int) -> FloatArray | None:  # noqa: ARG002
        """Return None: nothing moves."""
        return None


def two_photon(scene: SceneSettings, rng: np.random.Generator) -> tuple[FloatArray, StillScene]:
    """Neuropil with dark vessels, ring-shaped somata, thin processes, puncta: movie (T, H, W) and truth."""
    area = scene.height * scene.width / 1e4
    shape = (scene.height, scene.width)
    shade = vessels(shape, rng)
    texture = neuropil(shape, scene.neuropil_contrast, rng) * shade
    if scene.fine_structure:
        texture *= _fine_neuropil(scene, shape, rng)
    images = [texture]
    traces = [1.0 + 0.15 * smooth_trace(scene.frames, scene.frame_rate_hz, rng)]
    for _ in range(3):  # neuropil activity that is shared by wide regions
        images.append(texture * blurred_noise(shape, min(shape) / 6, rng).clip(0))
        traces.append(0.25 * smooth_trace(scene.frames, scene.frame_rate_hz, rng).clip(-0.5) + 0.15)

    count = max(1, int(rng.poisson(scene.somata_per_10000_px * area)))
    centres = rng.uniform((0, 0), shape, size=(count, 2)).astype(np.float32)
    first = len(images)
    for centre in centres:
        images.append(soma(shape, centre, scene.soma_radius_px, rng))
        traces.append(activity(scene, rng))
    for _ in range(int(rng.poisson(scene.process_count * area))):
        images.append(process(shape, scene.soma_radius_px, rng))
        traces.append(activity(scene, rng))
    for _ in range(int(rng.poisson(scene.punctum_count * area))):
        images.append(punctum(shape, rng))
        traces.append(activity(scene, rng))
    if scene.fine_structure:
        arbours = [_arbour(scene, c, images[first + i], rng) for i, c in enumerate(centres)]
        images += arbours
        traces += traces[first : first + count]
        for _ in range(int(rng.poisson(scene.fine_structure * rng.uniform(10, 150) * area))):
            light = scene.fine_structure * np.exp(rng.normal(-1.6, 0.9))
            images.append(random_fibres(shape, int(rng.integers(1, 5)), rng) * np.float32(light))
            traces.append(activity(scene, rng))
    return _assemble(scene, images, traces, centres, first)


def one_photon(scene: SceneSettings, rng: np.random.Generator) -> tuple[FloatArray, StillScene]:
    """Strong smooth background that changes slowly, vessel shadows, cells in and out of focus."""
    area = scene.height * scene.width / 1e4
    shape = (scene.height, scene.width)
    scatter = rng.uniform(0.7, 2.0)  # tissue above spreads the light, of cells and of what shades them
    shade = ndimage.gaussian_filter(vessels(shape, rng), scatter)
    count = max(1, int(rng.poisson(scene.somata_per_10000_px * area)))
    centres = rng.uniform((0, 0), shape, size=(count, 2)).astype(np.float32)
    cells = [
        ndimage.gaussian_filter(soma(shape, c, scene.soma_radius_px, rng), scatter) * shade for c in centres
    ]
    cell_traces = [activity(scene, rng) for _ in cells]
    for _ in range(int(rng.poisson(scene.blurred_per_10000_px * area))):
        body = disc(shape, rng.uniform((0, 0), shape), scene.soma_radius_px * rng.uniform(0.7, 1.3), 1.0)
        depth = scene.soma_radius_px * rng.uniform(0.6, 3.0)
        cells.append(ndimage.gaussian_filter(body, depth) * shade * np.float32(rng.uniform(0.5, 3.0)))
        cell_traces.append(activity(scene, rng))

    width = min(shape)
    haze = (
        np.exp(0.3 * scene.neuropil_contrast * blurred_noise(shape, width / rng.uniform(3, 8), rng)) * shade
    )
    light = sum(float(c.mean()) * float(t.mean()) for c, t in zip(cells, cell_traces, strict=True))
    if scene.fine_structure:
        haze *= ndimage.gaussian_filter(_fine_neuropil(scene, shape, rng), scatter)
    haze *= scene.background * max(light, 1e-3) / haze.mean()
    drift = scene.background_drift
    images = [np.asarray(haze, np.float32)]
    traces = [1.0 + drift * smooth_trace(scene.frames, scene.frame_rate_hz * rng.uniform(1, 10), rng)]
    for _ in range(3):  # blood and breathing change the background from place to place
        images.append(np.asarray(haze * np.abs(blurred_noise(shape, width / 6, rng)), np.float32))
        traces.append(drift * smooth_trace(scene.frames, scene.frame_rate_hz * rng.uniform(0.3, 5), rng))
    return _assemble(scene, images + cells, traces + cell_traces, centres, len(images))


def _fine_neuropil(scene: SceneSettings, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Grains, fibres at rest and shadows of capillaries, (H, W) about one."""
    strength, area = scene.fine_structure, shape[0] * shape[1] / 1e4
    light = granular(shape, strength * 10 ** rng.uniform(-2.0, -0.5), rng)
    for _ in range(3):  # near and far, thin and thick
        count = int(rng.poisson(strength * 10 ** rng.uniform(0.8, 2.3) * area))
        if count:
            light += np.float32(strength * 10 ** rng.uniform(-2.0, -0.4)) * random_fibres(shape, count, rng)
    for _ in range(int(rng.poisson(2 * area))):
        shadow = fibres(
            shape, rng.uniform((0, 0), shape, (1, 2)), 1.5 * max(shape), rng, width=rng.uniform(0.7, 1.8)
        )
        light *= 1 - np.float32(strength * rng.uniform(0.1, 0.7)) * shadow.clip(0, 1)
    return light


def _arbour(
    scene: SceneSettings, centre: npt.NDArray[np.float32], body: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Dendrites that leave a soma and light up with it, (H, W); without any for some."""
    starts = np.repeat(np.asarray(centre, float)[None], int(rng.integers(0, 8)), axis=0)
    length = rng.uniform(2, 14) * scene.soma_radius_px
    light = scene.fine_structure * float(body.max()) * 10 ** rng.uniform(-1.7, -0.4)
    return fibres(body.shape[:2], starts, length, rng, width=rng.uniform(0.5, 1.2)) * np.float32(light)


def _assemble(
    scene: SceneSettings, images: list[FloatArray], traces: list[FloatArray], centres: FloatArray, first: int
) -> tuple[FloatArray, StillScene]:
    """Return the movie and its truth; the somata are images `first` onward."""
    footprints = np.stack(images).reshape(len(images), -1).astype(np.float32)
    movie = np.stack(traces).astype(np.float32).T @ footprints
    movie = np.maximum(movie, 0.02 * movie.mean()).reshape(scene.frames, scene.height, scene.width)
    light = bleaching(scene)
    if scene.bleaching:
        movie *= light[:, None, None]
    somata = slice(first, first + len(centres))
    return movie, StillScene(
        np.stack(traces[somata]).astype(np.float32),
        centres[:, None],
        footprints[somata].reshape(-1, scene.height, scene.width).copy(),
        light,
    )
