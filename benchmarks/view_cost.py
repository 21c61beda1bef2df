"""Measure what showing frames costs the threads that write them: the copy onto the board beside one raw page.

The ratio is of medians within one run; a viewer's process reads the board all the time, as fast as it can,
which is worse than any window does. Run ``python benchmarks/view_cost.py OUTPUT`` (a folder on the disk to
compare with).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from denoscope.acquisition import Frame, RawWriter, SourceInfo
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.raw.writer import RAW_MOVIE
from denoscope.acquisition.sinks.base import PixelsAt
from denoscope.acquisition.view.board import publisher as _publisher
from denoscope.acquisition.view.board.board import Board, Slot
from denoscope.acquisition.view.board.publisher import Publisher

SIZES = (256, 512, 1024, 2048)


def read(descriptors: tuple[int, ...], name: str, nbytes: int, stop: Any) -> None:
    """Copy every frame that can be had."""
    shared = Board.follow(Slab(*descriptors), name, nbytes)
    order = 0
    while not stop.is_set():
        picture = shared.get(Slot.RAW, order)
        order = picture.order if picture else order


def measure(folder: Path, size: int, frames: int, *, hurried: bool) -> dict[str, Any]:
    """Write and show frames in turn; return medians in seconds."""
    pixels = np.random.default_rng(0).poisson(100, (8, size, size)).astype(np.uint16)
    info = SourceInfo("demo", "demo", "Camera", (size, size), np.dtype(np.uint16))
    slab = Slab()
    shared, name = Board.create(slab, 4 * size * size)
    publisher = Publisher(shared, 4)
    _publisher._PERIOD_S = 0.0 if hurried else 1 / 60
    context = multiprocessing.get_context("fork" if slab.descriptors else "spawn")
    stop = context.Event()
    reader = context.Process(target=read, args=(slab.descriptors, name, shared.nbytes, stop), daemon=True)
    reader.start()
    written, shown = [], []
    with RawWriter(folder, info, "benchmark") as raw:
        for number in range(frames):
            frame = Frame(pixels[number % 8], number, time.perf_counter(), "Camera", {})
            begin_s = time.perf_counter()
            raw.append(frame)
            middle_s = time.perf_counter()
            publisher.raw(frame, raw.written - 1, PixelsAt(RAW_MOVIE, raw.pixels_at or 0))
            written.append(middle_s - begin_s)
            shown.append(time.perf_counter() - middle_s)
    stop.set()
    reader.join()
    assert publisher.problem is None
    return {
        "size": size,
        "every_frame": hurried,
        "write_median_s": float(np.median(written)),
        "show_median_s": float(np.median(shown)),
        "show_p99_s": float(np.quantile(shown, 0.99)),
        "ratio": float(np.median(shown) / np.median(written)),
        "ratio_of_sums": float(np.sum(shown) / np.sum(written)),
    }


def main() -> None:
    """Print one line for each size, and all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--megabytes", type=float, default=200.0, help="written for each size")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in SIZES:
        frames = max(20, min(1000, int(options.megabytes * 1e6 / (2 * size * size))))
        for hurried in (True, False):
            folder = Path(tempfile.mkdtemp(dir=options.output))
            rows.append(measure(folder, size, frames, hurried=hurried))
            shutil.rmtree(folder)
            row = rows[-1]
            print(
                f"{size} x {size}, {'every frame' if hurried else 'at most 60/s'}: write "
                f"{row['write_median_s'] * 1e3:.3f} ms, show {row['show_median_s'] * 1e3:.3f} ms (99 %: "
                f"{row['show_p99_s'] * 1e3:.3f}), ratio of medians {row['ratio']:.3f}, of sums "
                f"{row['ratio_of_sums']:.3f}"
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
