"""UMVD on one-photon movies: as they are, with the baseline removed, and with the response amplified as well.

    python benchmarks/one_photon.py [--minutes 1.5] [--frames 160] [--size 96] [--output FILE.json]

Each variant learns from the noisy movie alone, from the same random weights, for the same processor minutes. *Response*
is the slope of the denoised on the true trace of the most active tenth of the pixels, each trace from its median: 1
where activity comes out whole, less where it is swallowed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results

from denoscope.runtime import estimate_intensity
from denoscope.train import (
    TrainingMovie,
    UmvdFitSettings,
    UmvdSettings,
    denoise_umvd,
    fit_umvd,
    score,
    test_movie,
)

VARIANTS = {
    "as it is": UmvdSettings(),
    "baseline removed": UmvdSettings(baseline_frames=UmvdSettings.one_photon().baseline_frames),
    "baseline removed, response amplified": UmvdSettings.one_photon(),
}
FloatArray = npt.NDArray[np.float32]


def main() -> None:
    """Train, score, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.5, help="processor minutes of each training")
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--size", type=int, default=96, help="edge of the middle of the movie")
    parser.add_argument("--movies", nargs="+", default=["one-photon", "one-photon-dim"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    settings = replace(
        UmvdFitSettings(), processor_minutes=options.minutes, seed=options.seed, stop_after=None
    )
    report: dict[str, Any] = {
        "minutes": options.minutes,
        "frames": options.frames,
        "size": options.size,
        "rows": [],
    }
    print("| movie | UMVD | steps | PSNR (dB) | SSIM | response |\n|---|---|---|---|---|---|", flush=True)
    for name in options.movies:
        movie = test_movie(name)
        noisy, clean = (
            movie.as_uint16()[: options.frames],
            np.asarray(movie.clean, np.float32)[: options.frames],
        )
        top, left = ((side - options.size) // 2 for side in clean.shape[1:])
        middle = np.s_[:, top : top + options.size, left : left + options.size]
        noisy, clean = noisy[middle], clean[middle]
        training = TrainingMovie(name, noisy, None, estimate_intensity(noisy[:32]))
        for variant, network in VARIANTS.items():
            result = fit_umvd([training], settings=settings, network=network)
            estimate = denoise_umvd(result.network, noisy, training.intensity)
            found = score(clean, estimate)
            row = {
                "movie": name,
                "variant": variant,
                "steps": result.steps,
                "psnr_db": found.psnr_db,
                "ssim": found.ssim,
                "response": response(clean, estimate),
            }
            report["rows"].append(row)
            print(
                f"| {name} | {variant} | {result.steps} | {found.psnr_db:.1f} | {found.ssim:.3f} "
                f"| {row['response']:.2f} |",
                flush=True,
            )
            if options.output:
                write_results(options.output, report)


def response(clean: FloatArray, estimate: FloatArray) -> float:
    """Return the slope of the denoised on the true traces of the most active tenth of the pixels."""
    active = clean.std(0) >= np.quantile(clean.std(0), 0.9)
    true, found = (movie[:, active] - np.median(movie[:, active], axis=0) for movie in (clean, estimate))
    return float((true * found).sum() / (true**2).sum())


if __name__ == "__main__":
    main()
