"""``report.html``: what a training did to the movie, on one page that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from denoscope.runtime import Intensity, counted
from denoscope.runtime.motion.field import between
from denoscope.runtime.words import rounded
from denoscope.train.data.movie import TrainingMovie
from denoscope.train.evaluation.records import Verdict, worst
from denoscope.train.evaluation.residual import analyse_residual
from denoscope.train.evaluation.verdicts import gain_verdict, residual_verdicts, serious_first
from denoscope.train.fit_settings import FitResult, FitSettings

from .methods import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Report", "save_report"]

FloatArray = npt.NDArray[np.float32]

_FRAMES = {True: 80, False: 40}  # at the end of the movie, most of them held out; fewer for slow networks
_LAGS = 10
_REGIONS = 3
_RADIUS = 2


@dataclass(frozen=True)
class Report:
    """Facts on the page beside the result itself.

    Attributes
    ----------
    title
        Name of the bundle.
    method
        How it was trained.
    settings, network
        Settings of the training and of the network.
    movies
        What it was trained on; pictures show the end of the first.
    began_from
        What the weights began with, in words.
    warnings
        Sentences that the user should read first.
    """

    title: str
    method: Method
    settings: FitSettings
    network: Any
    movies: Sequence[TrainingMovie]
    began_from: str
    warnings: Sequence[str] = field(default_factory=list)


def save_report(
    result: FitResult[Any],
    report: Report,
    path: Path,
    *,
    on_share: Callable[[float], None] = lambda _: None,
) -> list[Verdict]:
    """Denoise the end of the first movie, write the page to `path` and return its verdicts, serious ones first.

    Frames larger than the method denoises in reasonable time are cut to their middle. `on_share` is called with the
    share of the frames that are denoised.
    """
    from jinja2 import Environment, StrictUndefined

    movie = report.movies[0]
    part = _middle(movie, report.method.report_edge)
    noisy = np.asarray(movie.frames[part], np.float32)
    fields = {}
    if movie.fields is not None:
        fields = {"fields": between(movie.fields[part[0]], movie.frames.shape[1:], part[1:])}
    denoised = report.method.denoise(result.network, noisy, movie.intensity, on_share=on_share, **fields)
    verdicts = _verdicts(result, report, noisy, denoised)
    pages = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(pages)
    frames, height, width = noisy.shape
    shown = (
        f"last {frames} of {counted(len(movie.frames), 'frame')} of {movie.name}, {height} x {width} pixels"
    )
    figures = {
        f"Before and after ({shown})": draw_pictures(noisy, denoised),
        "The most active regions": draw_traces(noisy, denoised),
    }
    details = {
        "What was taken away should be noise: its correlation in space and time": draw_residual(
            noisy, denoised, movie.intensity
        ),
        "The course of the training": draw_course(result, report.method.score),
    }
    page = template.render(
        title=report.title,
        level=worst(verdicts),
        verdicts=verdicts,
        warnings=list(report.warnings),
        figures={title: _embedded(figure) for title, figure in figures.items()},
        details={title: _embedded(figure) for title, figure in details.items()},
        tables={
            "Training": _training_table(result, report),
            "Noise model": _noise_table(report.movies),
            "Network": asdict(report.network),
            "Settings": asdict(report.settings),
        },
    )
    path.write_text(page, encoding="utf-8")
    return verdicts


def _verdicts(
    result: FitResult[Any], report: Report, noisy: FloatArray, denoised: FloatArray
) -> list[Verdict]:
    movie, method = report.movies[0], report.method
    gain = gain_verdict(
        result.score_before,
        result.score_after,
        improved=result.improved,
        from_nothing=report.began_from == "nothing",
    )
    residual = analyse_residual(noisy, denoised, movie.intensity, stride=method.stride).record()
    return serious_first([gain, *residual_verdicts(residual)])


def draw_pictures(noisy: FloatArray, denoised: FloatArray) -> Figure:
    """Draw the last frame before and after, the mean of the frames, and what was taken away."""
    figure, axes = _figure(15, 4.4, 4)
    low, high = (float(np.percentile(denoised, q)) for q in (0.5, 99.8))
    high = max(high, low + 1e-6)
    removed = noisy[-1] - denoised[-1]
    spread = max(float(np.percentile(np.abs(removed), 99)), 1e-6)
    for place, (title, image) in zip(
        axes,
        (
            ("measured, last frame", noisy[-1]),
            ("denoised, last frame", denoised[-1]),
            ("mean of the measured frames", noisy.mean(axis=0)),
        ),
        strict=False,
    ):
        _picture(place, title, image, "gray", low, high)
    _picture(axes[3], "taken away, last frame", removed, "RdBu_r", -spread, spread)
    return figure


def draw_residual(noisy: FloatArray, denoised: FloatArray, intensity: Intensity) -> Figure:
    """Draw the residual's autocorrelation in space and along time, and its deviation beside the noise model."""
    figure, axes = _figure(15, 4.2, 3)
    residual = noisy - denoised
    spatial, temporal = spatial_autocorrelation(residual), temporal_autocorrelation(residual)
    image = axes[0].imshow(spatial, cmap="RdBu_r", vmin=-0.1, vmax=0.1, extent=(-10.5, 10.5, 10.5, -10.5))
    axes[0].set(title="correlation in space (centre left out)", xlabel="columns", ylabel="rows")
    figure.colorbar(image, ax=axes[0])
    lags = np.arange(1, len(temporal) + 1)
    axes[1].axhline(0, color="0.7")
    axes[1].bar(lags, temporal, width=0.6)
    axes[1].set(title="correlation along time", xlabel="frames", ylim=(-0.2, 0.2))
    deviation = residual.std(axis=0)
    brightness = denoised.mean(axis=0)
    axes[2].scatter(brightness.ravel()[::7], deviation.ravel()[::7], s=3, alpha=0.4, label="pixels")
    counts = np.linspace(float(brightness.min()), float(brightness.max()), 100)
    z = (counts - intensity.offset) / intensity.scale
    variance = np.maximum(intensity.noise_slope * z + 1, intensity.noise_floor)
    axes[2].plot(counts, intensity.scale * np.sqrt(variance), color="black", label="noise model")
    axes[2].set(title="deviation of what was taken away", xlabel="brightness (counts)", ylabel="counts")
    axes[2].legend()
    return figure


