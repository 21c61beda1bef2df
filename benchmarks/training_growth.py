"""Time per training step and memory as the movie grows: 1, 10 and 100 times.

    python benchmarks/training_growth.py [--megabytes 30] [--steps 320] [--folder DIR] [--output FILE.json]

Each movie is a raw.tif of 256 x 256 uint16 as denoscope records it, trained on in a separate process. The ratios
within one run are what counts. `draw` is the part of a step that the movie decides: reading and cutting windows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _provenance import write_results

from denoscope.acquisition.raw.pages import PageFile

SIZE = 256
GROWTH = (1, 10, 100)


def write_movie(path: Path, megabytes: float) -> int:
    """Write photon noise on a few blobs that blink, and return the number of frames."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    places = rng.uniform(20, SIZE - 20, (30, 2))
    cells = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 30) for a, b in places]
    noise = [rng.poisson(50 + 200 * c + 30 * cells[0]) for c in cells]
    frames = int(megabytes * 1e6 / (2 * SIZE * SIZE))
    with PageFile(path) as file:
        for t in range(frames):
            file.append(np.roll(noise[t % 30], t % 7, axis=0).astype(np.uint16))
    return frames


class Peak:
    """Largest resident memory of this process beyond what it had, sampled all the time."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.bytes, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        """Sample until the end."""
        while not self.done.wait(0.01):
            self.bytes = max(self.bytes, self.process.memory_info().rss)

    def stop(self) -> int:
        """End sampling and return the largest value."""
        self.done.set()
        self.thread.join()
        return self.bytes


def train(path: Path, steps: int, answer: Any) -> None:
    """Train for some steps in this process and answer with what it took."""
    import torch

    from denoscope.train import LiveNet, LiveNetSettings, movie_from_file
    from denoscope.train.fit_settings import FitSettings
    from denoscope.train.networks.live.task import LiveTask

    torch.set_num_threads(1)
    settings, network = FitSettings(steps=steps, batch=1, crop=64), LiveNetSettings()
    model = LiveNet(network)
    optimizer = torch.optim.AdamW(model.parameters())
    before, peak = psutil.Process().memory_info().rss, Peak()
    started = time.perf_counter()
    task = LiveTask([movie_from_file(path)], settings, network)
    opened = time.perf_counter() - started
    draws, all_steps = [], []
    for step in range(steps):
        started = time.perf_counter()
        batch = task.draw(np.random.default_rng((0, 1, step)), step)
        draws.append(time.perf_counter() - started)
        loss, _ = task.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        all_steps.append(time.perf_counter() - started)
    answer.put(
        {
            "open_s": opened,
            "draw_mean_s": statistics.mean(draws),
            "draw_max_s": max(draws),
            "step_mean_s": statistics.mean(all_steps),
            "step_median_s": statistics.median(all_steps),
            "peak_rss_bytes": peak.stop(),
            "rss_before_bytes": before,
        }
    )


def main() -> None:
    """Write the movies one after the other, train on each, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=30, help="size of the smallest movie")
    parser.add_argument("--steps", type=int, default=320, help="enough to fill the pool of clips")
    parser.add_argument("--folder", type=Path, default=None, help="where the movies are written")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    rows: list[dict[str, Any]] = []
    print("| movie | frames | open | draw, ratio | step, ratio | slowest draw | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for growth in GROWTH:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            path = Path(folder) / "raw.tif"
            frames = write_movie(path, growth * arguments.megabytes)
            answer = context.Queue()
            process = context.Process(target=train, args=(path, arguments.steps, answer))
            process.start()
            row = {"growth": growth, "movie_bytes": path.stat().st_size, "frames": frames, **answer.get()}
            process.join()
        first = rows[0] if rows else row
        row |= {f"{k}_ratio": row[f"{k}_mean_s"] / first[f"{k}_mean_s"] for k in ("draw", "step")}
        rows.append(row)
        print(
            f"| {row['movie_bytes'] / 1e6:.0f} MB | {frames} | {row['open_s'] * 1e3:.0f} ms | "
            f"{row['draw_mean_s'] * 1e3:.1f} ms, {row['draw_ratio']:.2f} | "
            f"{row['step_mean_s'] * 1e3:.0f} ms, {row['step_ratio']:.2f} | {row['draw_max_s'] * 1e3:.0f} ms | "
            f"{row['peak_rss_bytes'] / 1e6:.0f} MB |",
            flush=True,
        )
    if arguments.output:
        write_results(arguments.output, {"size": SIZE, "rows": rows}, (), indent=2)


if __name__ == "__main__":
    main()
