"""Frames pushed through the product's stream one after the other: latency, rate and picture."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.bench.scene import make_scene
from denoscope.runtime import Bundle, FrameMeta, Stream

from . import Plan

__all__ = ["difference", "measure_pushes"]

Frames = npt.NDArray[np.float32]


def measure_pushes(
    name: str, backend: Any, plan: Plan, *, kernels: bool = False, ahead: bool = False
) -> tuple[dict[str, Any], Frames]:
    """Return what pushes into a stream of a bundle cost, and its first outputs (T, H, W) in counts.

    Parameters
    ----------
    name
        Of the bundle.
    backend
        Open, or its name.
    plan
        How many frames of which size.
    kernels
        Also list the GPU's kernels of a push, by the time that they take.
    ahead
        Whether the next frame is said to be there already, so that two are under way.
    """
    size = plan.size, plan.size
    scene = make_scene(size)
    started = time.perf_counter()
    with Stream(Bundle.load(name), backend, intensity=scene.intensity, align=False) as stream:
        stream.prepare(size, np.uint16)
        prepared_s = time.perf_counter() - started
        number = iter(range(10**6))

        def push() -> Any:
            i = next(number)
            frame = scene.frames[i % len(scene.frames)]
            return stream.push(frame, FrameMeta(number=i, t_received_s=0.0), ahead=ahead)

        outputs = [output.frame for _ in range(8 if plan.dry else 20) for output in push()]
        before, began = stream.stage_seconds, time.perf_counter()
        seconds = np.empty(plan.repeats)
        for i in range(plan.repeats):
            pushed = time.perf_counter()
            push()
            seconds[i] = time.perf_counter() - pushed
        rate = plan.repeats / (time.perf_counter() - began)
        after = stream.stage_seconds
        stages = ("normalise_s", "encode_s", "motion_s", "fuse_s", "convert_s", "remember_s")
        row: dict[str, Any] = {
            "prepared_s": prepared_s,
            "p50_s": float(np.median(seconds)),
            "p99_s": float(np.quantile(seconds, 0.99)),
            "frames_per_s": rate,
            "stages_mean": {
                key: (getattr(after, key) - getattr(before, key)) / plan.repeats for key in stages
            },
            "ahead": ahead,
            **{key: stream.backend_info.get(key) for key in ("CUDA graphs", "frames", "pictures", "pushes")},
        }
        if kernels and not plan.dry:
            with contextlib.suppress(Exception):  # a profile is a bonus
                from .torch_network import profile_kernels

                row |= profile_kernels(push, longest=40)
    return row, np.stack(outputs).astype(np.float32)


def difference(found: Frames, expected: Frames, plan: Plan) -> float:
    """Return the root mean square difference of two pictures, in units of the noise at the movie's median."""
    scale = make_scene((plan.size, plan.size)).intensity.scale
    return float(np.sqrt(np.mean((found - expected) ** 2)) / scale)
