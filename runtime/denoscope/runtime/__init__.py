"""Run a trained bundle on a movie: push one frame, get one denoised frame.

Denoise:

- `Stream` denoises one movie frame by frame; it takes frames with a `FrameMeta` and returns `Denoised`.
- `calibrate_stream` prepares it for a recorded movie. `with_slow_residual` puts fine structure back (`SlowResidual`).
- `StreamCounters`, `StageTimes`, `StageSeconds`, `Rebind` and `GuardFinding` tell what a stream did and noticed;
  `StreamKey` names one of several movies that are recorded in turns.

Choose a bundle and a backend:

- `Bundle` opens one, `list_bundles` names those that ship, `write_bundle` writes one (`BundleManifest`,
  `QualityRecord`).
- `choose_backend` opens the backend that runs its graphs, `list_backends` tells which run here and why others do not.
- `register_backend` adds one of another package (`Backend`, `Graph`, `Buffer`, `Choice`); `default_threads` tells how
  many processor threads a graph gets.

Open a movie:

- `open_movie` opens a file or folder of any format as a `LazyMovie`; `as_float32` keeps what is made of it unrounded.
- `without_holes` and `filled_when_read` fill missing pixels; `AnyMovie` is any array or movie.

Measure a movie:

- `estimate_intensity` measures its noise (`Intensity`), `measure_noise_correlation` how far the noise of neighbouring
  pixels goes together (`NoiseCorrelation`), `choose_blind_spot` what a network must therefore not see.
- `measure_saturation` counts saturated pixels (`Saturation`). `measure_scanner` measures shifted lines and fixed
  patterns (`ScannerArtefacts`) in the frames of `frames_to_measure`.
- `moves_anywhere` tells whether the scene moves, `follow_motion` how (`SceneMotion`). `align_movie` moves the frames
  back, and `shown_by_all` tells what all of them show.
- `CameraCalibration` turns counts into photo-electrons, `GeneralisedAnscombe` makes their noise equal everywhere.

Errors: each inherits from `DenoscopeError` and says what to do: `InvalidInput`, `FrameMismatch`, `BundleNotFound`,
`BundleDamaged`, `BackendUnavailable`, `DeviceFailed`, `NotFinite`. `counted` and `bad_link` word messages.

Nothing is imported before it is asked for: ``from denoscope.runtime import Stream`` loads what a stream needs, and no
more.

Examples
--------
>>> from denoscope.runtime import FrameMeta, StreamKey
>>> FrameMeta(number=3, t_received_s=0.25).key == StreamKey()
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .late import late_names

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
    from .stream.recorded import calibrate_stream
    from .stream.residuals.guard import GuardFinding
    from .stream.residuals.slow_residual import SlowResidual, with_slow_residual
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
    "SlowResidual",
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
    "with_slow_residual",
    "without_holes",
    "write_bundle",
]

_MODULES = {
    "artefacts.scanner": ("ScannerArtefacts", "frames_to_measure", "measure_scanner"),
    "backends": (
        "Backend",
        "Buffer",
        "Choice",
        "Graph",
        "choose_backend",
        "default_threads",
        "list_backends",
        "register_backend",
    ),
    "bundle.bundle": ("Bundle", "BundleManifest", "QualityRecord", "list_bundles", "write_bundle"),
    "errors": (
        "BackendUnavailable",
        "BundleDamaged",
        "BundleNotFound",
        "DenoscopeError",
        "DeviceFailed",
        "FrameMismatch",
        "InvalidInput",
        "NotFinite",
    ),
    "links": ("bad_link",),
    "motion.align": ("SceneMotion", "align_movie", "follow_motion", "shown_by_all"),
    "motion.moves": ("moves_anywhere",),
    "movies": ("AnyMovie", "LazyMovie", "as_float32", "open_movie"),
    "movies.holes": ("filled_when_read", "without_holes"),
    "noise.anscombe": ("GeneralisedAnscombe",),
    "noise.camera": ("CameraCalibration",),
    "noise.correlation": ("NoiseCorrelation", "choose_blind_spot", "measure_noise_correlation"),
    "noise.noise": ("Intensity", "estimate_intensity"),
    "noise.saturation": ("Saturation", "measure_saturation"),
    "stream.residuals.guard": ("GuardFinding",),
    "stream.recorded": ("calibrate_stream",),
    "stream.residuals.slow_residual": ("SlowResidual", "with_slow_residual"),
    "stream.stream": ("Stream",),
    "types": ("Denoised", "FrameMeta", "Rebind", "StageSeconds", "StageTimes", "StreamCounters", "StreamKey"),
    "words": ("counted",),
}
__getattr__ = late_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
