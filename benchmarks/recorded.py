"""`recorded` beside the live bundles, tuned filters and truncated SVD, and what it makes of movies without any signal.

    python benchmarks/recorded.py BUNDLE [BUNDLE ...] --pair NOISY.tif CLEAN.tif [...] --output FILE.json
        [--frames 400] [--crop 96] [--guard]

The filters and the SVD are tuned on the truth, which no user has. Every movie: PSNR at both peaks, SSIM over the range
of the clean movie and over its 99.9 percentile, share of the truth inside the predicted 68 % and 95 % intervals, and
seconds a frame. With --guard the bundles also denoise noise alone, and each noisy movie with its frames shuffled in
time (and the truth shuffled alike): what is left of structure or events that are not there, in predicted deviations.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from _provenance import write_results
from scipy import ndimage
from skimage.metrics import structural_similarity

from denoscope.runtime import Bundle
from denoscope.train.evaluation.metrics import reliability, score
from denoscope.train.evaluation.truth import denoise_offline, measure_filters

RANKS = (3, 6, 12, 25, 50)
WIDTHS = (0.0, 0.7, 1.0, 1.4)
Frames = npt.NDArray[np.float32]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--pair", nargs=2, type=Path, action="append", required=True)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--crop", type=int, help="edge of the middle part; all of it without")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--guard", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    bundles = [Bundle.load(name) for name in options.bundles]
    report: dict[str, Any] = {"frames": options.frames, "crop": options.crop, "movies": [], "guard": []}
    for noisy_path, clean_path in options.pair:
        noisy, clean = (middle(path, options.frames, options.crop) for path in (noisy_path, clean_path))
        truth = clean.astype(np.float32)
        rows = [row_of(row.method, row.setting, truth, movie) for row, movie in measure_filters(truth, noisy)]
        rows.append(row_of("gaussian + svd", *best_svd(truth, noisy)))
        rows += [of_bundle(bundle, noisy, truth, options.backend) for bundle in bundles]
        report["movies"].append({"movie": noisy_path.stem, "methods": rows})
        for row in rows:
            print(noisy_path.stem, said(row), flush=True)
        write_results(options.output, report, bundles)
    if options.guard:
        for bundle in bundles:
            report["guard"].append({"bundle": bundle.manifest.name, "movies": guard(bundle, options)})
            print(report["guard"][-1], flush=True)
        write_results(options.output, report, bundles)


def middle(path: Path, frames: int, crop: int | None) -> npt.NDArray[Any]:
    """Return the first frames of a movie, and of them the middle."""
    movie = tifffile.imread(path)[:frames]
    if crop is None:
        return np.asarray(movie)
    top, left = (movie.shape[1] - crop) // 2, (movie.shape[2] - crop) // 2
    return np.ascontiguousarray(movie[:, top : top + crop, left : left + crop])


def row_of(
    method: str, setting: str, truth: Frames, movie: npt.NDArray[Any], **more: float
) -> dict[str, Any]:
    """Return the scores of a movie."""
    found = score(truth, movie)
    peak = float(np.percentile(truth, 99.9) - truth.min())
    sample = range(0, len(truth), max(1, len(truth) // 100))
    ssim = [structural_similarity(truth[t], movie[t].astype(np.float32), data_range=peak) for t in sample]
    return {
        "method": method,
        "setting": setting,
        "psnr_db": found.psnr_db,
        "psnr_p999_db": found.psnr_p999_db,
        "ssim": found.ssim,
        "ssim_p999": float(np.mean(ssim)),
        **more,
    }


def of_bundle(bundle: Bundle, noisy: npt.NDArray[Any], truth: Frames, backend: str) -> dict[str, Any]:
    """Return the row of a bundle."""
    import time

    started = time.process_time()
    mean, std = denoise_offline(bundle, noisy, backend=backend)
    frame_s = (time.process_time() - started) / len(noisy)
    more = {}
    if std is not None:
        inside = reliability(truth, mean, std)
        more = {"coverage_68": inside.coverage(0.68), "coverage_95": inside.coverage(0.95)}
    return row_of(bundle.manifest.name, "", truth, mean, processor_s_a_frame=frame_s, **more)


def best_svd(truth: Frames, noisy: npt.NDArray[Any]) -> tuple[str, Frames, Frames]:
    """Return the truncated SVD of the movie, smoothed first, that is closest to the truth."""
    best: tuple[float, str, Frames] | None = None
    for width in WIDTHS:
        smooth = ndimage.gaussian_filter(noisy.astype(np.float32), (0, width, width))
        flat = smooth.reshape(len(smooth), -1)
        mean = flat.mean(axis=0)
        _, vectors = np.linalg.eigh((flat - mean) @ (flat - mean).T)
        for rank in RANKS:
            kept = vectors[:, -rank:]
            made = (kept @ (kept.T @ (flat - mean)) + mean).reshape(noisy.shape).astype(np.float32)
            error = float(np.mean(np.square(made - truth)))
            if best is None or error < best[0]:
                best = error, f"sigma {width:g} px, rank {rank}", made
    assert best is not None
    return best[1], truth, best[2]


def guard(bundle: Bundle, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what a bundle makes of noise alone and of movies whose frames are shuffled in time."""
    rng = np.random.default_rng(22)
    edge = options.crop or 96
    found = []
    for photons in (0.3, 1.5, 10.0):
        flat = np.full((min(options.frames, 200), edge, edge), 100 + 100 * photons, np.float32)
        noisy = 100 + 100 * rng.poisson(photons, flat.shape) + rng.normal(0, 8, flat.shape)
        found.append(unseen(f"noise alone, {photons:g} photons", bundle, noisy, flat, options.backend))
    for noisy_path, clean_path in options.pair:
        noisy, clean = (middle(path, options.frames, options.crop) for path in (noisy_path, clean_path))
        order = rng.permutation(len(noisy))
        truth = clean[order].astype(np.float32)
        found.append(unseen(f"{noisy_path.stem}, shuffled", bundle, noisy[order], truth, options.backend))
    return found


def unseen(name: str, bundle: Bundle, noisy: npt.NDArray[Any], truth: Frames, backend: str) -> dict[str, Any]:
    """Return how far a denoised movie lies off the truth, in its predicted deviations."""
    noisy = np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)
    mean, std = denoise_offline(bundle, noisy, backend=backend)
    assert std is not None
    off = (mean.astype(np.float32) - truth) / std
    steady = (mean.mean(axis=0) - truth.mean(axis=0)) / std.mean(axis=0)
    return {
        "movie": name,
        "beyond_2": float((np.abs(off) > 2).mean()),
        "beyond_3": float((np.abs(off) > 3).mean()),
        "above_4": float((off > 4).mean()),
        "texture_of_mean_in_deviations": float(steady.std()),
        "rms_counts": float(np.sqrt(np.mean(np.square(mean - truth)))),
    }


def said(row: dict[str, Any]) -> str:
    """Return a row in words."""
    cost = f", {1e3 * row['processor_s_a_frame']:.1f} ms" if "processor_s_a_frame" in row else ""
    inside = f", {row['coverage_68']:.0%}, {row['coverage_95']:.0%}" if "coverage_68" in row else ""
    return (
        f"{row['method']} {row['setting']}: {row['psnr_db']:.2f} / {row['psnr_p999_db']:.2f} dB, SSIM "
        f"{row['ssim']:.4f} / {row['ssim_p999']:.4f}{inside}{cost}"
    )


if __name__ == "__main__":
    main()
