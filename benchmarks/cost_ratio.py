"""Cost of one denoised frame beside one 64 -> 64 3 x 3 float32 torch convolution at 256 x 256, in one run.

    python benchmarks/cost_ratio.py [--bundle live] [--size 256] [--output FILE.json]

A frame of a movie that holds still, and of one whose scene is followed. The unit is measured before and after each
backend and its best is used, so that a busy machine shows in both.
Published networks cost between 1 and 350 units a frame (docs/results/speed.md).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _provenance import write_results

from denoscope.runtime import Bundle, FrameMeta, Stream, choose_backend, list_backends

WARM_UP = 120  # frames: the calibration and the work it puts off are over by then


def best_of(call: Callable[[], object], repeats: int) -> float:
    """Return the least of several timings in seconds."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def units(threads: int) -> dict[str, float]:
    """Return the unit's seconds in torch's default layout and in channels_last."""
    torch.set_num_threads(threads)
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1)
    image = torch.randn(1, 64, 256, 256)
    with torch.inference_mode():
        plain = best_of(lambda: convolution(image), 15)
        convolution = convolution.to(memory_format=torch.channels_last)
        image = image.to(memory_format=torch.channels_last)
        return {"contiguous_s": plain, "channels_last_s": best_of(lambda: convolution(image), 15)}


def frame_seconds(
    bundle: Bundle, backend: str, size: int, threads: int, frames: int, *, follow: bool = False
) -> dict[str, float]:
    """Return the least seconds of one `push` that gives an output, and the stages' means."""
    rng = np.random.default_rng(0)
    movie = rng.poisson(20, (48, size, size)).astype(np.uint16)
    with Stream(bundle, backend=backend, threads=threads, align=follow) as stream:
        for number in range(WARM_UP):
            stream.push(movie[number % 48], FrameMeta(number=number, t_received_s=0.0))
        before, times = stream.stage_seconds, []
        for number in range(WARM_UP, WARM_UP + frames):
            started = time.perf_counter()
            outputs = stream.push(movie[number % 48], FrameMeta(number=number, t_received_s=0.0))
            times.append(time.perf_counter() - started)
            assert len(outputs) == 1
        after = stream.stage_seconds
    stages = {
        n: (getattr(after, n) - getattr(before, n)) / frames
        for n in ("align_s", "encode_s", "motion_s", "fuse_s", "remember_s", "own_s")
    }
    return {"frame_s": min(times), "frame_median_s": float(np.median(times)), **stages}


def main() -> None:
    """Measure every backend that runs here and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="live")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    unit = units(arguments.threads)
    rows: dict[str, dict[str, Any]] = {}
    for name in list_backends():
        try:
            choose_backend(name)
        except RuntimeError as error:
            print(f"{name}: not here ({error})")
            continue
        still, followed = (
            frame_seconds(bundle, name, arguments.size, arguments.threads, arguments.frames, follow=follow)
            for follow in (False, True)
        )
        rows[name] = still | {"followed": followed}
        unit = {k: min(v, unit[k]) for k, v in units(arguments.threads).items()}
    print(
        f"{arguments.size} x {arguments.size}, {arguments.threads} threads; one 64 -> 64 3 x 3 convolution "
        f"at 256 x 256: {unit['contiguous_s'] * 1e3:.1f} ms (torch default layout), "
        f"{unit['channels_last_s'] * 1e3:.1f} ms (channels_last)"
    )
    for name, row in rows.items():
        print(
            f"{name:18s} {row['frame_s'] * 1e3:6.1f} ms a frame (median {row['frame_median_s'] * 1e3:.1f}; encode "
            f"{row['encode_s'] * 1e3:.1f}, fuse {row['fuse_s'] * 1e3:.1f}, remember {row['remember_s'] * 1e3:.2f}, "
            f"runtime's own {row['own_s'] * 1e3:.2f}): ratio {row['frame_s'] / unit['contiguous_s']:.2f} "
            f"({row['frame_s'] / unit['channels_last_s']:.2f} against channels_last); where the scene is followed "
            f"{row['followed']['frame_s'] / unit['contiguous_s']:.2f}"
        )
    if arguments.output:
        report = {
            "bundle": bundle.manifest.name,
            "bundle_sha256": bundle.digest,
            "size": arguments.size,
            "threads": arguments.threads,
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "unit": unit,
            "backends": rows,
        }
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_results(arguments.output, report, [bundle], indent=2)


if __name__ == "__main__":
    main()
