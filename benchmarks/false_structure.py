"""Does a bundle show what is not there? Noise alone, and movies whose frames are shuffled in time.

    python benchmarks/false_structure.py DATA [BUNDLE ...] --output DIR [--frames 120] [--edge 96]

In noise alone, whatever is seen is invented. In a shuffled movie no frame says anything about the next, and cells light
up and go out at random. What an error consists of is told apart by a fit of all errors of a movie by least squares:

- *lost in time*, *lost in space*: light of other frames or of neighbouring pixels is shown. Then the error follows the
  truth there minus the truth here (means of 7, 31 and all frames; Gaussians of 1, 3 and 8 pixels of these).
- *kept noise*: the error follows the noise of the raw frames, averaged in the same ways. An average of the whole movie
  keeps the same noise in every frame, which looks like a fixed texture.
- *rest*: what no such average explains, in which anything invented would be.

`deviation_too_small` is the factor that makes 68 % of the truth lie inside the deviation; `above_4_where_true` counts
again with it. `mean_over_raw_mean` compares the mean over time of the denoised frames with that of the raw ones: below
1, the texture of the output is closer to the truth than what the raw frames say themselves.

Prints that for every movie, as recorded and shuffled, writes DIR/false-structure.json and draws the spectra over space
of truth, noise, error of the denoised frames and error of their mean over time to DIR/false_structure.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import provenance, write_results
from recorded import middle
from scipy import ndimage

from denoscope.runtime import Bundle
from denoscope.train.evaluation.truth import denoise_offline

NAOMI = ("naomi_a_static_high", "naomi_a_static_mid", "naomi_a_motion_high")
PHOTONS = (0.3, 1.5, 10.0)
LENGTHS = (1, 7, 31, 0)  # frames that light and noise are averaged over; 0 for all
WIDTHS = (0, 1, 3, 8)  # pixels, of a Gaussian
EVERY = 4  # frames of the fit
QUIET = 0.5  # of the predicted deviation
WITHIN = 0.9945  # deviations that hold 68 % of a normal distribution
BANDS = 24
Frames = npt.NDArray[np.float32]


def movies(data: Path, frames: int, edge: int) -> dict[str, tuple[Frames, Frames]]:
    """Return noisy movies and their truth by name: noise alone, NAOMi as recorded and shuffled."""
    rng = np.random.default_rng(22)
    made = {}
    for photons in PHOTONS:
        flat = np.full((frames, edge, edge), 100 + 100 * photons, np.float32)
        noisy = 100 + 100 * rng.poisson(photons, flat.shape) + rng.normal(0, 8, flat.shape)
        made[f"noise alone, {photons:g} photons"] = noisy.astype(np.float32), flat
    for name in NAOMI:
        noisy, clean = (middle(data / f"{name}_{kind}.tif", frames, edge) for kind in ("noisy", "clean"))
        order = rng.permutation(len(noisy))
        made[name] = noisy.astype(np.float32), clean.astype(np.float32)
        made[f"{name}, shuffled"] = noisy[order].astype(np.float32), clean[order].astype(np.float32)
    return made


def causes(truth: Frames, noisy: Frames, mean: Frames, std: Frames) -> dict[str, float]:
    """Return how often a denoised movie (T, H, W) is beyond its deviation, where, and what explains it."""
    error = mean - truth
    off = error / std
    scale = max(1.0, float(np.quantile(np.abs(off), 0.68)) / WITHIN)
    quiet = truth.std(axis=0) < QUIET * std.mean(axis=0)
    found = {
        "quiet_pixels": float(quiet.mean()),
        "inside_68": float((np.abs(off) < WITHIN).mean()),
        "above_4": float((off > 4).mean()),
        "below_4": float((off < -4).mean()),
        "rms_counts": _rms(error),
        "deviation_too_small": scale,
        "above_4_where_true": float((off > 4 * scale).mean()),
        "below_4_where_true": float((off < -4 * scale).mean()),
        "texture_of_mean_in_deviations": float(error.mean(axis=0).std() / std.mean()),
        "mean_over_raw_mean": _rms(error.mean(axis=0)) / max(_rms((noisy - truth).mean(axis=0)), 1e-30),
        **{f"{cause}_share": share for cause, share in shares(truth, noisy, error).items()},
        **{
            f"{cause}_share_beyond_4": share
            for cause, share in shares(truth, noisy, error, np.abs(off) > 4).items()
        },
    }
    for name, where in (("quiet", quiet), ("active", ~quiet)):
        if where.any():
            here = off[:, where]
            found[f"{name}_inside_68"] = float((np.abs(here) < WITHIN).mean())
            found[f"{name}_above_4"] = float((here > 4).mean())
            found[f"{name}_below_4"] = float((here < -4).mean())
    return found


def smoothed(movie: Frames) -> dict[tuple[int, int], Frames]:
    """Return every `EVERY`-th frame of a movie smoothed over time and space, by frames (0: all) and pixels."""
    made = {}
    for edge in WIDTHS:
        wide = ndimage.gaussian_filter(movie, (0, edge, edge)) if edge else movie
        for frames in LENGTHS:
            mean = np.broadcast_to(wide.mean(axis=0), wide.shape) if frames == 0 else wide
            if frames > 1:
                mean = ndimage.uniform_filter1d(wide, frames, axis=0, mode="nearest")
            made[frames, edge] = np.asarray(mean[::EVERY], np.float32)
    return made


def shares(
    truth: Frames, noisy: Frames, error: Frames, only: npt.NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Return what the squared errors consist of: a fit to all of them, its parts over all or over some.

    A part's share is the mean product of it with the error, so that the shares add up to 1.
    """
    every = np.s_[::EVERY]
    noise = smoothed(noisy - truth)
    light = smoothed(truth)
    parts = {
        "time": [m - truth[every] for (frames, edge), m in light.items() if edge == 0 and frames != 1],
        "space": [m - truth[every] for (frames, edge), m in light.items() if edge > 0],
        "noise": list(noise.values()),
    }
    names = [name for name, group in parts.items() for _ in group]
    left = np.stack([part.ravel() for group in parts.values() for part in group], axis=1).astype(np.float64)
    right = error[every].ravel().astype(np.float64)
    # By the normal equations: a million rows, few columns.
    weights = np.linalg.lstsq(left.T @ left, left.T @ right, rcond=None)[0]
    chosen = slice(None) if only is None else only[every].ravel()
    right = right[chosen]
    total = float(np.mean(right**2)) if right.size else 0.0
    if total == 0:
        return dict.fromkeys((*parts, "rest"), 0.0)
    products = (left[chosen] * right[:, None]).mean(axis=0) * weights / total
    found = {
        name: float(sum(p for p, of in zip(products, names, strict=True) if of == name)) for name in parts
    }
    return found | {"rest": 1 - sum(found.values())}


