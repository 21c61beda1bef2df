"""``denoscope pause``, ``resume`` and ``stop``: ask a session that runs in another terminal or program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

__all__ = ["pause", "resume", "stop"]

_Run = Annotated[Path, typer.Argument(help="Run folder that the session records into.")]
_DONE = {
    "pause": "Paused after {received} frames: raw frames are still written, nothing is denoised.",
    "resume": "Denoising again, from frame {received} on.",
    "stop": "Stopping after {received} frames; what is buffered is still written.",
}


def _ask(shell: Shell, run: Path, word: str) -> None:
    def action() -> tuple[dict[str, Any], int]:
        from denoscope.acquisition.session.control import Action, ask

        answer = ask(run, Action(word))
        shell.say(_DONE[word].format(**answer) if answer["done"] else f"It is {answer['state']} already.")
        return answer, 0

    shell.run(action)


def pause(
    run: _Run, json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """Pause the denoising of a running session; the camera goes on and every raw frame is written."""
    _ask(Shell(json=json, quiet=quiet, debug=debug), run, "pause")


def resume(
    run: _Run, json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """Denoise again in a session that was paused."""
    _ask(Shell(json=json, quiet=quiet, debug=debug), run, "resume")


def stop(run: _Run, json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """End a running session cleanly: what is buffered is still written and denoised."""
    _ask(Shell(json=json, quiet=quiet, debug=debug), run, "stop")
