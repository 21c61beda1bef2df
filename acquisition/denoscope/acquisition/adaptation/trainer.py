"""The training process of a session, as the session sees it: what it is told, what it answers, and its end."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from denoscope.acquisition.processes.child import Child, exit_words
from denoscope.acquisition.processes.looks import Looks

if TYPE_CHECKING:
    from denoscope.acquisition.processes.wire import Words

    from .plan import AdaptationPlan, TrainingRequest

__all__ = ["Trainer"]

_START_S = 120.0
_SLOW = 10  # times the patience that progress may take where the process hardly gets a processor


class Trainer:
    """Start the training process and listen to it.

    Parameters
    ----------
    request
        What it shall do.
    plan
        Its module, and how long it may stand still.
    look_every_s
        Seconds from one call of `look` to the next.

    Attributes
    ----------
    news
        Messages of the process about rounds and bundles, oldest first.
    works
        True while a round of training goes on.
    processor_s, peak_bytes
        What it has used so far, as it said last.
    problem
        Why it ended; None while it runs.
    """

    def __init__(self, request: TrainingRequest, plan: AdaptationPlan, *, look_every_s: float) -> None:
        self._plan = plan
        self.news: queue.SimpleQueue[Words] = queue.SimpleQueue()
        self.works = False
        self.processor_s = 0.0
        self.peak_bytes: int | None = None
        self.problem: str | None = None
        self._closing = False
        self._ticks = -1
        self._looks = Looks(look_every_s)
        self._heard_s = 0.0  # the last message, by the time of the looks
        self._ticked = self._heard_s, 0.0  # the last progress, and the processor time then
        self._child = Child(plan.module, str(os.getpid()), name="denoscope-trainer", low_priority=True)
        self._hears = threading.Thread(target=self._hear, name="denoscope-trainer-hears", daemon=True)
        self._hears.start()
        self._tell({"do": "begin", "request": request.as_json()})

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def tell_frames(self, frames: int, *, pause: bool) -> None:
        """Tell it how many raw frames it may read, and whether to hold up the training."""
        self._tell({"do": "frames", "frames": frames, "pause": pause})

    def tell_verdict(self, bundle: str, *, used: bool) -> None:
        """Tell it whether a bundle that it offered is in use now."""
        self._tell({"do": "verdict", "bundle": bundle, "used": used})

    def tell_failed(self) -> None:
        """Tell it that the bundle in use failed, and that the one before is in use again."""
        self._tell({"do": "back"})

    def _tell(self, words: Words) -> None:
        if not self._closing:
            with suppress(ValueError):  # its pipe was closed in this moment
                self._child.tell(words)

    def look(self) -> None:
        """End the process where it makes no progress; `problem` then says so."""
        now_s, patience_s = self._looks.look(), self._plan.patience_s
        ticked_s, ticked_processor_s = self._ticked
        silent = now_s - self._heard_s > (patience_s if self._ticks >= 0 else max(patience_s, _START_S))
        # One that others leave little of the processors is slow, and does not hang.
        stuck = self.processor_s - ticked_processor_s > patience_s or now_s - ticked_s > _SLOW * patience_s
        if self.problem is None and (silent or (self.works and stuck)):
            self.problem = f"the training process made no progress for {now_s - ticked_s:.0f} s and was ended"
            self._child.process.kill()

    def close(self) -> None:
        """End the process. Safe to call twice."""
        if not self._closing:
            self._closing = True
            self._child.end(self._hears)

    def _hear(self) -> None:
        while (message := self._child.receive()) is not None:
            words = message.words
            if "beat" not in words:
                self._progress()
                self.news.put(words)
                continue
            self.works = bool(words["works"])
            self.processor_s, self.peak_bytes = float(words["processor_s"]), words["peak_bytes"]
            self._heard_s = self._looks.waited_s
            if words["beat"] != self._ticks or not self.works:
                self._ticks = words["beat"]
                self._progress()
        self.works = False
        if not self._closing and self.problem is None:
            said = self._child.last_words()
            last = f", saying: {said[-1]}" if said else ""
            self.problem = f"the training process {exit_words(self._child.poll())}{last}"

    def _progress(self) -> None:
        self._heard_s = self._looks.waited_s
        self._ticked = self._heard_s, self.processor_s