def _rms(values: npt.NDArray[np.floating[Any]]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def denoised(
    bundle: Bundle, name: str, counts: npt.NDArray[Any], options: argparse.Namespace
) -> list[Frames]:
    """Return mean and deviation of a movie, from the folder of an earlier run of this commit where it is there."""
    size = f"{len(counts)}-{counts.shape[1]}-{provenance()['commit'][:12]}"
    stem = f"{name}-{bundle.digest[:12]}-{size}.npz".replace(" ", "_").replace(",", "")
    file = options.output / "denoised" / stem
    if not file.exists():
        mean, std = denoise_offline(bundle, counts, backend=options.backend)
        assert std is not None
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, mean=mean.astype(np.float32), std=std)
    with np.load(file) as held:
        return [held["mean"], held["std"]]


def spectrum(frames: Frames) -> list[float]:
    """Return the mean power over frames in rings of spatial frequency, 0 to half a cycle a pixel, counts squared."""
    height, width = frames.shape[1:]
    taper = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    power = np.zeros((height, width))
    chosen = frames[:: max(1, len(frames) // 60)]
    for frame in chosen:
        power += np.abs(np.fft.fft2((frame - frame.mean()) * taper)) ** 2
    power /= len(chosen) * float(np.square(taper).sum())
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    ring = np.minimum((radius * 2 * BANDS).astype(int), BANDS)
    total, count = np.bincount(ring.ravel(), power.ravel()), np.bincount(ring.ravel())
    return [float(v) for v in (total / count)[:BANDS]]


def main() -> None:
    """Measure, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("bundles", nargs="*", default=["recorded", "live-hq"])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    bundles = [Bundle.load(name) for name in options.bundles]
    report: dict[str, Any] = {"frames": options.frames, "edge": options.edge, "rows": []}
    for name, (noisy, truth) in movies(options.data, options.frames, options.edge).items():
        counts = np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)
        for bundle in bundles:
            shown, std = denoised(bundle, name, counts, options)
            error = shown - truth
            row = {
                "movie": name,
                "bundle": bundle.manifest.name,
                "commit": provenance()["commit"],
                **causes(truth, noisy, shown, std),
                "spectra": {
                    "truth": spectrum(truth),
                    "noise": spectrum(noisy - truth),
                    "residual": spectrum(noisy - shown),
                    "error": spectrum(error),
                    "error of the mean over time": spectrum(error.mean(axis=0, keepdims=True)),
                    "predicted": float(np.mean(np.square(std))),
                },
            }
            report["rows"].append(row)
            print(said(row), flush=True)
            write_results(options.output / "false-structure.json", report, bundles)
    draw(report["rows"], options.bundles[0], options.output / "false_structure.png")


def said(row: dict[str, Any]) -> str:
    """Return a row in words."""
    words = [
        f"{row['movie']}, {row['bundle']}: {row['inside_68']:.0%} in the 68 % interval",
        f"{row['above_4']:.3%} above and {row['below_4']:.3%} below four deviations",
        f"with a deviation {row['deviation_too_small']:.2f} times as large {row['above_4_where_true']:.4%} and "
        f"{row['below_4_where_true']:.4%}",
        f"texture of the mean {row['texture_of_mean_in_deviations']:.2f} deviations",
    ]
    words += [
        f"{where} pixels {row[f'{where}_inside_68']:.0%}, {row[f'{where}_above_4']:.3%}"
        for where in ("quiet", "active")
        if f"{where}_above_4" in row
    ]
    words.append(f"mean {row['mean_over_raw_mean']:.2f} times as far off as the raw mean")
    for which, key in (("errors", "share"), ("beyond four", "share_beyond_4")):
        parts = ", ".join(f"{part} {row[f'{part}_{key}']:.0%}" for part in ("time", "space", "noise", "rest"))
        words.append(f"{which}: {parts}")
    return "; ".join(words)


def draw(rows: list[dict[str, Any]], bundle: str, path: Path) -> None:
    """Draw the spectra of one bundle, a movie a panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["bundle"] == bundle]
    columns = 3
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.3 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
    at = (np.arange(BANDS) + 0.5) / (2 * BANDS)
    for axes, row in zip(grid, shown, strict=False):
        for name, style in (
            ("truth", "C0-"),
            ("noise", "C7-"),
            ("residual", "C7:"),
            ("error", "C3-"),
            ("error of the mean over time", "C1-"),
        ):
            values = np.array(row["spectra"][name])
            if values.max() > 0:
                axes.semilogy(at, np.maximum(values, 1e-12), style, label=name, linewidth=1)
        axes.set_title(row["movie"], fontsize=7)
        axes.tick_params(labelsize=6)
        low = min(v for v in row["spectra"]["error of the mean over time"])
        axes.set_ylim(bottom=max(low / 3, 1e-6))
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    grid[min(3, len(shown) - 1)].legend(fontsize=6)
    figure.supxlabel("cycles a pixel", fontsize=8)
    figure.supylabel("power, counts²", fontsize=8)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
