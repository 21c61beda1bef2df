"""``report.png``: what the session did to the movie, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from ._ome import DENOISED_MOVIE
from ._raw import raw_pages

if TYPE_CHECKING:
    from denoscope.runtime import CameraCalibration

__all__ = ["draw_report"]

_FRAMES = 300
_ROI = 5
_COLOURS = ("#d1495b", "#00798c", "#8a5a00")
_Movie = npt.NDArray[np.float32]


def _read_pairs(output: Path) -> tuple[_Movie, _Movie, list[int]]:
    """Return raw and denoised frames of the same moments ``(T, H, W)`` and their indices.

    The longest stretch of at most 300 denoised frames at the end of the recording, of one shape.
    """
    import tifffile
    from ome_types import from_tiff

    raw = raw_pages(output)
    with tifffile.TiffFile(output / DENOISED_MOVIE) as denoised:
        pixels = from_tiff(output / DENOISED_MOVIE).images[0].pixels
        every = [
            block.first_t + plane
            for block in pixels.tiff_data_blocks
            for plane in range(block.plane_count or 1)
        ]
        indices = every[-_FRAMES:]
        first = len(every) - len(indices)
        clean = np.stack([denoised.pages[first + page].asarray() for page in range(len(indices))])
        noisy = np.stack([raw[index] for index in indices])
    return noisy.astype(np.float32), clean.astype(np.float32), indices


def _smooth(image: _Movie, width: int) -> _Movie:
    """Return the mean of `image` over squares of `width` pixels (odd), edges replicated."""
    half = width // 2
    total = np.pad(image.astype(np.float64), half + 1, mode="edge").cumsum(0).cumsum(1)
    size = image.shape
    box = total[width:, width:] - total[:-width, width:] - total[width:, :-width] + total[:-width, :-width]
    mean: _Movie = (box[: size[0], : size[1]] / width**2).astype(np.float32)
    return mean


def _pick_rois(std: _Movie) -> list[tuple[int, int]]:
    """Return the centres of up to three squares that change most, apart from each other."""
    score = _smooth(std, _ROI)
    margin = _ROI // 2 + 1
    if min(score.shape) <= 2 * margin:
        return [(score.shape[0] // 2, score.shape[1] // 2)]
    score[:margin], score[-margin:], score[:, :margin], score[:, -margin:] = -1, -1, -1, -1
    rois: list[tuple[int, int]] = []
    apart = max(_ROI, min(score.shape) // 8)
    for _ in range(3):
        row, column = (int(value) for value in np.unravel_index(int(score.argmax()), score.shape))
        if score[row, column] < 0:
            break
        rois.append((row, column))
        score[max(0, row - apart) : row + apart, max(0, column - apart) : column + apart] = -1
    return rois


def _trace(movie: _Movie, row: int, column: int) -> _Movie:
    half = _ROI // 2
    top, left = max(0, row - half), max(0, column - half)
    mean: _Movie = movie[:, top : row + half + 1, left : column + half + 1].mean((1, 2))
    return mean


def draw_report(output: Path, report: dict[str, Any], camera: CameraCalibration | None = None) -> Path:
    """Draw ``report.png`` into the run folder and return its path.

    One frame raw and denoised on the same scale, the standard deviation over time of both on the
    same scale, traces of three squares raw and denoised, and the histogram of latencies.

    Parameters
    ----------
    output
        Run folder with ``raw.tif`` and a finished ``denoised.ome.tif``.
    report
        The session's report.
    camera
        What the frames were corrected with before they were denoised; raw frames are shown so too.

    Raises
    ------
    ValueError
        When no frame was denoised.
    """
    if not report["frames"]["denoised"]:
        raise ValueError("no frame was denoised")
    noisy, clean, indices = _read_pairs(output)
    if camera is not None:
        noisy = camera.correct(noisy)
    middle = len(indices) // 2
    figure = Figure(figsize=(14, 8.8), layout="constrained")
    grid = figure.add_gridspec(4, 4, height_ratios=(4, 1, 1, 1))
    low, high = (float(value) for value in np.percentile(noisy[middle], (1, 99.7)))
    std_raw, std_clean = noisy.std(0), clean.std(0)
    std_high = float(np.percentile(std_raw, 99.7))
    rois = _pick_rois(std_clean)
    panels = [
        (f"raw, frame {indices[middle]}", noisy[middle], (low, high), "gray"),
        (f"denoised, frame {indices[middle]}", clean[middle], (low, high), "gray"),
        (f"raw, std over {len(indices)} frames", std_raw, (0.0, std_high), "magma"),
        ("denoised, std over the same frames", std_clean, (0.0, std_high), "magma"),
    ]
    for column, (title, image, (bottom, top), colours) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        shown = axes.imshow(
            image, cmap=colours, vmin=bottom, vmax=max(top, bottom + 1e-6), interpolation="nearest"
        )
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        figure.colorbar(shown, ax=axes, orientation="horizontal", fraction=0.05, pad=0.02)
        for (row, col), colour in zip(rois, _COLOURS, strict=False):
            axes.plot(col, row, "s", mfc="none", mec=colour, ms=7)
    _draw_traces(figure, grid, noisy, clean, rois, indices, report)
    _draw_latencies(figure.add_subplot(grid[1:, 3]), report)
    frames, denoiser = report["frames"], report["denoiser"]
    dropped = sum(frames["dropped"].values())
    figure.suptitle(
        f"{report['source']['name']}: {frames['received']} frames received, {frames['written_raw']} "
        "written raw, "
        f"{frames['denoised']} denoised, {dropped} not denoised   |   bundle {denoiser.get('bundle')}, "
        f"{denoiser.get('backend')}",
        fontsize=11,
    )
    path = output / "report.png"
    figure.savefig(path, dpi=110)
    return path


def _draw_traces(
    figure: Figure,
    grid: Any,
    noisy: _Movie,
    clean: _Movie,
    rois: list[tuple[int, int]],
    indices: list[int],
    report: dict[str, Any],
) -> None:
    rate = report["source"]["frame_rate_hz"] or report["timing"]["fps_in_hz"] or 1.0
    times_s = np.asarray(indices) / rate
    for number, ((row, column), colour) in enumerate(zip(rois, _COLOURS, strict=False)):
        axes = figure.add_subplot(grid[1 + number, 0:3])
        axes.plot(times_s, _trace(noisy, row, column), color="0.7", lw=0.8, label="raw")
        axes.plot(times_s, _trace(clean, row, column), color=colour, lw=1.4, label="denoised")
        axes.set_title(f"mean of {_ROI}x{_ROI} pixels at ({row}, {column})", fontsize=9, loc="left")
        if number == len(rois) - 1:
            axes.set_xlabel("time (s)", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7, loc="upper right")


def _draw_latencies(axes: Any, report: dict[str, Any]) -> None:
    timing = report["timing"]
    histogram = timing["latency_histogram"]
    edges = np.asarray(histogram["edge_s"]) * 1e3
    if not len(edges):
        axes.set_axis_off()
        axes.set_title("no frame after calibration: no latency", fontsize=9)
        return
    axes.bar(edges[:-1], histogram["frames"], width=np.diff(edges), align="edge", color="0.5")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(np.unique(np.geomspace(edges[0], edges[-1], 5).round().astype(int)))
    for name, colour in (("p50", _COLOURS[1]), ("p95", _COLOURS[2]), ("p99", _COLOURS[0])):
        value_ms = timing[f"latency_{name}_s"] * 1e3
        axes.axvline(value_ms, color=colour, lw=1.2, label=f"{name} {value_ms:.0f} ms")
    axes.set_title("camera to denoised frame, with look-ahead", fontsize=9)
    axes.set_xlabel("latency (ms)", fontsize=8)
    axes.set_ylabel("frames", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8)
