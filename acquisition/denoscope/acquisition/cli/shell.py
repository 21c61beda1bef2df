"""Shared by every command: output, errors and exit codes."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TextIO

import typer

from denoscope.acquisition.errors import explain, one_line
from denoscope.acquisition.processes.signals import CommandEnd
from denoscope.acquisition.results import Record
from denoscope.runtime import DenoscopeError, NotFinite

from .flags import with_flags
from .visible import visible

__all__ = ["DebugOption", "JsonOption", "QuietOption", "Shell"]

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last thing on standard output.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Print nothing but errors (and what --json asks for).")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")]


def _wrapped(text: str, stream: TextIO) -> str:
    """Return visible text whose sentences are broken between words at the edge of a terminal.

    Tables and lines with a command, which is to be copied in one piece, stay as they are, and so does everything that
    goes into a file.
    """
    text = visible(text)
    if not stream.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    return "\n".join(
        line
        if len(line) <= columns or line != " ".join(line.split()) or "denoscope " in line
        else textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


@dataclass(frozen=True)
class Shell:
    """One command's way to speak.

    Parameters
    ----------
    json
        Print the result as one JSON object on standard output; all else goes to standard error.
    quiet
        Say nothing that is not an error.
    debug
        Let tracebacks through.
    interrupted
        What an interruption is called that the command did not answer itself.
    """

    json: bool = False
    quiet: bool = False
    debug: bool = False
    interrupted: str = "interrupted"

    @property
    def stream(self) -> TextIO:
        """Stream for words to people."""
        return sys.stderr if self.json else sys.stdout

    @property
    def interactive(self) -> bool:
        """True where somebody reads the words and can answer."""
        return not self.quiet and self.stream.isatty() and sys.stdin is not None and sys.stdin.isatty()

    def say(self, text: str) -> None:
        """Print text for people."""
        if not self.quiet:
            with suppress(OSError, ValueError):  # nobody reads it; what is done goes on
                print(_wrapped(with_flags(text), self.stream), file=self.stream, flush=True)

    def run(self, action: Callable[[], tuple[Mapping[str, Any] | Record, int]]) -> None:
        """Run a command's `action` and leave the process with its exit code.

        Parameters
        ----------
        action
            Returns the result for ``--json`` and the exit code: 0 done, 1 finished degraded, 2 bad
            input or environment, 130 interrupted.
        """
        try:
            found, code = action()
            CommandEnd.is_near()
            result = found.as_json() if isinstance(found, Record) else found
        except DenoscopeError as error:
            result, code = self._failed(str(error), 1 if isinstance(error, NotFinite) else 2)
        except KeyboardInterrupt as error:
            CommandEnd.is_near()
            result, code = self._failed(str(error) or self.interrupted, 130)
        except Exception as error:  # noqa: BLE001  the user gets a sentence, --debug the traceback
            known = explain(error)
            hint = "" if self.debug else " (run again with --debug for the traceback)"
            unexpected = f"unexpected {type(error).__name__}: {one_line(error)}{hint}"
            result, code = self._failed(known or unexpected, 1 if known is None else 2)
        if self.json:
            with suppress(OSError, ValueError):
                print(json.dumps(result, default=str), flush=True)
        raise typer.Exit(code)

    def complain(self, text: str) -> None:
        """Print one sentence about what went wrong, or was interrupted, to standard error, with `quiet` too."""
        with suppress(OSError, ValueError):
            print(_wrapped(f"denoscope: {with_flags(text)}", sys.stderr), file=sys.stderr, flush=True)

    def _failed(self, message: str, code: int) -> tuple[dict[str, object], int]:
        if self.debug:
            traceback.print_exc()
        self.complain(message)
        return {"error": with_flags(message), "exit_code": code}, code
