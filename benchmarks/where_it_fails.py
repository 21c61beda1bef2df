"""Draw where a bundle is wrong, and whether its predicted deviation says so, for docs/results/trust.md.

    python benchmarks/where_it_fails.py BUNDLE [--frames 120] --output DIR

Of each simulated test movie (none was trained on) the frame and the crop of 64 x 64 pixels with the largest squared
error: truth, raw, denoised, and the error in predicted deviations. Below them single frames of an event of one frame
at 10 and at 1.5 photons a pixel. Prints, for each movie, how much of the truth lies within 68 %, 95 % and three
predicted deviations, and the slope of the denoised on the true trace of the pixels that change most.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results
from scipy import ndimage

from denoscope.runtime import Bundle
from denoscope.train import TEST_MOVIES, test_movie
from denoscope.train.evaluation.metrics import score
from denoscope.train.evaluation.transients import SHAPES, TransientSettings, event_movie
from denoscope.train.evaluation.truth import denoise_offline

FloatArray = npt.NDArray[np.float32]

CROP = 64
SETTLED = 40  # frames before it are not looked at: the calibration and the start of the long memory


def worst_crop(error: FloatArray) -> tuple[int, int, int]:
    """Return frame, row and column of the crop with the largest mean squared error."""
    power = np.stack([ndimage.uniform_filter(frame, CROP) for frame in error[SETTLED:] ** 2])
    half = CROP // 2
    inner = power[:, half : power.shape[1] - half + 1, half : power.shape[2] - half + 1]
    frame, row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(frame) + SETTLED, int(row), int(column)


def trace_slope(clean: FloatArray, shown: FloatArray) -> float:
    """Return the slope of the denoised on the true traces of the hundredth of the pixels that changes most."""
    spread = clean.std(axis=0)
    active = spread >= np.quantile(spread, 0.99)
    true, found = (movie[SETTLED:, active] - movie[SETTLED:, active].mean(axis=0) for movie in (clean, shown))
    return float((true * found).sum() / (true**2).sum())


def judged(bundle: Bundle, name: str, frames: int) -> tuple[dict[str, Any], list[FloatArray]]:
    """Return the numbers of one movie and the four pictures of its worst crop."""
    movie = test_movie(name)
    noisy, clean = movie.as_uint16()[:frames], np.asarray(movie.clean, np.float32)[:frames]
    mean, std = denoise_offline(bundle, noisy)
    assert std is not None
    error = mean.astype(np.float32) - clean
    ratio = error / std
    t, y, x = worst_crop(error)
    place = np.s_[t, y : y + CROP, x : x + CROP]
    size = np.abs(ratio[SETTLED:])
    numbers = {
        "movie": name,
        "psnr_db": score(clean, mean).psnr_db,
        "inside_68": float((size <= 0.9945).mean()),
        "inside_95": float((size <= 1.96).mean()),
        "beyond_3": float((size > 3).mean()),
        "trace_slope": trace_slope(clean, mean.astype(np.float32)),
        "worst": {"frame": t, "row": y, "column": x},
    }
    return numbers, [
        clean[place],
        noisy[place].astype(np.float32),
        mean[place].astype(np.float32),
        ratio[place],
    ]


def flash(bundle: Bundle, photons: float) -> list[FloatArray]:
    """Return truth, raw, denoised and the error in deviations at the frame of an event of one frame."""
    movie = event_movie(TransientSettings(photons=photons), SHAPES["one frame"])
    mean, std = denoise_offline(bundle, movie.noisy)
    assert std is not None
    counts = np.bincount(movie.starts[:, 1])
    t = int(counts.argmax())  # the frame with most events
    shown = mean[t].astype(np.float32)
    return [movie.clean[t], movie.noisy[t].astype(np.float32), shown, (shown - movie.clean[t]) / std[t]]


def draw(rows: list[tuple[str, list[FloatArray]]], path: Path) -> None:
    """Draw truth, raw, denoised and the error in predicted deviations, a row each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 2.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for line, (title, pictures) in zip(grid, rows, strict=True):
        low, high = np.percentile(pictures[0], (1, 99.8))
        for axes, picture in zip(line[:3], pictures[:3], strict=True):
            axes.imshow(picture, cmap="gray", vmin=low, vmax=high)
        drawn = line[3].imshow(pictures[3], cmap="RdBu_r", vmin=-4, vmax=4)
        figure.colorbar(drawn, ax=line[3], shrink=0.8)
        line[0].set_ylabel(title, fontsize="small")
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, title in zip(grid[0], ("truth", "raw", "denoised", "error / deviation"), strict=True):
        axes.set_title(title, fontsize="small")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="name or folder")
    parser.add_argument("--frames", type=int, default=120, help="of each movie, from its beginning")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    numbers, rows = [], []
    for name in TEST_MOVIES:
        found, pictures = judged(bundle, name, options.frames)
        numbers.append(found)
        rows.append((name, pictures))
        print(f"{name} done", flush=True)
    rows += [(f"one frame, {photons:g} photons", flash(bundle, photons)) for photons in (10.0, 1.5)]
    options.output.mkdir(parents=True, exist_ok=True)
    stem = f"where_{bundle.manifest.name.replace('-', '_')}_fails"
    report = {"bundle": bundle.manifest.name, "bundle_sha256": bundle.digest, "movies": numbers}
    write_results(options.output / f"{stem}.json", report, [bundle], indent=1)
    draw(rows, options.output / f"{stem}.png")
    print("| movie | PSNR, dB | in 68 % | in 95 % | beyond 3 deviations | slope of active traces |")
    print("|---|---|---|---|---|---|")
    for n in numbers:
        print(
            f"| {n['movie']} | {n['psnr_db']:.1f} | {n['inside_68']:.0%} | {n['inside_95']:.0%} "
            f"| {n['beyond_3']:.1%} | {n['trace_slope']:.2f} |"
        )


if __name__ == "__main__":
    main()
