"""The arithmetic that a training on a clock uses where nobody chose one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from denoscope.train.fit_settings import Precision

__all__ = ["automatic_precision"]

# Without one of these a processor emulates bfloat16, many times slower.
_COMPUTED = ("avx512_bf16", "amx_bf16")


def automatic_precision() -> Precision:
    """Return `bf16-mixed` on a processor that computes in bfloat16, where a step takes about half as long, else `32`.

    On a GPU it is `32`: steps of these networks are too small there for it to be known which is faster.
    """
    if torch.cuda.is_available() or not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        return "32"
    found = torch.cpu.get_capabilities()
    return "bf16-mixed" if any(found.get(name, False) for name in _COMPUTED) else "32"
