"""The progress of a command that takes a while: the same line for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from denoscope.runtime import counted

from .shell import Shell
from .visible import visible

__all__ = ["FillBar", "ProgressLine", "duration"]

_LINE_EVERY_S = 5.0


def duration(seconds: float) -> str:
    """Return a time that is not known exactly, in words."""
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    return f"about {seconds / 60:.1f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class ProgressLine:
    """Show what is done, how far, how long it will still take, and what is being worked on.

    A line that is drawn again and again in a terminal, a line of text every five seconds elsewhere, and nothing with
    ``--quiet``. Nothing is drawn before the first call of `show`, so that an error follows no empty line.

    Parameters
    ----------
    shell
        Where to show it.
    title
        Verb of what is done, like ``denoising``.
    unit
        Singular of what is counted, like ``frame``; empty where only the share is meaningful.
    waits
        Whether the first line of text comes after five seconds too, so that quick work says nothing.
    """

    def __init__(self, shell: Shell, title: str, unit: str = "", *, waits: bool = True) -> None:
        self._shell, self._title, self._unit, self._waits = shell, title, unit, waits
        self._bar: Any = None
        self._task: Any = None
        self._began_s: float | None = None
        self._first = 0.0
        self._line_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def show(self, done: float, total: float, note: str = "", *, left_s: float | None = None) -> None:
        """Show that so much is done.

        Parameters
        ----------
        done, total
            In the same unit.
        note
            What is being worked on.
        left_s
            Seconds that it will still take; None to conclude them from the time until now.
        """
        if self._shell.quiet:
            return
        now_s = time.perf_counter()
        if self._began_s is None:
            self._began_s, self._first = now_s, done
            self._line_s = now_s - (0.0 if self._waits else _LINE_EVERY_S)
        if left_s is None and done > self._first:
            left_s = (now_s - self._began_s) / (done - self._first) * (total - done)
        left = f"{duration(left_s)} left" if left_s is not None and done < total else ""
        if self._shell.stream.isatty():
            self._draw(done, total, ", ".join(filter(None, (self._counted(done, total), left, note))))
        elif now_s - self._line_s >= _LINE_EVERY_S:
            self._line_s = now_s
            share = "" if self._unit else f"{done / total:.0%}" if total else ""
            parts = (self._counted(done, total) or share, left, note)
            self._shell.say(f"{self._title}: {', '.join(filter(None, parts))}")

    def interrupt(self) -> None:
        """Leave the line as it is, because something else is said; another `show` goes on with the same work."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def end(self) -> None:
        """Leave the line as it is; another `show` begins other work."""
        self.interrupt()
        self._began_s = None

    def _counted(self, done: float, total: float) -> str:
        return f"{done:.0f} of {counted(int(total), self._unit)}" if self._unit else ""

    def _draw(self, done: float, total: float, words: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            columns = (
                TextColumn(self._title, markup=False),
                BarColumn(bar_width=20),  # leaves room for the words in 80 columns
                TaskProgressColumn(),
                TextColumn("{task.description}", markup=False),
            )
            self._bar = Progress(*columns, console=Console(file=self._shell.stream))
            self._bar.start()
            self._task = self._bar.add_task("", total=total)
        self._bar.update(self._task, completed=done, total=total, description=visible(words))


class FillBar(ProgressLine):
    """Show the progress of `denoscope.acquisition.offline.fill.fill_in_place`; nothing until its first frame.

    Parameters
    ----------
    shell
        Where to show it.
    before
        Called once before the first output, to end what else is drawn there.
    """

    def __init__(self, shell: Shell, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(shell, "denoising", "frame")
        self._before: Callable[[], None] | None = before

    def __call__(self, done: int, total: int) -> None:
        """Show that so many of all raw frames are done."""
        if self._before is not None and not self._shell.quiet:
            self._before()
            self._before = None
            self._shell.say(
                "Denoising the skipped frames from raw.tif. Ctrl-C ends this and keeps what is done."
            )
        self.show(done, total)
