"""Stand-in for a flow network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Drift"]


class Drift(nn.Module):
    """A smooth flow of up to two pixels that depends on both frames and on the noise."""

    def forward(self, a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
        """Return (B, 2, H/4, W/4) in pixels."""
        before, after = (functional.avg_pool2d(x, 4) for x in (a, b))
        return (
            2
            * torch.tanh(torch.cat([before - after, before + after], 1))
            * (1 + noise.reshape(-1, 2)[:, 0].view(-1, 1, 1, 1))
        )
