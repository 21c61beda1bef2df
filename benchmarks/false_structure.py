"""Does a bundle show what is not there? Noise alone, and movies whose frames are shuffled in time.

    python benchmarks/false_structure.py DATA [BUNDLE ...] --output DIR [--frames 200] [--edge 96]

In noise alone, whatever is seen is invented. In a shuffled movie no frame says anything about the next, and cells light
up and go out at random. An error beyond four predicted deviations there has two possible causes, which are told apart:

- *smoothed*: light of other frames or of neighbouring pixels is shown. Then the error follows the difference between
  the truth there and here. `explained` is the share of the squared error that such differences explain, over time
  (mean of seven frames, mean of the movie), over space (a Gaussian of one pixel), and both.
- *invented*: structure that the truth has nowhere near. It is what stays unexplained; in quiet pixels, where the truth
  varies by less than half of the predicted deviation, time explains nothing.

Prints both for every movie, as recorded and shuffled, writes DIR/false-structure.json and draws the spectra over space
of truth, noise, error of the denoised frames and error of their mean over time to DIR/false_structure.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _provenance import write_results
from recorded import middle
from scipy import ndimage

from denoscope.runtime import Bundle
from denoscope.train.evaluation.truth import denoise_offline

NAOMI = ("naomi_a_static_high", "naomi_a_static_mid", "naomi_a_motion_high")
PHOTONS = (0.3, 1.5, 10.0)
REACH = 3  # frames on each side of the centre, the window of the bundles
QUIET = 0.5  # of the predicted deviation
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


def causes(truth: Frames, mean: Frames, std: Frames) -> dict[str, float]:
    """Return how often a denoised movie (T, H, W) is beyond its deviation, where, and what explains it."""
    error = mean - truth
    off = error / std
    quiet = truth.std(axis=0) < QUIET * std.mean(axis=0)
    found = {
        "quiet_pixels": float(quiet.mean()),
        "inside_68": float((np.abs(off) < 0.9945).mean()),
        "above_4": float((off > 4).mean()),
        "below_4": float((off < -4).mean()),
        "rms_counts": float(np.sqrt(np.mean(np.square(error)))),
        "texture_of_mean_in_deviations": float(error.mean(axis=0).std() / std.mean()),
        **{
            f"explained_by_{name}{suffix}": explained(truth, error, name, only)
            for name in ("time", "space", "both")
            for suffix, only in (("", None), ("_beyond_4", np.abs(off) > 4))
        },
    }
    for name, where in (("quiet", quiet), ("active", ~quiet)):
        if where.any():
            here = off[:, where]
            found[f"{name}_inside_68"] = float((np.abs(here) < 0.9945).mean())
            found[f"{name}_above_4"] = float((here > 4).mean())
            found[f"{name}_below_4"] = float((here < -4).mean())
    return found


def explained(truth: Frames, error: Frames, cause: str, only: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the share of the squared errors that smoothing of the truth explains, fitted to all by least squares."""
    if len(truth) < 2 * REACH + 1 or (only is not None and not only.any()):
        return 0.0
    near = ndimage.uniform_filter1d(truth, 2 * REACH + 1, axis=0, mode="nearest")
    over = {
        "time": [near - truth, truth.mean(axis=0) - truth],
        "space": [ndimage.gaussian_filter(truth, (0, 1, 1)) - truth],
    }
    parts = over["time"] + over["space"] if cause == "both" else over[cause]
    left = np.stack([part.ravel().astype(np.float64) for part in parts], axis=1)
    right = error.ravel().astype(np.float64)
    # By the normal equations: millions of rows, at most three columns.
    weights = np.linalg.lstsq(left.T @ left, left.T @ right, rcond=None)[0]
    chosen = slice(None) if only is None else only.ravel()
    rest = right[chosen] - left[chosen] @ weights
    return float(1 - np.mean(rest**2) / max(float(np.mean(right[chosen] ** 2)), 1e-30))


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
    parser.add_argument("--frames", type=int, default=200)
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
            mean, std = denoise_offline(bundle, counts, backend=options.backend)
            assert std is not None
            shown = mean.astype(np.float32)
            error = shown - truth
            row = {
                "movie": name,
                "bundle": bundle.manifest.name,
                **causes(truth, shown, std),
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
        f"texture of the mean {row['texture_of_mean_in_deviations']:.2f} deviations",
    ]
    words += [
        f"{where} pixels {row[f'{where}_inside_68']:.0%}, {row[f'{where}_above_4']:.3%}"
        for where in ("quiet", "active")
        if f"{where}_above_4" in row
    ]
    words += [
        f"smoothing over {name} explains {row[f'explained_by_{name}']:.0%}, beyond four "
        f"{row[f'explained_by_{name}_beyond_4']:.0%}"
        for name in ("time", "space", "both")
    ]
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
