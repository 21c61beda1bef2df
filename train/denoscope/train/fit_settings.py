"""Settings and result of a training, the same for every method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Generic, Literal, TypeVar

from torch import nn

from denoscope.runtime import InvalidInput

__all__ = ["ADAPTATION_RATE", "FitPlan", "FitProgress", "FitResult", "FitSettings", "Precision"]

ADAPTATION_RATE = 5e-4  # a quarter of the peak rate from nothing: what was learned is kept

Precision = Literal["32", "bf16-mixed", "16-mixed"]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class FitSettings:
    """How long and how `fit` trains.

    One budget counts: minutes of the clock or of the processor where given (the first that runs out),
    else epochs, else steps. The learning rate falls to zero over it. With epochs or steps the same
    seed gives the same bits on a processor, whether the training was interrupted or not.

    Attributes
    ----------
    steps
        Optimiser steps.
    epochs, steps_per_epoch
        Epochs instead of steps, and the steps that make one.
    minutes
        Wall-clock budget.
    processor_minutes
        Budget of processor time, all threads together: fair on a shared machine.
    batch, crop
        Windows per step and device, and their edge in pixels.
    learning_rate
        Peak rate of the optimiser.
    real_share
        Share of windows drawn from real movies when simulated ones are there too (`live`).
    caution
        How much an adaptation (`live`) holds on to what the start knew, 0 to 1: the share of windows that
        come from simulated movies, and the share of the start in the averaged weights; None takes less
        the longer the movies are, and nothing if there are simulated movies already.
    seed
        Seed of the initial weights and of every batch.
    hold_out
        Share of every real movie, at its end, that is scored and never trained on; 0 scores on what
        was trained on. A movie of fewer than ten frames is never split.
    simulated_hold_out
        Share of the simulated movies that is scored and never trained on (`live`); 0 where the score
        is to be that of the real movies alone.
    validations, stop_after
        How often the held-out score is measured, at most, and after how many of them in a row
        without a better one the training stops; None trains to the end.
    precision
        Arithmetic of the convolutions; weights, losses and inputs stay in 32 bits.
    devices
        Graphics cards (processes where there is none); each draws different batches.
    checkpoint_s
        Seconds between two checkpoints.
    """

    steps: int = 4000
    epochs: int | None = None
    steps_per_epoch: int = 200
    minutes: float | None = None
    processor_minutes: float | None = None
    batch: int = 12
    crop: int = 64
    learning_rate: float = 2e-3
    real_share: float = 0.2
    caution: float | None = None
    seed: int = 0
    hold_out: float = 0.15
    simulated_hold_out: float = 0.0
    validations: int = 20
    stop_after: int | None = 8
    precision: Precision = "32"
    devices: int = 1
    checkpoint_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("steps", "steps_per_epoch", "batch", "crop", "validations", "devices"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("epochs", "minutes", "processor_minutes", "stop_after"):
            self._require(name, (getattr(self, name) or 1) > 0 and getattr(self, name) != 0, "above 0")
        self._require("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        for name in ("hold_out", "simulated_hold_out"):
            self._require(name, 0 <= getattr(self, name) <= 0.5, "0 to 0.5")
        self._require("caution", self.caution is None or 0 <= self.caution < 1, "0 up to, not including, 1")
        self._require(
            "precision", self.precision in ("32", "bf16-mixed", "16-mixed"), "32, bf16-mixed, 16-mixed"
        )

    def _require(self, name: str, fine: bool, allowed: str) -> None:
        if not fine:
            raise InvalidInput(f"{name} {getattr(self, name)} is not possible: choose {allowed}.")

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole training; None where the budget is time."""
        if self.minutes is not None or self.processor_minutes is not None:
            return None
        return self.steps if self.epochs is None else self.epochs * self.steps_per_epoch

    def share_done(self, step: int, elapsed_s: float, processor_s: float) -> float:
        """Return the share of the budget that is spent; 1 or more ends the training."""
        if (total := self.total_steps) is not None:
            return step / total
        shares = [
            spent / (60 * budget)
            for spent, budget in ((elapsed_s, self.minutes), (processor_s, self.processor_minutes))
            if budget is not None
        ]
        return max(shares)


@dataclass(frozen=True)
class FitPlan:
    """Time and memory of a training, measured on a few steps before it starts.

    Attributes
    ----------
    steps, seconds
        Steps that will be done and seconds they will take, both about.
    step_s
        Seconds of one step.
    memory_bytes
        Weights, their moments and averages, what one step keeps for its backward pass, and what the
        method holds of the movies; the program itself comes on top.
    device
        Where it runs, in words.
    """

    steps: int
    seconds: float
    step_s: float
    memory_bytes: int
    device: str


@dataclass(frozen=True)
class FitProgress:
    """Progress of a training, as `fit` reports it from time to time.

    Attributes
    ----------
    step, done
        Steps done and share of the training done (0 to 1).
    loss, score
        Smoothed loss, and the newest held-out score (NaN before the first).
    elapsed_s, remaining_s
        Seconds spent and left.
    """

    step: int
    done: float
    loss: float
    elapsed_s: float
    remaining_s: float
    score: float = math.nan


@dataclass(frozen=True)
class FitResult(Generic[Network]):
    """Result of `fit`: the network and how it got there.

    Attributes
    ----------
    network
        With the weights that scored best; the start weights if those scored better.
    steps, seconds, processor_s
        What was spent.
    score_before, score_after
        Held-out self-supervised score (lower is better) of the start and of the best trained weights.
    improved
        Whether the trained weights were kept.
    stopped
        Why the training ended, in words.
    caution
        Share of the start in the weights, see `FitSettings`; 0 where nothing was held on to.
    losses, scores
        (step, smoothed loss) every ten steps, and (step, held-out score) of every validation.
    """

    network: Network
    steps: int
    seconds: float
    processor_s: float
    score_before: float
    score_after: float
    improved: bool
    stopped: str
    caution: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)

    def warning(self) -> str | None:
        """Return a sentence about a result that should not be trusted as it is; None where there is none."""
        return None

    @classmethod
    def of(cls, common: FitResult[Network], extra: Mapping[str, object]) -> FitResult[Network]:
        """Return this kind of result from the common one and what the method adds."""
        values = {f.name: getattr(common, f.name) for f in fields(FitResult)}
        return cls(**{**values, **extra})
