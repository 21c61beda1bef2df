"""``bench.png``: how latencies are distributed, when they occurred, and what they consist of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .play import DELIVERED
from .results import Benchmark, CaseTimeline, CaseTimes, MeasuredCase
from .statistics import STAGES

__all__ = ["draw"]

_WIDE = 8.0

_COLOURS = ("#00798c", "#d1495b", "#8a5a00", "#5b5ea6", "#4f772d", "#444444")
_STAGE_COLOURS = ("#bbbbbb", "#d1495b", "#00798c", "#dddddd", "#30638e", "#edae49", "#8a5a00")


def draw(report: Benchmark, timelines: Sequence[CaseTimeline], path: Path) -> None:
    """Draw the picture.

    Parameters
    ----------
    report
        What `bench` returns.
    timelines
        Its cases' timelines, in the same order.
    path
        PNG to write.

    Raises
    ------
    ValueError
        When no case was measured.
    """
    cases = [
        (result, entry.timeline)
        for result, entry in zip(report.cases, timelines, strict=True)
        if isinstance(result, MeasuredCase) and entry.timeline is not None
    ]
    if not cases:
        raise ValueError("no case was measured")
    sizes = list(dict.fromkeys((r.case.height, r.case.width) for r, _ in cases))
    bars = 1.6 + 0.3 * len(cases)
    figure = Figure(figsize=(14, 3.6 * len(sizes) + bars), layout="constrained")
    grid = figure.add_gridspec(len(sizes) + 1, 5, height_ratios=[3.6] * len(sizes) + [bars])
    for row, (height, width) in enumerate(sizes):
        here = [(r, t) for r, t in cases if (r.case.height, r.case.width) == (height, width)]
        _draw_distribution(figure.add_subplot(grid[row, :2]), here, f"{height} x {width}")
        _draw_timeline(figure.add_subplot(grid[row, 2:]), here, f"{height} x {width}")
    _draw_stages(figure.add_subplot(grid[len(sizes), :]), [result for result, _ in cases])
    where = report.provenance
    load = where.load_average_1min
    figure.suptitle(
        f"{where.cpu}, {where.cores.usable} cores, denoscope {where.denoscope}, "
        f"{where.created_utc}" + (f", load average {load:.1f}" if load is not None else ""),
        fontsize=11,
    )
    figure.savefig(path, dpi=110)


def _column(seconds: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.asarray([np.nan if value is None else value for value in seconds], np.float64)


def _name(result: MeasuredCase) -> str:
    case = result.case
    return f"{case.bundle_name} {case.backend} +{case.look_ahead} at {case.fps:g}/s"


def _draw_distribution(axes: Any, cases: Sequence[tuple[MeasuredCase, CaseTimes]], size: str) -> None:
    for number, (result, timeline) in enumerate(cases):
        first = timeline.warm_up_frames
        latency = (_column(timeline.delivered_s) - _column(timeline.scheduled_s))[
            first : first + timeline.measured_frames
        ]
        came = np.sort(latency[~np.isnan(latency)]) * 1e3
        if not len(came):
            continue
        # Of all measured frames: with drops the curve ends below 1.
        share = np.arange(1, len(came) + 1) / len(latency)
        colour = _COLOURS[number % len(_COLOURS)]
        axes.step(came, share, where="post", color=colour, lw=1.4, label=_name(result))
        wait_ms = result.case.look_ahead / result.case.fps * 1e3
        if wait_ms > 0:
            axes.axvline(wait_ms, color=colour, lw=0.8, ls=":")
    _log_if_wide(axes, "x", axes.get_xlim())
    axes.set_ylim(0, 1.02)
    axes.grid(visible=True, which="both", color="0.9", lw=0.5)
    axes.set_xlabel("camera to output (ms); dotted: the look-ahead alone", fontsize=9)
    axes.set_ylabel("share of all frames", fontsize=9)
    axes.set_title(f"{size}: distribution", fontsize=10, loc="left")
    _legend(axes, "upper left")


def _draw_timeline(axes: Any, cases: Sequence[tuple[MeasuredCase, CaseTimes]], size: str) -> None:
    dropped_somewhere = False
    for number, (_, timeline) in enumerate(cases):
        scheduled = _column(timeline.scheduled_s)
        latency = (_column(timeline.delivered_s) - scheduled) * 1e3
        colour = _COLOURS[number % len(_COLOURS)]
        first = timeline.warm_up_frames
        last = first + timeline.measured_frames
        # Without the tail, whose look-ahead is cut short by the end.
        axes.plot(scheduled[:last], latency[:last], color=colour, lw=0.9, marker=".", ms=2.5)
        dropped = np.asarray([outcome != DELIVERED for outcome in timeline.outcome])
        if dropped.any():
            dropped_somewhere = True
            # In the axes' own height, a little apart for each case.
            axes.plot(
                scheduled[dropped],
                np.full(dropped.sum(), 0.97 - 0.03 * number),
                "|",
                color=colour,
                ms=6,
                transform=axes.get_xaxis_transform(),
            )
        axes.axvline(scheduled[first], color=colour, lw=0.8, ls="--")
    _log_if_wide(axes, "y", axes.get_ylim())
    axes.grid(visible=True, which="both", color="0.9", lw=0.5)
    axes.set_xlabel("frame due at (s); measured from the dashed line on", fontsize=9)
    axes.set_ylabel("camera to output (ms)", fontsize=9)
    ticks = "; ticks at the top: dropped" if dropped_somewhere else ""
    axes.set_title(f"{size}: when{ticks}", fontsize=10, loc="left")


def _draw_stages(axes: Any, results: Sequence[MeasuredCase]) -> None:
    left = np.zeros(len(results))
    places = np.arange(len(results))
    for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True):
        if stage == "wait":
            continue
        values = np.asarray([(r.stages[stage].p50_s or 0.0) * 1e3 for r in results])
        axes.barh(places, values, left=left, color=colour, label=stage, height=0.7)
        left += values
    axes.set_yticks(places, [r.label for r in results], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("medians of the stages without the wait for the look-ahead (ms)", fontsize=9)
    axes.set_xlim(0, max(float(left.max()), 1e-3) * 1.15)  # room for the legend
    _legend(axes, "center right")


def _log_if_wide(axes: Any, direction: str, limits: tuple[float, float]) -> None:
    """Use decades only where the numbers span most of one, so that there are ticks to read."""
    low, high = limits
    if low > 0 and high / low < _WIDE:
        return
    axis = getattr(axes, f"{direction}axis")
    getattr(axes, f"set_{direction}scale")("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, place: str, columns: int = 1) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc=place, ncols=columns)
