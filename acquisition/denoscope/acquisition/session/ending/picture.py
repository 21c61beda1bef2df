"""``report.png``: what the session did to the movie, on one page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from denoscope.acquisition.offline.places import COLOURS, SIDE, draw_scale_bar, pick_places, trace_at
from denoscope.acquisition.raw.writer import raw_pages
from denoscope.acquisition.sinks.ome import DENOISED_MOVIE
from denoscope.runtime import InvalidInput, counted

if TYPE_CHECKING:
    from denoscope.acquisition.results import SessionReport
    from denoscope.runtime import CameraCalibration

__all__ = ["draw_report"]

_FRAMES = 300
_NOTHING = "no frame was denoised, so there is nothing to show"
_Movie = npt.NDArray[np.float32]


def _read(output: Path, not_denoised: set[int]) -> tuple[_Movie, _Movie, list[int], int]:
    """Return the last raw frames (T, H, W), those of them that were denoised, their places among them, and the first.

    At most 300 raw frames at the end of the recording, of one shape.
    """
    import tifffile

    raw = raw_pages(output)
    with tifffile.TiffFile(output / DENOISED_MOVIE) as denoised:
        pages = denoised.pages
        stop = min(len(raw), len(pages))
        shown = [index for index in range(stop) if index not in not_denoised]
        if not shown:
            raise InvalidInput(_NOTHING)
        first = min(max(0, stop - _FRAMES), shown[-1])
        kept = [index for index in shown if index >= first]
        clean = np.stack([pages[index].asarray() for index in kept])
        noisy = np.stack([raw[index] for index in range(first, stop)])
    places = [index - first for index in kept]
    return noisy.astype(np.float32), clean.astype(np.float32), places, first


def _pages_without(report: SessionReport) -> set[int]:
    """Return the raw pages whose plane shows something else than a denoised frame."""
    frames = report.frames
    pages = [page for first, last in frames.not_denoised.pages for page in range(first, last + 1)]
    return set(pages[frames.computed_afterwards :])  # those of one stream are computed in order


def draw_report(output: Path, report: SessionReport, camera: CameraCalibration | None = None) -> Path:
    """Draw ``report.png`` into the run folder and return its path.

    One frame raw and denoised on the same scale, the standard deviation over time of both on the
    same scale, traces of three squares raw and denoised, and the histogram of latencies. Traces of raw frames
    have every frame; those of denoised ones have gaps where none was denoised.

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
    InvalidInput
        When no frame was denoised.
    """
    if not report.frames.denoised + report.frames.computed_afterwards:
        raise InvalidInput(_NOTHING)
    noisy, clean, places, first = _read(output, _pages_without(report))
    if camera is not None:
        noisy = camera.correct(noisy)
    middle = len(places) // 2
    units = "photo-electrons" if camera is not None else "counts"
    shown_at = first + places[middle]
    figure = Figure(figsize=(14, 8.8), layout="constrained")
    grid = figure.add_gridspec(4, 4, height_ratios=(4, 1, 1, 1))
    low, high = (float(value) for value in np.percentile(noisy[places[middle]], (1, 99.7)))
    std_raw, std_clean = noisy[places].std(0), clean.std(0)
    std_high = float(np.percentile(std_raw, 99.7))
    rois = pick_places(clean.mean(0), std_clean)
    panels = [
        (f"raw, frame {shown_at}", noisy[places[middle]], (low, high), "gray"),
        (f"denoised, frame {shown_at}", clean[middle], (low, high), "gray"),
        (f"raw, variation over {counted(len(places), 'frame')}", std_raw, (0.0, std_high), "magma"),
        ("denoised, variation over the same", std_clean, (0.0, std_high), "magma"),
    ]
    for column, (title, image, (bottom, top), colours) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        shown = axes.imshow(
            image, cmap=colours, vmin=bottom, vmax=max(top, bottom + 1e-6), interpolation="nearest"
        )
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        bar = figure.colorbar(shown, ax=axes, orientation="horizontal", fraction=0.05, pad=0.02)
        bar.set_label(units if column < 2 else f"standard deviation ({units})", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        draw_scale_bar(axes, image.shape, report.source.pixel_size_m)
        for (row, col), colour in zip(rois, COLOURS, strict=False):
            axes.plot(col, row, "s", mfc="none", mec=colour, ms=7)
    _draw_traces(figure, grid, (noisy, clean), (places, first), rois, report, units)
    _draw_latencies(figure.add_subplot(grid[1:, 3]), report)
    figure.suptitle(
        f"{report.source.name}: {_outcome(report)}   |   bundle {report.denoiser.bundle}, {report.denoiser.backend}"
        + ("" if report.light is None else f"\n{report.light.half()}"),
        fontsize=11,
        parse_math=False,  # a name may hold dollar signs
    )
    path = output / "report.png"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # letters of a name that the font has not
        figure.savefig(path, dpi=110)
    return path


def _outcome(report: SessionReport) -> str:
    """Return how many frames there are of each kind; one that was skipped and computed afterwards is not missing."""
    frames = report.frames
    later = frames.computed_afterwards
    missing = sum(frames.dropped.values()) - later
    return (
        f"{counted(frames.received, 'frame')}, {frames.written_raw} saved raw, {frames.denoised} denoised live"
        + (f", {later} denoised afterwards" if later else "")
        + (f", {missing} not denoised" if missing > 0 else "")
    )


def _draw_traces(
    figure: Figure,
    grid: Any,
    movies: tuple[_Movie, _Movie],
    when: tuple[list[int], int],
    rois: list[tuple[int, int]],
    report: SessionReport,
    units: str,
) -> None:
    (noisy, clean), (places, first) = movies, when
    rate = report.source.frame_rate_hz or report.timing.fps_in_hz or 1.0
    times_s = (first + np.arange(len(noisy))) / rate
    for number, ((row, column), colour) in enumerate(zip(rois, COLOURS, strict=False)):
        axes = figure.add_subplot(grid[1 + number, 0:3])
        trace = np.full(len(noisy), np.nan, np.float32)  # not a number where no frame was denoised: a gap
        trace[places] = trace_at(clean, row, column)
        axes.plot(times_s, trace_at(noisy, row, column), color="0.7", lw=0.8, label="raw")
        axes.plot(times_s, trace, color=colour, lw=1.4, label="denoised")
        kind = "dim place, " if number == 0 and len(rois) > 1 else ""
        axes.set_title(
            f"{kind}mean of {SIDE}x{SIDE} pixels at row {row}, column {column}", fontsize=9, loc="left"
        )
        axes.set_ylabel(units, fontsize=8)
        axes.margins(x=0.01)
        if number == len(rois) - 1:
            axes.set_xlabel("time (s)", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(
            fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.1
        )


def _round_ticks(first: float, last: float) -> list[float]:
    """Return one to about six round numbers from `first` to `last` for a logarithmic axis."""
    powers = 10.0 ** np.arange(np.floor(np.log10(first)), np.ceil(np.log10(last)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [float(step * power) for power in powers for step in steps]
        inside = [tick for tick in ticks if first <= tick <= last]
        if len(inside) >= 3:
            return inside[:: -(-len(inside) // 6)]
    return [round(first), round(last)]


def _draw_latencies(axes: Any, report: SessionReport) -> None:
    timing = report.timing
    histogram = timing.latency_histogram
    edges = np.asarray(histogram.edge_s) * 1e3
    if not len(edges):
        axes.set_axis_off()
        axes.set_title("no frame after the first second: no delay to show", fontsize=9)
        return
    axes.bar(edges[:-1], histogram.frames, width=np.diff(edges), align="edge", color="0.5")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(_round_ticks(float(edges[0]), float(edges[-1])))
    quantiles = (
        ("median", timing.latency_p50_s, COLOURS[1]),
        ("95 % within", timing.latency_p95_s, COLOURS[2]),
        ("99 % within", timing.latency_p99_s, COLOURS[0]),
    )
    for name, value_s, colour in quantiles:
        if value_s is None:
            continue
        value_ms = value_s * 1e3
        axes.axvline(value_ms, color=colour, lw=1.2, label=f"{name} {value_ms:.0f} ms")
    axes.set_title("delay from the camera to the denoised frame", fontsize=9)
    axes.set_xlabel("delay (ms)", fontsize=8)
    axes.set_ylabel("frames", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8)
