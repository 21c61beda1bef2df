"""Draw the picture of the README: a dim cell in a raw and in a denoised frame, and its trace.

python benchmarks/readme_picture.py RUN docs/demo.png

RUN is the folder of `denoscope demo`; the cell is the one that varies most among the dimmest quarter of the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import tifffile
from scipy.ndimage import uniform_filter

EDGE, HALF, FPS = 40, 1, 30.0


def main() -> None:
    """Write the picture."""
    run, output = Path(sys.argv[1]), Path(sys.argv[2])
    raw = tifffile.imread(run / "raw.tif")[150:300].astype(np.float32)
    denoised = (
        tifffile.imread(run / "denoised.ome.tif").reshape(-1, *raw.shape[1:])[150:300].astype(np.float32)
    )
    level = uniform_filter(denoised.mean(axis=0), 9)
    change = uniform_filter(denoised, (0, 3, 3)).std(axis=0) * (level < np.quantile(level, 0.25))
    inside = change[EDGE:-EDGE, EDGE:-EDGE]
    row, column = (int(i) + EDGE for i in np.unravel_index(inside.argmax(), inside.shape))
    cell = (slice(None), slice(row - HALF, row + HALF + 1), slice(column - HALF, column + HALF + 1))
    traces = raw[cell].mean(axis=(1, 2)), denoised[cell].mean(axis=(1, 2))
    frame = int(traces[1].argmax())
    around = (frame, slice(row - EDGE, row + EDGE), slice(column - EDGE, column + EDGE))
    low, high = np.percentile(denoised[around], [1, 99])

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.3), width_ratios=[1, 1, 1.5], layout="constrained")
    for axis, movie, title in ((axes[0], raw, "raw"), (axes[1], denoised, "denoised")):
        axis.imshow(movie[around], cmap="gray", vmin=low, vmax=high)
        axis.add_patch(plt.Circle((EDGE, EDGE), 5, fill=False, color="orange"))
        axis.set_title(f"{title}, one frame")
        axis.axis("off")
    seconds = np.arange(len(raw)) / FPS
    axes[2].plot(seconds, traces[0], color="0.7", label="raw")
    axes[2].plot(seconds, traces[1], color="darkorange", label="denoised")
    axes[2].set(title="the marked dim cell, 3 x 3 pixels", xlabel="time (s)", ylabel="counts")
    axes[2].legend(frameon=False)
    axes[2].spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
