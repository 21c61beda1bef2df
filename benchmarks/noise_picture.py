"""The picture of docs/how/noise.md, and what calibration maps change in a real movie.

    python benchmarks/noise_picture.py DATA_FOLDER OUTPUT.png

Prints the fixed pattern in the dark half of the mean image of real_tirf_200hz.tif, before and after
correction with its maps, in photo-electrons.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from matplotlib.figure import Figure

from denoscope.runtime import CameraCalibration, GeneralisedAnscombe, measure_noise_correlation

MOVIES = {
    "naomi_a_static_mid_noisy": "NAOMi, 6 % bleed",
    "real_2p_gcamp_codes": "real two-photon",
    "real_1p_gcamp": "real one-photon",
}


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()

    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 4)
    camera = CameraCalibration.load(
        options.data / "real_tirf_gain.mat", options.data / "real_tirf_offset.mat"
    )
    raw = tifffile.imread(options.data / "real_tirf_200hz.tif")
    corrected = camera.correct(raw)
    counts = (raw - np.median(camera.offset)) / np.median(camera.gain)
    titled = {"raw": counts, "corrected": corrected}
    for axis, (name, movie), pattern in zip(
        axes[0, :2], titled.items(), camera.fixed_pattern(raw), strict=True
    ):
        print(f"{name}: fixed pattern {pattern:.2f} photo-electrons")
        axis.imshow(movie.mean(0)[:128, :128], vmin=-4, vmax=20, cmap="gray")
        axis.set_title(f"TIRF, mean of 20 frames,\n{name}: fixed pattern {pattern:.2f} electrons", fontsize=9)
        axis.set_axis_off()

    for axis, (file, title) in zip([*axes[0, 2:], axes[1, 0]], MOVIES.items(), strict=True):
        found = measure_noise_correlation(tifffile.imread(options.data / f"{file}.tif"))
        shown = found.lags.copy()
        shown[3, 3] = np.nan
        image = axis.imshow(shown, vmin=-0.05, vmax=0.05, cmap="RdBu_r", extent=(-3.5, 3.5, 3.5, -3.5))
        axis.set_title(
            f"{title}: {found.kind}\nx {found.along_row:.3f}, y {found.across_rows:.3f}", fontsize=9
        )
        axis.set(xlabel="lag in x, pixels", ylabel="lag in y, pixels")
        figure.colorbar(image, ax=axis, shrink=0.7)

    draw_anscombe(axes[1, 1:])
    figure.savefig(options.output, dpi=90)


def draw_anscombe(axes: npt.NDArray[np.object_]) -> None:
    """Draw stabilised deviation, bias of both inverses, and the correction, over light."""
    rng = np.random.default_rng(0)
    light = np.geomspace(0.1, 1000, 25)
    for sigma, colour in ((0.0, "#00798c"), (2.0, "#d1495b")):
        transform = GeneralisedAnscombe(1.0, 0.0, sigma)
        z = [transform.forward(rng.poisson(p, 400_000) + rng.normal(0, sigma, 400_000)) for p in light]
        means = np.array([v.mean() for v in z], np.float64)
        errors = np.array([v.std() for v in z]) / np.sqrt(400_000)
        label = f"read noise {sigma:g}"
        axes[0].semilogx(light, [v.std() for v in z], color=colour, label=label)
        unit = errors * means / 2  # standard error of the light found
        axes[1].errorbar(
            light, transform.inverse(means) - light, 2 * unit, color=colour, label=f"exact, {label}"
        )
        algebraic = means**2 / 4 - 0.375 - sigma**2
        axes[1].semilogx(light, algebraic - light, "--", color=colour, label=f"algebraic, {label}")
        axes[2].semilogx(light, (transform.inverse(means) - light) / light, color=colour, label=label)
    axes[0].set(title="deviation of the stabilised noise", ylim=(0, 1.2))
    axes[1].set(title="error of the light, photons (bars: 2 s.e.)", ylim=(-0.5, 0.5))
    axes[2].set(title="relative error, exact inverse", ylim=(-0.05, 0.05))
    for axis in axes:
        axis.set_xlabel("photons")
        axis.axhline(1 if axis is axes[0] else 0, color="0.7", lw=0.8, zorder=0)
        axis.legend(fontsize=7)
        axis.title.set_fontsize(9)


if __name__ == "__main__":
    main()
