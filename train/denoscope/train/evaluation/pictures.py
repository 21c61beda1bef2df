"""The pictures of an evaluation (matplotlib, no display)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .cells import region_traces
from .metrics import Reliability
from .real import MethodResult, MovieResult, flow_between, flow_frames
from .residual import REACH
from .truth import PairResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "file_stem",
    "flow_colours",
    "save_comparison",
    "save_flow",
    "save_movie_pictures",
    "save_projections",
    "save_reliability",
    "save_residual",
    "save_traces",
]

FloatArray = npt.NDArray[np.float32]

_TRACES = 6


def save_movie_pictures(result: MovieResult, folder: Path, stem: str) -> list[Path]:
    """Write every picture of a movie without truth into a folder and return the paths."""
    paths = [folder / f"{stem}_{what}.png" for what in ("projections", "traces", "flow")]
    save_projections(result, paths[0])
    if result.regions.max():
        save_traces(result, paths[1])
    else:
        del paths[1]
    save_flow(result, paths[-1])
    for method in result.methods[1:]:
        paths.append(folder / f"{stem}_residual_{file_stem(method.label)}.png")
        save_residual(result, method, paths[-1])
    return paths


def file_stem(name: str) -> str:
    """Return a movie's or bundle's name as the stem of a file's name on any system."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def save_projections(result: MovieResult, path: Path) -> None:
    """Draw one frame, the mean and the maximum over time of each method, the found objects outlined."""
    shown = result.methods
    figure, axes = _grid(3, len(shown), size=3.4)
    frame = int(np.argmax(shown[-1].movie.reshape(len(shown[-1].movie), -1).std(axis=1)))
    views: list[tuple[str, list[FloatArray]]] = [
        (f"frame {frame}", [m.movie[frame] for m in shown]),
        ("mean", [m.movie.mean(axis=0) for m in shown]),
        ("maximum", [m.movie.max(axis=0) for m in shown]),
    ]
    for row, (title, images) in enumerate(views):
        for column, (method, image) in enumerate(zip(shown, images, strict=True)):
            # A maximum over time of noise is brighter than any scene: each picture has its own range.
            low, high = (float(np.percentile(image, q)) for q in (0.5, 99.7))
            axes[row, column].imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            text = f"{method.label}: {title}"
            if title == "maximum":
                text += f", {len(method.objects)} objects ({method.supported} supported)"
                if len(method.objects):
                    axes[row, column].contour(
                        method.objects.labels > 0, levels=[0.5], colors="#ffb000", linewidths=0.8
                    )
            axes[row, column].set_title(text, fontsize="small")
            axes[row, column].set_axis_off()
    figure.suptitle(result.name)
    figure.savefig(path, dpi=110)


def save_traces(result: MovieResult, path: Path) -> None:
    """Draw the traces of the regions that change most, each in its own panel."""
    movies = {m.label: region_traces(m.movie, result.regions) for m in result.methods}
    liveliest = np.argsort(-next(reversed(movies.values())).std(axis=1), kind="stable")[:_TRACES]
    figure, axes = _grid(len(liveliest), 1, size=1.5, width=11.0)
    for row, region in enumerate(liveliest):
        for label, traces in movies.items():
            colour = "0.72" if label == "noisy" else None
            axes[row, 0].plot(traces[region], color=colour, linewidth=0.9, label=label)
        axes[row, 0].set_ylabel(f"region {region + 1}", fontsize="small")
    axes[0, 0].legend(ncols=len(movies), loc="upper right", fontsize="small")
    axes[-1, 0].set_xlabel("frame")
    figure.suptitle(f"{result.name}: mean counts of regions found in the raw movie")
    figure.savefig(path, dpi=110)


