"""Describe the GPU and its driver, and measure the rates that limit everything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import Plan


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the rates of copies inside the GPU's memory and of a half-precision matrix product."""
    import torch

    if plan.dry:
        yield {"what": "no GPU", "torch": torch.__version__}
        return
    from .torch_network import seconds_on_gpu

    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    copy_s = seconds_on_gpu(lambda: target.copy_(source), 20)
    yield {"what": "copy in GPU memory", "bytes_per_s": 2 * source.nbytes / copy_s}
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    product_s = seconds_on_gpu(lambda: a @ b, 20)
    yield {"what": "8192 x 8192 matrix product, float16", "flop_per_s": 2 * 8192**3 / product_s}
