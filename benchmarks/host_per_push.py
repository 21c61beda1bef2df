"""Measure the host's work for a frame on a GPU: the product's stream on a device whose calls do nothing.

    python benchmarks/host_per_push.py [--size 512] [--frames 2000] [--against CHECKOUT] [--output FILE.json]

The graphs do nothing and the driver's calls are stubs that return at once, so that what is left is the work of the
processor: a copy of the frame into page-locked memory, the ring, the light of the frame, the guard, the calls. With
`--against` another checkout is measured in turns with this one, which is how a change is judged. Four ways to push:

    alone     one frame at a time, each output waited for
    ahead     the next frame is there already, so that it is begun before the last one has come down
    no light  ahead, without the measurement of light
    way only  the same without the guard: the frame's way to the device and back
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
WAYS = ("alone", "ahead", "no light", "way only")


def stubbed(size: int, way: str, frames: int) -> dict[str, Any]:
    """Return the microseconds of a push, and the calls of the driver in it, in this process's checkout."""
    import numpy as np

    from denoscope.acquisition.bench.scene import make_scene
    from denoscope.runtime import Bundle, FrameMeta, Stream
    from denoscope.runtime.backends.device.device import Device, DeviceGraph, Memory, Pinned
    from denoscope.runtime.backends.onnxruntime_gpu import OnnxRuntimeCuda, graph_names
    from denoscope.runtime.stream.residuals.guard import Guard

    scene = make_scene((size, size))
    movie = list(scene.frames)
    picture = np.mean(np.stack(movie), axis=0).round().astype(np.uint16)
    calls: Counter[str] = Counter()

    class Block(Memory):
        def __init__(self, nbytes: int) -> None:
            self.size, self.address = nbytes, 4096

    class Locked(Pinned):
        def __init__(self, nbytes: int) -> None:
            self.array = np.zeros(nbytes, np.uint8)
            if nbytes == picture.nbytes:
                self.array.view(np.uint16)[:] = picture.ravel()

    class Stub(Device):
        name, capability = "no GPU", (8, 9)

        def _does_nothing(self, *_: Any) -> None:
            calls["all"] += 1

        def enter(self) -> None:
            pass

        def stream(self) -> Any:
            return object()

        event = stream

        def handle(self, stream: Any) -> int:  # noqa: ARG002
            return 1

        record = wait = synchronise = copy_in = copy_out = clear = launch = start = aim = _does_nothing

        def allocate(self, size: int, stream: Any) -> Memory:  # noqa: ARG002
            return Block(size)

        def pinned(self, size: int) -> Pinned:
            return Locked(size)

        def compile(self, source: str) -> Any:
            raise NotImplementedError

        def capture(self, stream: Any, work: Any) -> Any:  # noqa: ARG002
            return lambda stream: None  # noqa: ARG005

        def beside(self, stream: Any, work: Any, copies: Any) -> None:
            pass

        def explain(self, error: Exception) -> Exception:
            return error

        def submit(self, stream: Any, work: Any) -> None:
            calls["all"] += 1
            work(stream)

        def close(self) -> None:
            pass

    class NoWork(DeviceGraph):
        captures = True

        def work(self, inputs: Any, outputs: Any) -> Any:  # noqa: ARG002
            return lambda stream: None  # noqa: ARG005

    class Idle(OnnxRuntimeCuda):
        def compile(self, onnx: bytes) -> Any:
            return NoWork(self, *graph_names(self.name, onnx))

        def inference_library(self) -> str:
            return "graphs that do nothing"

    more = {"ahead": True} if way != "alone" and "ahead" in inspect.signature(Stream.push).parameters else {}
    light = way in ("alone", "ahead")
    settings: dict[str, Any] = {"intensity": scene.intensity, "align": False, "light": light}
    if way == "way only":
        for method in ("saw", "check_numbers", "check"):
            setattr(Guard, method, lambda *_: None)
    with Idle(device=Stub()) as backend, Stream(Bundle.load("live"), backend, **settings) as stream:
        stream.prepare((size, size), np.uint16)
        seconds = np.empty(frames)
        for n in range(50):
            stream.push(movie[n % len(movie)], FrameMeta(n, 0.0), **more)
        before = calls["all"]
        for n in range(frames):
            frame, meta = movie[n % len(movie)], FrameMeta(50 + n, 0.0)
            started = time.perf_counter()
            stream.push(frame, meta, **more)
            seconds[n] = time.perf_counter() - started
        spent = (calls["all"] - before) / frames
    return {
        "p50_us": float(np.median(seconds) * 1e6),
        "p10_us": float(np.quantile(seconds, 0.1) * 1e6),
        "p99_us": float(np.quantile(seconds, 0.99) * 1e6),
        "driver_calls": spent,
    }


def measured(checkout: Path, size: int, way: str, frames: int) -> dict[str, Any]:
    """Return the numbers of a checkout, measured in a separate process."""
    sources = [str(checkout / part) for part in ("train", "export", "runtime", "acquisition")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sources)}
    command = [sys.executable, __file__, "--here", way, "--size", str(size), "--frames", str(frames)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print a line for each checkout and way: the least of the rounds, disturbed least by other work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--output", type=Path, help="where the results go")
    parser.add_argument("--here", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(stubbed(asked.size, asked.here, asked.frames)))
        return
    checkouts = {"before": asked.against, "after": ROOT} if asked.against else {"now": ROOT}
    rows: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in checkouts}
    for _ in range(ROUNDS):
        for name, checkout in checkouts.items():
            for way in WAYS:
                found = measured(checkout, asked.size, way, asked.frames)
                kept = rows[name].get(way)
                if kept is None or found["p50_us"] < kept["p50_us"]:
                    rows[name][way] = found
    for name, ways in rows.items():
        for way, row in ways.items():
            print(
                f"{name:>6} {way:>8}: {row['p50_us']:.0f} us (p10 {row['p10_us']:.0f}, p99 {row['p99_us']:.0f}), "
                f"{row['driver_calls']:.1f} calls of the driver"
            )
    if asked.output:
        from _provenance import write_results

        write_results(asked.output, {"size_px": asked.size, "frames": asked.frames, "rows": rows})


if __name__ == "__main__":
    main()
