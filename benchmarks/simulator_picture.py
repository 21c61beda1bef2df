"""Draw the picture of docs/how/simulator.md: one test movie of each kind with its truth.

python benchmarks/simulator_picture.py docs/pictures/simulator.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.colors import hsv_to_rgb

from denoscope.train import test_movie

ROWS = {  # test movie: the frames whose flow is shown
    "two-photon": (40, 41),
    "two-photon-moving": (60, 61),
    "one-photon": (60, 61),
    "one-photon-dim": (60, 64),
    "moving-cells": (60, 68),
    "confocal": (60, 61),
}


def coloured(flow: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Return the flow as a picture (direction is hue, length is saturation) and the length of full colour."""
    length = np.hypot(*flow)
    full = max(float(np.quantile(length, 0.995)), 1e-3)
    hue = (np.arctan2(flow[0], flow[1]) / (2 * np.pi)) % 1
    return hsv_to_rgb(np.stack([hue, (length / full).clip(0, 1), np.ones_like(hue)], axis=-1)), full


def main(output: Path) -> None:
    """Draw all rows."""
    figure, axes = plt.subplots(len(ROWS), 4, figsize=(11, 2.65 * len(ROWS)), width_ratios=(1, 1, 1, 1.5))
    for row, (name, (a, b)) in zip(axes, ROWS.items(), strict=True):
        movie = test_movie(name)
        low, high = np.quantile(movie.clean, (0.001, 0.999))
        spread = (movie.noisy[b] - movie.clean[b]).std()
        row[0].imshow(movie.noisy[b], cmap="gray", vmin=low - spread, vmax=high + spread)
        row[1].imshow(movie.clean[b], cmap="gray", vmin=low, vmax=high)
        picture, full = coloured(movie.flow_between(a, b))
        row[2].imshow(picture)
        for axis, title in zip(
            row,
            (
                f"{name}: {movie.camera.photons:g} photons",
                "expected counts",
                f"flow {a} to {b}, full colour {full:.1f} px" if full > 0.01 else "flow: none",
            ),
            strict=False,
        ):
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
        seconds = np.arange(len(movie.clean)) / movie.scene.frame_rate_hz
        active = np.argsort(-movie.traces.std(axis=1))[:4]
        for index, cell in enumerate(active):
            trace = movie.traces[cell]
            row[3].plot(seconds, (trace - trace.min()) / np.ptp(trace).clip(1e-6) + 1.1 * index, lw=0.8)
        row[3].set_yticks([])
        row[3].set_title("four traces, scaled; seconds", fontsize=8)
        row[3].tick_params(labelsize=7)
    figure.tight_layout(pad=0.6)
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
