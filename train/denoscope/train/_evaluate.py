"""Measure bundles against truth and against the best simple filters: a table and a picture a movie."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import Bundle, FrameMeta, InvalidInput, Stream
from denoscope.train._metrics import Score, best_gaussian, best_temporal_average, score

__all__ = ["PairResult", "Row", "denoise_offline", "evaluate_pair", "save_comparison"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One line of the table: a method, how it was set, its scores and seconds a frame."""

    method: str
    setting: str
    score: Score
    frame_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {"method": self.method, "setting": self.setting, **asdict(self.score)}
        return values if self.frame_s is None else {**values, "frame_s": self.frame_s}


@dataclass(frozen=True)
class PairResult:
    """All methods on one pair.

    Attributes
    ----------
    name
        Of the movie.
    rows
        Noisy, the baselines tuned on the truth, then the bundles.
    estimates
        (T, H, W) of each row's method.
    coverage_68, coverage_95
        Share of clean pixels inside the predicted interval, by bundle.
    """

    name: str
    rows: list[Row]
    estimates: dict[str, FloatArray]
    coverage_68: dict[str, float]
    coverage_95: dict[str, float]

    def margin_db(self, method: str) -> float:
        """Return by how many dB (peak = maximum) a method beats the best baseline."""
        scores = {row.method: row.score.psnr_db for row in self.rows}
        return scores[method] - max(scores["gaussian"], scores["temporal average"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "movie": self.name,
            "methods": [row.to_dict() for row in self.rows],
            "coverage_68": self.coverage_68,
            "coverage_95": self.coverage_95,
        }


def denoise_offline(
    bundle: Bundle,
    frames: npt.NDArray[Any],
    *,
    backend: str = "auto",
    look_ahead: int | None = None,
    on_frame: Callable[[int], None] = lambda _: None,
) -> tuple[npt.NDArray[Any], FloatArray]:
    """Denoise a movie through the runtime's stream, nothing skipped.

    Parameters
    ----------
    bundle
        What to run.
    frames
        (T, H, W) in a dtype that streams take.
    backend, look_ahead
        As for `Stream`.
    on_frame
        Called with the number of frames done.

    Returns
    -------
    mean, std
        (T, H, W) in the input's dtype and scale, and float32 in the same units.
    """
    mean = np.empty(frames.shape, frames.dtype)
    std = np.empty(frames.shape, np.float32)
    done = 0
    with Stream(bundle, backend=backend, look_ahead=look_ahead, std=True) as stream:
        for number in range(len(frames) + 1):
            if number < len(frames):
                outputs = stream.push(
                    frames[number], FrameMeta(number=number, t_received_s=time.perf_counter())
                )
            else:
                outputs = stream.flush()
            for output in outputs:
                mean[output.meta.number] = output.frame
                assert output.std is not None
                std[output.meta.number] = output.std
                done += 1
                on_frame(done)
    return mean, std


def evaluate_pair(
    name: str,
    noisy: npt.NDArray[Any],
    clean: npt.NDArray[Any],
    bundles: Sequence[Bundle],
    *,
    backend: str = "auto",
    on_frame: Callable[[int], None] = lambda _: None,
) -> PairResult:
    """Score the noisy movie, baselines that know the truth, and each bundle.

    Parameters
    ----------
    name
        Of the movie.
    noisy, clean
        (T, H, W), same shape.
    bundles
        What to measure.
    backend
        As for `Stream`.
    on_frame
        Called with the number of frames done by the current bundle.

    Raises
    ------
    InvalidInput
        If the two movies differ in shape.
    """
    if noisy.shape != clean.shape:
        raise InvalidInput(
            f"The pair {name} has {noisy.shape} noisy and {clean.shape} clean frames and pixels: "
            "give two movies of one shape."
        )
    truth = np.asarray(clean, np.float32)
    gaussian, width = best_gaussian(truth, noisy)
    average, length = best_temporal_average(truth, noisy)
    estimates = {"noisy": np.asarray(noisy, np.float32), "gaussian": gaussian, "temporal average": average}
    rows = [
        Row("noisy", "", score(truth, noisy)),
        Row("gaussian", f"tuned on the truth: {width}", score(truth, gaussian)),
        Row("temporal average", f"tuned on the truth: {length}", score(truth, average)),
    ]
    coverage_68, coverage_95 = {}, {}
    for bundle in bundles:
        label = bundle.manifest.name
        started = time.perf_counter()
        mean, std = denoise_offline(bundle, noisy, backend=backend, on_frame=on_frame)
        seconds = (time.perf_counter() - started) / len(noisy)
        error = np.abs(np.asarray(mean, np.float32) - truth)
        coverage_68[label] = float((error <= std).mean())
        coverage_95[label] = float((error <= 1.96 * std).mean())
        estimates[label] = np.asarray(mean, np.float32)
        setting = f"look-ahead {bundle.manifest.look_ahead}"
        rows.append(Row(label, setting, score(truth, mean), seconds))
    return PairResult(name, rows, estimates, coverage_68, coverage_95)


def save_comparison(result: PairResult, clean: npt.NDArray[Any], path: Path) -> None:
    """Draw one frame, the brightest region's trace and the error of each method as a PNG at `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    truth = np.asarray(clean, np.float32)
    frame = int(np.argmax(truth.reshape(len(truth), -1).std(axis=1)))
    low, high = (float(np.percentile(truth[frame], q)) for q in (0.5, 99.7))
    activity = truth.std(axis=0)
    y, x = (int(i) for i in np.unravel_index(np.argmax(activity), activity.shape))
    region = np.s_[:, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
    shown = {"clean": truth, **result.estimates}
    figure = Figure(figsize=(3.0 * len(shown), 7.2), layout="constrained")
    FigureCanvasAgg(figure)
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
