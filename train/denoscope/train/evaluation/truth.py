"""Measure bundles against truth and against the best simple filters: a table and a picture a movie."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import (
    Bundle,
    Denoised,
    FrameMeta,
    InvalidInput,
    SlowResidual,
    Stream,
    calibrate_stream,
    counted,
    estimate_intensity,
    with_slow_residual,
)
from denoscope.runtime.noise.clipped import filled_estimate, saturated_pixels

from .cells import find_objects, match_objects
from .metrics import Reliability, Score, best_gaussian, best_temporal_average, reliability, score
from .records import FoundRecord, PairRecord, ReliabilityRecord, ScoreRecord
from .verdicts import margin_verdict

_CALIBRATION = 32  # frames for the noise model

__all__ = [
    "Found",
    "PairResult",
    "Row",
    "denoise_offline",
    "evaluate_pair",
    "measure_bundle",
    "measure_filters",
    "predicts_std",
    "unique_names",
]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One line of the table: a method, how it was set, its scores and seconds a frame."""

    method: str
    setting: str
    score: Score
    frame_s: float | None = None

    def record(self) -> ScoreRecord:
        """Return plain values for JSON."""
        return ScoreRecord(
            method=self.method, setting=self.setting, frame_s=self.frame_s, **asdict(self.score)
        )


@dataclass(frozen=True)
class Found:
    """Objects in the maximum projection beside those of the clean movie's.

    Attributes
    ----------
    truth
        How many the clean movie shows.
    matched
        How many of these are found.
    surplus
        Found where the clean movie shows none.
    """

    truth: int
    matched: int
    surplus: int


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
        Share of clean pixels inside the predicted interval, by bundle that predicts one.
    reliability
        The same for every interval, and deviations beside errors.
    found
        Objects by method.
    """

    name: str
    rows: list[Row]
    estimates: dict[str, FloatArray]
    coverage_68: dict[str, float]
    coverage_95: dict[str, float]
    reliability: dict[str, Reliability] = field(default_factory=dict)
    found: dict[str, Found] = field(default_factory=dict)

    def margin_db(self, method: str) -> float:
        """Return by how many dB (peak = maximum) a method beats the best baseline."""
        scores = {row.method: row.score.psnr_db for row in self.rows}
        return scores[method] - max(scores["gaussian"], scores["temporal average"])

    def record(self) -> PairRecord:
        """Return plain values for JSON."""
        return PairRecord(
            movie=self.name,
            verdicts={row.method: margin_verdict(self.margin_db(row.method)) for row in self.rows[3:]},
            methods=[row.record() for row in self.rows],
            coverage_68=self.coverage_68,
            coverage_95=self.coverage_95,
            reliability={name: ReliabilityRecord(**asdict(r)) for name, r in self.reliability.items()},
            objects={name: FoundRecord(**asdict(f)) for name, f in self.found.items()},
        )


def predicts_std(bundle: Bundle) -> bool:
    """Say whether a bundle predicts the standard deviation of what it returns."""
    return bundle.manifest.predicts_std


def unique_names(bundles: Sequence[Bundle]) -> list[str]:
    """Return the bundles' names; where two share one, the folder's name tells them apart.

    Raises
    ------
    InvalidInput
        If the same bundle is given twice.
    """
    names = [b.manifest.name for b in bundles]
    names = [
        n if names.count(n) == 1 else f"{n} ({b.folder.stem})" for n, b in zip(names, bundles, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(
                f"The bundle {name} is given {counted(names.count(name), 'time')}: give each once."
            )
    return names


def denoise_offline(
    bundle: Bundle,
    frames: npt.NDArray[Any],
    *,
    backend: str = "auto",
    look_ahead: int | None = None,
    on_frame: Callable[[int], None] = lambda _: None,
) -> tuple[npt.NDArray[Any], FloatArray | None]:
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
        (T, H, W) in the input's dtype and scale, and float32 in the same units; None from a bundle
        that predicts no deviation.
    """
    mean = np.empty(frames.shape, frames.dtype)
    wanted = predicts_std(bundle)
    std = np.empty(frames.shape, np.float32) if wanted else None
    with Stream(bundle, backend=backend, look_ahead=look_ahead, std=wanted, start_within_s=None) as stream:
        if stream.bundle.manifest.two_sided:
            calibrate_stream(stream, frames)
            stream.survey(frames, 0, len(frames))
        slow = SlowResidual.of(stream, len(frames))
        outputs = with_slow_residual(_counted(stream, frames, on_frame), slow, frames.__getitem__)
        with closing(outputs):
            for output in outputs:
                mean[output.meta.number] = output.frame
                if std is not None:
                    assert output.std is not None
                    std[output.meta.number] = output.std
    return mean, std


