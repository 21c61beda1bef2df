"""What the runtime itself costs: per frame, everything but the backend's runs, and its import.

    python benchmarks/runtime_overhead.py [--frames N] [--backend NAME] [--json]

The backend runs a bundle that does almost nothing, so that its time does not disturb the rest. The
numbers are milliseconds of the calling thread per frame: conversion and padding of the frame, the
ring, conversion of the output to uint16, and all calls in between. The last lines are the time to
import `denoscope.runtime` in a fresh process, and which heavy modules came with it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("runtime", "tests")]

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


def overhead(size: int, window: int, frames: int, backend: str) -> dict[str, float]:
    """Return seconds per frame of the runtime alone and of the whole push."""
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 4000, (8, size, size), dtype=np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        bundle = tiny_bundle(Path(folder) / "tiny.denoscope", window=window)
        own, whole = [], []
        with Stream(bundle, backend, threads=1) as stream:
            stream.prepare((size, size))
            for number in range(frames + window):
                before = stream.stage_seconds
                stream.push(pool[number % len(pool)], FrameMeta(number, time.perf_counter()))
                after = stream.stage_seconds
                if number >= window:  # the ring is full: each push emits one frame
                    own.append(after.own_s - before.own_s)
                    whole.append(after.total_s - before.total_s)
    return {
        "own_s": float(np.median(own)),
        "own_p99_s": float(np.quantile(own, 0.99)),
        "push_s": float(np.median(whole)),
    }


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
    """Print both tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200, help="frames per case (default 200)")
    parser.add_argument("--backend", default="onnxruntime-cpu")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        {"size_px": size, "window": window, **overhead(size, window, arguments.frames, arguments.backend)}
        for size in SIZES
        for window in WINDOWS
    ]
    loaded = imports()
    if arguments.json:
        print(
            json.dumps(
                {"backend": arguments.backend, "cores": os.cpu_count(), "overhead": rows, "imports": loaded}
            )
        )
        return
    print(
        f"runtime's own cost per frame, uint16, backend {arguments.backend}, {arguments.frames} frames a case"
    )
    print(f"{'size':>9} {'window':>6} {'median ms':>10} {'p99 ms':>8} {'whole push ms':>14}")
    for r in rows:
        numbers = f"{r['own_s'] * 1e3:10.3f} {r['own_p99_s'] * 1e3:8.3f} {r['push_s'] * 1e3:14.3f}"
        print(f"{r['size_px']:4d}x{r['size_px']:<4d} {r['window']:6d} {numbers}")
    for name, r in loaded.items():
        print(
            f"{name}: {r['import_s'] * 1e3:.0f} ms, heavy modules: {', '.join(r['heavy_modules']) or 'none'}"
        )


if __name__ == "__main__":
    main()
