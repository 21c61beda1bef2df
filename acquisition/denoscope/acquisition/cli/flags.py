"""Parameters in messages, written as the options of the running command.

Everything below the command line speaks of parameters, between backticks: ``name another `output```.
Here they become what the user typed or may type: ``name another --output``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

__all__ = ["flags_of", "speaking_in_flags", "with_flags"]

# After a number the name is an entry of a file: ``2 channels: 0 `mean`, 1 `std```.
_PARAMETER = re.compile(r"(?<!\d )`([a-z][a-z0-9_]*)`")
# Parameters of functions that a command has under other names.
_ELSEWHERE = {
    "camera": "--camera-gain, --camera-offset and --camera-roi",
    "run": "--fill",
}
_flags: ContextVar[Mapping[str, str] | None] = ContextVar("flags", default=None)


def flags_of(command: Callable[..., Any]) -> dict[str, str]:
    """Return the option, like ``--look-ahead``, or the argument, like ``MOVIE``, of each parameter of a command."""
    hints = get_type_hints(command, include_extras=True)
    found = {}
    for name in inspect.signature(command).parameters:
        notes = get_args(hints[name])[1:] if get_origin(hints[name]) is Annotated else ()
        given = next((note for note in notes if isinstance(note, OptionInfo | ArgumentInfo)), None)
        if isinstance(given, ArgumentInfo):
            found[name] = given.metavar or name.upper()
        else:
            # In `Annotated` the first name that is declared stands where a default would.
            declared = () if given is None else (given.default, *(given.param_decls or ()))
            long = next((word for word in declared if isinstance(word, str) and word.startswith("--")), None)
            found[name] = "--" + name.replace("_", "-") if long is None else long.split("/")[0]
    return found


def with_flags(text: str) -> str:
    """Return a message with the parameters in it written as the running command's options.

    A parameter in the plural (``sizes``) is an option that may be repeated (``--size``). What is no parameter of the
    command stays as it is.
    """
    flags = _flags.get()
    if flags is None:
        return text

    def flag(match: re.Match[str]) -> str:
        name = match[1]
        known = flags.get(name) or flags.get(name.removesuffix("s")) or _elsewhere(name, flags)
        return known or match[0]

    return _PARAMETER.sub(flag, text)


def _elsewhere(name: str, flags: Mapping[str, str]) -> str | None:
    words = _ELSEWHERE.get(name)
    return words if words is not None and words.split(",")[0] in flags.values() else None


@contextmanager
def _flags_set(flags: Mapping[str, str]) -> Iterator[None]:
    before = _flags.set(flags)
    try:
        yield
    finally:
        _flags.reset(before)


def speaking_in_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose messages name its own options."""

    @wraps(command)
    def run(*values: Any, **named: Any) -> None:
        with _flags_set(flags_of(command)):
            command(*values, **named)

    return run
