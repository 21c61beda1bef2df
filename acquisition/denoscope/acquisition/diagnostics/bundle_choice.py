"""Help to choose a bundle: use, frames a second on this computer, quality and size of each that ships."""

from __future__ import annotations

import time
from itertools import count
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from denoscope.acquisition.results import Record

if TYPE_CHECKING:
    from denoscope.runtime import Bundle

__all__ = ["BundleChoice", "describe_bundles"]

_SIZE = 256  # pixels of a frame's edge
_LONGEST_S, _MOST = 0.5, 30
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
    quality_db: float | None = None
    size_bytes: int = 0
    method: str = ""
    window: int = 0
    look_ahead: int = 0
    trained_on: list[str]
    quality: list[dict[str, object]]
    license: str = ""


def describe_bundles(*, measure: bool = True) -> list[BundleChoice]:
    """Return what helps to choose among the bundles that ship, the fastest first.

    Parameters
    ----------
    measure
        Measure the frame rate now, which takes a few seconds.

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
    return [_describe(name, Bundle.load(name), measure=measure) for name in names]


def _describe(name: str, bundle: Bundle, *, measure: bool) -> BundleChoice:
    manifest = bundle.manifest
    gains = [
        record.value - record.baseline
        for record in manifest.quality
        if record.metric.startswith("PSNR") and record.baseline is not None
    ]
    rate, backend = _measure(bundle) if measure else (None, None)
    return BundleChoice(
        name=name,
        use=_USES.get(name, manifest.method),
        frames_per_s=rate,
        measured_with=backend,
        quality_db=fmean(gains) if gains else None,
        size_bytes=sum(file.stat().st_size for file in bundle.folder.iterdir()),
        method=manifest.method,
        window=manifest.window,
        look_ahead=manifest.look_ahead,
        trained_on=list(manifest.trained_on),
        quality=[record.model_dump() for record in manifest.quality],
        license=manifest.license,
    )


def _measure(bundle: Bundle) -> tuple[float | None, str | None]:
    """Return frames a second and the backend; None where no backend runs the bundle here."""
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

            for _ in range(bundle.manifest.window + 1):
                push()
            times: list[float] = []
            while len(times) < 3 or (sum(times) < _LONGEST_S and len(times) < _MOST):
                times.append(push())
            return 1 / float(np.median(times)), stream.choice.name
    except BackendUnavailable:
        return None, None
