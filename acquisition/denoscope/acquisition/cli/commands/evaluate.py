"""``denoscope evaluate``: how good bundles are, where the truth is known and where nobody knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from denoscope.acquisition.cli.flags import with_flags
from denoscope.acquisition.cli.movie_options import (
    AxesOption,
    ChannelOption,
    InterleavedOption,
    PlaneOption,
    PositionOption,
)
from denoscope.acquisition.cli.progress import ProgressLine
from denoscope.acquisition.cli.range import frame_range
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.cli.visible import visible
from denoscope.runtime import counted

if TYPE_CHECKING:
    from denoscope.acquisition.learning.results import Evaluation
    from denoscope.train.evaluation.records import MovieRecord, PairRecord
    from denoscope.train.evaluation.tables import ResultTable

__all__ = ["evaluate"]

_STYLES = {"fine": "green", "look here": "yellow", "do not trust": "bold red"}


def evaluate(
    output: Annotated[Path, typer.Option(help="Folder for evaluation.json, evaluation.md and the pictures.")],
    pair: Annotated[
        list[Path] | None,
        typer.Option(metavar="NOISY CLEAN", help="A noisy movie and its clean truth; may be repeated."),
    ] = None,
    movie: Annotated[
        list[Path] | None,
        typer.Option(help="A noisy movie without a clean one; may be repeated."),
    ] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="Use the simulated test movie too.")] = False,
    bundle: Annotated[
        list[str] | None, typer.Option(help="Bundle (name or folder); may be repeated.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, or a backend that denoscope doctor names.")] = "auto",
    frames: Annotated[
        str | None, typer.Option(metavar="A:B", help="Frames to use, of every movie; B is exclusive.")
    ] = None,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    interleaved: InterleavedOption = None,
    axes: AxesOption = None,
    object_radius: Annotated[
        float, typer.Option(metavar="PX", help="Radius of the cells or particles that are counted.")
    ] = 5.0,
    track: Annotated[
        bool, typer.Option("--track", help="Follow the objects of every frame (needs the extra tracking).")
    ] = False,
    at_least: Annotated[
        float | None,
        typer.Option(
            help="Exit with code 1 unless every bundle beats the best simple filter by this many dB."
        ),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Print the numbers behind the verdicts too.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare bundles on your movie and say which result can be trusted.

    Each bundle gets a verdict: fine, look here, or do not trust. With a clean movie (--pair) the error is measured too.
    """
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[Evaluation, int]:
        from denoscope.acquisition.learning.evaluation import evaluate as run
        from denoscope.runtime import InvalidInput

        if at_least is not None and not pair and not simulated:
            raise InvalidInput(
                f"--at-least {at_least:g} needs a truth: give --pair NOISY CLEAN or --simulated."
            )
        with _listener(shell, details=details) as listener:
            found = run(
                output,
                pair=_pairs(pair or []),
                movie=movie or [],
                simulated=simulated,
                bundle=bundle or ["live"],
                backend=backend,
                frames=frame_range(frames),
                channel=channel,
                plane=plane,
                position=position,
                interleaved=interleaved,
                axes=axes,
                object_radius=object_radius,
                track=track,
                listener=listener,
            )
        shell.say(f"Pictures and all numbers: {output} (begin with evaluation.md)")
        least = found.least_margin_db
        if at_least is not None and least is not None and least < at_least:
            shell.say(
                f"Below the limit: the smallest lead is {least:.2f} dB, and --at-least is {at_least:g} dB."
            )
            return found, 1
        return found, 0

    shell.run(action)


def _pairs(files: list[Path]) -> list[tuple[Path, Path]]:
    from denoscope.runtime import InvalidInput

    noisy, clean = files[::2], files[1::2]
    if len(noisy) != len(clean):
        raise InvalidInput(f"--pair {noisy[-1]} has no clean movie: give two files, NOISY CLEAN.")
    return list(zip(noisy, clean, strict=True))


def _listener(shell: Shell, *, details: bool) -> Any:
    """Return the listener that prints; its class is made when the command runs, to start fast."""
    from denoscope.acquisition.learning.evaluation import EvaluationListener

    class Screen(EvaluationListener):
        """Print verdicts movie by movie, with a bar while bundles denoise."""

        def __init__(self) -> None:
            self._line = ProgressLine(shell, "denoising", "frame")
            self._checks = {
                "comparing": ProgressLine(shell, "comparing the bundles"),
                "dimming": ProgressLine(shell, "trying less light"),
            }
            self._frames, self._bundles, self._name = 1, 1, ""
            self._before, self._last = 0, 0  # frames that earlier bundles denoised, and this one

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            self._end_lines()

        def _end_lines(self) -> None:
            for line in (self._line, *self._checks.values()):
                line.end()

        def noted(self, sentence: str) -> None:
            for line in self._checks.values():
                line.end()
            shell.say(f"Note: {sentence}")

        def began(self, name: str, frames: int, bundles: int) -> None:
            self._frames, self._bundles, self._name = frames, bundles, f"{name}, {counted(bundles, 'bundle')}"
            self._before = self._last = 0
            self._end_lines()

        def progressed(self, frames: int) -> None:
            if frames < self._last:  # the next bundle
                self._before += self._frames
            self._last = frames
            # With the last frame the work is not done: the result is compared and judged.
            judging = ", now judging" if frames >= self._frames else ""
            self._line.show(self._before + frames, self._frames * self._bundles, f"{self._name}{judging}")

        def checked(self, what: str, share: float) -> None:
            for name, line in self._checks.items():
                if name != what:  # it may have found nothing to note
                    line.end()
            self._checks[what].show(share, 1)

        def judged(self, record: PairRecord | MovieRecord, tables: Sequence[ResultTable]) -> None:
            self._line.end()
            if not shell.quiet:
                _print_verdicts(shell, record)
                for table in tables if details else ():
                    _print_table(shell, table)

    return Screen()


def _print_verdicts(shell: Shell, record: PairRecord | MovieRecord) -> None:
    """Print each bundle's verdict, why, and what to do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from denoscope.acquisition.learning.evaluation import reasons
    from denoscope.train.evaluation.records import PairRecord

    table = Table(
        title=Text(visible(record.movie)),
        title_justify="left",
        box=None,
        show_header=False,
        padding=(0, 2, 0, 0),
    )
    for width in (None, None, None):
        table.add_column(min_width=width, overflow="fold")

    def row(method: str, level: str, text: str) -> None:
        words = Text(visible(with_flags(text)))
        table.add_row(Text(visible(method), style="bold"), Text(level, style=_STYLES[level]), words)

    if isinstance(record, PairRecord):
        for method, verdict in record.verdicts.items():
            row(method, verdict.level, f"{verdict.why} {verdict.todo}")
    else:
        for result in record.methods:
            if result.verdict is not None:
                speed = "" if not result.frame_s else f" {1 / result.frame_s:.0f} frames/s here."
                row(result.method, result.verdict, reasons(result.verdicts) + speed)
    Console(file=shell.stream).print(table)


def _print_table(shell: Shell, table: ResultTable) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(visible(table.title)), title_justify="left")
    for index, head in enumerate(table.columns):
        shown.add_column(head, justify="left" if index < table.texts else "right")
    for row in table.rows:
        shown.add_row(*(Text(visible(cell)) for cell in row))
    Console(file=shell.stream, width=118).print(shown)
