"""The options that say which movie of a file is meant, the same for every command that reads one."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["ChannelOption", "InterleavedOption", "PlaneOption", "PositionOption"]

ChannelOption = Annotated[
    str | None, typer.Option(help="Channel by number or name, where the file has several.")
]
InterleavedOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="The frames of a file that says nothing of it alternate between N channels; see --channel.",
    ),
]
PlaneOption = Annotated[str | None, typer.Option(help="Plane (z) by number, where the file has several.")]
PositionOption = Annotated[
    str | None, typer.Option(help="Position, series or image by number or name, where there are several.")
]
