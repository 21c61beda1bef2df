"""The console script ``denoscope``: a table of commands, each in a module imported only when needed."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import nullcontext
from importlib import import_module

from denoscope.acquisition.processes.signals import CommandEnd, ended_by_interruption
from denoscope.acquisition.processes.words import Words, open_standard_streams

__all__ = ["COMMANDS", "main", "spread_pairs"]

# Name in the shell, and the module with a function of the same name that typer turns into it.
# A command of another part goes here with a module under `commands/` that imports that part late.
COMMANDS: dict[str, str] = {
    "demo": "denoscope.acquisition.cli.commands.demo",
    "live": "denoscope.acquisition.cli.commands.live",
    "pause": "denoscope.acquisition.cli.commands.control",
    "resume": "denoscope.acquisition.cli.commands.control",
    "find": "denoscope.acquisition.cli.commands.control",
    "stop": "denoscope.acquisition.cli.commands.control",
    "denoise": "denoscope.acquisition.cli.commands.denoise",
    "train": "denoscope.acquisition.cli.commands.train",
    "evaluate": "denoscope.acquisition.cli.commands.evaluate",
    "bench": "denoscope.acquisition.cli.commands.bench",
    "doctor": "denoscope.acquisition.cli.commands.doctor",
    "bundles": "denoscope.acquisition.cli.commands.bundles",
    "export": "denoscope.acquisition.cli.commands.export",
    "build": "denoscope.acquisition.cli.commands.build",
    "engines": "denoscope.acquisition.cli.commands.engines",
}


def spread_pairs(words: list[str]) -> list[str]:
    """Write ``--pair NOISY CLEAN`` as ``--pair NOISY --pair CLEAN``: typer knows no repeated pairs."""
    spread: list[str] = []
    for word in words:
        if len(spread) >= 2 and spread[-2] == "--pair" and not word.startswith("-") and _unpaired(spread):
            spread.append("--pair")
        spread.append(word)
    return spread


def _unpaired(words: list[str]) -> bool:
    return words.count("--pair") % 2 == 1


def main(arguments: list[str] | None = None) -> None:
    """Run the shell.

    Parameters
    ----------
    arguments
        Words after the program's name; None for those of the process.
    """
    # Processes that libraries start, as several GPUs and compilers do, import nothing from the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    open_standard_streams()
    # It prints what it finds in damaged files; what matters of that is said in a sentence.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    # A home folder that cannot be written costs nothing.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with ended_by_interruption() if arguments is None else nullcontext():
        try:
            with Words():
                _run(sys.argv[1:] if arguments is None else arguments)
        except KeyboardInterrupt:  # while the command's libraries were being loaded
            CommandEnd.is_near()
            print("denoscope: interrupted", file=sys.stderr)
            sys.exit(130)


def _run(words: list[str]) -> None:
    # Imported here, where Ctrl-C is answered: this takes longer than all that comes before.
    import typer

    from .flags import speaking_in_flags
    from .help import Command, with_grouped_help
    from .names import refusing_names
    from .program import Program, program

    named = next((word for word in words if not word.startswith("-")), None)
    app = typer.Typer(
        name="denoscope", add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True
    )
    app.callback(cls=Program)(program)
    for name, module in COMMANDS.items():
        # Importing one command only keeps the start fast; help and a misspelt name need all.
        if named not in COMMANDS or named == name:
            command = speaking_in_flags(refusing_names(getattr(import_module(module), name)))
            app.command(name, cls=Command)(with_grouped_help(command))
    app(spread_pairs(words))


if __name__ == "__main__":
    main()
