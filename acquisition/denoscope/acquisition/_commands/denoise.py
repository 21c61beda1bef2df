"""``denoscope denoise``: a movie that was recorded earlier, every frame of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from denoscope.acquisition._camera_options import GainOption, OffsetOption, RoiOption, load_camera
from denoscope.acquisition._movie_options import ChannelOption, PlaneOption, PositionOption
from denoscope.acquisition._shell import DebugOption, JsonOption, QuietOption, Shell

__all__ = ["denoise"]


def denoise(
    movie: Annotated[Path, typer.Argument(help="Movie of any format, for example raw.tif of a run.")],
    output: Annotated[
        Path, typer.Option(help="What to write: .ome.tif, .ome.zarr or .ndtiff; it must not exist yet.")
    ],
    bundle: Annotated[str, typer.Option(help="Bundle folder, or the name of a shipped bundle.")] = "live",
    backend: Annotated[str, typer.Option(help="Backend's name, or auto.")] = "auto",
    look_ahead: Annotated[int | None, typer.Option(help="Frames after each frame to use.")] = None,
    std: Annotated[
        Path | None, typer.Option(help="TIFF to write with the predicted standard deviation.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run ended, if there is one.")
    ] = False,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    camera_gain: GainOption = None,
    camera_offset: OffsetOption = None,
    camera_roi: RoiOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Denoise a recorded movie: every frame, in its own dtype and scale."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        from rich.console import Console
        from rich.progress import Progress

        from denoscope.acquisition._offline import denoise_movie

        camera = load_camera(camera_gain, camera_offset, camera_roi)
        done_of = (0, 0)
        with Progress(console=Console(file=shell.stream), disable=shell.quiet) as bar:
            task = bar.add_task("denoising", total=None)

            def on_frame(done: int, total: int) -> None:
                nonlocal done_of
                done_of = done, total
                bar.update(task, completed=done, total=total)

            try:
                result = denoise_movie(
                    movie,
                    output,
                    bundle=bundle,
                    backend=backend,
                    look_ahead=look_ahead,
                    std=std,
                    channel=channel,
                    plane=plane,
                    position=position,
                    camera=camera,
                    resume=resume,
                    on_frame=on_frame,
                )
            except KeyboardInterrupt:
                text = f"interrupted after {done_of[0]} of {done_of[1]} frames; add --resume to go on"
                print(f"denoscope: {text}", file=sys.stderr, flush=True)
                return {"error": text, "exit_code": 130}, 130
        if result["resumed_from"]:
            shell.say(f"{result['resumed_from']} frames were there already.")
        shell.say(
            f"{result['frames']} frames, {result['frame_s'] * 1e3:.1f} ms each with "
            f"{result['denoiser']['backend']}: {result['output']}"
        )
        if result["movie_note"]:
            shell.say(f"Note: {result['movie_note']}")
        if result["noise"] is not None and result["noise"]["warning"]:
            shell.say(f"Warning: {result['noise']['warning']}")
        return result, 0

    shell.run(action)
