"""Results of `train_bundle`, `evaluate`, `export_bundle_precision`, `build_engines` and the folder of engines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from denoscope.acquisition.results import LightBudget, Record
from denoscope.runtime.engines import EngineManifest
from denoscope.train.evaluation.records import HeldOutRecord, MovieRecord, PairRecord, Verdict

__all__ = [
    "BuiltEngine",
    "BuiltEngines",
    "CameraMaps",
    "DeletedEngine",
    "DeletedEngines",
    "EngineCheck",
    "EngineChecks",
    "Evaluation",
    "PrecisionExport",
    "PrecisionLoss",
    "TrainingResult",
]


class _Result(Record):
    model_config = ConfigDict(frozen=True)


class CameraMaps(_Result):
    """Calibration maps that a movie was corrected with; medians in counts and counts per photo-electron."""

    model_config = ConfigDict(frozen=True, extra="allow")

    source: str
    height_px: int
    width_px: int
    sha256: str


class TrainingResult(_Result):
    """Outcome of `train_bundle`.

    Attributes
    ----------
    schema_version
        2: `verdicts`, `other_s` and this number were added to what ``denoscope train`` printed before.
    bundle, bundle_sha256
        Folder of the new bundle, and its digest.
    report, log
        HTML page, and CSV of the course of the training.
    verdicts
        What the training brought and whether the denoised end of the movie can be trusted, serious ones first.
    method, steps, precision
        Method, optimiser steps that were done, arithmetic of the convolutions.
    training_s, processor_s, other_s
        Seconds of the steps (clock, all processors), and of everything else: reading, calibration, export, report.
    stopped
        Why the training ended, in words.
    score, score_before, score_after
        What the score on unseen frames is, and its values; lower is better.
    improved
        Whether the trained weights are in the bundle; else it holds those that it began with.
    warnings
        Sentences about the movie and its noise.
    camera
        Calibration maps, if any were given.
    """

    schema_version: Literal[2] = 2
    bundle: Path
    bundle_sha256: str
    report: Path
    log: Path
    verdicts: list[Verdict]
    method: str
    steps: int
    precision: str
    training_s: float
    processor_s: float
    other_s: float
    stopped: str
    score: str
    score_before: float
    score_after: float
    improved: bool
    warnings: list[str]
    camera: CameraMaps | None


class Evaluation(_Result):
    """Outcome of `evaluate`, as ``evaluation.json`` holds it.

    Attributes
    ----------
    schema_version
        2: `verdicts` of every method and this number were added; nothing else changed.
    pairs
        Movies with truth.
    margin_db
        By movie and bundle: decibels above the better of two filters that were tuned on the truth.
    movies
        Movies without truth.
    notes
        Sentences about the movies, such as what their scanner or detector adds to every frame.
    light
        By movie without truth: what the first bundle's picture would lose at half and at a quarter of the light.
    held_out
        By movie without truth: whether each bundle but the first is truer than that, by frames left out.
    """

    schema_version: Literal[2] = 2
    pairs: list[PairRecord] = Field(default_factory=list)
    margin_db: dict[str, dict[str, float]] = Field(default_factory=dict)
    movies: list[MovieRecord] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    light: dict[str, LightBudget] = Field(default_factory=dict)
    held_out: dict[str, list[HeldOutRecord]] = Field(default_factory=dict)

    @property
    def least_margin_db(self) -> float | None:
        """Smallest of `margin_db`; None without a movie with truth."""
        return min((m for margins in self.margin_db.values() for m in margins.values()), default=None)


class PrecisionLoss(_Result):
    """Cost of a precision on one movie: PSNR in dB, differences in units of the noise at the movie's median."""

    movie: str
    reference_db: float
    lower_db: float
    max_error: float
    rms_error: float
    lost_db: float


class PrecisionExport(_Result):
    """Outcome of `export_bundle_precision`.

    Attributes
    ----------
    bundle, bundle_sha256
        Folder of the new bundle, and its digest.
    precision, limit_db
        ``fp32``, ``fp16``, ``bf16`` or ``int8``, and the most that it may lose.
    movies
        Loss on each movie that was measured.
    """

    schema_version: Literal[1] = 1
    bundle: Path
    bundle_sha256: str
    precision: str
    limit_db: float
    movies: list[PrecisionLoss]


class BuiltEngine(EngineManifest):
    """One engine in the folder: its manifest, its file, and whether and why it was built now."""

    path: Path
    built: bool
    reason: str

    @classmethod
    def of(cls, path: Path, built: bool, reason: str, manifest: EngineManifest) -> BuiltEngine:
        """Return the record of an engine that is in the folder now."""
        return cls(path=path, built=built, reason=reason, **dict(manifest))


class BuiltEngines(_Result):
    """Outcome of `build_engines`.

    Attributes
    ----------
    folder
        Folder of engines.
    engines
        One entry an engine, in the order in which they were built.
    interrupted
        Whether it was ended before all were there.
    """

    schema_version: Literal[1] = 1
    folder: Path
    engines: list[BuiltEngine]
    interrupted: bool = False


class EngineCheck(_Result):
    """One engine as the check found it: `problem` is None for a good one."""

    path: Path
    problem: str | None
    manifest: EngineManifest | None


class EngineChecks(_Result):
    """Outcome of `check_engines`: the folder, and each of its engines."""

    schema_version: Literal[1] = 1
    folder: Path
    engines: list[EngineCheck]

    @property
    def unusable(self) -> int:
        """Number of engines with a problem."""
        return sum(engine.problem is not None for engine in self.engines)


class DeletedEngine(_Result):
    """One engine that was deleted, and why."""

    path: Path
    reason: str


class DeletedEngines(_Result):
    """Outcome of `prune_engines`: the folder, and the engines that were deleted."""

    schema_version: Literal[1] = 1
    folder: Path
    deleted: list[DeletedEngine]
