"""Help of a command: its options in groups, each value with one word that says what to type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer.core import TyperCommand
from typer.models import ArgumentInfo, OptionInfo

__all__ = ["Command", "PlainHelp", "with_grouped_help"]

_MANY = 14
"""Options of a command, from which on they are shown in groups."""

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Denoising": (
        "bundle",
        "look_ahead",
        "backend",
        "threads",
        "denoiser",
        "fix_line_offset",
        "std",
        "float32",
        "adapt",
        "align",
        "dask",
    ),
    "Replayed and watched movies": ("movie", "fps", "idle_s"),
    "Files with several movies": ("channel", "plane", "position", "interleaved", "axes", "streams"),
    "Camera": (
        "mm_dir",
        "buffer_mb",
        "exposure_ms",
        "roi",
        "binning",
        "camera_fps",
        "camera_gain",
        "camera_offset",
        "camera_roi",
    ),
    "Regions and triggers": ("regions", "dark", "trigger", "hold_off_s", "trigger_limit", "dry_run"),
    "Disk and screen": (
        "denoised_format",
        "reserve_mb",
        "rescue",
        "force",
        "picture",
        "metrics",
        "log",
        "json",
        "quiet",
        "debug",
        "details",
    ),
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names}
_VALUES = {bool: "", int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}


class PlainHelp:
    """A command whose option ``--help`` has no type behind it."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option ``--help``."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class Command(PlainHelp, TyperCommand):
    """One command of the shell."""


def with_grouped_help(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose help has its options in groups, where there are many, and no types of Python."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    shown = {name: _shown(name, hints[name], _group(name, parameters)) for name in parameters}

    @wraps(command)
    def run(*values: Any, **named: Any) -> None:
        command(*values, **named)

    run.__annotations__ = {**shown, "return": None}
    vars(run)["__signature__"] = inspect.Signature(
        [parameter.replace(annotation=shown[name]) for name, parameter in parameters.items()]
    )
    return run


def _group(name: str, parameters: Iterable[str]) -> str | None:
    """Return the heading that a parameter of a command is shown below; None for the first one, "Options"."""
    names = set(parameters)
    group = _GROUP_OF.get(name)
    alone = group is not None and len(names.intersection(_GROUPS[group])) == 1
    return None if alone or len(names) < _MANY else group


def _shown(name: str, hint: Any, group: str | None) -> Any:
    """Return the annotation of a parameter with its group and the word for its value."""
    if get_origin(hint) is not Annotated:
        return hint
    kind, *notes = get_args(hint)
    for index, note in enumerate(notes):
        if isinstance(note, ArgumentInfo) and note.metavar is None:
            notes[index] = argument = copy(note)
            argument.metavar = name.upper()
        if isinstance(note, OptionInfo):
            notes[index] = option = copy(note)
            if option.metavar is None:
                option.metavar = _VALUES.get(_value_of(kind))
            option.rich_help_panel = group
    return Annotated[(kind, *notes)]


def _value_of(kind: Any) -> Any:
    """Return the type of one value: of `int` itself, of `int | None` and of `list[int]`."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    return kind if not kinds else _value_of(kinds[0])
