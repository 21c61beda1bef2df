"""Scenes whose parts move: crawling cells that deform, particles that diffuse and run.

Every object has a path and a trace, and is rendered where it is in each frame, so that nothing is
blurred by interpolating twice. The flow at a pixel is that of its brightest contribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .fine import granular, random_fibres
from .settings import SceneSettings
from .shapes import blurred_noise
from .traces import bleaching, smooth_trace

__all__ = ["MovingScene", "confocal", "moving_cells"]

FloatArray = npt.NDArray[np.float32]
Area = tuple[slice, slice]


class Objects(Protocol):
    """Things that are drawn where they are."""

    @property
    def paths(self) -> FloatArray:
        """Positions (objects, T, 2) as (y, x)."""
        ...

    def patch(self, index: int, frame: int, shape: tuple[int, int]) -> tuple[Area, FloatArray]:
        """Light per unit of trace of one object, and the part of the frame that it covers."""
        ...

    def flow(self, index: int, a: int, b: int, area: Area) -> FloatArray:
        """Flow (2, h, w) from frame a to frame b of one object, at pixels of frame b."""
        ...


@dataclass(frozen=True)
class Spots:
    """Particles below the resolution: Gaussian spots of `radius` (objects,) in pixels."""

    paths: FloatArray
    radius: FloatArray

    def patch(self, index: int, frame: int, shape: tuple[int, int]) -> tuple[Area, FloatArray]:
        """Light of one spot, one at its centre."""
        centre, radius = self.paths[index, frame], float(self.radius[index])
        area = _area(centre, 4 * radius, shape)
        y = (np.arange(area[0].start, area[0].stop, dtype=np.float32) - centre[0]) / radius
        x = (np.arange(area[1].start, area[1].stop, dtype=np.float32) - centre[1]) / radius
        return area, np.exp(-0.5 * y * y)[:, None] * np.exp(-0.5 * x * x)

    def flow(self, index: int, a: int, b: int, area: Area) -> FloatArray:
        """Spots only shift."""
        step = self.paths[index, a] - self.paths[index, b]
        size = (2, area[0].stop - area[0].start, area[1].stop - area[1].start)
        return np.broadcast_to(step[:, None, None], size)


@dataclass(frozen=True)
class Bodies:
    """Cells: a picture of each, stretched by `pose` (objects, T, 2, 2) about its path."""

    paths: FloatArray
    pose: FloatArray
    pictures: tuple[FloatArray, ...]

    def patch(self, index: int, frame: int, shape: tuple[int, int]) -> tuple[Area, FloatArray]:
        """Light of one cell: its picture sampled at body coordinates."""
        picture, centre, pose = self.pictures[index], self.paths[index, frame], self.pose[index, frame]
        middle = len(picture) // 2
        trace = float(pose[0, 0] + pose[1, 1])  # of a symmetric matrix of determinant one
        longest = (trace + math.sqrt(max(trace * trace - 4, 0.0))) / 2
        area = _area(centre, middle * longest, shape)
        inverse = _inverse(pose)
        light = ndimage.affine_transform(
            picture,
            inverse,
            inverse @ (np.asarray((area[0].start, area[1].start)) - centre) + middle,
            output_shape=(area[0].stop - area[0].start, area[1].stop - area[1].start),
            order=1,
        )
        return area, np.asarray(light, np.float32)

    def flow(self, index: int, a: int, b: int, area: Area) -> FloatArray:
        """The same point of the body, in frame a minus in frame b."""
        grid = np.mgrid[area].astype(np.float32)
        at_b = grid - self.paths[index, b][:, None, None]
        change = self.pose[index, a] @ _inverse(self.pose[index, b]) - np.eye(2, dtype=np.float32)
        step = self.paths[index, a] - self.paths[index, b]
        return np.asarray(np.tensordot(change, at_b, 1) + step[:, None, None], np.float32)


@dataclass(frozen=True)
class MovingScene:
    """Truth of a scene whose parts move.

    Attributes
    ----------
    traces
        Brightness of each object, (objects, T).
    objects
        Where and what they are.
    background, drift
        Image (H, W) of what holds still, and its trace (T,).
    light
        Share of the light that is left, (T,).
    """

    traces: FloatArray
    objects: Objects
    background: FloatArray
    drift: FloatArray
    light: FloatArray

    @property
    def paths(self) -> FloatArray:
        """Positions of the objects in each frame, (objects, T, 2) as (y, x)."""
        return self.objects.paths

    def footprint(self, cell: int, frame: int) -> FloatArray:
        """Light of one object per unit of its trace in one frame, (H, W)."""
        image = np.zeros_like(self.background)
        area, light = self.objects.patch(cell, frame, (len(image), image.shape[1]))
        image[area] = light * self.light[frame]
        return image

    def flow(self, a: int, b: int) -> FloatArray:
        """Flow (2, H, W) from frame a to frame b of the brightest contribution to each pixel of b."""
        brightest = self.background * self.drift[b]
        flow = np.zeros((2, *brightest.shape), np.float32)
        for index, trace in enumerate(self.traces):
            area, light = self.objects.patch(index, b, brightest.shape)
            light = light * trace[b]
            won = light > brightest[area]
            brightest[area][won] = light[won]
            flow[:, area[0], area[1]][:, won] = self.objects.flow(index, a, b, area)[:, won]
        return flow


def moving_cells(scene: SceneSettings, rng: np.random.Generator) -> tuple[FloatArray, MovingScene]:
    """Cells that crawl, turn about and stretch over an uneven background: movie (T, H, W) and truth."""
    shape = (scene.height, scene.width)
    count = max(1, int(rng.poisson(scene.somata_per_10000_px * scene.height * scene.width / 1e4)))
    turning = _wander(count, scene.frames, rng.uniform(20, 100), rng)
    heading = rng.uniform(0, 2 * np.pi, (count, 1)) + 1.5 * turning
    speed = scene.speed_px * np.exp(
        rng.normal(0, 0.4, (count, 1)) + 0.4 * _wander(count, scene.frames, 20, rng)
    )
    steps = speed[..., None] * np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    start = rng.uniform((0, 0), shape, (count, 1, 2))
    paths = _reflected(start + np.cumsum(steps, axis=1), shape)
    # A cell is longer along its way; the stretch keeps its area, so its light moves but does not change.
    stretch = scene.deformation * (1 + _wander(count, scene.frames, rng.uniform(10, 60), rng))
    pose = _stretched(heading, stretch)
    pictures = tuple(_cell_picture(scene.soma_radius_px * rng.uniform(0.7, 1.3), rng) for _ in range(count))
    expression = np.exp(rng.normal(0, 0.4, (count, 1)))
    traces = expression * (1 + 0.1 * _wander(count, scene.frames, 30, rng)).clip(0.3)
    return _with_background(scene, Bodies(paths, pose, pictures), traces.astype(np.float32), rng)


def confocal(scene: SceneSettings, rng: np.random.Generator) -> tuple[FloatArray, MovingScene]:
    """Particles that diffuse, and run from time to time, in the haze of a cell: movie and truth."""
    shape = (scene.height, scene.width)
    count = max(1, int(rng.poisson(scene.particles_per_10000_px * scene.height * scene.width / 1e4)))
    steps = scene.diffusion_px * rng.standard_normal((count, scene.frames, 2))
    running = _runs(count, scene.frames, scene.directed, rng)
    heading = rng.uniform(0, 2 * np.pi, (count, 1)) + _wander(count, scene.frames, 20, rng)
    speed = scene.speed_px * np.exp(rng.normal(0, 0.4, (count, 1)))
    ahead = speed[..., None] * np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    start = rng.uniform((0, 0), shape, (count, 1, 2))
    paths = _reflected(
        start + np.cumsum(np.where(running[..., None], ahead + 0.2 * steps, steps), axis=1), shape
    )
    radius = scene.particle_radius_px * np.exp(rng.normal(0, 0.25, count))
    focus = 1 + 0.3 * _wander(count, scene.frames, rng.uniform(5, 40), rng)
    traces = np.exp(rng.normal(0, 0.6, (count, 1))) * focus.clip(0.05)
    return _with_background(
        scene, Spots(paths, radius.astype(np.float32).clip(0.5)), traces.astype(np.float32), rng
    )


def _with_background(
    scene: SceneSettings, objects: Objects, traces: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, MovingScene]:
    """Add an uneven background whose light is `scene.background` times that of the objects."""
    shape = (scene.height, scene.width)
    haze = np.exp(0.5 * scene.neuropil_contrast * blurred_noise(shape, min(shape) / rng.uniform(3, 10), rng))
    if scene.fine_structure:  # filaments of a cell that holds still, as total internal reflection shows them
        haze *= granular(shape, scene.fine_structure * 10 ** rng.uniform(-1.5, -0.3), rng)
        count = 1 + int(rng.poisson(scene.fine_structure * 10 ** rng.uniform(0.5, 2.2) * haze.size / 1e4))
        filaments = random_fibres(shape, count, rng) * np.float32(10 ** rng.uniform(-1.0, 0.7))
        haze += scene.fine_structure * haze.mean() * filaments
    drift = 1 + scene.background_drift * smooth_trace(scene.frames, scene.frame_rate_hz, rng)
    movie = _drawn(objects, traces, shape)
    level = max(scene.background, 0.02) * float(movie.mean()) + 1e-6  # a little light is everywhere
    background = np.asarray(haze * (level / haze.mean()), np.float32)
    truth = MovingScene(traces, objects, background, drift.clip(0.1), bleaching(scene))
    movie += truth.drift[:, None, None] * background
    movie *= truth.light[:, None, None]
    return movie, truth


def _drawn(objects: Objects, traces: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Sum the light of all objects, (T, H, W)."""
    movie = np.zeros((traces.shape[1], *shape), np.float32)
    for index, trace in enumerate(traces):
        for frame, brightness in enumerate(trace):
            area, light = objects.patch(index, frame, shape)
            movie[frame][area] += brightness * light
    return movie


