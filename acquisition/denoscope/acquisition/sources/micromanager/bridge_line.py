"""The connection to a running Micro-Manager: one job at a time, in a thread, and how long it has been busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from denoscope.acquisition.errors import SourceFailed
from denoscope.acquisition.processes.looks import Looks

from .java import JavaException, JavaServer

__all__ = ["BridgeLine"]

_BUSY_AFTER_S = 1.0
_WAIT_S = 0.2


class _Worker:
    """Run one job at a time in a separate thread, so that a busy server holds up nobody else."""

    def __init__(self, at_end: Callable[[], None]) -> None:
        self._at_end = at_end
        self._jobs: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self._answers: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
        self.pending = False
        threading.Thread(target=self._run, name="denoscope-bridge", daemon=True).start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._answers.put((job(), None))
            except Exception as error:  # noqa: BLE001  handed to the caller
                self._answers.put((None, error))
        self._at_end()

    def submit(self, job: Callable[[], Any]) -> None:
        """Begin a job; the one before it must have been collected."""
        self.pending = True
        self._jobs.put(job)

    def collect(self, wait_s: float | None) -> tuple[bool, Any]:
        """Return whether the job has ended, and what it returned; what it raised is raised here."""
        try:
            value, error = self._answers.get(timeout=wait_s)
        except queue.Empty:
            return False, None
        self.pending = False
        if error is not None:
            raise error
        return True, value

    def close(self) -> None:
        """End the thread once its job has ended."""
        self._jobs.put(None)


class BridgeLine:
    """A connection to a running Micro-Manager.

    Parameters
    ----------
    host, port
        Where its server listens.
    patience_s
        Seconds for which a busy server is waited for before it counts as hung.

    Attributes
    ----------
    server
        Its server.
    dead, closed
        True once it does not answer any more, and once `close` was called.
    camera_runs
        Whether a sequence that was started here may still be running, for messages.
    busy_times, busy_total_s
        How often Micro-Manager was busy, and for how long in all.
    """

    def __init__(self, host: str, port: int, *, patience_s: float) -> None:
        self._name = f"{host}:{port}"
        self._patience_s = patience_s
        self.server = JavaServer(host, port, name=self._name)
        self._worker = _Worker(self.server.close)
        self.dead = self.closed = False
        self.camera_runs = False
        self.busy_times = 0
        self.busy_total_s = 0.0
        self._waited_s = 0.0

    @property
    def busy_s(self) -> float:
        """Seconds for which Micro-Manager has not answered; 0 while it answers as usual."""
        return self._waited_s if self._waited_s >= _BUSY_AFTER_S else 0.0

    @property
    def pending(self) -> bool:
        """True while a job has not been collected."""
        return self._worker.pending

    def go_on(self, waited_s: float) -> bool:
        """Say whether an answer that has not come for so long is waited for."""
        self._waited_s = waited_s
        return waited_s < self._patience_s and not self.dead

    def values(self, requests: list[dict[str, object]]) -> list[Any]:
        """Return the answers to requests; called by jobs alone."""
        return self.server.values(requests, self.go_on)

    def run(self, job: Callable[[], Any], wait_s: float | None = None) -> Any:
        """Return what `job` returns, after what was begun before it."""
        self.check()
        looks = Looks(_WAIT_S)
        if self._worker.pending:
            self._wait_for_it(looks, wait_s)
        self._worker.submit(job)
        return self._wait_for_it(looks, wait_s)

    def begin(self, job: Callable[[], Any]) -> None:
        """Begin a job that is collected later."""
        self._worker.submit(job)

    def check(self) -> None:
        """Raise `SourceFailed` where it does not answer any more."""
        if self.dead:
            raise SourceFailed(f"Micro-Manager at {self._name} does not answer any more.{self._may_run()}")

    def collect(self, wait_s: float | None) -> tuple[bool, Any]:
        """Return whether the job has ended, and what it returned; what it raised is raised here."""
        try:
            done, value = self._worker.collect(wait_s)
        except JavaException:
            self._answered()
            raise
        except SourceFailed as error:
            self.dead = True
            self._waited_s = 0.0
            raise SourceFailed(f"{error}{self._may_run()}") from error
        if done:
            self._answered()
        return done, value

    def close(self) -> None:
        """Let go of the connection once its job has ended."""
        self.dead = self.closed = True
        self._worker.close()

    def _wait_for_it(self, looks: Looks, wait_s: float | None) -> Any:
        # In short waits, because Windows lets no Ctrl-C through during one.
        most_s = self._patience_s * 2 if wait_s is None else wait_s
        while True:
            done, value = self.collect(min(_WAIT_S, max(0.0, most_s - looks.waited_s)))
            if done:
                return value
            if looks.look() >= most_s:
                raise self._hangs(wait_s)

    def _hangs(self, wait_s: float | None) -> SourceFailed:
        self.dead = True
        return SourceFailed(
            f"Micro-Manager at {self._name} is busy and did not answer for {wait_s or self._patience_s:.0f} s."
            f"{self._may_run()}"
        )

    def _answered(self) -> None:
        if self.busy_s:
            self.busy_total_s += self._waited_s
            self.busy_times += 1
        self._waited_s = 0.0

    def _may_run(self) -> str:
        return " Its camera may still be running: look there, and stop it if so." if self.camera_runs else ""
