"""Refuse names of files and folders that the operating system cannot have, before a command does anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

from denoscope.acquisition.raw.in_the_way import refuse_name

from .shell import Shell

__all__ = ["refusing_names"]


def refusing_names(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that ends with a sentence where one of its paths has a name that Windows cannot have.

    Whatever is read or written by such a name is a device, another file or none.
    """

    @wraps(command)
    def run(*values: Any, **named: Any) -> None:
        for parameter, path in _paths(named):
            try:
                refuse_name(path, parameter)
            except ValueError as error:
                _end(named, error)
        command(*values, **named)

    return run


def _paths(named: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    for parameter, value in named.items():
        for path in value if isinstance(value, list | tuple) else (value,):
            if isinstance(path, Path):
                yield parameter, path


def _end(named: Mapping[str, Any], error: Exception) -> NoReturn:
    def refuse() -> NoReturn:
        raise error

    Shell(**{word: named[word] for word in ("json", "quiet", "debug")}).run(refuse)
    raise AssertionError