def _cell_picture(radius: float, rng: np.random.Generator) -> FloatArray:
    """Body with a wavy outline, a nucleus and granules, square with odd edges, zero at the border."""
    middle = int(np.ceil(1.5 * radius)) + 3
    y, x = np.mgrid[-middle : middle + 1, -middle : middle + 1].astype(np.float32)
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    outline = np.full(angle.shape, radius)
    for order in (2, 3, 4, 5):
        outline *= 1 + rng.normal(0, 0.12 / np.sqrt(order)) * np.cos(
            order * angle + rng.uniform(0, 2 * np.pi)
        )
    outline = outline.clip(0.5 * radius, 1.4 * radius)
    body = 1 / (1 + np.exp(((distance - outline) / rng.uniform(0.4, 0.9)).clip(-30, 30)))
    nucleus = rng.normal(0, 0.15 * radius, 2)
    inside = np.hypot(y - nucleus[0], x - nucleus[1]) - radius * rng.uniform(0.35, 0.55)
    body *= 1 - rng.uniform(-0.6, 0.8) / (1 + np.exp((inside / 0.5).clip(-30, 30)))
    texture = 1 + 0.25 * blurred_noise(body.shape, rng.uniform(0.8, 2.0), rng)
    body *= texture.clip(0.2)
    for _ in range(int(rng.poisson(4))):
        at = rng.normal(0, 0.45 * radius, 2)
        body += rng.uniform(0.3, 1.5) * np.exp(-0.5 * ((y - at[0]) ** 2 + (x - at[1]) ** 2) / 0.8)
    body[distance > middle - 1] = 0
    reach = int(np.ceil(distance[body > 1e-3 * body.max()].max())) + 1
    cut = slice(middle - reach, middle + reach + 1) if reach < middle else slice(None)
    return np.asarray(body[cut, cut], np.float32)


