"""Sampling features and long memory at places given at the knots of a coarse grid, as the graphs `align` and `recall`.

Places (B, 2, KNOTS, KNOTS), columns first, are counted from -1 at one edge of the picture to 1 at the other; see
`denoscope.runtime.motion.field`. The weights that spread them over the picture's pixels are arguments: two products
with them cost a tenth of enlarging the grid with a general operator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from denoscope.runtime.motion import field as _field

__all__ = ["CELL", "align_features", "on_the_scene", "recall_memory", "sample_frames", "spreading"]

CELL = 4  # pixels in a cell, the block of 2 x 2 pixels that is one place at half resolution

_EDGE = 2  # pixels of a cell's edge
_AT_ONCE = 64  # frames


def spreading(
    shape: tuple[int, int], padded: tuple[int, int] | None = None, corner: tuple[int, int] = (0, 0)
) -> tuple[Tensor, Tensor]:
    """Return the weights (1, 1, H, KNOTS) and (1, 1, KNOTS, W) that spread knots over a picture of (H, W) pixels.

    Parameters
    ----------
    shape
        What the knots lie over.
    padded
        The picture with its padding at the end; the same when None.
    corner
        Where its corner lies on what the knots lie over.
    """
    rows, columns = (
        torch.from_numpy(weights) for weights in _field.spreading(shape, padded or shape, corner)
    )
    return rows[None, None], columns[None, None].contiguous()


def align_features(features: Tensor, places: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample features (B, F, H/2, W/2): the frame bicubically, the learned channels bilinearly, borders repeated.

    The frame was measured, so it has no gradient: it would take a sixteenth of a training step.
    """
    cells = features[:, :CELL].detach()
    frame = sample_frames(functional.pixel_shuffle(cells, _EDGE), places, rows, columns)
    at_cells = _spread(places, _halved(rows, 2), _halved(columns, 3))
    learned = functional.grid_sample(
        features[:, CELL:], at_cells, mode="bilinear", padding_mode="border", align_corners=False
    )
    return torch.cat([functional.pixel_unshuffle(frame, _EDGE), learned], dim=1)


def recall_memory(memory: Tensor, places: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample the long memory (B, M, H/2, W/2), whose channels are the cells of pictures."""
    pictures = sample_frames(functional.pixel_shuffle(memory, _EDGE), places, rows, columns)
    return functional.pixel_unshuffle(pictures, _EDGE)


def sample_frames(frames: Tensor, places: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample pictures (B, C, H, W), bicubically (Keys 1981, parameter -3/4), borders repeated."""
    at = _spread(places, rows, columns)
    return functional.grid_sample(frames, at, mode="bicubic", padding_mode="border", align_corners=False)


def _spread(places: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the places of all pixels, (B, H, W, 2)."""
    return torch.matmul(torch.matmul(rows, places), columns).permute(0, 2, 3, 1)


def _halved(weights: Tensor, axis: int) -> Tensor:
    """Return the weights of cells: a cell's centre lies between its pixels."""
    if axis == 2:
        return (weights[:, :, 0::2] + weights[:, :, 1::2]) / 2
    return (weights[..., 0::2] + weights[..., 1::2]) / 2


def on_the_scene(frames: npt.NDArray[Any], fields: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return aligned frames (T, h, w), sampled where the scene's pixels are."""
    moved = np.empty(frames.shape, np.float32)
    shape = (frames.shape[1], frames.shape[2])
    weights = spreading(shape)
    for start in range(0, len(frames), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        pictures = torch.from_numpy(np.asarray(frames[part], np.float32))[:, None]
        at = torch.from_numpy(np.concatenate([_field.places(each, shape, shape) for each in fields[part]]))
        moved[part] = sample_frames(pictures, at, *weights)[:, 0].numpy()
    return moved
