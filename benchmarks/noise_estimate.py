"""Errors of the estimated gain and noise over light, gain, read noise, motion and bleaching.

    python benchmarks/noise_estimate.py [--movies 3] [--frames 32] [--size 128] [DATA_FOLDER]

Simulated movies, whose noise is known. Two errors count: that of the photon gain, which photon counts
are computed from, and that of the noise variance at the pixels of the movie, which the denoiser uses.
With a folder of movies that have a clean partner (X_noisy.tif, X_clean.tif), and with any other TIFF
in it, it also prints what is measured there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from denoscope.runtime import Intensity, estimate_intensity, measure_noise_correlation
from denoscope.train import CameraSettings, SceneSettings, simulate

FloatArray = npt.NDArray[np.float64]

SCENES = {
    "still": {},
    "jitter 1 px": {"motion_px": 1.0, "jitter_px": 1.0},
    "jitter 3 px": {"motion_px": 3.0, "jitter_px": 3.0},
    "bleaching 60 %": {"bleaching": 0.6},
}
CAMERAS = {
    "EMCCD-like, 20 counts a photon": {"gain": 20.0, "gain_spread": 0.3, "read_noise": 8.0},
    "sCMOS-like, 2 counts a photon": {"gain": 2.0, "gain_spread": 0.0, "read_noise": 3.0},
}
LIGHT = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--movies", type=int, default=3)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()

    size = {"frames": options.frames, "height": options.size, "width": options.size}
    for name, camera in CAMERAS.items():
        print(
            f"\n{name}: error of the gain / of the variance in the median pixel, worst movie of {options.movies}\n"
        )
        print("| photons | " + " | ".join(SCENES) + " |\n|---" + "|---" * len(SCENES) + "|")
        for photons in LIGHT:
            cells = []
            for scene in SCENES.values():
                errors = [
                    one(size | scene, camera | {"photons": photons}, seed) for seed in range(options.movies)
                ]
                gain, variance = (max((e[i] for e in errors), key=abs) for i in (0, 1))
                cells.append(f"{gain:+.0%} / {variance:+.0%}")
            print(f"| {photons:g} | " + " | ".join(cells) + " |", flush=True)
    if options.data is not None:
        measured(options.data, options.frames)


def one(scene: dict[str, float], camera: dict[str, float], seed: int) -> tuple[float, float]:
    """Return the relative errors of gain and of variance in the median pixel of one simulated movie."""
    settings = CameraSettings(**camera)
    movie = simulate(SceneSettings(**scene), settings, seed=seed)
    found = estimate_intensity(movie.as_uint16())
    gain = settings.gain * (1 + settings.gain_spread**2)
    truth = gain * (movie.clean - settings.offset) + settings.read_noise**2
    return found.gain / gain - 1, float(np.median(variance_of(found, movie.clean) / truth)) - 1


def variance_of(found: Intensity, clean: npt.NDArray[np.float32]) -> FloatArray:
    """Return the estimated noise variance at clean counts."""
    z = (clean - found.offset) / found.scale
    return np.asarray(np.maximum(found.noise_slope * z + 1, found.noise_floor) * found.scale**2, np.float64)


def measured(folder: Path, frames: int) -> None:
    """Print what is found in real movies, and the error where a clean partner tells the truth."""
    print("\n| movie | gain | noise at the median | variance / truth | correlation x / y | row | noise |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(folder.glob("*.tif")):
        if path.stem.endswith("_clean"):
            continue
        movie = tifffile.imread(path)
        found, correlation = estimate_intensity(movie[:frames]), measure_noise_correlation(movie)
        ratio = ""
        partner = path.with_name(path.name.replace("_noisy", "_clean"))
        if partner != path and partner.exists():
            clean = tifffile.imread(partner).astype(np.float32)
            ratio = f"{truth_ratio(found, movie, clean):.2f}"
        print(
            f"| {path.stem} | {found.gain:.3g} | {found.scale:.3g} | {ratio} | "
            f"{correlation.along_row:.3f} / {correlation.across_rows:.3f} | {correlation.row:.3f} | "
            f"{correlation.kind}{', scene moves' if correlation.scene else ''} |"
        )


def truth_ratio(found: Intensity, noisy: npt.NDArray[np.generic], clean: npt.NDArray[np.float32]) -> float:
    """Return estimated over true noise variance, both averaged over the movie."""
    return float(variance_of(found, clean).mean() / np.square(noisy.astype(np.float64) - clean).mean())


if __name__ == "__main__":
    main()