def save_residual(result: MovieResult, method: MethodResult, path: Path) -> None:
    """Draw what a bundle took away: its correlations, variance, mean image, baseline and spectrum."""
    residual = method.residual
    assert residual is not None
    white, base = residual.whiteness, residual.baseline
    taken = result.methods[0].movie - method.movie
    figure, axes = _grid(2, 4, size=3.2)
    middle = len(taken) // 2
    _diverging(axes[0, 0], taken[middle], f"taken away, frame {middle}")
    _diverging(axes[0, 1], taken.mean(axis=0), "taken away, mean over time")
    for column, (title, correlation) in enumerate(
        (("detector's own correlation", white.detector), ("residual's correlation", white.spatial)), start=2
    ):
        blanked = correlation.copy()
        blanked[REACH, REACH] = 0
        reach = (-REACH - 0.5, REACH + 0.5)
        image = axes[0, column].imshow(
            blanked, cmap="RdBu_r", vmin=-0.1, vmax=0.1, extent=(*reach, *reach[::-1])
        )
        axes[0, column].set(title=title, xlabel="columns", ylabel="rows")
    figure.colorbar(image, ax=axes[0, 3])
    axes[1, 0].axhspan(-white.limit, white.limit, color="0.9")
    axes[1, 0].stem(np.arange(1, len(white.temporal) + 1), white.temporal)
    axes[1, 0].set(
        title=f"correlation in time\nexcess {white.excess:+.4f}, white below {white.limit:.4f}",
        xlabel="lag (frames)",
    )
    levels = [b.mean for b in residual.bins]
    axes[1, 1].plot(levels, [b.model for b in residual.bins], "k-", label="noise model")
    axes[1, 1].plot(levels, [b.residual for b in residual.bins], "o", markersize=3, label="residual")
    expected = "" if residual.expected_ratio is None else f", expected {residual.expected_ratio:.3f}"
    axes[1, 1].set(title=f"variance; ratio {residual.variance_ratio:.3f}{expected}", xlabel="denoised counts")
    axes[1, 1].legend(fontsize="small")
    axes[1, 2].axhspan(-base.limit, base.limit, color="0.9")
    axes[1, 2].plot(base.frames, linewidth=0.8)
    axes[1, 2].set(title="mean taken away (sigma of a pixel)", xlabel="frame")
    centred = method.movie - method.movie.mean(axis=(1, 2), keepdims=True)
    spectrum = np.mean([np.abs(np.fft.fft2(f)) ** 2 for f in centred[:: max(1, len(centred) // 50)]], axis=0)
    axes[1, 3].imshow(
        np.fft.fftshift(np.log10(spectrum + 1e-12)), cmap="magma", extent=(-0.5, 0.5, 0.5, -0.5)
    )
    grid = residual.grid
    axes[1, 3].set(
        title=f"spectrum of the denoised movie\ngrid of {grid.stride} px: {grid.peak_db:.1f} dB "
        f"(around {grid.around_db:.1f})",
        xlabel="cycles per pixel",
    )
    for panel in axes.ravel():
        panel.title.set_fontsize("small")
    figure.suptitle(f"{result.name}, {method.label}: {residual.whiteness.excess:+.4f} excess correlation")
    figure.savefig(path, dpi=100)


def save_flow(result: MovieResult, path: Path) -> None:
    """Draw the flow between two frames as each method shows them: hue is direction, brightness length."""
    shown = result.methods
    frames = flow_frames(len(shown[0].movie))
    flows = [[flow_between(m.movie[t], m.movie[t + 1]) for t in frames] for m in shown]
    chosen = int(np.argmax([float(np.hypot(*f).mean()) for f in flows[-1]]))
    t = frames[chosen]
    longest = max(float(np.percentile(np.hypot(*flows[-1][chosen]), 99)), 0.5)
    figure, axes = _grid(2, len(shown), size=3.4)
    for column, (method, flow) in enumerate(zip(shown, flows, strict=True)):
        image = method.movie[t]
        low, high = (float(np.percentile(image, q)) for q in (0.5, 99.7))
        axes[0, column].imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes[0, column].set_title(f"{method.label}, frame {t}", fontsize="small")
        axes[1, column].imshow(flow_colours(flow[chosen], longest), interpolation="nearest")
        axes[1, column].set_title(
            f"flow to frame {t + 1}: mean {np.hypot(*flow[chosen]).mean():.2f} px,\n"
            f"inconsistent by {method.flow.inconsistency_px:.2f} px",
            fontsize="small",
        )
        axes[0, column].set_axis_off()
        axes[1, column].set_axis_off()
    figure.suptitle(f"{result.name}: noisy against refined flow, full colour at {longest:.1f} px")
    figure.savefig(path, dpi=110)


def flow_colours(flow: FloatArray, longest: float) -> npt.NDArray[np.float64]:
    """Return a flow (2, H, W) as colours (H, W, 3) in 0..1: hue direction, value length over `longest`."""
    from matplotlib.colors import hsv_to_rgb

    hue = (np.arctan2(flow[0], flow[1]) / (2 * np.pi)) % 1.0
    value = np.clip(np.hypot(flow[0], flow[1]) / longest, 0, 1)
    return np.asarray(hsv_to_rgb(np.stack([hue, np.ones_like(hue), value], axis=-1)), np.float64)


def save_reliability(result: PairResult, path: Path) -> None:
    """Draw observed against nominal coverage, and errors against predicted deviations."""
    from matplotlib.ticker import NullFormatter

    figure, axes = _grid(1, 2, size=4.2)
    spread, error = axes[0, 0], axes[0, 1]
    spread.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    extremes: list[float] = []
    for name, r in result.reliability.items():
        spread.plot(r.nominal, r.observed, marker="o", markersize=3, label=name)
        error.plot(r.predicted, r.actual, marker="o", markersize=3, label=name)
        extremes += _positive(r)
    spread.set(xlabel="nominal share", ylabel="share of the truth inside", title="predicted intervals")
    if extremes:
        error.plot([min(extremes), max(extremes)], [min(extremes), max(extremes)], color="0.6", linewidth=0.8)
        error.set(xscale="log", yscale="log")
        for axis in (error.xaxis, error.yaxis):  # between powers of ten numbers run into each other
            axis.set_minor_formatter(NullFormatter())
    error.set(
        xlabel="predicted deviation (counts)", ylabel="error, rms (counts)", title="by predicted deviation"
    )
    spread.legend(fontsize="small")
    figure.suptitle(result.name)
    figure.savefig(path, dpi=110)


def save_comparison(result: PairResult, clean: npt.NDArray[Any], path: Path) -> None:
    """Draw one frame, the brightest region's trace and the error of each method as a PNG at `path`."""
    truth = np.asarray(clean, np.float32)
    frame = int(np.argmax(truth.reshape(len(truth), -1).std(axis=1)))
    low, high = (float(np.percentile(truth[frame], q)) for q in (0.5, 99.7))
    activity = truth.std(axis=0)
    y, x = (int(i) for i in np.unravel_index(np.argmax(activity), activity.shape))
    region = np.s_[:, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
    shown = {"clean": truth, **result.estimates}
    figure = _figure(3.0 * len(shown), 7.2)
    grid = figure.add_gridspec(2, len(shown), height_ratios=(1.1, 1))
    scores = {row.method: row.score.psnr_db for row in result.rows}
    for column, (label, movie) in enumerate(shown.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(movie[frame], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(label if label == "clean" else f"{label}\n{scores[label]:.1f} dB")
        axes.set_axis_off()
    axes = figure.add_subplot(grid[1, :])
    for label, movie in shown.items():
        style = {"noisy": ("0.8", 0.6, 0), "clean": ("black", 2.2, 5)}.get(label, (None, 1.1, 3))
        axes.plot(
            movie[region].mean(axis=(1, 2)), label=label, color=style[0], linewidth=style[1], zorder=style[2]
        )
    axes.set(xlabel="frame", ylabel="counts", title=f"{result.name}: mean of 7 x 7 pixels at ({y}, {x})")
    axes.legend(ncols=len(shown), loc="upper right", fontsize="small")
    figure.savefig(path, dpi=110)


def _positive(reliability: Reliability) -> list[float]:
    return [v for v in (*reliability.predicted, *reliability.actual) if v > 0]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _grid(
    rows: int, columns: int, *, size: float, width: float | None = None
) -> tuple[Figure, npt.NDArray[np.object_]]:
    figure = _figure(width or size * columns, size * rows + 0.5)
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False), object)


def _diverging(axes: Axes, image: FloatArray, title: str) -> None:
    spread = float(np.percentile(np.abs(image), 99)) or 1.0
    axes.imshow(image, cmap="RdBu_r", vmin=-spread, vmax=spread, interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()
