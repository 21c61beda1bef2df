"""Measure whether short events are kept and none invented: events of known size in a simulated still scene.

The events are added to the expected photons before the camera's noise is drawn, so that they have the
shot noise of real ones. Everything else stands still: whatever the denoised movie does beside the
events is error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from scipy import special

from denoscope.runtime import Bundle, InvalidInput, counted
from denoscope.train.simulator import CameraSettings, SceneSettings
from denoscope.train.simulator.camera import record
from denoscope.train.simulator.simulate import simulate

from .truth import denoise_offline

__all__ = [
    "SHAPES",
    "EventMovie",
    "FalseEvents",
    "Recovery",
    "TransientLevel",
    "TransientReport",
    "TransientSettings",
    "event_movie",
    "false_events",
    "gcamp_shape",
    "measure_recovery",
    "measure_transients",
]

FloatArray = npt.NDArray[np.float32]
Fields = dict[str, Any]  # of a dataclass, as plain values

_BEFORE, _AFTER = 10, 20  # frames round an event that its trace is compared over
_THRESHOLDS = (2.0, 3.0, 4.0)  # predicted deviations


def gcamp_shape(frame_rate_hz: float = 30.0, rise_s: float = 0.07, decay_s: float = 0.6) -> FloatArray:
    """Return one burst of GCaMP, `(1 - exp(-t / rise)) exp(-t / decay)`, its peak 1, cut below 5 %."""
    t = np.arange(1, int(4 * decay_s * frame_rate_hz)) / frame_rate_hz
    shape = (1 - np.exp(-t / rise_s)) * np.exp(-t / decay_s)
    shape /= shape.max()
    return np.asarray(shape[: int(np.flatnonzero(shape > 0.05)[-1]) + 1], np.float32)


SHAPES: dict[str, FloatArray] = {
    "one frame": np.ones(1, np.float32),
    "three frames": np.ones(3, np.float32),
    "GCaMP": gcamp_shape(),
}


@dataclass(frozen=True)
class TransientSettings:
    """The scene, the camera and the events.

    Attributes
    ----------
    frames, size
        Of the movie; frames are `size` x `size` pixels.
    first
        Frames before the first event: the calibration and the start of the long memory.
    every
        Mean distance of the events of one place, in frames, beyond the event's own length.
    spacing_px, radius_px
        Distance of neighbouring places and radius of an event.
    contrast
        Peak of an event, in units of what the place sends without it (dF/F).
    photons
        Mean photons a pixel and frame.
    seed
        Of the scene, the events and the noise.
    """

    frames: int = 360
    size: int = 96
    first: int = 60
    every: int = 40
    spacing_px: int = 16
    radius_px: float = 3.0
    contrast: float = 2.0
    photons: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < self.first + self.every or self.size < 2 * self.spacing_px:
            raise InvalidInput(
                f"{counted(self.frames, 'frame')} of {self.size} x {self.size} pixels hold no events; give at least "
                f"{counted(self.first + self.every, 'frame')} and {2 * self.spacing_px} pixels."
            )


@dataclass(frozen=True)
class EventMovie:
    """A movie with known events.

    Attributes
    ----------
    noisy
        (T, H, W) uint16.
    base
        (H, W) expected counts without any event.
    clean
        (T, H, W) expected counts with them.
    places
        (n, H, W) bool, the pixels of each place.
    starts
        (events, 2): place and first frame.
    shape
        Of every event, peak 1.
    snrs
        (events,): counts added at each one's peak over the noise of the same pixels there.
    """

    noisy: npt.NDArray[np.uint16]
    base: FloatArray
    clean: FloatArray
    places: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]
    shape: FloatArray
    snrs: FloatArray

    @property
    def snr(self) -> float:
        """Median of `snrs`; 0 without events."""
        return float(np.median(self.snrs)) if len(self.snrs) else 0.0


@dataclass(frozen=True)
class Recovery:
    """Events of one shape, and how many of them were kept.

    Attributes
    ----------
    events
        How many.
    peak_share, peak_share_se
        Mean and standard error of the denoised rise over the true one, at the frames of the peak.
    slope, slope_se
        Of the denoised on the true trace of each event and its surroundings in time, and its standard
        error over events.
    snr
        Median over events of what the raw movie holds of an event's peak.
    snrs, peak_shares
        The same and the share of the peak, event by event.
    true_profile, profile
        Mean true and denoised course of an event, the true peak 1, from `_BEFORE` frames before it.
    """

    events: int
    peak_share: float
    peak_share_se: float
    slope: float
    slope_se: float
    snr: float
    snrs: tuple[float, ...]
    peak_shares: tuple[float, ...]
    true_profile: tuple[float, ...]
    profile: tuple[float, ...]


@dataclass(frozen=True)
class FalseEvents:
    """How often a still scene seems to rise.

    Attributes
    ----------
    thresholds
        In predicted deviations.
    observed, nominal
        Share of pixels above the truth by more, and of a normal distribution.
    """

    thresholds: tuple[float, ...]
    observed: tuple[float, ...]
    nominal: tuple[float, ...]


def event_movie(settings: TransientSettings, shape: FloatArray | None) -> EventMovie:
    """Simulate a still scene with events of one shape, or with none."""
    s = settings
    rng = np.random.default_rng([s.seed, 0 if shape is None else len(shape)])
    camera = CameraSettings(photons=s.photons)
    scene = SceneSettings(frames=2, height=s.size, width=s.size)
    still = simulate(scene, camera, seed=s.seed).clean[0]
    photons = np.broadcast_to((still - camera.offset) / camera.gain, (s.frames, s.size, s.size)).copy()
    base = photons[0].copy()
    events = np.zeros(1, np.float32) if shape is None else shape
    profiles, starts, ratios = _places(s, rng), [], []
    if shape is not None:
        for place, profile in enumerate(profiles):
            inside = profile > 0.5
            peak = s.contrast * float(base[inside].mean())
            pace = s.every + len(events)
            for start in range(s.first + int(rng.integers(pace)), s.frames - len(events) - _AFTER, pace):
                rise = peak * events[:, None, None] * profile
                photons[start : start + len(events)] += rise
                starts.append((place, start))
                added, under = float((peak * profile)[inside].sum()), float(base[inside].sum())
                spread = (1 + camera.gain_spread**2) * (added + under)
                ratios.append(added / np.sqrt(spread + inside.sum() * (camera.read_noise / camera.gain) ** 2))
    noisy = record(photons.astype(np.float32), camera, None, rng)
    gain, offset = np.float32(camera.gain), np.float32(camera.offset)
    return EventMovie(
        noisy=np.clip(np.rint(noisy), 0, 65535).astype(np.uint16),
        base=base * gain + offset,
        clean=np.asarray(photons * gain + offset, np.float32),
        places=np.stack([p > 0.5 for p in profiles]),
        starts=np.array(starts, np.int64).reshape(-1, 2),
        shape=events,
        snrs=np.array(ratios, np.float32),
    )


def _places(settings: TransientSettings, rng: np.random.Generator) -> list[FloatArray]:
    """Return soft discs (H, W), peak 1, on a grid whose points are moved a little."""
    half, s = settings.spacing_px / 2, settings
    along = np.arange(half, s.size - half + 1, s.spacing_px)
    y, x = np.indices((s.size, s.size))
    discs = []
    for cy in along:
        for cx in along:
            dy, dx = rng.uniform(-half / 4, half / 4, 2)
            distance = np.hypot(y - cy - dy, x - cx - dx)
            discs.append((1 / (1 + np.exp((distance - s.radius_px) / 0.4))).astype(np.float32))
    return discs


def measure_recovery(movie: EventMovie, denoised: npt.NDArray[Any]) -> Recovery:
    """Compare the events of a denoised movie (T, H, W) with the true ones."""
    length = len(movie.shape)
    true, shown = [], []
    for place, start in movie.starts:
        pixels = movie.places[place]
        part = slice(max(start - _BEFORE, 0), start + length + _AFTER)
        before = float(movie.base[pixels].mean())
        true.append(movie.clean[part][:, pixels].mean(axis=1) - before)
        shown.append(np.asarray(denoised[part], np.float64)[:, pixels].mean(axis=1) - before)
    at_peak = _BEFORE + np.flatnonzero(movie.shape >= 0.99)
    x, y = np.array(true), np.array(shown)
    height = x[:, at_peak].mean(axis=1, keepdims=True)
    shares = y[:, at_peak].mean(axis=1) / height[:, 0]
    a, b = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    slopes = (a * b).sum(axis=1) / (a * a).sum(axis=1)
    count = len(shares)
    return Recovery(
        events=count,
        peak_share=float(shares.mean()),
        peak_share_se=float(shares.std(ddof=1) / np.sqrt(count)),
        slope=float((a * b).sum() / (a * a).sum()),
        slope_se=float(slopes.std(ddof=1) / np.sqrt(count)),
        snr=movie.snr,
        snrs=tuple(round(float(v), 3) for v in movie.snrs),
        peak_shares=tuple(round(float(v), 4) for v in shares),
        true_profile=tuple(float(v) for v in (x / height).mean(axis=0)),
        profile=tuple(float(v) for v in (y / height).mean(axis=0)),
    )


def false_events(
    base: FloatArray, denoised: npt.NDArray[Any], std: FloatArray, *, first: int = 0
) -> FalseEvents:
    """Count how often a still scene (H, W) is exceeded in its denoised movie (T, H, W) from frame `first`."""
    z = (np.asarray(denoised[first:], np.float32) - base) / np.maximum(std[first:], 1e-6)
    return FalseEvents(
        _THRESHOLDS,
        tuple(float((z > t).mean()) for t in _THRESHOLDS),
        tuple(float(special.ndtr(-t)) for t in _THRESHOLDS),
    )


class TransientLevel(TypedDict):
    """Result at one light level, as plain values for JSON.

    Attributes
    ----------
    photons
        Mean photons a pixel and frame.
    recovery
        By shape of the event: fields of `Recovery` for the ``raw`` and the ``denoised`` movie.
    false_events
        Fields of `FalseEvents`; None if the bundle predicts no deviations.
    """

    photons: float
    recovery: dict[str, dict[str, Fields]]
    false_events: Fields | None


class TransientReport(TypedDict):
    """Result of `measure_transients`: fields of the `TransientSettings`, and one entry a light level."""

    settings: Fields
    levels: list[TransientLevel]


def measure_transients(
    bundle: Bundle,
    levels: tuple[float, ...],
    *,
    settings: TransientSettings | None = None,
    backend: str = "auto",
    look_ahead: int | None = None,
    on_movie: Callable[[str], None] = lambda _: None,
) -> TransientReport:
    """Measure a bundle on events of every shape, and on none, at every light level.

    Parameters
    ----------
    bundle
        What to measure.
    levels
        Mean photons a pixel and frame.
    settings
        All but the light level.
    backend, look_ahead
        As for `Stream`.
    on_movie
        Called with the name of each movie before it is simulated.

    Returns
    -------
    TransientReport
        Plain values for JSON.
    """
    settings = settings or TransientSettings()
    found: list[TransientLevel] = []
    for photons in levels:
        here = replace(settings, photons=photons)
        recoveries: dict[str, dict[str, Fields]] = {}
        for name, shape in SHAPES.items():
            on_movie(f"{name}, {photons:g} photons")
            movie = event_movie(here, shape)
            mean, _ = denoise_offline(bundle, movie.noisy, backend=backend, look_ahead=look_ahead)
            recoveries[name] = {
                "raw": asdict(measure_recovery(movie, movie.noisy)),
                "denoised": asdict(measure_recovery(movie, mean)),
            }
        on_movie(f"noise only, {photons:g} photons")
        still = event_movie(here, None)
        mean, std = denoise_offline(bundle, still.noisy, backend=backend, look_ahead=look_ahead)
        quiet = None if std is None else asdict(false_events(still.base, mean, std, first=settings.first))
        found.append({"photons": photons, "recovery": recoveries, "false_events": quiet})
    return {"settings": asdict(settings), "levels": found}
