"""Pairs of noisy frames with known flow, drawn on the fly: what the flow network is trained on.

A still scene is sampled twice: at p for frame a, and at p + flow(p) for frame b, through one random
rotation and magnification, so that both frames are interpolated alike and the flow is exact. Then the
brightness changes a little between the frames, as activity does, and each gets its own noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from denoscope.runtime import InvalidInput
from denoscope.train.simulator.simulate import random_settings, simulate

__all__ = ["FlowPairs", "PairSettings", "draw_pairs", "still_scenes"]

FloatArray = npt.NDArray[np.float32]

_STEEPEST = 0.25  # pixels of local motion per pixel of its correlation length: more would fold the scene


@dataclass(frozen=True)
class PairSettings:
    """Ranges that pairs are drawn from, each spanned evenly in the logarithm.

    Attributes
    ----------
    photons
        Least and largest mean photons a pixel. Averages of K frames are movies of K times the photons.
    motion_px
        Least and largest root-mean-square motion; `still` of the pairs have none.
    length_px
        Least and largest correlation length of local motion.
    still, bleed
        Shares of pairs without motion, and of pairs whose camera bleeds into the next pixel of the row.
    """

    photons: tuple[float, float] = (0.1, 1000.0)
    motion_px: tuple[float, float] = (0.1, 5.0)
    length_px: tuple[float, float] = (8.0, 64.0)
    still: float = 0.1
    bleed: float = 0.3


@dataclass(frozen=True)
class FlowPairs:
    """A batch of pairs.

    Attributes
    ----------
    a, b
        (B, 1, H, W) normalised noisy frames.
    noise
        (B, 2) slope and floor.
    flow
        (B, 2, H, W) in pixels: clean a(p + flow(p)) = clean b(p), but for changes of brightness.
    photons
        (B,) mean photons a pixel.
    """

    a: Tensor
    b: Tensor
    noise: Tensor
    flow: Tensor
    photons: Tensor


def still_scenes(count: int, *, size: int = 192, seed: int) -> Tensor:
    """Return (count, 1, size, size) clean scenes of mean 1: of six, four simulated, a texture, spots.

    Parameters
    ----------
    count, size
        How many and how large.
    seed
        Seed of every choice.
    """
    scenes = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        if index % 6 == 4:
            image = _texture(size, rng)
        elif index % 6 == 5:
            image = _spots_and_threads(size, rng)
        else:
            scene, camera = random_settings(rng, frames=2, height=size, width=size)
            clean = simulate(scene, camera, seed=int(rng.integers(1 << 31))).clean[0]
            image = clean - np.float32(camera.offset)
        scenes.append(np.maximum(image, 0) / max(float(image.mean()), 1e-6))
    return torch.from_numpy(np.stack(scenes).astype(np.float32))[:, None]


def _texture(size: int, rng: np.random.Generator) -> FloatArray:
    """Return a random texture (size, size): blurred noise of two scales, its contrast random."""
    image = np.zeros((size, size))
    for _ in range(2):
        fine = np.exp(rng.uniform(np.log(0.8), np.log(8.0)))
        layer = ndimage.gaussian_filter(rng.standard_normal((size, size)), fine)
        image += rng.uniform(0.2, 1.0) * layer / layer.std()
    return np.asarray(np.exp(rng.uniform(0.2, 1.2) * image / image.std()), np.float32)


def _spots_and_threads(size: int, rng: np.random.Generator) -> FloatArray:
    """Return spots and winding threads on an even background (size, size), as particles and filaments are."""
    image = np.zeros((size, size))
    for length in [1] * int(rng.integers(20, 400)) + [3 * size] * int(rng.integers(0, 12)):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.05, length))
        steps = np.stack([np.sin(heading), np.cos(heading)], 1)
        y, x = (rng.uniform(0, size, 2) + np.cumsum(steps, 0)).astype(int).T % size
        np.add.at(image, (y, x), np.exp(rng.normal(0, 0.7)))
    width = rng.uniform(0.8, 2.5)
    image = ndimage.gaussian_filter(image, width, mode="wrap") * width**2
    return np.asarray(image + np.exp(rng.uniform(np.log(0.01), np.log(0.5))), np.float32)


def draw_pairs(
    scenes: Tensor,
    *,
    batch: int,
    crop: int,
    generator: torch.Generator,
    settings: PairSettings | None = None,
) -> FlowPairs:
    """Draw a batch of pairs.

    Parameters
    ----------
    scenes
        (K, 1, S, S) clean scenes, S at least 1.5 times `crop`.
    batch, crop
        Pairs and their edge in pixels, a multiple of 16.
    generator
        Source of every random choice.
    settings
        Ranges to draw from.

    Raises
    ------
    InvalidInput
        If the crop does not fit.
    """
    s, size = settings or PairSettings(), scenes.shape[-1]
    if crop % 16 or 1.5 * crop > size:
        raise InvalidInput(
            f"Crops of {crop} pixels cannot be drawn from scenes of {size}: take a multiple of 16 up to "
            f"{int(size / 1.5) // 16 * 16}."
        )
    chosen = scenes[torch.randint(len(scenes), (batch,), generator=generator)]
    flow = torch.stack([_random_flow(s, crop, generator) for _ in range(batch)])
    a, b = _sampled_twice(chosen, flow, generator)
    b = b * torch.exp(_brightness_changes(batch, crop, generator))
    photons = _log_uniform(s.photons, batch, generator)
    light = photons.view(-1, 1, 1, 1)
    bleed = 0.1 * _uniform(batch, generator) * (_uniform(batch, generator) < s.bleed)
    spread, read = 0.5 * _uniform(batch, generator), _log_uniform((0.02, 2.0), batch, generator)
    noisy = [_recorded(light * clean, spread, read, bleed, generator) for clean in (a, b)]
    some = (light * a).flatten(1)[:, ::7]
    offset, darkest = some.median(1).values, some.quantile(0.01, 1)
    per_photon = 1 + spread.square()
    # The noise is never known quite exactly.
    scale = (per_photon * offset + read.square()).sqrt() * torch.exp(0.05 * _normal(batch, generator))
    floor = ((per_photon * darkest + read.square()) / scale.square()).clamp(0.02, 1.0)
    noise = torch.stack([per_photon / scale, floor], 1)
    z = [(x - offset.view(-1, 1, 1, 1)) / scale.view(-1, 1, 1, 1) for x in noisy]
    return FlowPairs(a=z[0], b=z[1], noise=noise, flow=flow, photons=photons)


def _random_flow(s: PairSettings, crop: int, generator: torch.Generator) -> Tensor:
    """Return a flow (2, crop, crop): smooth local motion, a shift of the whole, or a mixture."""
    draw = torch.rand(3, generator=generator)
    if draw[0] < s.still:
        return torch.zeros(2, crop, crop)
    length = float(_log_uniform(s.length_px, 1, generator))
    local = _smooth(2, crop, length, generator)
    local = local / local.square().sum(0).mean().sqrt().clamp_min(1e-6)
    angle = 2 * torch.pi * draw[1]
    whole = torch.stack([torch.sin(angle), torch.cos(angle)]).view(2, 1, 1)
    # Half of the pairs move locally only; in the others the frame's own shift takes a random part.
    part = (2 * draw[2] - 1).clamp_min(0)
    rms = _log_uniform(s.motion_px, 1, generator)
    return rms.clamp_max(_STEEPEST * length) * torch.sqrt(1 - part.square()) * local + rms * part * whole


def _smooth(channels: int, crop: int, length: float, generator: torch.Generator) -> Tensor:
    """Return a smooth random field (channels, crop, crop) of the given correlation length: a cubic spline."""
    nodes = int(crop / length) + 5
    sides = []
    for phase in torch.rand(2, generator=generator):
        distance = (torch.arange(crop)[:, None] / length + phase + 1 - torch.arange(nodes)).abs()
        near = 2 / 3 - distance**2 + distance**3 / 2
        sides.append(torch.where(distance < 1, near, (2 - distance).clamp_min(0) ** 3 / 6))
    knots = torch.randn(channels, nodes, nodes, generator=generator)
    return 1.7 * sides[0] @ knots @ sides[1].T  # of about unit size


def _sampled_twice(scenes: Tensor, flow: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample the scenes at p and at p + flow(p), through a random rotation, mirroring and magnification."""
    batch, crop, size = len(scenes), flow.shape[-1], scenes.shape[-1]
    angle = 2 * torch.pi * _uniform(batch, generator)
    zoom = _log_uniform((0.75, 1.33), batch, generator)
    mirror = torch.where(_uniform(batch, generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    turn = torch.stack([torch.stack([cos, -sin * mirror], 1), torch.stack([sin, cos * mirror], 1)], 1)
    slack = (size - 1.1 * crop / zoom.view(-1, 1, 1, 1)).clamp_min(0) / 2
    centre = (size - 1) / 2 + slack * (2 * torch.rand(batch, 2, 1, 1, generator=generator) - 1)
    side = torch.arange(crop) - (crop - 1) / 2
    places = torch.stack(torch.meshgrid(side, side, indexing="ij"))[None]
    frames = []
    for at in (places.expand(batch, -1, -1, -1), places + flow):
        y, x = (torch.einsum("bij,bjhw->bihw", turn, at) + centre).unbind(1)
        grid = torch.stack([(2 * x + 1) / size - 1, (2 * y + 1) / size - 1], -1)
        frames.append(functional.grid_sample(scenes, grid, padding_mode="reflection", align_corners=False))
    return frames[0], frames[1]


def _brightness_changes(batch: int, crop: int, generator: torch.Generator) -> Tensor:
    """Return the logarithm of what activity changes between two frames, (B, 1, crop, crop); often nothing."""
    size = 0.3 * _uniform(batch, generator) * (_uniform(batch, generator) < 0.5)
    fields = torch.stack([_smooth(1, crop, 10.0, generator) for _ in range(batch)])
    return size.view(-1, 1, 1, 1) * fields


def _recorded(
    photons: Tensor, spread: Tensor, read: Tensor, bleed: Tensor, generator: torch.Generator
) -> Tensor:
    """Record expected photons (B, 1, H, W) in units of photons; the other arguments are (B,)."""
    spread, read, bleed = (v.view(-1, 1, 1, 1) for v in (spread, read, bleed))
    counts = torch.poisson(photons, generator=generator)
    counts = counts + spread * counts.sqrt() * torch.randn(counts.shape, generator=generator)
    counts = counts + read * torch.randn(counts.shape, generator=generator)
    before = torch.cat([counts[..., :1], counts[..., :-1]], -1)
    return (1 - bleed) * counts + bleed * before


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator)


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, generator=generator)


def _log_uniform(limits: Sequence[float], count: int, generator: torch.Generator) -> Tensor:
    low, high = np.log(limits[0]), np.log(limits[1])
    return torch.exp(low + (high - low) * _uniform(count, generator))
