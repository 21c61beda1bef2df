"""Parts of the `live` network: what never sees the centre cell, and what sees the frame after that."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from denoscope.train.data.sampling import CELL

__all__ = ["BlindView", "RingConvolution", "SecondStage"]

_MOST_DOUBTS = 16  # channels that tell how far the deviation is off


class RingConvolution(nn.Module):
    """3 x 3 convolution over cells that never sees the centre cell.

    The kernel is multiplied by a mask, so the influence of what is hidden is exactly zero.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, blind_spot: str) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        mask = torch.ones(1, 1, 3, 3)
        mask[..., 1, 1] = 0
        if blind_spot == "row" or (blind_spot == "bleed" and dilation == 1):
            mask[..., 1, :] = 0
        if blind_spot == "neighbours" and dilation == 1:
            mask[...] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask
        assert isinstance(mask, Tensor)
        return functional.conv2d(x, self.weight * mask, padding=self.dilation, dilation=self.dilation)


class BlindView(nn.Module):
    """Several convolutions over the current frame that together never see the centre cell.

    The first is a ring; the others are dilated by two of its steps, so whatever they add up to stays
    an odd number of steps away from the centre along a row or a column (Wu et al. 2020).
    """

    def __init__(self, inputs: int, trunk: int, width: int, depth: int, blind_spot: str) -> None:
        super().__init__()
        step = 3 if blind_spot == "neighbours" else 1  # that spot hides all cells one step away
        self.ring = RingConvolution(inputs, width, step, blind_spot)
        self.context = nn.Conv2d(trunk, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=2 * step, dilation=2 * step) for _ in range(depth)
        )

    def forward(self, residual: Tensor, trunk: Tensor) -> Tensor:
        x = functional.relu(self.ring(residual) + self.context(trunk))
        for layer in self.layers:
            x = functional.relu(layer(x))
        return x


class SecondStage(nn.Module):
    """Second stage: a correction of the posterior mean by the measured frame around each pixel.

    The posterior of the first stage joins every pixel with its own measurement only; the noisy pixels
    around it, those of its own cell first, know more about an event that no other frame shows.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.seen = nn.Conv2d(4 * CELL, width, 3, padding=1)
        self.context = nn.Conv2d(hidden, width, 1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.correct = nn.Conv2d(width, CELL, 3, padding=1)
        doubts = min(width, _MOST_DOUBTS)
        self.doubt_seen = nn.Conv2d(4 * CELL, doubts, 3, padding=1)
        self.doubt_context = nn.Conv2d(hidden, doubts, 1)
        self.doubt = nn.Sequential(
            nn.Conv2d(doubts, doubts, 3, padding=1), nn.ReLU(), nn.Conv2d(doubts, CELL, 1)
        )
        for last in (self.correct, self.doubt[-1]):  # begins as the first stage alone
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the correction of the mean and of the logarithm of its deviation."""
        x = functional.relu(self.seen(seen) + self.context(hidden))
        correction = self.correct(functional.relu(self.middle(x)))
        doubt = functional.relu(self.doubt_seen(seen.detach()) + self.doubt_context(hidden.detach()))
        return correction, self.doubt(doubt)