def _stretched(heading: npt.NDArray[np.float64], stretch: npt.NDArray[np.float64]) -> FloatArray:
    """Matrices (..., 2, 2) that stretch a body along `heading` without turning it, area kept."""
    sine, cosine = np.sin(heading), np.cos(heading)
    along, aside = np.exp(stretch), np.exp(-stretch)
    yy, xx = along * sine**2 + aside * cosine**2, along * cosine**2 + aside * sine**2
    yx = (along - aside) * sine * cosine
    return np.stack([yy, yx, yx, xx], axis=-1).reshape(*yy.shape, 2, 2).astype(np.float32)


def _wander(count: int, frames: int, constant: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Smooth noise (count, T) with standard deviation one, stationary, turning within `constant` frames."""
    reach = int(4 * constant)
    noise = rng.standard_normal((count, frames + 2 * reach))
    smooth = ndimage.gaussian_filter1d(noise, constant, axis=1)[:, reach : reach + frames]
    return np.asarray(smooth * np.sqrt(2 * np.sqrt(np.pi) * constant))


def _runs(count: int, frames: int, share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return (count, T), true while a particle is on a directed run, in bouts of 15 frames or so."""
    bouts = rng.random((count, frames // 15 + 2)) < share
    late = rng.integers(0, 15, count)
    return np.stack([np.repeat(b, 15)[s : s + frames] for b, s in zip(bouts, late, strict=True)])


def _reflected(paths: npt.NDArray[np.float64], shape: tuple[int, int]) -> FloatArray:
    """Turn paths back at the borders."""
    size = np.asarray(shape, float)
    return np.asarray(size - np.abs(np.mod(paths, 2 * size) - size), np.float32)


def _inverse(pose: FloatArray) -> FloatArray:
    """Inverse of a matrix (2, 2); quicker than the general one."""
    (a, b), (c, d) = pose
    return np.asarray(np.asarray([[d, -b], [-c, a]]) / (a * d - b * c), np.float32)


def _area(centre: FloatArray, reach: float, shape: tuple[int, int]) -> Area:
    """Pixels within `reach` of a point, cut at the borders; one pixel of the border if none is."""
    y, x = float(centre[0]), float(centre[1])
    top, left = max(math.floor(y - reach), 0), max(math.floor(x - reach), 0)
    bottom, right = min(math.ceil(y + reach), shape[0] - 1), min(math.ceil(x + reach), shape[1] - 1)
    return slice(min(top, shape[0] - 1), max(bottom, 0) + 1), slice(
        min(left, shape[1] - 1), max(right, 0) + 1
    )
