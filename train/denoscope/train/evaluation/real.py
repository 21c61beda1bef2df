"""Measure bundles on a real movie, of which nobody knows the truth.

What can be asked without truth: is what was taken away the camera's noise (`_residual`), do regions
that are found in the raw movie keep their traces, how many objects does one standard segmentation find
before and after and do raw counts support them (`_cells`), and is the flow between frames consistent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.registration import optical_flow_ilk

from denoscope.runtime import Bundle, Intensity, InvalidInput, counted, estimate_intensity
from denoscope.runtime.movies.holes import fill_sources
from denoscope.runtime.noise.clipped import filled_estimate, saturated_pixels

from .cells import (
    Objects,
    Tracks,
    count_supported,
    find_objects,
    region_traces,
    require_tracker,
    track_objects,
)
from .records import FlowRecord, MethodRecord, MovieRecord, TraceRecord, TracksRecord, worst
from .residual import Residual, analyse_residual
from .truth import denoise_offline, unique_names
from .verdicts import object_verdicts, residual_verdicts, serious_first, trace_verdicts

__all__ = [
    "FlowScore",
    "MethodResult",
    "MovieResult",
    "TraceScore",
    "evaluate_movie",
    "flow_between",
    "score_flow",
    "score_traces",
]

FloatArray = npt.NDArray[np.float32]

LEAST_FRAMES = 8
MOST_PIXELS = 400_000_000  # of one movie: a few copies of it are held as float32
_CALIBRATION = 200  # frames for the noise model
_RUNNING = 8  # frames averaged before the maximum in which regions are looked for
_MOST_REGIONS = 50
_FLOW_PAIRS = 4


@dataclass(frozen=True)
class TraceScore:
    """Traces of the regions found in the raw movie, medians over regions.

    Attributes
    ----------
    snr
        99th percentile minus median, over the noise between successive frames. Any smoothing in time
        raises it: read it together with the next three.
    correlation
        With the raw trace.
    ceiling
        The correlation with the raw trace that the truth itself would have.
    slope
        Of the raw on the denoised trace, all regions together: 1 when what is shown is what was
        measured, above 1 when activity is swallowed, below 1 when it is invented.
    """

    snr: float
    correlation: float
    ceiling: float
    slope: float


@dataclass(frozen=True)
class FlowScore:
    """Optical flow between neighbouring frames of one movie.

    Attributes
    ----------
    magnitude_px
        Mean length.
    inconsistency_px
        Median distance from the start after following the flow forth and back.
    """

    magnitude_px: float
    inconsistency_px: float


@dataclass(frozen=True)
class MethodResult:
    """One movie, noisy or as a bundle made it.

    Attributes
    ----------
    label
        `noisy`, or the bundle's name.
    movie
        (T, H, W) float32 raw counts.
    objects, supported
        Found in the maximum projection, and how many of them raw counts support.
    traces, flow
        None where no region was found, or the movie is too short.
    residual
        None for the noisy movie.
    tracks
        None unless asked for.
    frame_s
        Seconds a frame; None for the noisy movie.
    """

    label: str
    movie: FloatArray = field(repr=False)
    objects: Objects
    supported: int
    traces: TraceScore | None
    flow: FlowScore
    residual: Residual | None = None
    tracks: Tracks | None = None
    frame_s: float | None = None

    def record(self) -> MethodRecord:
        """Return plain values for JSON."""
        residual = None if self.residual is None else self.residual.record()
        traces = None if self.traces is None else TraceRecord(**asdict(self.traces))
        verdicts = []
        if residual is not None:
            verdicts = [
                *residual_verdicts(residual),
                *trace_verdicts(traces),
                *object_verdicts(len(self.objects), self.supported),
            ]
        return MethodRecord(
            method=self.label,
            verdict=None if residual is None else worst(verdicts),
            verdicts=serious_first(verdicts),
            objects=len(self.objects),
            objects_supported_by_raw_counts=self.supported,
            traces=traces,
            flow=FlowRecord(**asdict(self.flow)),
            residual=residual,
            tracks=None
            if self.tracks is None
            else TracksRecord(**{k: v for k, v in asdict(self.tracks).items() if k != "paths"}),
            frame_s=self.frame_s,
        )


@dataclass(frozen=True)
class MovieResult:
    """All methods on one movie.

    Attributes
    ----------
    name
        Of the movie.
    intensity
        Its noise model.
    regions
        (H, W) labels of the regions whose traces are compared, found in the raw movie.
    radius_px
        Radius of the objects looked for.
    methods
        The noisy movie first.
    """

    name: str
    intensity: Intensity
    regions: npt.NDArray[np.int32]
    radius_px: float
    methods: list[MethodResult]

    def record(self) -> MovieRecord:
        """Return plain values for JSON."""
        frames, height, width = self.methods[0].movie.shape
        return MovieRecord(
            movie=self.name,
            frames=frames,
            height_px=height,
            width_px=width,
            intensity=self.intensity,
            object_radius_px=self.radius_px,
            regions=int(self.regions.max()),
            methods=[m.record() for m in self.methods],
        )


def evaluate_movie(
    name: str,
    noisy: npt.NDArray[Any],
    bundles: Sequence[Bundle],
    *,
    backend: str = "auto",
    radius_px: float = 5.0,
    track: bool = False,
    on_frame: Callable[[int], None] = lambda _: None,
) -> MovieResult:
    """Measure the noisy movie and what each bundle makes of it.

    Parameters
    ----------
    name
        Of the movie.
    noisy
        (T, H, W) in a dtype that streams take.
    bundles
        What to measure.
    backend
        As for `Stream`.
    radius_px
        Radius of the objects that are counted and followed.
    track
        Whether to link the objects of every frame (needs the extra `tracking`).
    on_frame
        Called with the number of frames done by the current bundle.

    Raises
    ------
    InvalidInput
        If the movie is too short or too large, or the tracker is missing.
    """
    if len(noisy) < LEAST_FRAMES:
        raise InvalidInput(
            f"{name} has {counted(len(noisy), 'frame')}; without truth at least {LEAST_FRAMES} are needed: "
            "give a longer movie, or its clean movie too (`pair`)."
        )
    if noisy.size > MOST_PIXELS:
        raise InvalidInput(
            f"{name} has {noisy.size / 1e6:.0f} million pixels; evaluation holds at most "
            f"{MOST_PIXELS / 1e6:.0f} million in memory: choose fewer `frames`."
        )
    if track:
        require_tracker()
    filled, estimated = filled_estimate(noisy[:_CALIBRATION])
    intensity = estimated or estimate_intensity(filled)
    lost = [saturated_pixels(frame, intensity) for frame in noisy]
    raw = np.asarray(noisy, np.float32)
    recent = ndimage.uniform_filter1d(raw, min(_RUNNING, len(raw)), axis=0)
    regions = find_objects(recent.max(axis=0), radius_px).labels

    def measured(label: str, movie: FloatArray, **more: Any) -> MethodResult:
        objects = find_objects(movie.max(axis=0), radius_px)
        return MethodResult(
            label,
            movie,
            objects,
            count_supported(raw, objects, radius_px),
            score_traces(raw, movie, regions),
            score_flow(movie),
            tracks=track_objects(movie, radius_px) if track else None,
            **more,
        )

    methods = [measured("noisy", raw)]
    for bundle, label in zip(bundles, unique_names(bundles), strict=True):
        started = time.perf_counter()
        mean, std = denoise_offline(bundle, noisy, backend=backend, on_frame=on_frame)
        seconds = (time.perf_counter() - started) / len(noisy)
        denoised = np.asarray(mean, np.float32)
        residual = analyse_residual(
            _beside(raw, lost),
            _beside(denoised, lost),
            intensity,
            stride=bundle.manifest.stride,
            std=None if std is None else _beside(std, lost),
        )
        methods.append(measured(label, denoised, residual=residual, frame_s=seconds))
    return MovieResult(name, intensity, regions, radius_px, methods)


def _beside(movie: FloatArray, lost: Sequence[npt.NDArray[np.bool_] | None]) -> FloatArray:
    """Return a movie whose pixels that saturate are taken from beside: these have no noise."""
    if all(mask is None for mask in lost):
        return movie
    out = movie.copy()
    for frame, mask in zip(out, lost, strict=True):
        if mask is not None and not mask.all():
            frame[mask] = frame.ravel()[fill_sources(mask)]
    return out


def score_traces(noisy: FloatArray, movie: FloatArray, regions: npt.NDArray[np.int32]) -> TraceScore | None:
    """Compare the traces of regions (labels, (H, W)) in the noisy and another movie; None without any."""
    raw = region_traces(noisy, regions, most=_MOST_REGIONS).astype(np.float64)
    shown = region_traces(movie, regions, most=_MOST_REGIONS).astype(np.float64)
    varies = (shown.std(axis=1) > 0) & (raw.std(axis=1) > 0)
    raw, shown = raw[varies], shown[varies]
    if not len(raw):
        return None
    steps = np.abs(np.diff(shown, axis=1))
    noise = 1.4826 * np.median(steps, axis=1) / np.sqrt(2)
    peak = np.percentile(shown, 99, axis=1) - np.median(shown, axis=1)
    a = raw - raw.mean(axis=1, keepdims=True)
    b = shown - shown.mean(axis=1, keepdims=True)
    covariance, own, other = (a * b).mean(axis=1), (b * b).mean(axis=1), (a * a).mean(axis=1)
    # The raw trace's noise, from the differences of successive frames (von Neumann 1941).
    random = np.square(np.diff(raw, axis=1)).mean(axis=1) / 2
    return TraceScore(
        snr=float(np.median(peak / np.maximum(noise, 1e-12))),
        correlation=float(np.median(covariance / np.sqrt(own * other))),
        ceiling=float(np.median(np.sqrt(np.clip(1 - random / other, 0, 1)))),
        slope=float(covariance.sum() / own.sum()),
    )


def flow_between(target: FloatArray, source: FloatArray) -> FloatArray:
    """Return the iterative Lucas-Kanade flow (2, H, W), rows first: source(p + flow(p)) = target(p)."""
    return np.asarray(optical_flow_ilk(target, source, radius=5, dtype=np.float32), np.float32)


def score_flow(movie: FloatArray) -> FlowScore:
    """Measure the flow of a few pairs of neighbouring frames spread over a movie."""
    lengths, distances = [], []
    for t in flow_frames(len(movie)):
        forth, back = flow_between(movie[t], movie[t + 1]), flow_between(movie[t + 1], movie[t])
        at = np.indices(movie.shape[1:]).astype(np.float32) + forth
        returned = forth + np.stack([ndimage.map_coordinates(b, at, order=1, mode="nearest") for b in back])
        lengths.append(float(np.hypot(*forth).mean()))
        distances.append(float(np.median(np.hypot(*returned))))
    return FlowScore(float(np.mean(lengths)), float(np.mean(distances)))


def flow_frames(length: int) -> list[int]:
    """Return the first frames of the pairs whose flow is measured."""
    return [int(t) for t in np.unique(np.linspace(0, length - 2, _FLOW_PAIRS + 2)[1:-1].astype(int))]
