"""Pictures sampled along a displacement: the one warp of networks, training and export."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["warp"]


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample a picture at p + flow(p), bilinear, with its border repeated.

    Parameters
    ----------
    x
        (B, C, H, W).
    flow
        (B, 2, H, W), rows then columns, in pixels of `x`.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    height, width = x.shape[-2:]
    rows = torch.arange(height, dtype=flow.dtype, device=x.device).view(-1, 1) + flow[:, 0]
    columns = torch.arange(width, dtype=flow.dtype, device=x.device) + flow[:, 1]
    # Centres of pixels at (2 i + 1) / n - 1: defined for an edge of one pixel too.
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
