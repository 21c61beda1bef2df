"""The live table on the terminal, and plain lines where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.results import SessionProvenance
from denoscope.acquisition.session.ending.summary import skipped_by_reason
from denoscope.acquisition.session.states import SessionStatus
from denoscope.runtime.words import delay_words, rate_words, time_words

from .flags import with_flags
from .shell import Shell
from .visible import visible

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Screen"]

_LINE_EVERY_S = 2.0


def _rows(status: SessionStatus, source: SourceInfo, provenance: SessionProvenance) -> list[tuple[str, str]]:
    latency = status.latency_s
    if latency:
        waited = f"{delay_words(latency['p50'])} (99 % within {delay_words(latency['p99'])})"
    else:
        waited = "catching up with the camera" if status.emitted else "measuring the noise first"
    skipped = sum(status.dropped.values())
    reasons = skipped_by_reason(status.dropped)
    why = ", ".join(reasons if len(reasons) == 1 else (f"{n} {reason}" for reason, n in reasons.items()))
    height, width = source.shape
    rows = [
        ("source", f"{source.title}, {height}x{width} {source.dtype.name}"),
        ("state", f"{status.state.value}, {time_words(status.elapsed_s)}"),
        ("frames/s", f"camera {rate_words(status.fps_in)}, denoised {rate_words(status.fps_out)}"),
        ("delay", waited),
        ("raw saved", f"{status.written_raw}/{status.received}"),
        ("denoised", f"{status.emitted} ({status.in_flight} in progress)"),
        ("skipped", f"{skipped} ({why})" if skipped else "0"),
        ("backend", f"{provenance.backend}: {provenance.backend_reason}"),
    ]
    if status.busy_s:
        rows.append(
            ("source", f"busy for {status.busy_s:.0f} s; the camera goes on and its frames wait there")
        )
    if status.disk_wait_s:
        rows.append(
            (
                "disk",
                f"has not answered for {status.disk_wait_s:.0f} s; frames wait in memory, and Ctrl-C twice saves them "
                "elsewhere",
            )
        )
    if status.missing:
        rows.append(("lost before denoscope", str(status.missing)))
    rows += [("problem", with_flags(problem)) for problem in status.problems]
    return rows


def _table(rows: list[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="denoscope live", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows:
        style = "bold red" if name in ("problem", "lost before denoscope") else ""
        table.add_row(name, Text(visible(value), style=style))
    return table


class Screen:
    """Show a session's status: a table that is redrawn, or a line now and then without a terminal."""

    def __init__(self, shell: Shell) -> None:
        from rich.console import Console

        self._shell = shell
        self._console = Console(file=shell.stream)
        self._live: Any = None
        self._line_s = 0.0
        self.preview = False
        """True while nothing is saved."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Leave the table as it is."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, status: SessionStatus, source: SourceInfo, provenance: SessionProvenance) -> None:
        """Show one snapshot."""
        if self._shell.quiet:
            return
        rows = _rows(status, source, provenance)
        if self.preview:
            state = ("state", f"preview: nothing is saved, {time_words(status.elapsed_s)}")
            rows = [
                state if name == "state" else (name, value) for name, value in rows if name != "raw saved"
            ]
        if self._console.is_terminal:
            self._draw(rows)
        elif time.perf_counter() - self._line_s >= _LINE_EVERY_S:
            first, self._line_s = self._line_s == 0.0, time.perf_counter()
            self._print(rows, first=first)

    def _draw(self, rows: list[tuple[str, str]]) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(_table(rows), refresh=True)

    def _print(self, rows: list[tuple[str, str]], *, first: bool) -> None:
        fixed = ("source", "backend")
        shown = rows if first else [row for row in rows if row[0] not in fixed]
        self._shell.say(" | ".join(f"{name} {value}" for name, value in shown))
