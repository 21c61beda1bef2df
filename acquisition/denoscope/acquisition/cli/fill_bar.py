"""The bar that shows how many skipped frames are computed after a recording, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from denoscope.runtime import counted

from .shell import Shell

__all__ = ["FillBar"]

_LINE_EVERY_S = 5.0


class FillBar:
    """Show the progress of `denoscope.acquisition.offline.fill.fill_in_place`; nothing until its first frame.

    Parameters
    ----------
    shell
        Where to show it.
    before
        Called once before the first output, to end what else is drawn there.
    """

    def __init__(self, shell: Shell, before: Callable[[], None] = lambda: None) -> None:
        from rich.console import Console

        self._shell, self._before = shell, before
        self._console = Console(file=shell.stream)
        self._bar: Any = None
        self._task: Any = None
        self._started_s: float | None = None
        self._line_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show that so many of all raw frames are done."""
        if self._shell.quiet:
            return
        if self._started_s is None:
            self._before()
            self._started_s = self._line_s = time.perf_counter()
            self._shell.say(
                "Denoising the skipped frames from raw.tif. Ctrl-C ends this and keeps what is done."
            )
        if self._console.is_terminal:
            self._draw(done, total)
        elif time.perf_counter() - self._line_s >= _LINE_EVERY_S:
            self._line_s = time.perf_counter()
            left_s = (self._line_s - self._started_s) / done * (total - done)
            self._shell.say(f"{done} of {counted(total, 'frame')}, about {left_s:.0f} s left")

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("denoising"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("", total=total)
        self._bar.update(self._task, completed=done, total=total)
