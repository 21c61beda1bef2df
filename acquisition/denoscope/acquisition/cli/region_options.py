"""Options for regions and triggers, the same for every command that takes them."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["DarkOption", "DryRunOption", "HoldOffOption", "LimitOption", "RegionsOption", "TriggerOption"]

RegionsOption = Annotated[
    str | None,
    typer.Option(
        help="Regions to measure in every frame: ROIs of ImageJ (.zip), a label image (.tif, .npy), shapes of napari "
        "(.csv), suite2p's stat.npy; or find, or find:RADIUS in pixels, to find cells in the first frames."
    ),
]
DarkOption = Annotated[
    float, typer.Option(help="Camera counts without light, subtracted for dF/F; 100 for many cameras.")
]
TriggerOption = Annotated[
    list[str] | None,
    typer.Option(
        help='Condition and action, like "region 3 dff > 0.5 for 2 frames then shutter close". Actions: shutter close '
        "or open, set DEVICE PROPERTY VALUE, socket PORT LINE, serial PORT LINE, log. May be repeated."
    ),
]
HoldOffOption = Annotated[
    float, typer.Option(help="Seconds after a trigger has fired before it can fire again.")
]
LimitOption = Annotated[int | None, typer.Option(help="Times that each trigger may fire.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Log what triggers would do, without doing it.")
]
