"""The backend `cuda`: our own kernels, beside the processor's picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import Plan
from .pushes import difference, measure_pushes


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield latency, rate, kernels and the distance from the processor's picture for each bundle that it runs."""
    from denoscope.runtime.backends.own_kernels import OwnKernels

    backend_class: Any = OwnKernels
    if plan.dry:
        from support.gpu_on_host import KernelsOnHost

        backend_class = KernelsOnHost
    for name in ("live-fast",) if plan.dry else ("live", "live-fast"):
        _, expected = measure_pushes(name, "onnxruntime-cpu", Plan(dry=True, edge=plan.size))
        for ahead in (False, True):
            with backend_class() as backend:
                row, picture = measure_pushes(name, backend, plan, kernels=not ahead, ahead=ahead)
            count = min(len(picture), len(expected))
            row["rms_difference_sigma"] = difference(picture[:count], expected[:count], plan)
            yield {"bundle": name, **row}
