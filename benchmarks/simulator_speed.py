"""Simulated megapixels per second beside what training consumes, in processor time of one thread.

    python benchmarks/simulator_speed.py [--movies 8] [--frames 200] [--size 96] [--steps 20] [--output FILE.json]

A training step of `live` looks at `batch` windows of `window` frames of `crop` x `crop` pixels. If the
simulator makes more pixels than training takes in the same time, movies can be new in every step; if
it makes fewer, each is used that many times. Both are measured in the same run.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _provenance import write_results

from denoscope.train import (
    ALL_KINDS,
    FitSettings,
    LiveNetSettings,
    fit,
    random_settings,
    simulate,
    simulated_movies,
)


def simulated_rate(kind: str, movies: int, frames: int, size: int) -> tuple[float, float]:
    """Return megapixels per second of the movies alone, and with the flow of every neighbouring pair."""
    rng = np.random.default_rng(0)
    bare = flows = 0.0
    for seed in range(movies):
        scene, camera = random_settings(rng, frames=frames, height=size, width=size, kinds=(kind, kind))
        started = time.process_time()
        movie = simulate(scene, camera, seed=seed)
        bare += time.process_time() - started
        _ = movie.flow
        flows += time.process_time() - started
    pixels = movies * frames * size * size / 1e6
    return pixels / bare, pixels / flows


def step_seconds(steps: int, settings: FitSettings) -> float:
    """Return seconds of one training step of `live`, start and end of the training taken away."""
    movies = simulated_movies(2, frames=120, size=96, seed=0)
    times = []
    for count in (2, 2 + steps):
        started = time.process_time()
        fit(movies, settings=FitSettings(steps=count, batch=settings.batch, crop=settings.crop))
        times.append(time.process_time() - started)
    return (times[1] - times[0]) / steps


def main() -> None:
    """Measure, print, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--movies", type=int, default=8, help="movies of each kind")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, default=96, help="edge of a movie in pixels")
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    settings, window = FitSettings(), LiveNetSettings().window
    consumed = settings.batch * window * settings.crop**2 / 1e6
    seconds = step_seconds(arguments.steps, settings)
    needed = consumed / seconds
    print(f"a step of {consumed:.3f} megapixels takes {seconds:.3f} s: training consumes {needed:.1f} MP/s")
    rows = {}
    for kind in ALL_KINDS:
        bare, flows = simulated_rate(kind, arguments.movies, arguments.frames, arguments.size)
        rows[kind] = {
            "megapixels_per_s": bare,
            "megapixels_per_s_with_flow": flows,
            "ratio_to_training": bare / needed,
        }
        print(f"{kind:13s} {bare:6.1f} MP/s   with flow {flows:6.1f} MP/s   {bare / needed:5.1f} x training")
    if arguments.output:
        result = {
            "training": {"step_s": seconds, "megapixels_per_step": consumed, "megapixels_per_s": needed},
            "kinds": rows,
            "movies": {name: getattr(arguments, name) for name in ("movies", "frames", "size")},
        }
        write_results(arguments.output, result, (), indent=2)


if __name__ == "__main__":
    main()
