"""Training beside a session."""

from __future__ import annotations

from pydantic import Field

from .provenance import BundleSwap
from .record import Record

__all__ = ["AdaptationRecord", "AdaptationRound", "DelayDuring"]


class AdaptationRound(Record):
    """One round of training on the frames of the running session.

    Attributes
    ----------
    frames, held_out
        Raw frames that it saw, and the last ones of them, which were not trained on and by which it is judged.
    steps, seconds, processor_s
        Of the training.
    gain_nats, error_nats
        How much better the new weights predict the held-out frames than those in use, in nats a pixel, and the standard
        error of that; above 0 is better.
    total_nats, total_error_nats
        The same against the bundle that the session began with.
    total_db, total_error_db
        The same in dB: how much smaller the squared error of the prediction is once the variance of the noise is taken
        off; None where the noise leaves too little of it.
    offered
        True where the gain was larger than twice its error, so that the weights were offered.
    at_s
        Seconds since the recording began.
    """

    frames: int
    held_out: int
    steps: int
    seconds: float
    processor_s: float
    gain_nats: float
    error_nats: float
    total_nats: float
    total_error_nats: float
    total_db: float | None = None
    total_error_db: float | None = None
    offered: bool = False
    at_s: float = 0.0


class DelayDuring(Record):
    """Delay of denoised frames in one phase of an adaptation: frames, and the delay's median and 99 % in seconds."""

    frames: int
    p50_s: float
    p99_s: float


class AdaptationRecord(Record):
    """Training beside a session; see ``docs/guides/adapt-while-recording.md``.

    Attributes
    ----------
    threads
        Processor threads that it was allowed.
    rounds, swaps
        Rounds of training, and changes of the bundle.
    refused
        Why new weights were tried and not used, one sentence each.
    failed
        What happened to bundles that failed after they had taken over, one sentence each.
    paused
        Times that training was held up because the denoiser skipped frames.
    processor_s, peak_bytes
        Processor time and memory of the training process.
    delay
        Delay of denoised frames while nothing was trained (``idle``), while training (``training``), and while new
        weights were tried beside those in use (``trial``).
    problem
        Why training ended before the recording did; None where it did not.
    """

    threads: int = 1
    rounds: list[AdaptationRound] = Field(default_factory=list)
    swaps: list[BundleSwap] = Field(default_factory=list)
    refused: list[str] = Field(default_factory=list)
    failed: list[str] = Field(default_factory=list)
    paused: int = 0
    processor_s: float = 0.0
    peak_bytes: int | None = None
    delay: dict[str, DelayDuring] = Field(default_factory=dict)
    problem: str | None = None
