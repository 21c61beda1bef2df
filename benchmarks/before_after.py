"""Hop to the denoiser's process, host time of a push, frames a second and raw MB/s: before and after, in one run.

    python benchmarks/before_after.py BASELINE [--repeat 3] [--only WHAT]... [--folder PLACE] [--output FILE.json]

BASELINE is a checkout of an earlier version (`git worktree add BASELINE COMMIT`). Both are measured in turns, each
turn in a separate process; a number is the best of its turns, and ratios are to be trusted more than numbers.

- `hop`: milliseconds of a push to a denoiser that does nothing, in a separate process, 512 x 512, a frame each 3 ms;
- `push`: milliseconds of a push in this process, with a network that does almost nothing;
- `lane`: frames a second through the lane and that process, the denoised sink off, frames waiting;
- `raw_N`: MB a second of the raw writer at N x N, from the first frame until the disk has confirmed the last one.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from _provenance import write_results

HERE = Path(__file__).resolve().parent
PARTS = ("train", "export", "runtime", "acquisition", "tests")
SIZE = 512
HOPS, PUSHES, LANE_FRAMES, RAW_MB = 300, 200, 1500, 300
WHAT = ("hop", "push", "lane", "raw-512", "raw-1024", "raw-2048")
LESS_IS_BETTER = ("hop_p50_ms", "hop_p99_ms", "push_p50_ms")


def _pool(size: int = SIZE) -> Any:
    return np.random.default_rng(0).poisson(100, (8, size, size)).astype(np.uint16)


def _remote() -> Any:
    """Return a denoiser that does nothing, in a separate process."""
    from denoscope.acquisition.denoisers import remote
    from denoscope.acquisition.denoisers.local import DenoiserRequest

    module = "before_after_child"
    asks = "module" in inspect.signature(remote.RemoteDenoiser.__init__).parameters
    more = {"module": module} if asks else {}
    if not asks:
        remote._MODULE = module
    denoiser = remote.RemoteDenoiser(DenoiserRequest("nothing"), **more)
    denoiser.prepare((SIZE, SIZE), np.uint16, 1)
    return denoiser


def hop() -> dict[str, float]:
    """Push frames one by one to a process that does nothing."""
    from denoscope.runtime import FrameMeta

    denoiser, pool, took = _remote(), _pool(), []
    for number in range(HOPS + 50):
        time.sleep(0.003)
        began_s = time.perf_counter()
        outputs = denoiser.push(pool[number % 8], FrameMeta(number, began_s, source_index=number))
        took.append(time.perf_counter() - began_s)
        del outputs
    denoiser.close()
    return {f"hop_p{percent}_ms": float(np.percentile(took[50:], percent) * 1e3) for percent in (50, 99)}


def push() -> dict[str, float]:
    """Push frames in this process."""
    from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser
    from denoscope.runtime import FrameMeta
    from support.tiny_bundle import tiny_bundle

    with tempfile.TemporaryDirectory() as place:
        tiny_bundle(Path(place) / "tiny.denoscope", intensity=None, calibration_frames=8)
        denoiser = LocalDenoiser(DenoiserRequest(str(Path(place) / "tiny.denoscope"), threads=1))
        pool, took = _pool(), []
        for number in range(PUSHES + 50):
            began_s = time.perf_counter()
            denoiser.push(pool[number % 8], FrameMeta(number, began_s, source_index=number))
            took.append(time.perf_counter() - began_s)
        denoiser.close()
    return {"push_p50_ms": float(np.median(took[50:]) * 1e3)}


class _Nowhere:
    """A denoised sink that is off."""

    def append(self, _output: Any, _stamp: Any) -> None:
        """Let the frame go."""


def lane() -> dict[str, float]:
    """Offer frames as fast as they are taken."""
    from denoscope.acquisition.contracts import Frame

    try:
        place = import_module("denoscope.acquisition.lane.lane")
    except ModuleNotFoundError:  # of an earlier version
        place = import_module("denoscope.acquisition.session.lane")
    denoiser, pool = _remote(), _pool()
    way = place.DenoiseLane(denoiser, _Nowhere(), look_ahead=0, queue_frames=64, lag_s=60.0, finish_s=60.0)
    way.start()
    began_s = time.perf_counter()
    for number in range(LANE_FRAMES):
        way.offer(number, Frame(pool[number % 8], number, time.perf_counter(), "Camera", {}), wait=True)
    way.finish()
    seconds = time.perf_counter() - began_s
    emitted = way.counts()[0]
    denoiser.close()
    return {"lane_fps": emitted / seconds}


def raw(folder: Path, size: int) -> dict[str, float]:
    """Write frames until the disk has confirmed them."""
    from denoscope.acquisition import Frame, RawWriter, SourceInfo

    pool = _pool(size)
    info = SourceInfo("memory", "memory", "Camera", (size, size), pool.dtype)
    frames = int(RAW_MB * 1e6 / pool[0].nbytes)
    began_s = time.perf_counter()
    with RawWriter(folder, info, "benchmark") as writer:
        for number in range(frames):
            writer.append(Frame(pool[number % 8], number, time.perf_counter(), "Camera", {}))
        writer.sync()
    return {f"raw_{size}_mb_s": frames * pool[0].nbytes / (time.perf_counter() - began_s) / 1e6}


def measure(checkout: Path, what: str, folder: Path | None) -> dict[str, float]:
    """Run one measurement in a process of the checkout."""
    paths = [str(checkout / part) for part in PARTS] + [str(HERE)]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        (Path(place) / "before_after_child.py").write_text(CHILD, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(HERE / "before_after.py"), "--child", what, place, "."],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, place]), "OMP_NUM_THREADS": "1"},
        )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


CHILD = f"""
import sys
sys.path.insert(0, {str(HERE.parent / "tests")!r})
from support.nothing import Nothing
from denoscope.acquisition.denoisers import local, process
local.LocalDenoiser = Nothing
process.main()
"""


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("baseline", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", action="append", choices=WHAT, help="Measure this alone.")
    parser.add_argument("--folder", type=Path, help="Where to write; by default the temporary folder.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, place = arguments.child
        name, _, size = what.partition("-")
        found = (
            raw(Path(place), int(size)) if name == "raw" else {"hop": hop, "push": push, "lane": lane}[name]()
        )
        print(json.dumps(found), flush=True)
        return
    best: dict[str, dict[str, float]] = {"before": {}, "after": {}}
    for _ in range(arguments.repeat):
        for what in arguments.only or WHAT:
            for label, checkout in (("before", arguments.baseline.resolve()), ("after", HERE.parent)):
                for name, value in measure(checkout, what, arguments.folder).items():
                    pick = min if name in LESS_IS_BETTER else max
                    best[label][name] = pick(value, best[label].get(name, value))
    rows = [
        {
            "what": name,
            "before": round(best["before"][name], 3),
            "after": round(value, 3),
            "after/before": round(value / best["before"][name], 2),
        }
        for name, value in best["after"].items()
    ]
    print("| | before | after | after / before |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if arguments.output is not None:
        write_results(arguments.output, rows, (), indent=1)


if __name__ == "__main__":
    main()
