"""``denoscope pause``, ``resume``, ``find`` and ``stop``: ask a session that runs in another terminal or program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.acquisition.results import RequestAnswer

__all__ = ["find", "pause", "resume", "stop"]

_Run = Annotated[Path, typer.Argument(help="Run folder of the session.")]
_DONE = {
    "pause": "Paused after {received} frames. Raw frames are still saved. To go on: denoscope resume {run}",
    "resume": "Denoising again from frame {received}.",
    "find": "Finding regions again in the next denoised frames. Their traces go to a new file in {run}.",
    "stop": "Stopping after {received} frames. Buffered frames are still saved and denoised.",
}


def _ask(shell: Shell, run: Path, word: str, radius_px: float | None = None) -> None:
    def action() -> tuple[RequestAnswer, int]:
        from denoscope.acquisition.control.control import Action, ask

        answer = ask(run, Action(word), radius_px=radius_px)
        already = (
            f"The session is {answer.state} already."
            if answer.why is None
            else f"Nothing done: {answer.why}."
        )
        shell.say(_DONE[word].format(received=answer.received, run=run) if answer.done else already)
        return answer, 0

    shell.run(action)


def pause(
    run: _Run, json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """Pause denoising in a running session. Raw frames are still saved."""
    _ask(Shell(json=json, quiet=quiet, debug=debug), run, "pause")


def resume(
    run: _Run, json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """Resume denoising in a paused session."""
    _ask(Shell(json=json, quiet=quiet, debug=debug), run, "resume")


def find(
    run: _Run,
    radius: Annotated[
        float | None,
        typer.Option(metavar="PIXELS", help="Radius of a cell. Default: as in the search before, or 6."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find regions again in a running session. Regions found earlier are measured until the end too."""
    _ask(Shell(json=json, quiet=quiet, debug=debug), run, "find", radius)


def stop(run: _Run, json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """End a running session. Buffered frames are still saved and denoised."""
    _ask(Shell(json=json, quiet=quiet, debug=debug), run, "stop")
