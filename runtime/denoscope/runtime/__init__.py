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
    from .artefacts.scanner import ScannerArtefacts, frames_to_measure, measure_scanner
    from .backends.registry import (
        Backend,
        Buffer,
        Choice,
        Graph,
        choose_backend,
        default_threads,
        list_backends,
        register_backend,
    )
    from .bundle.bundle import Bundle, BundleManifest, QualityRecord, list_bundles, write_bundle
    from .errors import (
        BackendUnavailable,
        BundleDamaged,
        BundleNotFound,
        DenoscopeError,
        DeviceFailed,
        FrameMismatch,
        InvalidInput,
        NotFinite,
    )
    from .links import bad_link
    from .motion.align import SceneMotion, align_movie, follow_motion, shown_by_all
    from .motion.moves import moves_anywhere
    from .movies import AnyMovie, LazyMovie, as_float32, open_movie
    from .movies.holes import filled_when_read, without_holes
    from .noise.anscombe import GeneralisedAnscombe
    from .noise.camera import CameraCalibration
    from .noise.correlation import NoiseCorrelation, choose_blind_spot, measure_noise_correlation
    from .noise.noise import Intensity, estimate_intensity
    from .noise.saturation import Saturation, measure_saturation
    from .stream.guard import GuardFinding
    from .stream.recorded import calibrate_stream
    from .stream.stream import Stream
    from .types import Denoised, FrameMeta, Rebind, StageSeconds, StageTimes, StreamCounters, StreamKey
    from .words import counted

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
    "bad_link",
    "calibrate_stream",
    "choose_backend",
    "choose_blind_spot",
    "counted",
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
    "CameraCalibration": "noise.camera",
    "GeneralisedAnscombe": "noise.anscombe",
    "SceneMotion": "motion.align",
    "align_movie": "motion.align",
    "follow_motion": "motion.align",
    "shown_by_all": "motion.align",
    "Backend": "backends",
    "Buffer": "backends",
    "Choice": "backends",
    "Graph": "backends",
    "choose_backend": "backends",
    "default_threads": "backends",
    "list_backends": "backends",
    "register_backend": "backends",
    "Bundle": "bundle.bundle",
    "BundleManifest": "bundle.bundle",
    "QualityRecord": "bundle.bundle",
    "list_bundles": "bundle.bundle",
    "write_bundle": "bundle.bundle",
    "counted": "words",
    "bad_link": "links",
    "BackendUnavailable": "errors",
    "BundleDamaged": "errors",
    "BundleNotFound": "errors",
    "DenoscopeError": "errors",
    "DeviceFailed": "errors",
    "FrameMismatch": "errors",
    "InvalidInput": "errors",
    "NotFinite": "errors",
    "GuardFinding": "stream.guard",
    "AnyMovie": "movies",
    "LazyMovie": "movies",
    "as_float32": "movies",
    "open_movie": "movies",
    "filled_when_read": "movies.holes",
    "without_holes": "movies.holes",
    "moves_anywhere": "motion.moves",
    "Intensity": "noise.noise",
    "estimate_intensity": "noise.noise",
    "NoiseCorrelation": "noise.correlation",
    "choose_blind_spot": "noise.correlation",
    "measure_noise_correlation": "noise.correlation",
    "Saturation": "noise.saturation",
    "measure_saturation": "noise.saturation",
    "ScannerArtefacts": "artefacts.scanner",
    "measure_scanner": "artefacts.scanner",
    "frames_to_measure": "artefacts.scanner",
    "Stream": "stream.stream",
    "calibrate_stream": "stream.recorded",
    "Denoised": "types",
    "FrameMeta": "types",
    "Rebind": "types",
    "StageSeconds": "types",
    "StageTimes": "types",
    "StreamCounters": "types",
    "StreamKey": "types",
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
