"""Record, denoise, measure and act, learn and judge: one function for each command of the shell.

Record and denoise while recording:

- `live` records from Micro-Manager, a growing file or a movie, with `SessionSettings` (`make_settings`), and returns a
  `SessionReport` (`FinishReason`).
- `hook` denoises beside a pycromanager acquisition, `attach` beside pymmcore-plus; both give a `Follower`
  (`FollowerStatus`, `HookReport`).
- `LiveSession` records beside a loop of your program, which gets one `LiveFrame` after the other; `SessionStatus` and
  `SessionState` tell how it is going.
- `pause`, `resume`, `find_regions` and `stop` ask a session of another program, `SessionControl` one of the same
  program (`RequestAnswer`).
- `open_source` opens a source of `Frame` alone (`Source`, `SourceInfo`); `RawWriter` writes raw frames alone.
  `load_camera` reads maps of a camera.

Measure and act while recording:

- `read_regions` reads regions from a file, `regions_of_layer` from napari; `find_cells` finds cells.
- `RegionMeter` measures `Regions` in frames (`FrameTraces`); `read_traces` reads ``traces.csv`` (`TraceTable`).
- `Trigger` is a condition and an action (`Firing`).

Denoise afterwards:

- `denoise_movie` denoises a recorded movie (`Denoising`), `fill_run` the frames that a recording skipped (`Filling`).

Learn and judge:

- `train_bundle` adapts a bundle to a movie (`TrainingPlan`, `TrainingListener`, `TrainingResult`,
  `TrainingInterrupted`).
- `evaluate` tells which bundle's result can be trusted (`EvaluationListener`, `Evaluation`).
- `light_budget` predicts the denoised picture at half and at a quarter of the light.
- `export_bundle_precision` writes a bundle in another precision (`PrecisionExport`).
- `build_engines`, `check_engines` and `prune_engines` build, check and delete engines for GPUs (`BuildListener`,
  `BuiltEngines`, `EngineChecks`, `DeletedEngines`).

Know the computer:

- `doctor` checks it (`Findings`, `Finding`), `benchmark` measures it (`Benchmark`), `describe_bundles` helps to choose
  a bundle (`BundleChoice`).

Read a run folder:

- `SessionReport.read` reads ``report.json``, `read_raw` the raw frames (`RawRecording`). `read_movie` reads any movie
  (`Movie`), `demo_movie` the one that ships. `Provenance` tells where denoised frames come from.

Errors: each is a `denoscope.runtime.DenoscopeError` and says what to do; `OutputExists`, `NoDiskSpace`,
`SourceUnavailable` and `SourceFailed` are of this package.

Nothing is imported before it is asked for: ``from denoscope.acquisition import live`` loads what a session needs, and
no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from denoscope.runtime.late import late_names

if TYPE_CHECKING:
    from .bench.results import Benchmark
    from .bench.run import benchmark
    from .contracts import Frame, SourceInfo
    from .control.control import SessionControl, find_regions, pause, resume, stop
    from .denoisers.converting import load_camera
    from .diagnostics.bundle_choice import BundleChoice, describe_bundles
    from .diagnostics.checks import doctor
    from .diagnostics.finding import Finding, Findings
    from .errors import NoDiskSpace, OutputExists, SourceFailed, SourceUnavailable
    from .frames.live_frame import LiveFrame
    from .integrations.hook import Follower, FollowerStatus, hook
    from .integrations.pymmcore_plus import attach
    from .learning.engines import BuildListener, build_engines, check_engines, prune_engines
    from .learning.evaluation import EvaluationListener, evaluate
    from .learning.precision import export_bundle_precision
    from .learning.results import (
        BuiltEngines,
        DeletedEngines,
        EngineChecks,
        Evaluation,
        PrecisionExport,
        TrainingResult,
    )
    from .learning.training import TrainingInterrupted, TrainingListener, TrainingPlan, train_bundle
    from .offline.denoise import denoise_movie
    from .offline.fill import fill_run
    from .offline.light_budget import light_budget
    from .raw.writer import RawRecording, RawWriter, read_raw
    from .regions.finding import find_cells
    from .regions.measure import FrameTraces, RegionMeter
    from .regions.reading import read_regions, regions_of_layer
    from .regions.regions import Regions
    from .regions.trace_file import TraceTable, read_traces
    from .results import (
        Denoising,
        Filling,
        HookReport,
        Provenance,
        RequestAnswer,
        SessionReport,
    )
    from .session.live import live
    from .session.running import LiveSession
    from .session.settings import SessionSettings, make_settings
    from .session.states import FinishReason, SessionState, SessionStatus
    from .sources import Source, open_source
    from .sources.movies import Movie, demo_movie, read_movie
    from .triggers.actions import Firing
    from .triggers.trigger import Trigger

_MODULES = {
    "bench.results": ("Benchmark",),
    "bench.run": ("benchmark",),
    "contracts": ("Frame", "SourceInfo"),
    "denoisers.converting": ("load_camera",),
    "diagnostics.bundle_choice": ("BundleChoice", "describe_bundles"),
    "diagnostics.checks": ("doctor",),
    "diagnostics.finding": ("Finding", "Findings"),
    "errors": ("NoDiskSpace", "OutputExists", "SourceFailed", "SourceUnavailable"),
    "frames.live_frame": ("LiveFrame",),
    "integrations.hook": ("Follower", "FollowerStatus", "hook"),
    "integrations.pymmcore_plus": ("attach",),
    "learning.engines": ("BuildListener", "build_engines", "check_engines", "prune_engines"),
    "learning.evaluation": ("EvaluationListener", "evaluate"),
    "learning.precision": ("export_bundle_precision",),
    "learning.results": (
        "BuiltEngines",
        "DeletedEngines",
        "EngineChecks",
        "Evaluation",
        "PrecisionExport",
        "TrainingResult",
    ),
    "learning.training": ("TrainingInterrupted", "TrainingListener", "TrainingPlan", "train_bundle"),
    "offline.denoise": ("denoise_movie",),
    "offline.fill": ("fill_run",),
    "offline.light_budget": ("light_budget",),
    "raw.writer": ("RawRecording", "RawWriter", "read_raw"),
    "regions.finding": ("find_cells",),
    "regions.measure": ("FrameTraces", "RegionMeter"),
    "regions.reading": ("read_regions", "regions_of_layer"),
    "regions.regions": ("Regions",),
    "regions.trace_file": ("TraceTable", "read_traces"),
    "results": ("Denoising", "Filling", "HookReport", "Provenance", "RequestAnswer", "SessionReport"),
    "control.control": ("SessionControl", "find_regions", "pause", "resume", "stop"),
    "session.live": ("live",),
    "session.running": ("LiveSession",),
    "session.settings": ("SessionSettings", "make_settings"),
    "session.states": ("FinishReason", "SessionState", "SessionStatus"),
    "sources": ("Source", "open_source"),
    "sources.movies": ("Movie", "demo_movie", "read_movie"),
    "triggers.actions": ("Firing",),
    "triggers.trigger": ("Trigger",),
}

__all__ = [
    "Benchmark",
    "BuildListener",
    "BuiltEngines",
    "BundleChoice",
    "DeletedEngines",
    "Denoising",
    "EngineChecks",
    "Evaluation",
    "EvaluationListener",
    "Filling",
    "Finding",
    "Findings",
    "FinishReason",
    "Firing",
    "Follower",
    "FollowerStatus",
    "Frame",
    "FrameTraces",
    "HookReport",
    "LiveFrame",
    "LiveSession",
    "Movie",
    "NoDiskSpace",
    "OutputExists",
    "PrecisionExport",
    "Provenance",
    "RawRecording",
    "RawWriter",
    "RegionMeter",
    "Regions",
    "RequestAnswer",
    "SessionControl",
    "SessionReport",
    "SessionSettings",
    "SessionState",
    "SessionStatus",
    "Source",
    "SourceFailed",
    "SourceInfo",
    "SourceUnavailable",
    "TraceTable",
    "TrainingInterrupted",
    "TrainingListener",
    "TrainingPlan",
    "TrainingResult",
    "Trigger",
    "attach",
    "benchmark",
    "build_engines",
    "check_engines",
    "contracts",
    "demo_movie",
    "denoise_movie",
    "describe_bundles",
    "doctor",
    "errors",
    "evaluate",
    "export_bundle_precision",
    "fill_run",
    "find_cells",
    "find_regions",
    "hook",
    "light_budget",
    "live",
    "load_camera",
    "make_settings",
    "open_source",
    "pause",
    "prune_engines",
    "read_movie",
    "read_raw",
    "read_regions",
    "read_traces",
    "regions_of_layer",
    "results",
    "resume",
    "sources",
    "stop",
    "train_bundle",
]
__getattr__ = late_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
