"""``denoscope denoise``: a movie that was recorded earlier, every frame of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from denoscope.acquisition.cli.camera_options import GainOption, OffsetOption, RoiOption
from denoscope.acquisition.cli.movie_options import (
    ChannelOption,
    FixLineOffsetOption,
    InterleavedOption,
    PlaneOption,
    PositionOption,
)
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.denoisers.converting import load_camera
from denoscope.runtime import counted

__all__ = ["denoise"]

_Report = Callable[[int, int], None]


def denoise(
    movie: Annotated[
        Path | None, typer.Argument(help="Movie of any format, for example raw.tif of a run.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="What to write: .ome.tif, .ome.zarr or .ndtiff; it must not exist yet."),
    ] = None,
    fill: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of a live session, in place of MOVIE: keep what was denoised, compute what was skipped."
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(help="Bundle folder, or the name of a shipped bundle; live, or the run's."),
    ] = None,
    backend: Annotated[str, typer.Option(help="Backend's name, or auto.")] = "auto",
    look_ahead: Annotated[int | None, typer.Option(help="Frames after each frame to use.")] = None,
    std: Annotated[
        Path | None, typer.Option(help="TIFF to write with the predicted standard deviation.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run ended, if there is one.")
    ] = False,
    dask: Annotated[
        str | None,
        typer.Option(help="Scheduler of a Dask cluster that does the work, like tcp://10.0.0.5:8786."),
    ] = None,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    interleaved: InterleavedOption = None,
    camera_gain: GainOption = None,
    camera_offset: OffsetOption = None,
    camera_roi: RoiOption = None,
    float32: Annotated[
        bool,
        typer.Option(
            "--float32", help="Write float32, not rounded to whole counts (for few counts a photon)."
        ),
    ] = False,
    fix_line_offset: FixLineOffsetOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Denoise a recorded movie: every frame, in its own scale."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def denoise_it(on_frame: _Report) -> dict[str, Any]:
        from denoscope.acquisition.offline.denoise import denoise_movie
        from denoscope.runtime import InvalidInput

        if movie is None or output is None:
            missing = "MOVIE" if movie is None else "--output"
            raise InvalidInput(f"{missing} is missing: give MOVIE --output FILE, or --fill RUN.")
        return denoise_movie(
            movie,
            output,
            bundle=bundle or "live",
            backend=backend,
            look_ahead=look_ahead,
            std=std,
            channel=channel,
            plane=plane,
            position=position,
            interleaved=interleaved,
            camera=load_camera(camera_gain, camera_offset, camera_roi),
            float32=float32,
            fix_line_offset=fix_line_offset,
            resume=resume,
            dask=dask,
            on_frame=on_frame,
        )

    def fill_it(run: Path, on_frame: _Report) -> dict[str, Any]:
        from denoscope.acquisition.offline.fill import fill_run

        others: dict[str, object] = {
            "MOVIE": movie,
            "--look-ahead": look_ahead,
            "--std": std,
            "--channel": channel,
        }
        others |= {
            "--plane": plane,
            "--position": position,
            "--interleaved": interleaved,
            "--resume": resume or None,
            "--dask": dask,
        }
        others["--float32"] = float32 or None
        others["--fix-line-offset"] = fix_line_offset or None
        _refuse(others)
        return fill_run(
            run,
            output,
            bundle=bundle,
            backend=backend,
            camera=load_camera(camera_gain, camera_offset, camera_roi),
            on_frame=on_frame,
        )

    def action() -> tuple[dict[str, Any], int]:
        done_of = (0, 0)
        with ExitStack() as stack:
            bar: Callable[[int, int], None] | None = None

            def on_frame(done: int, total: int) -> None:
                nonlocal done_of, bar
                done_of = done, total
                if bar is None:  # with the first frame, so that an error follows no empty bar
                    bar = _open_bar(shell, stack)
                bar(done, total)

            try:
                result = denoise_it(on_frame) if fill is None else fill_it(fill, on_frame)
            except KeyboardInterrupt:
                text = _interrupted(done_of, output, filling=fill is not None)
                print(f"denoscope: {text}", file=sys.stderr, flush=True)
                return {"error": text, "exit_code": 130}, 130
        _say(shell, result)
        return result, int(bool(result.get("incomplete") or result["untrue"]))

    shell.run(action)


def _interrupted(done_of: tuple[int, int], output: Path | None, *, filling: bool) -> str:
    """Return what an interruption leaves behind, and what to type."""
    from denoscope.acquisition.offline.journal import Journal

    done, total = done_of
    begun = not filling and output is not None and Journal(output).exists()
    what = f"after {done} of {counted(total, 'frame')}" if total else "before the first frame"
    if begun:
        return f"interrupted {what}; add --resume to go on"
    if filling:
        return f"interrupted {what}; the run is as it was: type the same command to begin anew"
    return f"interrupted {what}; nothing was written: type the same command to begin"


def _open_bar(shell: Shell, stack: ExitStack) -> Callable[[int, int], None]:
    """Return what draws how far it is; where an error ends it before, nothing was drawn."""
    from rich.console import Console
    from rich.progress import Progress

    bar = stack.enter_context(Progress(console=Console(file=shell.stream), disable=shell.quiet))
    task = bar.add_task("denoising", total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _refuse(options: dict[str, object]) -> None:
    from denoscope.runtime import InvalidInput

    for name, value in options.items():
        if value is not None:
            raise InvalidInput(
                f"{name} {value} does not go with --fill, which takes it from the run: leave it out."
            )


def _say(shell: Shell, result: dict[str, Any]) -> None:
    if result.get("resumed_from"):
        shell.say(f"{counted(result['resumed_from'], 'frame was', 'frames were')} there already.")
    shell.say(
        f"{counted(result['frames'], 'frame')}, {result['frame_s'] * 1e3:.1f} ms each with "
        f"{result['denoiser']['backend']}: {result['output']}"
    )
    if "kept" in result:
        shell.say(
            f"{result['kept']} of them as they were denoised live, {result['computed']} computed now, "
            f"{result['missing']} cannot be denoised."
        )
    for sentence in result.get("incomplete", []):
        shell.say(f"Missing: {sentence}.")
    if result["untrue"]:
        shell.say(f"Problem: {result['untrue']}.")
    for note in filter(None, [result.get("movie_note"), *result.get("notes", [])]):
        shell.say(f"Note: {note}")
    if result.get("noise") is not None and result["noise"]["warning"]:
        shell.say(f"Warning: {result['noise']['warning']}")
