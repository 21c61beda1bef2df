"""Results of every function of this package, and what the files in a run folder hold of them.

Each is a pydantic model with a schema version, written as JSON by `Record.as_json` and read back by ``model_validate``.
SI units are in the names. What a file of an older version lacks has its default here, so that old runs can still be
read; what a newer one adds is passed over. A model is made when it is first asked for: a session needs half of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from denoscope.runtime.late import late_names

if TYPE_CHECKING:
    from .adaptation import AdaptationRecord, AdaptationRound, DelayDuring
    from .beside import HookReport, RequestAnswer
    from .light import LightBudget, LightStep
    from .provenance import BundleSwap, CameraRecord, NoiseCheck, Provenance, SessionProvenance
    from .record import Record
    from .report import (
        REPORT_SCHEMA,
        Frames,
        Histogram,
        HookCounts,
        NotDenoised,
        Outcome,
        Pause,
        SessionReport,
        SourceRecord,
        StageDelay,
        StreamCount,
        Timing,
    )
    from .watching import CallbackCounts, TracesRecord, TriggerRecord
    from .written import Denoising, Filling, MovieProvenance

__all__ = [
    "REPORT_SCHEMA",
    "AdaptationRecord",
    "AdaptationRound",
    "BundleSwap",
    "CallbackCounts",
    "CameraRecord",
    "DelayDuring",
    "Denoising",
    "Filling",
    "Frames",
    "Histogram",
    "HookCounts",
    "HookReport",
    "LightBudget",
    "LightStep",
    "MovieProvenance",
    "NoiseCheck",
    "NotDenoised",
    "Outcome",
    "Pause",
    "Provenance",
    "Record",
    "RequestAnswer",
    "SessionProvenance",
    "SessionReport",
    "SourceRecord",
    "StageDelay",
    "StreamCount",
    "Timing",
    "TracesRecord",
    "TriggerRecord",
]

_MODULES = {
    "adaptation": (
        "AdaptationRecord",
        "AdaptationRound",
        "DelayDuring",
    ),
    "beside": (
        "HookReport",
        "RequestAnswer",
    ),
    "light": (
        "LightBudget",
        "LightStep",
    ),
    "provenance": (
        "BundleSwap",
        "CameraRecord",
        "NoiseCheck",
        "Provenance",
        "SessionProvenance",
    ),
    "record": ("Record",),
    "report": (
        "Frames",
        "Histogram",
        "HookCounts",
        "NotDenoised",
        "Outcome",
        "Pause",
        "REPORT_SCHEMA",
        "SessionReport",
        "SourceRecord",
        "StageDelay",
        "StreamCount",
        "Timing",
    ),
    "watching": (
        "CallbackCounts",
        "TracesRecord",
        "TriggerRecord",
    ),
    "written": (
        "Denoising",
        "Filling",
        "MovieProvenance",
    ),
}
__getattr__ = late_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
