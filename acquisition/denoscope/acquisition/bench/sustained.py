"""The highest frame rate that is kept up with: bisection over short trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from .play import DELIVERED, Timeline
from .results import HighestRate, TriedRate

__all__ = ["Search", "Trial", "highest_rate", "judge"]

_SHARPNESS = 1.05  # the search ends when the failing rate is this close to the sustained one
_MOST_TRIALS = 10
_BACKLOG_FRAMES = 2.0  # a median wait of more frame intervals at the end of a trial is a growing queue


@dataclass(frozen=True)
class Trial:
    """One rate that was tried.

    Attributes
    ----------
    fps
        Frames per second.
    frames
        How many frames arrived.
    dropped
        How many of them were not denoised.
    backlog_frames
        Frame intervals that the frames of the last quarter waited before they were taken (median).
    """

    fps: float
    frames: int
    dropped: int
    backlog_frames: float

    @property
    def sustained(self) -> bool:
        """True where nothing was dropped and no queue was growing."""
        return self.dropped == 0 and self.backlog_frames <= _BACKLOG_FRAMES


@dataclass(frozen=True)
class Search:
    """The outcome of a bisection.

    Attributes
    ----------
    fps
        The highest rate that was sustained; None when none of those tried was.
    failed_fps
        The lowest rate above it that was not; None when none failed.
    trials
        Every rate tried, in order.
    """

    fps: float | None
    failed_fps: float | None
    trials: tuple[Trial, ...]

    def record(self) -> HighestRate:
        """Return what goes into a report."""
        return HighestRate(
            fps=self.fps,
            failed_fps=self.failed_fps,
            trials=[TriedRate(**asdict(trial), sustained=trial.sustained) for trial in self.trials],
        )


def judge(timeline: Timeline) -> Trial:
    """Say how a timeline's rate went.

    A queue that grows slower than the keep-up policy drops shows in how long the last frames waited.
    """
    plan = timeline.plan
    waited = (timeline.taken - timeline.scheduled)[plan.counted][-max(1, plan.measured // 4) :]
    came = waited[~np.isnan(waited)]
    backlog = float(np.median(came)) * plan.fps if len(came) else float("inf")
    dropped = sum(outcome != DELIVERED for outcome in timeline.outcome)
    return Trial(plan.fps, plan.total, dropped, backlog)


def highest_rate(run: Callable[[float], Trial], guess_fps: float) -> Search:
    """Search for the highest rate that is sustained.

    Parameters
    ----------
    run
        Tries a rate in frames per second.
    guess_fps
        Where to begin; a bracket is found from there by halving and doubling.

    Returns
    -------
    Search
        A rate is taken to be sustained when its one trial was, so that a hiccup of a busy machine makes the
        result too low, never too high.
    """
    trials: list[Trial] = []
    low, high = 0.0, float("inf")
    fps = guess_fps
    while len(trials) < _MOST_TRIALS and high / max(low, 1e-9) > _SHARPNESS:
        trial = run(fps)
        trials.append(trial)
        if trial.sustained:
            low = fps
        else:
            high = fps
        if high == float("inf"):
            fps = low * 2
        elif low == 0.0:
            fps = high / 2
        else:
            fps = (low * high) ** 0.5
    return Search(low or None, high if high < float("inf") else None, tuple(trials))
