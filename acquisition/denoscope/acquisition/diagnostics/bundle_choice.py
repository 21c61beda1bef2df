"""Help to choose a bundle: use, frames a second on this computer, quality and size of each that ships."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from denoscope.acquisition.results import Record

if TYPE_CHECKING:
    from denoscope.runtime import Bundle

__all__ = ["BundleChoice", "describe_bundles"]

_SIZE = 256  # pixels of a frame's edge
_ENOUGH = 3
"""Frames whose median is a rate, also on a computer that does other things."""
_ENOUGH_S, _LONGEST_S, _MOST = 0.5, 2.0, 30
"""Seconds of frames that are enough and that are too many, warm-up included, and frames."""
_USES = {
    "live-fast": "fast cameras, slow computers",
    "live": "most recordings (the default)",
    "live-hq": "GPUs, moving objects",
    "recorded": "movies on disk (the default of denoise)",
}


class BundleChoice(Record):
    """One bundle that ships with the package.

    Attributes
    ----------
    name, use
        Name to give as `bundle`, and what to take it for.
    frames_per_s, measured_with
        Frames a second of 256 x 256 pixels on this computer, and the backend; None where not measured.
    frames_measured
        Frames that the rate is the median of; fewer than three on a computer that is slow or busy.
    quality_db
        PSNR above that of a 3-D Gaussian filter tuned on the truth, mean over simulated movies, in dB.
    size_bytes
        Of its files.
    method, window, look_ahead, trained_on, quality, license
        From its manifest.
    """

    name: str
    use: str
    frames_per_s: float | None = None
    measured_with: str | None = None
    frames_measured: int = 0
    quality_db: float | None = None
    size_bytes: int = 0
    method: str = ""
    window: int = 0
    look_ahead: int = 0
    trained_on: list[str]
    quality: list[dict[str, object]]
    license: str = ""


def describe_bundles(
    *, measure: bool = True, on_bundle: Callable[[BundleChoice], object] = lambda _found: None
) -> list[BundleChoice]:
    """Return what helps to choose among the bundles that ship, the fastest first.

    Parameters
    ----------
    measure
        Measure the frame rate now: about ten seconds, and at most two for the frames of each bundle.
    on_bundle
        Called with each bundle as soon as it is measured.

    Returns
    -------
    list of BundleChoice
        One for each bundle; rates in frames per second of 256 x 256 pixels, quality in dB, size in bytes.

    Raises
    ------
    DenoscopeError
        If a bundle is damaged.

    Examples
    --------
    >>> [(each.name, each.use) for each in describe_bundles(measure=False)][0]
    ('live-fast', 'fast cameras, slow computers')
    """
    from denoscope.runtime import Bundle, list_bundles

    order = list(_USES)
    names = sorted(list_bundles(), key=lambda name: order.index(name) if name in order else len(order))
    found = []
    for name in names:
        found.append(_describe(name, Bundle.load(name), measure=measure))
        on_bundle(found[-1])
    return found


def _describe(name: str, bundle: Bundle, *, measure: bool) -> BundleChoice:
    manifest = bundle.manifest
    gains = [
        record.value - record.baseline
        for record in manifest.quality
        if record.metric.startswith("PSNR") and record.baseline is not None
    ]
    rate = _measure(bundle) if measure else None
    return BundleChoice(
        name=name,
        use=_USES.get(name, manifest.method),
        frames_per_s=None if rate is None else rate.frames_per_s,
        measured_with=None if rate is None else rate.backend,
        frames_measured=0 if rate is None else rate.frames,
        quality_db=fmean(gains) if gains else None,
        size_bytes=sum(file.stat().st_size for file in bundle.folder.iterdir()),
        method=manifest.method,
        window=manifest.window,
        look_ahead=manifest.look_ahead,
        trained_on=list(manifest.trained_on),
        quality=[record.model_dump() for record in manifest.quality],
        license=manifest.license,
    )


class _Rate(NamedTuple):
    """Frames a second, the backend that they were denoised with, and how many were measured."""

    frames_per_s: float
    backend: str
    frames: int


def _measure(bundle: Bundle) -> _Rate | None:
    """Return the frame rate; None where no backend runs the bundle here."""
    from denoscope.runtime import BackendUnavailable, FrameMeta, Intensity, Stream

    frames = np.random.default_rng(0).poisson(100, (8, _SIZE, _SIZE)).astype(np.uint16)
    intensity = Intensity(offset=100, scale=10, noise_slope=0.1, noise_floor=0.1)
    try:
        with Stream(bundle, "auto", intensity=intensity, align=False) as stream:
            numbers = count()

            def push() -> float:
                number = next(numbers)
                now_s = time.perf_counter()
                stream.push(frames[number % len(frames)], FrameMeta(number, now_s))
                return time.perf_counter() - now_s

            push()  # compiles, which a slow computer takes a while for, and counts as no frame
            # From the look-ahead on each frame costs the same.
            spent_s = sum(push() for _ in range(bundle.manifest.look_ahead))
            times = [push()]
            while len(times) < _MOST and spent_s + sum(times) < _LONGEST_S:
                if len(times) >= _ENOUGH and sum(times) >= _ENOUGH_S:
                    break
                times.append(push())
            return _Rate(1 / float(np.median(times)), stream.choice.name, len(times))
    except BackendUnavailable:
        return None
