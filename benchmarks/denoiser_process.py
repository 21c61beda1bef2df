"""Measure what it costs to denoise in a separate process: start, and milliseconds a frame.

    python benchmarks/denoiser_process.py [--frames N] [--size N]... [--output FILE.json]

The same bundle, which does almost nothing, is pushed the same frames in this process and in one of its own,
in turns. On a busy machine the median holds waiting for a processor; the tenth percentile hardly does.
`processor_ms` is what both processes together compute for one frame beyond what this one alone would.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition", "tests")]

from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser  # noqa: E402
from denoscope.acquisition.denoisers.remote import RemoteDenoiser  # noqa: E402
from denoscope.runtime import FrameMeta  # noqa: E402
from support.tiny_bundle import tiny_bundle  # noqa: E402

WARM = 60
PAUSE_S = 0.01  # as a camera lets a denoiser rest; one that never rests waits for a processor at every turn


def measure(bundle: Path, size: int, frames: int) -> dict[str, Any]:
    """Return seconds to open and per frame, here and there."""
    request = DenoiserRequest(str(bundle), threads=1)
    denoisers: dict[str, Any] = {}
    opened = {}
    # This process has imported everything by then, as the session's would not have without the other.
    for name, make in (("thread", LocalDenoiser), ("process", RemoteDenoiser)):
        began_s = time.perf_counter()
        denoisers[name] = make(request)
        denoisers[name].prepare((size, size), np.uint16, 1)
        opened[name] = time.perf_counter() - began_s
    pool = np.random.default_rng(0).poisson(100, (8, size, size)).astype(np.uint16)
    took: dict[str, list[float]] = {name: [] for name in denoisers}
    spent = dict.fromkeys(denoisers, 0.0)
    child = psutil.Process(denoisers["process"].pid)
    for number in range(frames + WARM):
        for name, denoiser in denoisers.items():
            time.sleep(PAUSE_S)
            before = time.process_time() + sum(child.cpu_times()[:2])
            began_s = time.perf_counter()
            denoiser.push(pool[number % 8], FrameMeta(number=number, t_received_s=began_s))
            took[name].append(time.perf_counter() - began_s)
            if number >= WARM:
                spent[name] += time.process_time() + sum(child.cpu_times()[:2]) - before
    for denoiser in denoisers.values():
        denoiser.close()
    times = {name: np.array(values[WARM:]) * 1e3 for name, values in took.items()}
    quantiles = {
        f"{name}_{label}_ms": round(float(np.percentile(values, percent)), 3)
        for name, values in times.items()
        for label, percent in (("p10", 10), ("p50", 50))
    }
    return {
        "size": size,
        **{f"{name}_open_s": round(seconds, 2) for name, seconds in opened.items()},
        **quantiles,
        "added_p10_ms": round(quantiles["process_p10_ms"] - quantiles["thread_p10_ms"], 3),
        "added_p50_ms": round(quantiles["process_p50_ms"] - quantiles["thread_p50_ms"], 3),
        "processor_ms": round((spent["process"] - spent["thread"]) / frames * 1e3, 3),
    }


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "tiny.denoscope"
        tiny_bundle(bundle, intensity=None, calibration_frames=8)
        results = [
            measure(bundle, size, arguments.frames) for size in arguments.size or (256, 512, 1024, 2048)
        ]
    names = list(results[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for result in results:
        print("| " + " | ".join(str(result[name]) for name in names) + " |")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
