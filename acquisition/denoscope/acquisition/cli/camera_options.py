"""The options of a camera: its calibration maps, and its settings while denoscope drives it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["BinningOption", "ExposureOption", "GainOption", "OffsetOption", "RoiOption", "SensorOption"]

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
ExposureOption = Annotated[
    float | None,
    typer.Option(
        "--exposure-ms",
        help="Exposure of the camera of FILE.cfg in milliseconds; restored afterwards, like --roi and --binning.",
    ),
]
SensorOption = Annotated[
    str | None,
    typer.Option("--roi", help="Region x,y,width,height of its sensor, in pixels after binning."),
]
BinningOption = Annotated[
    int | None, typer.Option("--binning", help="Pixels of its sensor that are read as one, along each axis.")
]
