"""Compare ways to write one page at a time: our page file and tifffile, with and without a flush per page.

    python benchmarks/page_writers.py [--frames 300] [--size 512]

For each: MB/s, and how many of the pages handed over tifffile can read after the process died without closing the
file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from denoscope.acquisition.raw.pages import PageFile


def with_page_file(path: Path, frame: np.ndarray, count: int) -> None:
    """Write with our page file and die."""
    file = PageFile(path)
    for _ in range(count):
        file.append(frame)


def with_tifffile(path: Path, frame: np.ndarray, count: int) -> None:
    """Write with tifffile as it comes and die."""
    writer = tifffile.TiffWriter(path, bigtiff=True)
    for _ in range(count):
        writer.write(frame, contiguous=False, metadata=None)


def with_tifffile_flushed(path: Path, frame: np.ndarray, count: int) -> None:
    """Write with tifffile on a file of our own, flushed after each page, and die."""
    file = path.open("w+b")
    writer = tifffile.TiffWriter(file, bigtiff=True)
    for _ in range(count):
        writer.write(frame, contiguous=False, metadata=None)
        file.flush()


def run_and_die(write: Callable[[Path, np.ndarray, int], None], path: Path, size: int, count: int) -> None:
    """Write, note the time, and leave without closing anything."""
    frame = np.random.default_rng(0).integers(0, 60000, (size, size), np.uint16)
    started = time.perf_counter()
    write(path, frame, count)
    path.with_suffix(".txt").write_text(str(time.perf_counter() - started))
    os._exit(9)


def main() -> None:
    """Run each writer in a separate process that dies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for write in (with_page_file, with_tifffile, with_tifffile_flushed):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "movie.tif"
            child = context.Process(target=run_and_die, args=(write, path, arguments.size, arguments.frames))
            child.start()
            child.join()
            seconds = float(path.with_suffix(".txt").read_text())
            try:
                with tifffile.TiffFile(path) as tif:
                    readable = len(tif.pages)
                    whole = all(tif.pages[i].asarray().shape for i in range(readable))
            except (tifffile.TiffFileError, ValueError, OSError):
                readable, whole = 0, False
            speed = arguments.frames * arguments.size**2 * 2 / seconds / 1e6
            print(
                f"{write.__name__:24s} {speed:6.0f} MB/s, {readable} of {arguments.frames} pages readable, "
                f"{'all' if whole else 'not all'} whole"
            )


if __name__ == "__main__":
    main()
