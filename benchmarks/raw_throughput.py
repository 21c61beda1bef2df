"""The raw path alone, beside Micro-Manager's own maximum and beside pycromanager writing NDTiff.

    python benchmarks/raw_throughput.py [--size N]... [--mb 400] [--repeat 3] [--output FILE.json]

The demo camera sends the same picture as fast as it can, 16 bits. Frames a second of

- `core`: popped from MMCore in C++ and let go, the most that anybody can have;
- `tagged`: popped with their tags through pycromanager's core, and let go;
- `disk`: the same bytes written plainly to one file, frame by frame, until the disk has confirmed all of them;
- `session`: a session of ours without a denoiser, from the first frame to the last one written;
- `ndtiff`: a pycromanager Acquisition of the same frames into an NDTiff dataset, from start to closed;

and MB a second of the writers alone, on frames that lie in memory: `page_mb_s` is ours (a page and a line of
tags each), `ndtiff_mb_s` that of ndstorage. Every number is the best of the repeats, each in a process of its
own; ratios are to be trusted more than the numbers. `session/least` is the session's rate by the lesser of
`core` and `disk`: 1 where nothing but the camera or the disk is waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _provenance import write_results

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train", "export", "runtime", "acquisition")
sys.path[:0] = [str(ROOT / part) for part in PARTS]

TAGS = {"Width": 512, "Height": 512, "PixelType": "GRAY16", "Camera": "Camera", "Exposure-ms": 0.01}
BUFFER_MB = 1024


def configuration(folder: Path, size: int) -> Path:
    """Write a configuration whose camera sends the same picture, which costs the core least."""
    from mm_test_adapters import device_adapter_path

    demo = Path(device_adapter_path()) / "MMConfig_demo.cfg"
    settings = {
        "PixelType": "16bit",
        "FastImage": 1,
        "Exposure": 0.01,
        "OnCameraCCDXSize": size,
        "OnCameraCCDYSize": size,
    }
    lines = [f"Property,Camera,{name},{value}" for name, value in settings.items()]
    path = folder / "fast.cfg"
    path.write_text(demo.read_text() + "\n" + "\n".join(lines) + "\n")
    return path


def core(folder: Path, size: int, frames: int) -> float:
    """Pop in C++ and let go."""
    import pymmcore
    from mm_test_adapters import device_adapter_path

    core = pymmcore.CMMCore()
    core.setDeviceAdapterSearchPaths([str(device_adapter_path())])
    core.loadSystemConfiguration(str(configuration(folder, size)))
    core.setCircularBufferMemoryFootprint(BUFFER_MB)
    core.initializeCircularBuffer()
    popped, began_s = 0, time.perf_counter()
    core.startSequenceAcquisition(frames, 0.0, True)
    while popped < frames:
        if core.getRemainingImageCount():
            core.popNextImage()
            popped += 1
    seconds = time.perf_counter() - began_s
    core.unloadAllDevices()
    return frames / seconds


def disk(folder: Path, size: int, frames: int) -> float:
    """Write the bytes of so many frames plainly, and have them confirmed."""
    pool = _pool(size)
    began_s = time.perf_counter()
    with (folder / "plain").open("xb", buffering=0) as file:
        for number in range(frames):
            left = memoryview(pool[number % len(pool)]).cast("B")
            while left.nbytes:
                left = left[file.write(left) :]
        os.fsync(file.fileno())
    return frames / (time.perf_counter() - began_s)


def _source(folder: Path, size: int) -> Any:
    from denoscope.acquisition.sources.micromanager.config import ConfigSource

    return ConfigSource(configuration(folder, size), buffer_mb=BUFFER_MB)


def tagged(folder: Path, size: int, frames: int) -> float:
    """Pop with tags and let go."""
    source = _source(folder, size)
    source.open()
    source.start()
    popped, began_s = 0, time.perf_counter()
    while popped < frames:
        popped += source.pop() is not None
    seconds = time.perf_counter() - began_s
    source.stop()
    source.close()
    return frames / seconds


def session(folder: Path, size: int, frames: int) -> float:
    """Record with a session whose denoiser gives nothing."""
    from denoscope.acquisition import RawWriter
    from denoscope.acquisition.lane.lane import DenoiseLane
    from denoscope.acquisition.session.recording.session import Session
    from denoscope.acquisition.testing import _Nothing

    source = _source(folder, size)
    info = source.open()
    (folder / "run").mkdir()
    nothing = _Nothing()
    lane = DenoiseLane(nothing, nothing, look_ahead=0, queue_frames=64, lag_s=10.0, finish_s=5.0)
    raw = RawWriter(folder / "run", info, "benchmark")
    queued = 256 * 2**20 // info.frame_bytes
    recorded = Session(source, raw, lane, frames=frames, raw_queue_frames=queued)
    began_s = time.perf_counter()
    recorded.start()
    recorded.wait(600)
    seconds = time.perf_counter() - began_s
    status = recorded.finish()
    source.close()
    if status.written_raw != frames or status.missing:
        raise RuntimeError(f"{status.written_raw} of {frames} frames were written: {status.problems}")
    return frames / seconds


def ndtiff(folder: Path, size: int, frames: int) -> float:
    """Acquire with pycromanager into NDTiff."""
    from mm_test_adapters import device_adapter_path
    from pycromanager import Acquisition, multi_d_acquisition_events, start_headless, stop_headless

    start_headless(
        device_adapter_path(), str(configuration(folder, size)), python_backend=True, buffer_size_mb=BUFFER_MB
    )
    began_s = time.perf_counter()
    with Acquisition(directory=str(folder), name="data", show_display=False) as acquisition:
        acquisition.acquire(multi_d_acquisition_events(num_time_points=frames, time_interval_s=0))
    seconds = time.perf_counter() - began_s
    stop_headless()
    return frames / seconds


def _pool(size: int) -> Any:
    return np.random.default_rng(0).integers(0, 60_000, (8, size, size), np.uint16)


def page_mb_s(folder: Path, size: int, frames: int) -> float:
    """Write with our raw writer."""
    from denoscope.acquisition import Frame, RawWriter, SourceInfo

    pool = _pool(size)
    info = SourceInfo("memory", "memory", "Camera", (size, size), pool.dtype)
    began_s = time.perf_counter()
    with RawWriter(folder, info, "benchmark") as writer:
        for number in range(frames):
            writer.append(Frame(pool[number % 8], number, time.perf_counter(), "Camera", TAGS))
    return frames * pool[0].nbytes / (time.perf_counter() - began_s) / 1e6


def ndtiff_mb_s(folder: Path, size: int, frames: int) -> float:
    """Write with ndstorage."""
    from ndstorage import NDTiffDataset

    pool = _pool(size)
    began_s = time.perf_counter()
    dataset = NDTiffDataset(str(folder / "data"), summary_metadata={}, writable=True)
    for number in range(frames):
        dataset.put_image({"time": number}, pool[number % 8], dict(TAGS))
    dataset.finish()
    dataset.close()
    return frames * pool[0].nbytes / (time.perf_counter() - began_s) / 1e6


WAYS: Mapping[str, Callable[[Path, int, int], float]] = {
    way.__name__: way for way in (core, disk, session, tagged, ndtiff, page_mb_s, ndtiff_mb_s)
}


def run(way: str, size: int, frames: int, folder: Path | None) -> float | str:
    """Run one way in a separate process; return its number, or what it said last where it failed."""
    paths = os.pathsep.join([str(ROOT / part) for part in PARTS])
    with tempfile.TemporaryDirectory(dir=folder) as place:
        words = [sys.executable, __file__, "--child", way, place, str(size), str(frames)]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env={**os.environ, "PYTHONPATH": paths},
        )
    try:
        return float(done.stdout.split()[-1])
    except (ValueError, IndexError):
        return (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def main() -> None:
    """Run every way at every size and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--mb", type=float, default=400.0, help="How much to record.")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="Where to write; by default the temporary folder.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        way, place, size, frames = arguments.child
        with contextlib.redirect_stdout(io.StringIO()):
            value = WAYS[way](Path(place), int(size), int(frames))
        print(value, flush=True)
        os._exit(0)  # a core that is taken down by the interpreter's end may hang
    rows = []
    for size in arguments.size or (256, 512, 1024, 2048):
        frames = max(20, int(arguments.mb * 1e6 / (size * size * 2)))
        best: dict[str, Any] = {"size": size, "frames": frames}
        for _ in range(arguments.repeat):
            for way in WAYS:
                found = run(way, size, frames, arguments.folder)
                if isinstance(found, str):
                    best.setdefault(way, found)
                else:
                    before = best.get(way)
                    best[way] = round(max(found, before if isinstance(before, float) else 0.0), 1)
        if all(isinstance(best[name], float) for name in ("session", "core", "disk")):
            best["session/least"] = round(best["session"] / min(best["core"], best["disk"]), 2)
        for name, over in (("session", "core"), ("session", "ndtiff"), ("page_mb_s", "ndtiff_mb_s")):
            if isinstance(best[name], float) and isinstance(best[over], float):
                best[f"{name}/{over}"] = round(best[name] / best[over], 2)
        rows.append(best)
        print(json.dumps(best), file=sys.stderr, flush=True)
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "-")) for name in names) + " |")
    if arguments.output is not None:
        write_results(arguments.output, rows, (), indent=1)


if __name__ == "__main__":
    main()
