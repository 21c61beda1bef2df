"""The program ``denoscope`` itself: all commands together, and the options before a command's name."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from denoscope.acquisition.processes.signals import CommandEnd

from .help import PlainHelp
from .shell import Shell

__all__ = ["Program", "program"]


class Program(PlainHelp, TyperGroup):
    """All commands of the shell."""

    def make_context(self, *words: Any, **named: Any) -> Any:
        """Return the context of the words that were typed."""
        return _in_a_sentence(super().make_context, *words, **named)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        return _in_a_sentence(super().invoke, ctx)


def _in_a_sentence(call: Any, *words: Any, **named: Any) -> Any:
    """Say that an interruption came where no command answers it yet: typer ends the program without a word."""
    try:
        return call(*words, **named)
    except KeyboardInterrupt:
        CommandEnd.is_near()
        Shell().complain("interrupted")
        raise typer.Exit(130) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        from denoscope.acquisition.provenance import package_version

        print(f"denoscope {package_version()}")
        raise typer.Exit


def program(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Denoise microscope movies while they are being recorded, without ever losing a raw frame."""
