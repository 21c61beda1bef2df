"""``denoscope demo``: a real movie through a real Micro-Manager core, denoised live."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

from .live import ViewOption, record

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path | None, typer.Option(help="Run folder; by default a new one, denoscope-demo-DATE-TIME, here.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="How long to replay; the movie is repeated as needed.")
    ] = 20.0,
    bundle: Annotated[str, typer.Option(help="Bundle folder, or the name of a shipped bundle.")] = "live",
    backend: Annotated[str, typer.Option(help="auto, or a backend that denoscope doctor names.")] = "auto",
    movie: Annotated[Path | None, typer.Option(help="Your own TIFF to replay instead.")] = None,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 30.0,
    view: ViewOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Replay a real two-photon movie through a real Micro-Manager core and denoise it live."""
    shell = Shell(json=json, quiet=quiet, debug=debug)
    folder = output or Path(f"denoscope-demo-{datetime.now():%Y%m%d-%H%M%S}")
    record(
        shell,
        announced=f"Replaying {movie or 'a real two-photon movie'} at {fps:g} frames/s for {seconds:g} s into {folder}",
        core="demo",
        output=folder,
        bundle=bundle,
        backend=backend,
        seconds=seconds,
        movie=movie,
        fps=fps,
        view=view,
    )
