"""A trigger: watch denoised frames, and act in a thread that neither camera nor denoiser waits for."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.frames.mailbox import EVERY, Mailbox
from denoscope.acquisition.results import TriggerRecord
from denoscope.runtime import InvalidInput, counted

from .actions import Action, Firing, open_action
from .condition import Condition, parse_condition

__all__ = ["RunningTrigger", "Trigger", "parse_trigger"]

_WAITING = 8
_CLOSE_S = 3.0
_KEPT = 10_000
Tell = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Trigger:
    """Condition and action.

    Parameters
    ----------
    when
        Words like ``region 3 dff > 0.5 for 2 frames``, or a function that is given each `LiveFrame`, which it may
        keep, and returns whether the condition is met.
    then
        Words like ``shutter close`` (see `denoscope.acquisition.triggers.actions.open_action`), or a function that is
        given the `Firing`.
    hold_off_s
        Seconds after a firing in which nothing is done. After that the condition has to end before it fires again.
    limit
        Firings at most; None for no limit.
    dry_run
        Note firings in the log and do nothing else.

    Examples
    --------
    >>> Trigger("region 3 dff > 0.5 for 2 frames", "shutter close", hold_off_s=2.0).limit is None
    True
    """

    when: str | Callable[[LiveFrame], object]
    then: str | Callable[[Firing], object] = "log"
    hold_off_s: float = 1.0
    limit: int | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.when, str):
            parse_condition(self.when)
        if not 0 <= self.hold_off_s < math.inf:
            raise InvalidInput(f"a trigger's hold-off is {self.hold_off_s:g} s; give 0 or more.")
        if self.limit is not None and self.limit < 1:
            raise InvalidInput(f"a trigger's limit is {self.limit}; give 1 or more.")

    @property
    def needs_regions(self) -> bool:
        """True where the condition is about regions."""
        return isinstance(self.when, str) and parse_condition(self.when).needs_regions


def parse_trigger(
    text: str, *, hold_off_s: float = 1.0, limit: int | None = None, dry_run: bool = False
) -> Trigger:
    """Return the trigger that a text describes: ``CONDITION then ACTION``, or a condition alone, which is logged.

    Raises
    ------
    InvalidInput
        When condition or action are not understood.

    Examples
    --------
    >>> parse_trigger("region 3 dff > 0.5 for 2 frames then shutter close").then
    'shutter close'
    """
    when, then, action = text.partition(" then ")
    return Trigger(when, action.strip() if then else "log", hold_off_s, limit, dry_run)


class RunningTrigger:
    """A trigger at work; `watch` is given every denoised frame by the thread that denoises.

    Parameters
    ----------
    trigger
        What to do.
    names
        Of the session's regions.
    core
        Core of Micro-Manager, where denoscope drives it.
    tell
        Notes an event in the log, as ``tell(event, **values)``; never waits.

    Raises
    ------
    InvalidInput
        When the condition names a region that is not there, or the action cannot be done.
    """

    def __init__(self, trigger: Trigger, *, core: Any = None, tell: Tell = lambda _event, **_: None) -> None:
        self._trigger = trigger
        self._tell = tell
        self._condition = parse_condition(trigger.when) if isinstance(trigger.when, str) else None
        self._text = trigger.when if isinstance(trigger.when, str) else _name(trigger.when)
        self._action: Action = open_action(trigger.then, core)
        self._armed = True
        self._last_s = -math.inf
        self._fired = self._done = self._failed = self._not_done = self._held_off = 0
        self._delays_s: list[float] = []
        self._error: str | None = None
        self._left_behind = False
        self._hangs = False
        self._nan = 0
        self._queue: queue.Queue[Firing | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._act, name="denoscope-trigger", daemon=True)
        self._thread.start()
        self._box: Mailbox | None = None
        if self._condition is None:
            self._box = Mailbox(EVERY)
            self._asks = threading.Thread(target=self._ask, name="denoscope-predicate", daemon=True)
            self._asks.start()

    @property
    def condition(self) -> Condition | None:
        """The condition, None where a function decides."""
        return self._condition

    def check(self, names: Sequence[str]) -> None:
        """Refuse a condition about a region that is not there."""
        if self._condition is not None:
            self._condition.check(names)

    def watch(self, frame: LiveFrame) -> None:
        """Look at a frame; never waits."""
        if self._box is not None:
            self._box.offer(frame.detached())  # the user's function sees it later and may keep it
        elif self._condition is not None:
            self._decide(frame, self._condition.met(frame))

    def close(self) -> TriggerRecord:
        """Wait for a last action, for a moment, and return what was done."""
        if self._box is not None:
            self._box.close()
            self._asks.join(_CLOSE_S)
            self._hangs = self._asks.is_alive()
        with suppress(queue.Full):
            self._queue.put(None, timeout=0.1)
        self._thread.join(_CLOSE_S)
        self._left_behind = self._thread.is_alive()
        if not self._left_behind:
            self._action.close()
        return self.record()

    def record(self) -> TriggerRecord:
        """Return what was done so far."""
        delays = np.array(self._delays_s[:]) if self._delays_s else None
        problem = None
        if self._left_behind:
            problem = "its action did not come back and was left behind"
        elif self._failed:
            problem = f"its action failed {counted(self._failed, 'time')} ({self._error})"
        elif self._hangs:
            problem = "its condition did not come back and was left behind" + self._missed("; ")
        elif self._error is not None:
            problem = f"its condition raised an error ({self._error})"
        elif self._box is not None and self._box.missed:
            problem = f"its condition was too slow: {self._missed()}"
        elif self._nan:
            problem = f"its condition gave NaN {counted(self._nan, 'time')}, which counts as not met"
        elif self._condition is not None and (why := self._condition.problem()) is not None:
            problem = why
        elif self._not_done:
            problem = (
                f"its action was left out {counted(self._not_done, 'time')}, because an earlier one still ran"
            )
        return TriggerRecord(
            when=self._text,
            then=self._trigger.then if isinstance(self._trigger.then, str) else _name(self._trigger.then),
            fired=self._fired,
            done=self._done,
            failed=self._failed,
            not_done=self._not_done,
            held_off=self._held_off,
            dry_run=self._trigger.dry_run,
            delay_p50_s=None if delays is None else float(np.quantile(delays, 0.5)),
            delay_p99_s=None if delays is None else float(np.quantile(delays, 0.99)),
            problem=problem,
        )

    def _missed(self, before: str = "") -> str:
        """Say how many frames the user's condition was not asked about; empty where it was about all."""
        missed = 0 if self._box is None else self._box.missed
        return f"{before}{counted(missed, 'frame was', 'frames were')} not looked at" if missed else ""

    # -- the thread that denoises, or that of the user's condition

    def _decide(self, frame: LiveFrame, met: tuple[float, str] | None) -> None:
        if met is None:
            self._armed = True
            return
        if not self._armed:
            return
        limit = self._trigger.limit
        waits = frame.t_received_s - self._last_s < self._trigger.hold_off_s
        self._armed = False
        if waits or (limit is not None and self._fired >= limit):
            self._held_off += 1
            return
        self._fired += 1
        self._last_s = frame.t_received_s
        firing = Firing(
            self._text, frame.number, frame.index, met[1], met[0], frame.t_received_s, frame.core_lag_s
        )
        try:
            self._queue.put_nowait(firing)
        except queue.Full:
            self._not_done += 1
            self._note(firing, "not done: an earlier action still runs")

    def _ask(self) -> None:
        """Put each frame to the user's condition."""
        assert self._box is not None
        for frame in self._box:
            try:
                answer = self._trigger.when(frame)  # type: ignore[operator]
                nan = isinstance(answer, float | np.floating) and math.isnan(answer)
                self._nan += nan
                met = not nan and bool(answer)
            except BaseException as error:  # noqa: BLE001  whatever the user's function raises, the recording goes on
                self._error = self._error or f"{type(error).__name__}: {one_line(error)}"
                met = False
            self._decide(frame, (math.nan, "") if met else None)

    # -- the thread that acts

    def _act(self) -> None:
        while (firing := self._queue.get()) is not None:
            outcome = "dry run" if self._trigger.dry_run else "done"
            if not self._trigger.dry_run:
                try:
                    self._action(firing)
                    self._done += 1
                except BaseException as error:  # noqa: BLE001  whatever it is, the recording goes on
                    self._failed += 1
                    self._error = self._error or f"{type(error).__name__}: {one_line(error)}"
                    outcome = f"failed: {type(error).__name__}: {one_line(error)}"
            delay_s = time.perf_counter() - firing.t_received_s + firing.core_lag_s
            if len(self._delays_s) < _KEPT:
                self._delays_s.append(delay_s)
            self._note(firing, outcome, delay_s)

    def _note(self, firing: Firing, outcome: str, delay_s: float | None = None) -> None:
        self._tell(
            "trigger",
            when=firing.trigger,
            outcome=outcome,
            frame=firing.number,
            page=firing.index,
            region=firing.region,
            value=None if math.isnan(firing.value) else firing.value,
            delay_s=delay_s,
        )


def _name(call: Any) -> str:
    return str(getattr(call, "__name__", type(call).__name__))
