"""UMVD, STS-UVD and live trained on one noisy movie for the same minutes, beside a Gaussian tuned on the truth.

    python benchmarks/methods.py [--minutes 3] [--frames 150] [--size 64] [--photons 1.5] [--seed 0]

The movie is simulated, so the truth is known; no method sees it. The minutes count training only,
STS-UVD's flows included. PSNR's peak is the clean movie's maximum minus its minimum.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from denoscope.runtime import estimate_intensity
from denoscope.train import (
    CameraSettings,
    FitSettings,
    SceneSettings,
    StsUvdFitSettings,
    TrainingMovie,
    UmvdFitSettings,
    best_gaussian,
    denoise_movie,
    denoise_sts_uvd,
    denoise_umvd,
    fit,
    fit_sts_uvd,
    fit_umvd,
    score,
    simulate,
)

FloatArray = npt.NDArray[np.float32]


def main() -> None:
    """Train, denoise and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--photons", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    scene = SceneSettings(frames=options.frames, height=options.size, width=options.size)
    simulated = simulate(scene, CameraSettings(photons=options.photons), seed=options.seed)
    noisy, clean = simulated.as_uint16(), simulated.clean
    movie = TrainingMovie("simulated", noisy, None, estimate_intensity(noisy[:32]))

    def umvd() -> tuple[int, FloatArray]:
        trained = fit_umvd([movie], settings=UmvdFitSettings(minutes=options.minutes, seed=options.seed))
        return trained.steps, denoise_umvd(trained.network, noisy, movie.intensity)

    def sts_uvd() -> tuple[int, FloatArray]:
        settings = StsUvdFitSettings(minutes=options.minutes, seed=options.seed)
        trained = fit_sts_uvd([movie], settings=settings)
        denoised = denoise_sts_uvd(trained.network, noisy, movie.intensity, flows=trained.flows[0])
        return trained.steps, denoised

    def live() -> tuple[int, FloatArray]:
        with tempfile.TemporaryDirectory() as folder:
            settings = FitSettings(minutes=options.minutes, seed=options.seed)
            trained = fit([movie], Path(folder) / "state.safetensors", settings=settings)
        return trained.steps, denoise_movie(trained.network, noisy, movie.intensity)[0]

    methods: dict[str, Callable[[], tuple[int, FloatArray]]] = {
        "UMVD": umvd,
        "STS-UVD": sts_uvd,
        "live": live,
    }
    print(
        "| method | PSNR (dB) | SSIM | steps | seconds, denoising included |\n|---|---|---|---|---|",
        flush=True,
    )

    def row(name: str, estimate: npt.NDArray[np.generic], steps: str = "", seconds: str = "") -> None:
        reached = score(clean, estimate)
        print(f"| {name} | {reached.psnr_db:.2f} | {reached.ssim:.3f} | {steps} | {seconds} |", flush=True)

    row("noisy", noisy)
    smoothed, widths = best_gaussian(clean, noisy)
    row(f"Gaussian tuned on the truth ({widths})", smoothed)
    for name, method in methods.items():
        started = time.perf_counter()
        steps, denoised = method()
        row(name, denoised, str(steps), f"{time.perf_counter() - started:.0f}")


if __name__ == "__main__":
    main()
