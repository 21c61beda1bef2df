"""How an adaptation proceeds, and what the training process is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from denoscope.acquisition.processes.wire import Words

__all__ = ["AdaptationPlan", "TrainingRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """Settings of the training process and of its rounds.

    Attributes
    ----------
    threads, memory_mb
        Processor threads and memory that it may use.
    idle
        Whether it computes only with what all other programs leave of the processors.
    least_frames
        Raw frames before the first round of training; with fewer than 246 a training rehearses simulated movies, which
        costs time.
    growth
        After a round that gained nothing, the recording must be so many times as long before the next one.
    steps
        Optimiser steps of each round; the last number counts for all further ones.
    batch, crop
        Windows of a step, and their edge in pixels.
    hold_out
        Share of the frames, at the end, that a round is judged by.
    """

    threads: int = 1
    memory_mb: int = 4096
    idle: bool = True
    least_frames: int = 250
    growth: float = 1.5
    steps: tuple[int, ...] = (100, 200, 400)
    batch: int = 12
    crop: int = 64
    hold_out: float = 0.15

    def of_rounds(self) -> dict[str, Any]:
        """Return these settings alone, by their names."""
        return {each.name: getattr(self, each.name) for each in fields(RoundSettings)}


@dataclass(frozen=True, slots=True)
class AdaptationPlan(RoundSettings):
    """Numbers of an adaptation.

    Attributes
    ----------
    module
        Run by the training process.
    settle_s
        Age of frames on the disk, in seconds, before they are read.
    warm_frames, checked_frames
        Frames that a second denoiser is given before it is checked, and whose outputs are checked.
    backlog_frames
        Frames that may wait for it.
    pause_s
        Training is held up for so long after the denoiser skipped a frame.
    patience_s
        Time without progress after which the training process counts as hung.
    """

    module: str = "denoscope.acquisition.adaptation.process"
    settle_s: float = 2.0
    warm_frames: int = 200
    checked_frames: int = 32
    backlog_frames: int = 64
    pause_s: float = 10.0
    patience_s: float = 180.0


@dataclass(frozen=True, slots=True)
class TrainingRequest(RoundSettings):
    """Request to the training process.

    Attributes
    ----------
    run
        Run folder; its raw frames are read, and new bundles are written there.
    bundle
        Folder or name of the bundle to begin with.
    camera_gain, camera_offset, camera_roi
        Calibration, as of `SessionSettings`.
    """

    run: str
    bundle: str
    camera_gain: str | None = None
    camera_offset: str | None = None
    camera_roi: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return plain values; `from_words` returns the same from them."""
        return asdict(self)

    @classmethod
    def from_words(cls, words: Words) -> Self:
        """Return the request of a message."""
        return cls(**{**words, "steps": tuple(words["steps"])})
