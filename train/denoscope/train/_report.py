"""The picture of a training: before and after, what was taken away, and how the loss fell."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denoscope.train._data import TrainingMovie
from denoscope.train._fit import FitResult
from denoscope.train._reference import denoise_movie

__all__ = ["save_report"]

_FRAMES = 80  # at the end of the movie, most of them held out


def save_report(result: FitResult, movie: TrainingMovie, path: Path) -> None:
    """Draw the last frames of `movie` before and after denoising, the residual, a trace and the loss."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    noisy = np.asarray(movie.frames[-_FRAMES:], np.float32)
    denoised, _ = denoise_movie(result.network, noisy, movie.intensity)
    residual = noisy - denoised
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 4, height_ratios=(1.3, 1))
    low, high = (float(np.percentile(denoised, q)) for q in (0.5, 99.8))
    spread = float(np.percentile(np.abs(residual[-1]), 99))
    images = (
        ("measured, last frame", noisy[-1], low, high),
        ("denoised, last frame", denoised[-1], low, high),
        ("what was taken away", residual[-1], -spread, spread),
        ("its autocorrelation", _autocorrelation(residual), -0.1, 0.1),
    )
    for column, (title, image, bottom, top) in enumerate(images):
        axes = figure.add_subplot(grid[0, column])
        colours = "gray" if column < 2 else "RdBu_r"
        axes.imshow(image, cmap=colours, vmin=bottom, vmax=top, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    activity = denoised.std(axis=0)
    y, x = (int(i) for i in np.unravel_index(np.argmax(activity), activity.shape))
    region = np.s_[:, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
    axes = figure.add_subplot(grid[1, :2])
    axes.plot(noisy[region].mean(axis=(1, 2)), color="0.75", label="measured")
    axes.plot(denoised[region].mean(axis=(1, 2)), label="denoised")
    axes.set(title=f"mean of 5 x 5 pixels at ({y}, {x})", xlabel="frame", ylabel="counts")
    axes.legend()
    axes = figure.add_subplot(grid[1, 2:])
    if result.losses:
        axes.plot(*zip(*result.losses, strict=True), marker=".", markersize=3)
    axes.set(
        title=f"loss; held-out score {result.score_before:.4f} -> {result.score_after:.4f}", xlabel="step"
    )
    figure.savefig(path, dpi=100)


def _autocorrelation(residual: np.ndarray) -> np.ndarray:
    """Spatial autocorrelation (21, 21) of the residual, the centre (always 1) set to zero."""
    centred = residual - residual.mean(axis=0)
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(axis=0)
    correlation = np.fft.fftshift(np.fft.ifft2(power).real)
    cy, cx = (n // 2 for n in correlation.shape)
    correlation = correlation / correlation[cy, cx]
    correlation[cy, cx] = 0
    return np.asarray(correlation[cy - 10 : cy + 11, cx - 10 : cx + 11])
