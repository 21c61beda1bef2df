"""The options that say which movie of a file is meant, the same for every command that reads one."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AxesOption",
    "ChannelOption",
    "FixLineOffsetOption",
    "InterleavedOption",
    "PlaneOption",
    "PositionOption",
]

AxesOption = Annotated[
    str | None,
    typer.Option(
        metavar="LETTERS",
        help="Order of the axes where the file names none, such as YXT: T time, Y rows, X columns, C channels, "
        "Z planes, P positions.",
    ),
]

ChannelOption = Annotated[
    str | None, typer.Option(help="Channel by number or name, where the file has several.")
]
FixLineOffsetOption = Annotated[
    bool,
    typer.Option(
        "--fix-line-offset",
        help="Correct an offset between odd and even lines (bidirectional scanning) in the denoised movie.",
    ),
]
InterleavedOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Frames alternate between N channels, where the file does not record this; see --channel.",
    ),
]
PlaneOption = Annotated[str | None, typer.Option(help="Plane (z) by number, where the file has several.")]
PositionOption = Annotated[
    str | None, typer.Option(help="Position, series or image by number or name, where there are several.")
]
