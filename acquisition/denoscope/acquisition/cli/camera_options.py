"""The options that name a camera's calibration maps, the same for every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["GainOption", "OffsetOption", "RoiOption"]

GainOption = Annotated[
    Path | None,
    typer.Option(
        "--camera-gain",
        help="Map of the camera's gain (.mat, .tif, .npy, .npz): work in photo-electrons.",
    ),
]
OffsetOption = Annotated[
    Path | None, typer.Option("--camera-offset", help="Map of the camera's offset in counts.")
]
RoiOption = Annotated[
    str | None,
    typer.Option("--camera-roi", help="Region x,y,width,height of the maps that the frames show."),
]
