"""A second denoiser beside the one in use: given the same frames, checked, ready to take over between two frames."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from denoscope.acquisition.denoisers.local import SessionDenoiser
from denoscope.acquisition.errors import one_line
from denoscope.runtime import GuardFinding, counted

if TYPE_CHECKING:
    from denoscope.runtime import Denoised, FrameMeta

__all__ = ["Trial", "TrialPlan"]

_WARM_UP = (
    "warm-up"  # the reason that the trial's own denoiser counts; no frame of the session is dropped for it
)
_TRIES = 2000  # frames that may pass before it is in step with the session for once


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """Length of a trial.

    Attributes
    ----------
    warm_frames, checked_frames, backlog_frames
        As of `AdaptationPlan`.
    """

    warm_frames: int
    checked_frames: int
    backlog_frames: int


class Trial:
    """Try a denoiser in a separate thread.

    The session's thread hands over each frame with `offer`, which never waits. The first frames fill the window and the
    long memory, the outputs of the next ones are checked: every pixel must be a number wherever the frame has one, and
    the guard must find nothing. After that it can take over before any frame for which it
    has finished all frames before.

    Parameters
    ----------
    make
        Opens the denoiser, prepared for the frames.
    plan
        Length of the trial.
    bundle
        Folder of the bundle that it opens.

    Attributes
    ----------
    bundle
        The same.
    pushed
        Frames that the denoiser has taken.
    problem
        Why it cannot take over, one sentence without a full stop; None while it may.
    again
        True where the trial failed for a reason that is not the new weights', so that another one may succeed.
    """

    def __init__(self, make: Callable[[], SessionDenoiser], plan: TrialPlan, bundle: str = "") -> None:
        self._make = make
        self.bundle = bundle
        self._plan = plan
        self._queue: queue.Queue[tuple[Any, FrameMeta] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._offered = self._tries = 0
        self._open = self._ready = self._taken = False
        self._denoiser: SessionDenoiser | None = None
        self._old: SessionDenoiser | None = None
        self._released = threading.Event()
        self.pushed = 0
        self.problem: str | None = None
        self.again = False
        self._thread = threading.Thread(target=self._run, name="denoscope-trial", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """True once all checks are passed."""
        return self._ready and self.problem is None

    # -- the session's thread

    def offer(self, frame: Any, meta: FrameMeta) -> None:
        """Hand over a frame; none is taken before the denoiser is open."""
        if not self._open or self.problem is not None:
            return
        if self._offered - self.pushed >= self._plan.backlog_frames:
            self.cancel("this computer is too slow to run a second denoiser beside the first", again=True)
            return
        self._offered += 1
        self._queue.put((frame, meta))

    def in_step(self) -> SessionDenoiser | None:
        """Return the denoiser where it could take over before the next frame, else None."""
        if not self.ready:
            return None
        if self._offered == self.pushed:
            return self._denoiser
        self._tries += 1
        if self._tries > _TRIES:
            self.cancel("this computer is too slow to bring a second denoiser in step", again=True)
        return None

    def hand_over(self, old: SessionDenoiser) -> bool:
        """Give the denoiser away, unless the trial was cancelled; the one in use until now is closed in its place."""
        with self._lock:
            if self.problem is not None:
                return False
            self._taken, self._old = True, old
        self._queue.put(None)
        return True

    # -- any thread

    def cancel(self, why: str, *, again: bool = False) -> None:
        """End the trial, unless it has been decided."""
        with self._lock:
            if self.problem is None and not self._taken:
                self.problem, self.again = why, again
        self._queue.put(None)

    def release(self) -> None:
        """Let the thread end, because the denoiser that was handed over is closed."""
        self._released.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, so long at most."""
        self._thread.join(timeout_s)

    # -- its own thread

    def _run(self) -> None:
        try:
            self._denoiser = self._make()
            self._open = True
            while (item := self._queue.get()) is not None and self.problem is None:
                self._push(*item)
        except Exception as error:  # noqa: BLE001  whatever it was, the denoiser in use goes on
            self.cancel(f"the new bundle failed ({type(error).__name__}: {one_line(error)})")
        with self._lock:
            unused = self._old if self._taken else self._denoiser
        if unused is not None:
            unused.close()
        if self._taken:
            # Linux ends a child process with the thread that started it; see `end_with`.
            self._released.wait()

    def _push(self, frame: Any, meta: FrameMeta) -> None:
        assert self._denoiser is not None
        plan = self._plan
        checked = plan.warm_frames <= self.pushed < plan.warm_frames + plan.checked_frames
        outputs = self._denoiser.push(frame, meta, skip=None if checked else _WARM_UP)
        if any(not _is_finite(output, frame) for output in outputs):
            self.cancel(f"the new bundle gave pixels that are no numbers at frame {meta.number}")
        if self.pushed + 1 == plan.warm_frames + plan.checked_frames:
            self._judge()
        self.pushed += 1

    def _judge(self) -> None:
        assert self._denoiser is not None
        found = self._denoiser.learned().get("guard")
        guard = GuardFinding() if found is None else GuardFinding.model_validate(found)
        if guard.off:
            self.cancel(
                f"the picture of the new bundle parts from the measured one in {guard.off} of "
                f"{counted(guard.checked, 'frame')}, beyond what noise explains"
            )
            return
        self._ready = True


def _is_finite(output: Denoised, frame: Any) -> bool:
    """Return whether an output of a frame without missing pixels has none either."""
    if not np.isfinite(frame).all():
        return True
    return bool(np.isfinite(output.frame).all() and (output.std is None or np.isfinite(output.std).all()))
