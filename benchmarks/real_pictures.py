"""Real movies to look at: raw, `live-hq`, `recorded` and what was taken away, with a search for grids and stripes.

    python benchmarks/real_pictures.py DATA [BUNDLE ...] --output DIR [--frames 120] [--edge 128]

DATA holds the real samples that `real_movies.py` names; of each the first frames and the middle part. No truth is
known. Three questions are put to every bundle's output:

- *grid*: power at the periods of 2, 4 and 8 pixels, the strides of the network, over the frequencies round them, in
  single frames and in the mean over time, where a faint grid adds up;
- *stripes*: variance of the means of rows and of columns of the residual, in what white noise of the same variance has.
  Far above 1, stripes were taken away (a camera's or a scanner's) or structure was; below 1, they were kept;
- *structure*: correlation of the residual with the denoised frame, and of neighbouring pixels of the residual.

Writes DIR/real-pictures.json and DIR/real_pictures.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results
from real_movies import MOVIES, add_noise

from denoscope.runtime import Bundle, estimate_intensity, open_movie
from denoscope.train.evaluation.residual import grid_artefact, noise_sigma
from denoscope.train.evaluation.truth import denoise_offline

PERIODS = (2, 4, 8)
SHOWN = ("two-photon GCaMP", "one-photon GCaMP", "TIRF microtubules", "lysosomes 1, 3 photons")
Frames = npt.NDArray[np.float32]


def stripes(residual: Frames, axis: int) -> float:
    """Return the variance of the residual's means along an axis (1: columns, 2: rows) in that of white noise."""
    means = residual.mean(axis=axis) - residual.mean(axis=(1, 2), keepdims=True)[:, 0]
    return float(means.var() * residual.shape[axis] / max(float(residual.var()), 1e-30))


def along_time(residual: Frames) -> float:
    """Return the variance of the residual's mean over time in that of white noise: what was taken from every frame."""
    return float(residual.mean(axis=0).var() * len(residual) / max(float(residual.var()), 1e-30))


def correlation(a: Frames, b: Frames) -> float:
    """Return the correlation coefficient of two movies."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def judge(noisy: Frames, shown: Frames, sigma: Frames) -> dict[str, Any]:
    """Return what the output and the residual (T, H, W), in counts, say."""
    residual = (noisy - shown) / sigma
    unit = float(np.median(sigma))
    grids = []
    for period in PERIODS:
        for name, output, raw in (
            ("frames", shown, noisy),
            ("mean", shown.mean(axis=0, keepdims=True), noisy.mean(axis=0, keepdims=True)),
            ("residual", noisy - shown, noisy),
        ):
            grid = grid_artefact(output, raw, period, sigma=unit)
            grids.append(
                {
                    "period_px": period,
                    "of": name,
                    "peak_db": grid.peak_db,
                    "around_db": grid.around_db,
                    "rms_sigma": grid.rms_sigma,
                    "camera_rms_sigma": grid.camera_rms_sigma,
                    "found": bool(grid.found),
                }
            )
    return {
        "grids": grids,
        "grid_found": any(g["found"] for g in grids if g["of"] != "residual"),
        "grid_rms_sigma": max(
            (g["rms_sigma"] for g in grids if g["found"] and g["of"] != "residual"), default=0.0
        ),
        "row_stripes": stripes(residual, 2),
        "column_stripes": stripes(residual, 1),
        "fixed_pattern": along_time(residual),
        "residual_on_denoised": correlation(residual, shown),
        "residual_next_column": correlation(residual[:, :, 1:], residual[:, :, :-1]),
        "residual_next_row": correlation(residual[:, 1:], residual[:, :-1]),
        "residual_next_frame": correlation(residual[1:], residual[:-1]),
        "variance_over_noise": float(np.mean(np.square(residual))),
    }


def main() -> None:
    """Denoise, judge, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("bundles", nargs="*", default=["live-hq", "recorded"])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    bundles = [Bundle.load(name) for name in options.bundles]
    report: dict[str, Any] = {"frames": options.frames, "edge": options.edge, "rows": []}
    pictures: dict[str, dict[str, Frames]] = {}
    for name in SHOWN:
        sample = MOVIES[name]
        movie = sample.decode(np.asarray(open_movie(options.data / sample.file))[: options.frames])
        if sample.photons is not None:
            movie, _ = add_noise(movie, sample.photons, seed=0)
        top, left = (max(0, (n - options.edge) // 2) for n in movie.shape[1:])
        movie = np.ascontiguousarray(movie[:, top : top + options.edge, left : left + options.edge])
        noisy = movie.astype(np.float32)
        pictures[name] = {"raw": noisy[len(noisy) // 2]}
        for bundle in bundles:
            mean, _ = denoise_offline(bundle, movie, backend=options.backend)
            shown = mean.astype(np.float32)
            sigma = noise_sigma(shown, estimate_intensity(movie[:32]))
            row = {"movie": name, "bundle": bundle.manifest.name, **judge(noisy, shown, sigma)}
            report["rows"].append(row)
            print(said(row), flush=True)
            label = bundle.manifest.name
            pictures[name][label] = shown[len(shown) // 2]
            pictures[name][f"raw - {label}"] = ((noisy - shown) / sigma)[len(shown) // 2]
            pictures[name][f"mean of raw - {label}"] = ((noisy - shown) / sigma).mean(axis=0)
        write_results(options.output / "real-pictures.json", report, bundles)
    draw(pictures, bundles[-1].manifest.name, options.output / "real_pictures.png")


def said(row: dict[str, Any]) -> str:
    """Return a row in words."""
    grid = f"grid of {row['grid_rms_sigma']:.4f} sigma" if row["grid_found"] else "no grid"
    return (
        f"{row['movie']}, {row['bundle']}: {grid}; stripes taken away (white noise 1): rows {row['row_stripes']:.2f}, "
        f"columns {row['column_stripes']:.2f}, every frame {row['fixed_pattern']:.2f}; residual on denoised "
        f"{row['residual_on_denoised']:+.3f}, next column {row['residual_next_column']:+.3f}, row "
        f"{row['residual_next_row']:+.3f}, frame {row['residual_next_frame']:+.3f}; variance "
        f"{row['variance_over_noise']:.2f}"
    )


def draw(pictures: dict[str, dict[str, Frames]], last: str, path: Path) -> None:
    """Draw a movie a row: raw, the bundles, the residual of the last one and its mean over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plain = [key for key in next(iter(pictures.values())) if " - " not in key]
    columns = [*plain, f"raw - {last}", f"mean of raw - {last}"]
    figure = Figure(figsize=(2.0 * len(columns), 2.1 * len(pictures)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(pictures), len(columns), squeeze=False)
    for (name, frames), line in zip(pictures.items(), grid, strict=True):
        low, high = np.percentile(frames[last], (0.5, 99.8))
        for column, axes in zip(columns, line, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            if " - " in column:
                limit = 3.0 if column.startswith("raw") else 0.5
                axes.imshow(frames[column], cmap="gray", vmin=-limit, vmax=limit)
            else:
                axes.imshow(frames[column], cmap="gray", vmin=low, vmax=high)
            if frames is next(iter(pictures.values())):
                axes.set_title(column, fontsize=8)
        line[0].set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