def draw_traces(noisy: FloatArray, denoised: FloatArray) -> Figure:
    """Draw the traces of the regions that vary most in the denoised movie."""
    places = active_regions(denoised, _REGIONS)
    figure, axes = _figure(15, 2.2 * len(places), 1, rows=len(places))
    for place, (y, x) in zip(axes, places, strict=True):
        area = np.s_[:, max(0, y - _RADIUS) : y + _RADIUS + 1, max(0, x - _RADIUS) : x + _RADIUS + 1]
        place.plot(noisy[area].mean(axis=(1, 2)), color="0.7", label="measured")
        place.plot(denoised[area].mean(axis=(1, 2)), label="denoised")
        side = 2 * _RADIUS + 1
        place.set(ylabel="counts", title=f"mean of {side} x {side} pixels round row {y}, column {x}")
    axes[0].legend(loc="upper right")
    axes[-1].set_xlabel("frame")
    return figure


def draw_course(result: FitResult[Any], score: str) -> Figure:
    """Draw loss and held-out score over the steps."""
    figure, axes = _figure(15, 3.6, 2)
    if result.losses:
        axes[0].plot(*zip(*result.losses, strict=True), marker=".", markersize=3)
    axes[0].set(title="loss (smoothed)", xlabel="step")
    steps, scores = zip((0, result.score_before), *result.scores, strict=True)
    axes[1].plot(steps, scores, marker="o", markersize=4)
    axes[1].axhline(result.score_after, color="0.7", linestyle="--", label="best trained")
    axes[1].set_title(score, fontsize="medium")
    axes[1].set_xlabel("step")
    axes[1].legend()
    return figure


def active_regions(denoised: FloatArray, count: int) -> list[tuple[int, int]]:
    """Return the centres (row, column) of the regions whose mean varies most, apart from each other."""
    size = (1, 2 * _RADIUS + 1, 2 * _RADIUS + 1)
    activity = ndimage.uniform_filter(denoised, size).std(axis=0)
    places = []
    for _ in range(count):
        y, x = (int(i) for i in np.unravel_index(int(np.argmax(activity)), activity.shape))
        places.append((y, x))
        activity[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9] = -np.inf
        if not np.isfinite(activity).any():
            break
    return places


def spatial_autocorrelation(residual: FloatArray) -> npt.NDArray[np.float64]:
    """Spatial autocorrelation of the residual up to ten pixels, the centre (always 1) set to zero."""
    centred = residual - residual.mean(axis=0)
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(axis=0)
    correlation = np.fft.fftshift(np.fft.ifft2(power).real)
    cy, cx = (n // 2 for n in correlation.shape)
    correlation = correlation / max(float(correlation[cy, cx]), 1e-12)
    correlation[cy, cx] = 0
    return np.asarray(correlation[cy - _LAGS : cy + _LAGS + 1, cx - _LAGS : cx + _LAGS + 1])


def temporal_autocorrelation(residual: FloatArray) -> npt.NDArray[np.float64]:
    """Autocorrelation of the residual along time at lags from one frame on, mean over the pixels."""
    centred = residual - residual.mean(axis=0)
    power = max(float((centred**2).mean()), 1e-12)
    lags = range(1, min(_LAGS, len(residual) // 2) + 1)
    return np.array([float((centred[lag:] * centred[:-lag]).mean()) / power for lag in lags])


def _middle(movie: TrainingMovie, edge: int) -> tuple[slice, slice, slice]:
    """Return the last frames, and the middle of large ones."""
    height, width = movie.frames.shape[1:]
    top, left = max(0, (height - edge) // 2), max(0, (width - edge) // 2)
    start = max(0, len(movie.frames) - _FRAMES[edge >= 512])
    bottom, right = min(height, top + edge), min(width, left + edge)
    return slice(start, len(movie.frames)), slice(top, bottom), slice(left, right)


def _training_table(result: FitResult[Any], report: Report) -> Mapping[str, Any]:
    return {
        "method": report.method.name,
        "began from": report.began_from,
        "movies": "; ".join(f"{m.name}, {' x '.join(map(str, m.frames.shape))}" for m in report.movies),
        "steps": result.steps,
        "minutes": f"{result.seconds / 60:.1f} ({result.processor_s / 60:.1f} of processor time)",
        "ended because": result.stopped,
        "parameters": f"{sum(p.numel() for p in result.network.parameters()):,}",
    }


def _noise_table(movies: Sequence[TrainingMovie]) -> Mapping[str, Any]:
    return {
        m.name: f"{rounded(m.intensity.gain)} counts a photon; noise {rounded(m.intensity.scale)} counts at the median "
        f"{rounded(m.intensity.offset, 4)}"
        for m in movies
    }


def _figure(width: float, height: float, columns: int, *, rows: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _picture(axes: Axes, title: str, image: npt.NDArray[Any], colours: str, low: float, high: float) -> None:
    axes.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


def _embedded(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