def _counted(stream: Stream, frames: npt.NDArray[Any], on_frame: Callable[[int], None]) -> Iterator[Denoised]:
    """Yield the outputs of a movie, and call `on_frame` with how many there are."""
    done = 0
    for number in range(len(frames) + 1):
        if number < len(frames):
            outputs = stream.push(frames[number], FrameMeta(number=number, t_received_s=time.perf_counter()))
        else:
            outputs = stream.flush()
        for output in outputs:
            done += 1
            on_frame(done)
            yield output


def evaluate_pair(
    name: str,
    noisy: npt.NDArray[Any],
    clean: npt.NDArray[Any],
    bundles: Sequence[Bundle],
    *,
    backend: str = "auto",
    radius_px: float = 5.0,
    on_frame: Callable[[int], None] = lambda _: None,
    known: npt.NDArray[np.bool_] | None = None,
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
    radius_px
        Radius of the objects that are counted.
    on_frame
        Called with the number of frames done by the current bundle.
    known
        (T, H, W) pixels that were measured in both movies; others are left out of the numbers. None for all.

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
    shown = np.asarray(clean, np.float32)
    known = _measured(noisy, known)
    truth = shown if known is None else np.where(known, shown, np.float32(np.nan))
    measured = measure_filters(truth, noisy)
    reliabilities: dict[str, Reliability] = {}
    for bundle, label in zip(bundles, unique_names(bundles), strict=True):
        row, estimate, intervals = measure_bundle(
            label, bundle, noisy, truth, backend=backend, on_frame=on_frame
        )
        measured.append((row, estimate))
        if intervals is not None:
            reliabilities[label] = intervals
    rows = [row for row, _ in measured]
    estimates = {row.method: estimate for row, estimate in measured}
    return PairResult(
        name,
        rows,
        estimates,
        coverage_68={label: r.coverage(0.68) for label, r in reliabilities.items()},
        coverage_95={label: r.coverage(0.95) for label, r in reliabilities.items()},
        reliability=reliabilities,
        found=_found(shown, estimates, radius_px),
    )


def _measured(noisy: npt.NDArray[Any], known: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
    """Return which pixels were measured, and do not saturate: there the ceiling is shown; None for all."""
    filled, estimated = filled_estimate(noisy[:_CALIBRATION])
    intensity = estimated or estimate_intensity(filled)
    measured: npt.NDArray[np.bool_] | None = None
    for t, frame in enumerate(noisy):
        lost = saturated_pixels(frame, intensity)
        if lost is not None:
            if measured is None:
                measured = np.ones(noisy.shape, np.bool_) if known is None else known.copy()
            measured[t] &= ~lost
    return known if measured is None else measured


def measure_filters(truth: FloatArray, noisy: npt.NDArray[Any]) -> list[tuple[Row, FloatArray]]:
    """Return the noisy movie and the two filters that are tuned on the truth, each with its row.

    Parameters
    ----------
    truth, noisy
        (T, H, W), same shape.
    """
    gaussian, width = best_gaussian(truth, noisy)
    average, length = best_temporal_average(truth, noisy)
    shown = {
        "noisy": ("", np.asarray(noisy, np.float32)),
        "gaussian": (f"tuned on the truth: {width}", gaussian),
        "temporal average": (f"tuned on the truth: {length}", average),
    }
    return [(Row(name, setting, score(truth, movie)), movie) for name, (setting, movie) in shown.items()]


def measure_bundle(
    label: str,
    bundle: Bundle,
    noisy: npt.NDArray[Any],
    truth: FloatArray,
    *,
    backend: str = "auto",
    on_frame: Callable[[int], None] = lambda _: None,
) -> tuple[Row, FloatArray, Reliability | None]:
    """Return a bundle's row, what it makes of the movie, and how its intervals hold.

    Parameters
    ----------
    label
        What the row is called.
    bundle, backend, on_frame
        As for `denoise_offline`.
    noisy, truth
        (T, H, W), same shape.
    """
    started = time.perf_counter()
    mean, std = denoise_offline(bundle, noisy, backend=backend, on_frame=on_frame)
    seconds = (time.perf_counter() - started) / len(noisy)
    row = Row(label, f"look-ahead {bundle.manifest.look_ahead}", score(truth, mean), seconds)
    intervals = None if std is None else reliability(truth, mean, std)
    return row, np.asarray(mean, np.float32), intervals


def _found(truth: FloatArray, estimates: dict[str, FloatArray], radius_px: float) -> dict[str, Found]:
    real = find_objects(truth.max(axis=0), radius_px)
    found = {}
    for label, movie in estimates.items():
        objects = find_objects(movie.max(axis=0), radius_px)
        matched = match_objects(objects, real, radius_px)
        found[label] = Found(len(real), matched, len(objects) - matched)
    return found
