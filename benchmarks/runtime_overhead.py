"""Measure what the runtime itself costs: per frame, everything but the backend's runs, and its import.

    python benchmarks/runtime_overhead.py [--frames N] [--backend NAME] [--dtype NAME] [--json]
    python benchmarks/runtime_overhead.py --leak [--frames 100000] [--size 64] [--json]

The backend runs a bundle that does almost nothing, so that its time does not disturb the rest. The
numbers are microseconds of the calling thread per frame: way of the frame to the backend's memory and
back, conversion where the backend does not do it, the ring, and all calls in between. The whole push
stands beside it, since work that moved into the graphs is not gone. The last lines are the time to
import `denoscope.runtime` in a fresh process, and which heavy modules came with it.

With `--leak` a long movie is played instead: resident memory over the frames (least-squares slope), what
Python's allocator holds in this package's files before and after, and the most that one push allocates
beside the frame that it returns.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("runtime", "tests")]

from _provenance import provenance  # noqa: E402

from denoscope.runtime import FrameMeta, Stream  # noqa: E402
from support.tiny_bundle import tiny_bundle  # noqa: E402

SIZES = (256, 512)
WINDOWS = (3, 7, 15)
HEAVY = ("numpy", "pydantic", "onnx", "onnxruntime", "openvino", "safetensors", "torch", "tifffile")
PROBE = """
import json, sys, time
sys.path.insert(0, {path!r})
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
print(json.dumps([seconds, [m for m in {heavy!r} if m in sys.modules]]))
"""
CASES = {
    "import denoscope.runtime": "import denoscope.runtime",
    "from denoscope.runtime import Stream, Bundle": "from denoscope.runtime import Stream, Bundle",
}


def overhead(size: int, window: int, frames: int, backend: str, dtype: str) -> dict[str, float]:
    """Return seconds per frame of the runtime alone, in parts, and of the whole push."""
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 250, (8, size, size)).astype(dtype)
    parts = ("own_s", "normalise_s", "convert_s", "total_s")
    with tempfile.TemporaryDirectory() as folder:
        bundle = tiny_bundle(Path(folder) / "tiny.denoscope", window=window)
        spent = []
        with Stream(bundle, backend, threads=1) as stream:
            stream.prepare((size, size), dtype)
            for number in range(frames + window):
                before = stream.stage_seconds
                stream.push(pool[number % len(pool)], FrameMeta(number, time.perf_counter()))
                after = stream.stage_seconds
                if number >= window:  # the ring is full: each push emits one frame
                    spent.append([getattr(after, part) - getattr(before, part) for part in parts])
    own, into, out, push = np.array(spent).T
    return {
        "own_s": float(np.median(own)),
        "own_p10_s": float(np.quantile(own, 0.1)),
        "own_p99_s": float(np.quantile(own, 0.99)),
        "in_s": float(np.median(into)),
        "out_s": float(np.median(out)),
        "push_s": float(np.median(push)),
    }


def leak(frames: int, size: int, backend: str) -> dict[str, float]:
    """Play a long movie through a bundle with every graph and return what memory did."""
    pool = np.random.default_rng(0).integers(0, 4000, (8, size, size), dtype=np.uint16)
    process, settled = psutil.Process(), frames // 10
    numbers, resident = [], []
    with tempfile.TemporaryDirectory() as folder:
        bundle = tiny_bundle(Path(folder) / "tiny.denoscope", motion=True)
        with Stream(bundle, backend, threads=1) as stream:
            started = time.perf_counter()
            for number in range(frames):
                stream.push(pool[number % len(pool)], FrameMeta(number, 0.0))
                if number >= settled and number % max(1, frames // 200) == 0:
                    numbers.append(number)
                    resident.append(process.memory_info().rss)
            seconds = time.perf_counter() - started
            counters = stream.counters
            traced, peak = _traced(stream, pool, frames)
    slope = float(np.polyfit(numbers, resident, 1)[0])
    return {
        "frames": frames,
        "size_px": size,
        "seconds": seconds,
        "lost": counters.received - counters.emitted - counters.in_flight,
        "rss_first_bytes": resident[0],
        "rss_last_bytes": resident[-1],
        "rss_slope_bytes_per_frame": slope,
        "traced_growth_bytes": traced,
        "traced_frames": _TRACED,
        "peak_beside_output_bytes": peak,
    }


_TRACED = 2000


def _traced(stream: Stream, pool: np.ndarray, first: int) -> tuple[int, int]:
    """Return what this package's files hold more after many frames, and a push's peak beside its output."""
    own = [tracemalloc.Filter(True, str(ROOT / "runtime" / "*"))]
    number, peak = first, 0
    tracemalloc.start()
    snapshots = []
    for turn in range(3):  # the first turn fills what is filled once
        for _ in range(_TRACED):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            outputs = stream.push(pool[number % len(pool)], FrameMeta(number, 0.0))
            if turn:
                given = sum(o.frame.nbytes for o in outputs)
                peak = max(peak, tracemalloc.get_traced_memory()[1] - before - given)
            del outputs
            number += 1
        gc.collect()
        snapshots.append(tracemalloc.take_snapshot().filter_traces(own))
    tracemalloc.stop()
    return sum(s.size_diff for s in snapshots[2].compare_to(snapshots[1], "lineno")), peak


def imports(runs: int = 3) -> dict[str, dict[str, Any]]:
    """Return the fastest of a few fresh imports and the heavy modules each loaded."""
    found = {}
    for name, code in CASES.items():
        probe = PROBE.format(path=str(ROOT / "runtime"), code=code, heavy=HEAVY)
        results = [
            json.loads(subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True).stdout)
            for _ in range(runs)
        ]
        found[name] = {"import_s": min(seconds for seconds, _ in results), "heavy_modules": results[0][1]}
    return found


def main() -> None:
    """Print the tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, help="frames per case (default 200; with --leak 100,000)")
    parser.add_argument("--backend", default="onnxruntime-cpu")
    parser.add_argument("--dtype", default="uint16")
    parser.add_argument("--leak", action="store_true", help="one long movie instead")
    parser.add_argument("--size", type=int, default=64, help="of the long movie's frames (default 64)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.leak:
        result = leak(arguments.frames or 100_000, arguments.size, arguments.backend)
        print(json.dumps(result) if arguments.json else _leak_text(result))
        return
    frames = arguments.frames or 200
    rows = [
        {
            "size_px": size,
            "window": window,
            **overhead(size, window, frames, arguments.backend, arguments.dtype),
        }
        for size in SIZES
        for window in WINDOWS
    ]
    loaded = imports()
    if arguments.json:
        print(
            json.dumps(
                {
                    "provenance": provenance(),
                    "backend": arguments.backend,
                    "dtype": arguments.dtype,
                    "cores": os.cpu_count(),
                    "overhead": rows,
                    "imports": loaded,
                }
            )
        )
        return
    print(
        f"runtime's own cost per frame in microseconds, {arguments.dtype}, backend {arguments.backend}, "
        f"{frames} frames a case; p10 is what a quiet moment costs"
    )
    print(
        f"{'size':>9} {'window':>6} {'p10':>6} {'median':>7} {'p99':>7} {'in':>6} {'out':>6} {'whole push':>11}"
    )
    for r in rows:
        columns = (
            ("own_p10_s", 6),
            ("own_s", 7),
            ("own_p99_s", 7),
            ("in_s", 6),
            ("out_s", 6),
            ("push_s", 11),
        )
        numbers = " ".join(f"{r[name] * 1e6:{width}.0f}" for name, width in columns)
        print(f"{r['size_px']:4d}x{r['size_px']:<4d} {r['window']:6d} {numbers}")
    for name, r in loaded.items():
        print(
            f"{name}: {r['import_s'] * 1e3:.0f} ms, heavy modules: {', '.join(r['heavy_modules']) or 'none'}"
        )


def _leak_text(r: dict[str, float]) -> str:
    return (
        f"{r['frames']:,} frames of {r['size_px']} x {r['size_px']} in {r['seconds']:.0f} s, {r['lost']} lost\n"
        f"resident memory {r['rss_first_bytes'] / 1e6:.1f} MB after the first tenth, "
        f"{r['rss_last_bytes'] / 1e6:.1f} MB at the end, slope {r['rss_slope_bytes_per_frame']:.3f} bytes a frame\n"
        f"this package's files hold {r['traced_growth_bytes']} bytes more after another {r['traced_frames']} "
        f"frames; a push allocates at most {r['peak_beside_output_bytes']} bytes beside the frame it returns"
    )


if __name__ == "__main__":
    main()
