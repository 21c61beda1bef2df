"""A long recording at the highest rate the demo core delivers: raw loss, memory, latency at both ends.

    python benchmarks/soak.py [--minutes 30] [--bundle live] [--fps N] [--reclaim] [--folder DIR] [--output FILE.json]

The core's own camera sends 512 x 512 frames of 16 bits as fast as it can, or as fast as fits on the disk, which
is said then. With `--reclaim` (Linux) it need not fit: while the session runs, each page of the raw file is read
back, compared with the first one, since the camera sends the same picture, and its blocks are given back to the
file system; the file's length and directories stay, so that its pages are counted as ever. A rate that a trial
session cannot take without an overflow of the core's buffer is lowered by a fifth until one can, and by
another fifth for the long run.

A real session records and denoises the frames. Every second the memory of its process and of the denoiser's is
sampled; the slope is a least-squares line over all but the first minute (the first third of shorter runs).
Latencies are those of the first and of the last minute after the denoiser was in step with the camera, and the
median of every minute; so is the memory's.
Raw loss is counted from the camera's own numbers in the sidecar, and the pages are counted.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _provenance import write_results

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train", "export", "runtime", "acquisition")
sys.path[:0] = [str(ROOT / part) for part in PARTS]

FRAME_BYTES = 512 * 512 * 2
TRIAL_S = 4.0
SUSTAIN_S = 20.0
MARGIN = 0.8
USED = 0.7  # of the free space


def configuration(folder: Path, exposure_ms: float) -> Path:
    """Write a configuration whose camera sends the same picture, which costs the core least."""
    from mm_test_adapters import device_adapter_path

    demo = Path(device_adapter_path()) / "MMConfig_demo.cfg"
    settings = {"PixelType": "16bit", "FastImage": "1", "Exposure": f"{exposure_ms:g}"}
    lines = [f"Property,Camera,{name},{value}" for name, value in settings.items()]
    path = folder / "fast.cfg"
    path.write_text(demo.read_text() + "\n" + "\n".join(lines) + "\n")
    return path


def highest_rate(folder: Path) -> float:
    """Return frames a second that the core delivers to somebody who only pops them, in this process."""
    import pymmcore
    from mm_test_adapters import device_adapter_path

    core = pymmcore.CMMCore()
    core.setDeviceAdapterSearchPaths([str(device_adapter_path())])
    core.loadSystemConfiguration(str(configuration(folder, 0.01)))
    core.setCircularBufferMemoryFootprint(256)
    core.initializeCircularBuffer()
    core.startSequenceAcquisition(2**31 - 1, 0.0, True)
    popped, began_s = 0, time.perf_counter()
    while time.perf_counter() - began_s < TRIAL_S:
        if core.getRemainingImageCount():
            core.popNextImage()
            popped += 1
        else:
            time.sleep(0.0005)
    core.stopSequenceAcquisition()
    core.unloadAllDevices()
    return popped / TRIAL_S


def record(folder: Path, bundle: str, seconds: float) -> None:
    """Run the session in this process, noting each latency when it was; JSON to ``soak.json``."""
    from denoscope.acquisition import live, make_settings
    from denoscope.acquisition.lane.lane import DenoiseLane
    from denoscope.acquisition.lane.latency import LatencyHistogram

    noted: list[tuple[float, float]] = []
    lanes: list[Any] = []
    start, add = DenoiseLane.start, LatencyHistogram.add

    def started(self: Any) -> None:
        lanes.append(self)
        start(self)

    def added(self: Any, value_s: float) -> None:
        if lanes and self is lanes[0].latency:
            noted.append((time.time(), value_s))
        add(self, value_s)

    DenoiseLane.start, LatencyHistogram.add = started, added  # type: ignore[method-assign]
    pids: dict[str, int] = {"session": os.getpid()}

    def look(denoiser: Any) -> Any:
        pids["denoiser"] = denoiser.pid
        print(json.dumps(pids), flush=True)
        return denoiser

    settings = make_settings(
        core=str(folder / "fast.cfg"),
        output=folder / "run",
        bundle=bundle,
        seconds=seconds,
        picture=False,
        force=True,
        reserve_mb=500.0,
    )
    report = live(settings, wrap=look)
    (folder / "soak.json").write_text(json.dumps({"report": report.as_json(), "latencies": noted}))


class Reclaimer(threading.Thread):
    """Follow a growing BigTIFF from page to page, compare each with the first, and give its blocks back."""

    _KEEP_SIZE, _PUNCH_HOLE, _BLOCK = 1, 2, 4096
    _OFFSETS, _BYTE_COUNTS = 273, 279

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.compared = self.different = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Work until `ended` is set and every page that there is has been compared."""
        while not self.path.exists() and not self.ended.wait(0.1):
            pass
        link, first = 8, b""
        with self.path.open("r+b", buffering=0) as file:
            while True:
                directory = self._number(file, link)
                if not directory:
                    if self.ended.wait(0.1):
                        return
                    continue
                start, length, link = self._page(file, directory)
                file.seek(start)
                pixels = file.read(length)
                first = first or pixels
                self.compared += 1
                self.different += pixels != first
                self._punch(file, start, length)

    def _page(self, file: FileIO, directory: int) -> tuple[int, int, int]:
        """Return where a page's only strip lies, its length, and where the link to the next page lies."""
        count, tags = self._number(file, directory), {}
        for tag, kind, _, value in struct.iter_unpack("<HHQQ", file.read(20 * count)):
            tags[tag] = value & 0xFFFFFFFF if kind == 4 else value
        return tags[self._OFFSETS], tags[self._BYTE_COUNTS], directory + 8 + 20 * count

    @staticmethod
    def _number(file: FileIO, offset: int) -> int:
        file.seek(offset)
        data = file.read(8)
        return int.from_bytes(data, "little") if len(data) == 8 else 0

    def _punch(self, file: FileIO, start: int, length: int) -> None:
        first, last = -(-start // self._BLOCK) * self._BLOCK, (start + length) // self._BLOCK * self._BLOCK
        libc = ctypes.CDLL(None, use_errno=True)
        mode = self._KEEP_SIZE | self._PUNCH_HOLE
        if libc.fallocate(file.fileno(), mode, ctypes.c_long(first), ctypes.c_long(last - first)):
            raise OSError(ctypes.get_errno(), "The file system takes no blocks back", str(self.path))


def slope_mb_per_minute(samples: list[tuple[float, float]]) -> float | None:
    """Return the least-squares slope of memory over time, the beginning left out."""
    if len(samples) < 10:
        return None
    times, values = (np.array(column) for column in zip(*samples, strict=True))
    times = times - times[0]
    late = times >= min(60.0, times[-1] / 3)
    return float(np.polyfit(times[late] / 60, values[late] / 1e6, 1)[0])


def quantiles_ms(values: np.ndarray[Any, Any]) -> dict[str, float] | None:
    """Return p50, p95 and p99 in milliseconds."""
    if not len(values):
        return None
    return {f"p{p}": round(float(np.percentile(values, p)) * 1e3, 1) for p in (50, 95, 99)}


def of_each_minute(samples: np.ndarray[Any, Any]) -> list[float]:
    """Return the median of each minute of samples (T, 2), time in seconds and value."""
    if not len(samples):
        return []
    minutes = ((samples[:, 0] - samples[0, 0]) // 60).astype(int)
    return [float(np.median(samples[minutes == m, 1])) for m in np.unique(minutes)]


def watch(folder: Path, bundle: str, seconds: float, *, reclaim: bool) -> dict[str, Any]:
    """Run the session in a separate process, sample its memory, and judge what it left."""
    from denoscope.acquisition import read_raw

    paths = os.pathsep.join([str(ROOT / part) for part in PARTS])
    words = [sys.executable, __file__, "--child", str(folder), bundle, str(seconds)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        processes = {name: psutil.Process(pid) for name, pid in json.loads(line or "{}").items()}
        memory: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
        ends_s = time.time() + seconds
        reclaimer = Reclaimer(folder / "run" / "raw.tif")
        if reclaim:
            reclaimer.start()
        while process.poll() is None:
            # What is given back at the end says nothing about what grows.
            if time.time() < ends_s:
                for name, each in processes.items():
                    try:
                        resident = each.memory_info().rss
                    except psutil.Error:
                        continue
                    if resident:  # a process that has just ended has none
                        memory[name].append((time.time(), float(resident)))
            time.sleep(1.0)
    reclaimer.ended.set()
    if reclaim:
        reclaimer.join()
    data = json.loads((folder / "soak.json").read_text())
    report, noted = data["report"], np.array(data["latencies"]).reshape(-1, 2)
    recording = read_raw(folder / "run")
    numbers = np.array([record["number"] for record in recording.records])
    minute = min(60.0, seconds / 3)
    when, values = noted[:, 0], noted[:, 1]
    frames = report["frames"]
    return {
        "minutes": round(report["timing"]["duration_s"] / 60, 2),
        "fps": round(report["timing"]["fps_in_hz"], 1),
        "received": frames["received"],
        "pages": len(recording),
        "raw_lost": int(frames["received"] - len(recording)),
        "numbers_missing": int(np.sum(np.diff(numbers) - 1)) if len(numbers) else None,
        "pages_compared": reclaimer.compared if reclaim else None,
        "pages_different": reclaimer.different if reclaim else None,
        "denoised": frames["denoised"],
        "dropped": frames["dropped"],
        "rss_mb": {name: round(rows[-1][1] / 1e6) for name, rows in memory.items() if rows},
        "rss_slope_mb_per_min": {
            name: None if (slope := slope_mb_per_minute(rows)) is None else round(slope, 2)
            for name, rows in memory.items()
        },
        "rss_each_minute_mb": {
            name: [round(v / 1e6) for v in of_each_minute(np.array(rows).reshape(-1, 2))]
            for name, rows in memory.items()
        },
        "latency_each_minute_ms": [round(v * 1e3) for v in of_each_minute(noted)],
        "latency_first_ms": quantiles_ms(values[when < when[0] + minute]) if len(when) else None,
        "latency_last_ms": quantiles_ms(values[when > when[-1] - minute]) if len(when) else None,
        "reason": report["outcome"]["reason"],
        "exit_code": report["outcome"]["exit_code"],
        "problems": report["outcome"]["problems"],
    }


def sustained(fps: float, bundle: str, place: Path) -> float:
    """Return the highest rate, a fifth lower each time, that a session takes for a while."""
    while True:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            configuration(Path(folder), 1000 / fps)
            found = watch(Path(folder), bundle, SUSTAIN_S, reclaim=False)
        print(f"a session at {fps:.0f} frames/s ends with {found['reason']}", file=sys.stderr, flush=True)
        if found["exit_code"] == 0:
            return fps
        fps *= 0.8


def main() -> None:
    """Find the rate, record, print and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--bundle", default="live")
    parser.add_argument("--fps", type=float, help="Rate at most, where this computer cannot take the core's.")
    parser.add_argument(
        "--reclaim", action="store_true", help="Give the blocks of raw pages back once they were compared."
    )
    parser.add_argument("--folder", type=Path, help="Where to record; by default the temporary folder.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        record(Path(arguments.child[0]), arguments.child[1], float(arguments.child[2]))
        return
    seconds = arguments.minutes * 60
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        core_fps = highest_rate(folder)
        # Raw and, at most, as many denoised frames.
        room = shutil.disk_usage(folder).free * USED / (2 * FRAME_BYTES) / seconds
        if arguments.reclaim:
            room = math.inf
        room = min(room, arguments.fps or room)
        limit = "" if core_fps < room else f", limited to {room:.0f} by the free space or --fps"
        print(f"the core delivers {core_fps:.0f} frames/s{limit}", file=sys.stderr, flush=True)
        fps = MARGIN * sustained(min(core_fps, room), arguments.bundle, folder)
        configuration(folder, 1000 / fps)
        result = {
            "core_fps": round(core_fps, 1),
            **watch(folder, arguments.bundle, seconds, reclaim=arguments.reclaim),
        }
    print(json.dumps(result, indent=1))
    if arguments.output is not None:
        write_results(arguments.output, result, [arguments.bundle], indent=1)
    lost = result["raw_lost"] or result["numbers_missing"] or result["pages_different"]
    sys.exit(1 if lost or result["pages_compared"] not in (None, result["received"]) else 0)


if __name__ == "__main__":
    main()
