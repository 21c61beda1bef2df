"""Sampling between pixels at one displacement for a whole frame, in slices and sums that every backend has.

A frame that was aligned by whole pixels still lies a fraction of a pixel, its *rest*, off the scene:
``frame(p + rest) = scene(p)``, rows then columns, each within half a pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["sample_features", "sample_frame"]


def sample_frame(frame: Tensor, by: Tensor) -> Tensor:
    """Sample (B, C, H, W) at p + by, bicubic (Keys 1981), the border repeated.

    Parameters
    ----------
    frame
        Channels are independent pictures.
    by
        (B, 2) rows and columns, in pixels, each within -1 to 1.
    """
    return _sample(frame, by, 2, _cubic)


def sample_features(features: Tensor, by: Tensor) -> Tensor:
    """Sample (B, C, h, w) at p + by, bilinear, the border repeated; see `sample_frame`."""
    return _sample(features, by, 1, _linear)


def _sample(x: Tensor, by: Tensor, reach: int, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum slices of the padded picture, weighted by a kernel of how far each is away, along rows, then columns."""
    height, width = x.shape[-2:]
    steps = torch.arange(-reach, reach + 1, dtype=by.dtype, device=by.device)
    weights = kernel(by[:, :, None, None, None, None] - steps[:, None, None, None])
    rows, columns = (each.unbind(1) for each in weights.unbind(1))
    padded = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = padded[:, :, :height] * rows[0]
    for k, weight in enumerate(rows[1:], start=1):
        x = x + padded[:, :, k : k + height] * weight
    moved = x[:, :, :, :width] * columns[0]
    for k, weight in enumerate(columns[1:], start=1):
        moved = moved + x[:, :, :, k : k + width] * weight
    return moved


def _linear(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp_min(0)


def _cubic(distance: Tensor) -> Tensor:
    """Weight of a sample at a distance of up to two pixels and more, with the parameter -1/2."""
    d = distance.abs()
    near = (1.5 * d - 2.5) * d * d + 1
    d = d.clamp(1.0, 2.0)
    far = ((2.5 - 0.5 * d) * d - 4) * d + 2
    return torch.where(distance.abs() <= 1, near, far)
