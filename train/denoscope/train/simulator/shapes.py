"""Images (H, W) of what tissue is made of: somata, processes, puncta, neuropil, vessels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["blurred_noise", "disc", "neuropil", "path", "process", "punctum", "soma", "vessels"]

FloatArray = npt.NDArray[np.float32]


def blurred_noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> FloatArray:
    """Return an image (H, W) of smooth noise with unit deviation."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(noise / (noise.std() + 1e-9), np.float32)


def neuropil(shape: tuple[int, int], contrast: float, rng: np.random.Generator) -> FloatArray:
    """Multi-scale log-normal texture with mean near one."""
    scales = np.exp(rng.uniform(np.log(0.8), np.log(min(shape) / 4), size=5))
    weights = scales ** rng.uniform(0.1, 0.8)
    field = sum(w * blurred_noise(shape, s, rng) for w, s in zip(weights, scales, strict=True))
    field = np.asarray(field) / np.asarray(field).std()
    return np.asarray(np.exp(contrast * 0.5 * field), np.float32)


def vessels(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Transmission (H, W): low in the shadow of vessels, one elsewhere."""
    shade = np.ones(shape, np.float32)
    for _ in range(rng.integers(0, 4)):
        walk = path(shape, rng, length=int(1.5 * max(shape)), wander=0.08)
        mask = np.zeros(shape, np.float32)
        mask[walk[:, 0], walk[:, 1]] = 1
        outside = (ndimage.distance_transform_edt(1 - mask) - rng.uniform(1.5, 6.0)) / 1.2
        shade *= 1 - rng.uniform(0.4, 0.95) / (1 + np.exp(np.clip(outside, -30, 30))).astype(np.float32)
    for _ in range(rng.poisson(shape[0] * shape[1] / 3000)):  # nuclei of unlabelled cells
        shade *= 1 - rng.uniform(0.2, 0.7) * disc(shape, rng.uniform((0, 0), shape), rng.uniform(2, 7), 1.0)
    return shade


def disc(
    shape: tuple[int, int],
    centre: npt.ArrayLike,
    radius: float,
    edge: float,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> FloatArray:
    """Soft ellipse (H, W) in 0..1."""
    cy, cx = np.asarray(centre, float)
    y, x = np.ogrid[: shape[0], : shape[1]]
    dy, dx = y - cy, x - cx
    u = (np.cos(angle) * dx + np.sin(angle) * dy) * stretch
    v = (-np.sin(angle) * dx + np.cos(angle) * dy) / stretch
    distance = np.sqrt(u * u + v * v)
    return np.asarray(1 / (1 + np.exp(np.clip((distance - radius) / (0.4 * edge), -30, 30))), np.float32)


def soma(
    shape: tuple[int, int], centre: npt.ArrayLike, mean_radius: float, rng: np.random.Generator
) -> FloatArray:
    """Ring (nucleus-excluded GCaMP) or filled body, with texture, (H, W)."""
    radius = mean_radius * rng.uniform(0.7, 1.3)
    stretch, angle = rng.uniform(0.8, 1.25), rng.uniform(0, np.pi)
    edge = rng.uniform(0.7, 1.6)
    body = disc(shape, centre, radius, edge, stretch, angle)
    if rng.random() < 0.75:
        nucleus = np.asarray(centre) + rng.normal(0, 0.08 * radius, 2)
        body = body * (1 - rng.uniform(0.5, 1.0) * disc(shape, nucleus, 0.6 * radius, edge, stretch, angle))
    texture = 1 + 0.25 * blurred_noise(shape, 1.2, rng)
    brightness = np.exp(rng.normal(0.3, 0.7))
    return np.asarray(body * texture.clip(0.2) * brightness, np.float32)


def process(shape: tuple[int, int], soma_radius: float, rng: np.random.Generator) -> FloatArray:
    """Thin winding process, (H, W)."""
    walk = path(shape, rng, length=int(rng.uniform(2, 12) * soma_radius) + 4, wander=0.25)
    image = np.zeros(shape)
    image[walk[:, 0], walk[:, 1]] = 1.0
    width = rng.uniform(0.5, 1.3)
    return np.asarray(
        ndimage.gaussian_filter(image, width) * width * 2.5 * np.exp(rng.normal(-0.7, 0.6)), np.float32
    )


def punctum(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Return an image (H, W) of one punctum somewhere."""
    centre = rng.uniform((0, 0), shape)
    return disc(shape, centre, rng.uniform(0.6, 1.8), 0.8) * np.float32(np.exp(rng.normal(0.3, 0.8)))


def path(
    shape: tuple[int, int], rng: np.random.Generator, *, length: int, wander: float
) -> npt.NDArray[np.intp]:
    """Pixels (n, 2) of a random smooth walk inside the frame."""
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, wander, length))
    steps = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    points = np.rint(rng.uniform((0, 0), shape) + np.cumsum(steps, axis=0)).astype(np.intp)
    inside = ((points >= 0) & (points < np.asarray(shape))).all(axis=1)
    return points[inside] if inside.any() else np.asarray([[0, 0]], np.intp)
