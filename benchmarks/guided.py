"""`live` with and without guidance by flow, trained alike and measured on scenes that move in parts.

    python benchmarks/guided.py [--processor-minutes 8] [--movies 40] --output FILE.json

Both start from random weights and learn from the same simulated movies in the same processor time; the flow network is
the shipped one, one pass, and is not trained. They are measured on the simulated test movies, which nothing is trained
on. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _provenance import write_results
from rich.progress import Progress

from denoscope.runtime import estimate_intensity
from denoscope.train import (
    ALL_KINDS,
    FitSettings,
    LiveNetSettings,
    TrainingMovie,
    aligned,
    denoise_reference,
    fit,
    load_flow,
    score,
    simulated_movies,
    test_movie,
)

TESTS = ("two-photon", "two-photon-moving", "moving-cells", "confocal", "confocal-row-noise")
FRAMES = 100  # of each test movie


def main() -> None:
    """Train both, measure both, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processor-minutes", type=float, default=8)
    parser.add_argument("--movies", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    movies = training_movies(options.movies, options.seed)
    results: dict[str, Any] = {"processor_minutes": options.processor_minutes, "networks": {}}
    if options.output.exists():
        results = json.loads(options.output.read_text(encoding="utf-8"))
    for name, guided in (("unguided", False), ("guided", True)):
        if name in results["networks"]:
            continue
        checkpoint = options.output.with_name(f"{options.output.stem}-{name}.safetensors")
        result = fit(
            movies,
            checkpoint,
            settings=FitSettings(
                processor_minutes=options.processor_minutes,
                seed=options.seed,
                stop_after=None,
                simulated_hold_out=0.1,
            ),
            network=LiveNetSettings(guided=guided),
            flow=load_flow(passes=1) if guided else None,
            resume=checkpoint.exists(),
        )
        psnr = {test: measured(result.network, test) for test in TESTS}
        results["networks"][name] = {"steps": result.steps, "score": result.score_after, "psnr_db": psnr}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_results(options.output, results, (), indent=2)
    print(f"| | steps | held-out score | {' | '.join(TESTS)} |\n|---|---|---|{'---|' * len(TESTS)}")
    for name, row in results["networks"].items():
        psnr = " | ".join(f"{row['psnr_db'][test]:.2f}" for test in TESTS)
        print(f"| {name} | {row['steps']} | {row['score']:.4f} | {psnr} |")


def training_movies(count: int, seed: int) -> list[TrainingMovie]:
    """Return simulated movies of every kind, 200 frames each; a bar says how far it is."""
    with Progress() as bar:
        task = bar.add_task("simulating", total=count)
        return simulated_movies(
            count,
            frames=200,
            seed=seed,
            kinds=ALL_KINDS,
            progress=lambda n: bar.update(task, completed=n),
        )


def measured(network: Any, test: str) -> float:
    """Return the PSNR in dB on the first frames of a test movie, aligned as a live session aligns it."""
    movie = test_movie(test)
    noisy = np.asarray(movie.as_frames()[:FRAMES])
    seen = aligned(TrainingMovie(test, noisy, movie.clean[:FRAMES], estimate_intensity(noisy[:32])))
    assert seen.clean is not None
    denoised, _ = denoise_reference(network, np.asarray(seen.frames), seen.intensity, fields=seen.fields)
    return score(seen.clean, denoised).psnr_db


if __name__ == "__main__":
    main()
