"""Run a trained bundle on a live movie: one frame in, one denoised frame out.

Importing this package loads nothing heavy: each public name is imported when it is first used.

Examples
--------
>>> from denoscope.runtime import FrameMeta, StreamKey
>>> FrameMeta(number=3, t_received_s=0.25).key == StreamKey()
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._align import SceneMotion, align_movie, follow_motion, shown_by_all
    from ._anscombe import GeneralisedAnscombe
    from ._backends import (
        Backend,
        Buffer,
        Choice,
        Graph,
        choose_backend,
        default_threads,
        list_backends,
        register_backend,
    )
    from ._bundle import Bundle, BundleManifest, QualityRecord, list_bundles, write_bundle
    from ._camera import CameraCalibration
    from ._errors import (
        BackendUnavailable,
        BundleDamaged,
        BundleNotFound,
        DenoscopeError,
        DeviceFailed,
        FrameMismatch,
        InvalidInput,
        NotFinite,
    )
    from ._guard import GuardFinding
    from ._holes import filled_when_read, without_holes
    from ._moves import moves_anywhere
    from ._movies import AnyMovie, LazyMovie, as_float32, open_movie
    from ._noise import Intensity, estimate_intensity
    from ._noise_correlation import NoiseCorrelation, choose_blind_spot, measure_noise_correlation
    from ._saturation import Saturation, measure_saturation
    from ._scanner import ScannerArtefacts, frames_to_measure, measure_scanner
    from ._stream import Stream
    from ._types import Denoised, FrameMeta, Rebind, StageSeconds, StageTimes, StreamCounters, StreamKey

# A literal, for type checkers and star imports; a test holds it equal to the table below.
__all__ = [
    "AnyMovie",
    "Backend",
    "BackendUnavailable",
    "Buffer",
    "Bundle",
    "BundleDamaged",
    "BundleManifest",
    "BundleNotFound",
    "CameraCalibration",
    "Choice",
    "Denoised",
    "DenoscopeError",
    "DeviceFailed",
    "FrameMeta",
    "FrameMismatch",
    "GeneralisedAnscombe",
    "Graph",
    "GuardFinding",
    "Intensity",
    "InvalidInput",
    "LazyMovie",
    "NoiseCorrelation",
    "NotFinite",
    "QualityRecord",
    "Rebind",
    "Saturation",
    "ScannerArtefacts",
    "SceneMotion",
    "StageSeconds",
    "StageTimes",
    "Stream",
    "StreamCounters",
    "StreamKey",
    "align_movie",
    "as_float32",
    "choose_backend",
    "choose_blind_spot",
    "default_threads",
    "estimate_intensity",
    "filled_when_read",
    "follow_motion",
    "frames_to_measure",
    "list_backends",
    "list_bundles",
    "measure_noise_correlation",
    "measure_saturation",
    "measure_scanner",
    "moves_anywhere",
    "open_movie",
    "register_backend",
    "shown_by_all",
    "without_holes",
    "write_bundle",
]

_HOME = {
    "CameraCalibration": "_camera",
    "GeneralisedAnscombe": "_anscombe",
    "SceneMotion": "_align",
    "align_movie": "_align",
    "follow_motion": "_align",
    "shown_by_all": "_align",
    "Backend": "_backends",
    "Buffer": "_backends",
    "Choice": "_backends",
    "Graph": "_backends",
    "choose_backend": "_backends",
    "default_threads": "_backends",
    "list_backends": "_backends",
    "register_backend": "_backends",
    "Bundle": "_bundle",
    "BundleManifest": "_bundle",
    "QualityRecord": "_bundle",
    "list_bundles": "_bundle",
    "write_bundle": "_bundle",
    "BackendUnavailable": "_errors",
    "BundleDamaged": "_errors",
    "BundleNotFound": "_errors",
    "DenoscopeError": "_errors",
    "DeviceFailed": "_errors",
    "FrameMismatch": "_errors",
    "InvalidInput": "_errors",
    "NotFinite": "_errors",
    "GuardFinding": "_guard",
    "AnyMovie": "_movies",
    "LazyMovie": "_movies",
    "as_float32": "_movies",
    "open_movie": "_movies",
    "filled_when_read": "_holes",
    "without_holes": "_holes",
    "moves_anywhere": "_moves",
    "Intensity": "_noise",
    "estimate_intensity": "_noise",
    "NoiseCorrelation": "_noise_correlation",
    "choose_blind_spot": "_noise_correlation",
    "measure_noise_correlation": "_noise_correlation",
    "Saturation": "_saturation",
    "measure_saturation": "_saturation",
    "ScannerArtefacts": "_scanner",
    "measure_scanner": "_scanner",
    "frames_to_measure": "_scanner",
    "Stream": "_stream",
    "Denoised": "_types",
    "FrameMeta": "_types",
    "Rebind": "_types",
    "StageSeconds": "_types",
    "StageTimes": "_types",
    "StreamCounters": "_types",
    "StreamKey": "_types",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first used."""
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
