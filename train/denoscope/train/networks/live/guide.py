"""Flows of neighbouring frames composed to the centre of a window, and warping along them.

A flow (B, 2, h, w), rows then columns in pixels of the full frame, leads from frame a to frame b:
``a(p + flow(p)) = b(p)``. It may be given on a coarser grid than the frame, as `motion` returns it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from denoscope.train.flow.warp import warp

__all__ = ["lead_to_centre", "resize_flow"]

_INVERSION_STEPS = 2


def lead_to_centre(flows: Sequence[Tensor], centre: int, pixels: int) -> list[Tensor]:
    """Compose neighbouring flows to displacements from every frame of a window to its centre.

    Parameters
    ----------
    flows
        N - 1 tensors (B, 2, h, w); number i leads from frame i to frame i + 1, in pixels.
    centre
        Index of the centre.
    pixels
        Pixels in one step of the flows' grid.

    Returns
    -------
    list of Tensor
        N displacements (B, 2, h, w) in pixels on the centre's grid: ``frame_i(p + d_i(p)) = centre(p)``.
        Towards later frames each flow is inverted first, by fixed-point iteration.
    """
    batch, later = len(flows[0]), len(flows) - centre
    leads = [torch.zeros_like(flows[0])] * (len(flows) + 1)
    for i in range(centre - 1, -1, -1):
        onward = flows[i] if i == centre - 1 else warp(flows[i], leads[i + 1] / pixels)
        leads[i] = leads[i + 1] + onward
    if later:
        # All at once: sampling is what costs, in time and in the size of an exported graph.
        forward = torch.cat(list(flows[centre:]))
        backward = -forward
        for _ in range(_INVERSION_STEPS):
            backward = -warp(forward, backward / pixels)
        for i in range(later):
            step = backward[i * batch : (i + 1) * batch]
            onward = step if i == 0 else warp(step, leads[centre + i] / pixels)
            leads[centre + i + 1] = leads[centre + i] + onward
    return leads


def resize_flow(flow: Tensor, scale: float) -> Tensor:
    """Put a flow on a grid `scale` times as fine; its values stay pixels of the full frame."""
    return functional.interpolate(flow, scale_factor=scale, mode="bilinear", align_corners=False)
