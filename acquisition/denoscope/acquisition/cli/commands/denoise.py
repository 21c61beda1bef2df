"""``denoscope denoise``: a movie that was recorded earlier, every frame of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from denoscope.acquisition.cli.camera_options import GainOption, OffsetOption, RoiOption
from denoscope.acquisition.cli.movie_options import (
    AxesOption,
    ChannelOption,
    FixLineOffsetOption,
    InterleavedOption,
    PlaneOption,
    PositionOption,
)
from denoscope.acquisition.cli.progress import ProgressLine
from denoscope.acquisition.cli.range import frame_range
from denoscope.acquisition.cli.region_options import DarkOption, RegionsOption
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.contracts import RECORDED
from denoscope.acquisition.denoisers.converting import load_camera
from denoscope.acquisition.processes.signals import CommandEnd
from denoscope.runtime import counted
from denoscope.runtime.words import rounded

if TYPE_CHECKING:
    from denoscope.acquisition.results import Denoising, Filling, Record, TracesRecord

__all__ = ["denoise"]

_Report = Callable[[int, int], None]


class _Choices(TypedDict):
    """Options for a recorded movie; a run that is filled has its own."""

    look_ahead: int | None
    std: Path | None
    regions: str | None
    traces: Path | None
    channel: str | None
    plane: str | None
    position: str | None
    interleaved: int | None
    axes: str | None
    resume: bool
    dask: str | None
    float32: bool
    fix_line_offset: bool


def denoise(
    movie: Annotated[Path | None, typer.Argument(help="Movie of any format, or the folder of a run.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="What to write: .ome.tif, .ome.zarr or .ndtiff; it must not exist yet. Not needed for a run folder."
        ),
    ] = None,
    fill: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of a live session, in place of MOVIE: keep what was denoised, compute what was skipped."
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="Bundle folder, or the name of a shipped bundle (default: recorded; with --fill, that of the run)."
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, or a backend that denoscope doctor names.")] = "auto",
    look_ahead: Annotated[int | None, typer.Option(help="Later frames that each output uses.")] = None,
    std: Annotated[
        Path | None, typer.Option(help="TIFF to write with the predicted standard deviation.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run, if there is one.")
    ] = False,
    dask: Annotated[
        str | None,
        typer.Option(help="Scheduler of a Dask cluster that does the work, like tcp://10.0.0.5:8786."),
    ] = None,
    regions: RegionsOption = None,
    traces: Annotated[
        Path | None, typer.Option(help="File for the regions' traces (default: beside the output).")
    ] = None,
    dark: DarkOption = 0.0,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    interleaved: InterleavedOption = None,
    axes: AxesOption = None,
    frames: Annotated[str | None, typer.Option(help="Denoise frames A:B only, for example 0:500.")] = None,
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
    picture: Annotated[
        bool | None,
        typer.Option(
            "--picture/--no-picture",
            help="Draw NAME_picture.png: a frame before and after, and two traces (default: if matplotlib is "
            "installed).",
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Denoise a recorded movie, or with --fill the frames that a recording skipped."""
    shell = Shell(json=json, quiet=quiet, debug=debug)
    camera = partial(load_camera, camera_gain, camera_offset, camera_roi)
    choices = _Choices(
        look_ahead=look_ahead,
        std=std,
        regions=regions,
        traces=traces,
        channel=channel,
        plane=plane,
        position=position,
        interleaved=interleaved,
        axes=axes,
        resume=resume,
        dask=dask,
        float32=float32,
        fix_line_offset=fix_line_offset,
    )

    def denoise_it(on_frame: _Report) -> Denoising:
        from denoscope.acquisition import denoise_movie
        from denoscope.runtime import InvalidInput

        if movie is None:
            raise InvalidInput("`movie` is missing: name the movie to denoise, or a run folder with `fill`.")
        return denoise_movie(
            movie,
            output,
            bundle=bundle or RECORDED,
            backend=backend,
            dark=dark,
            frames=frame_range(frames),
            camera=camera(),
            picture=picture,
            on_frame=on_frame,
            **choices,
        )

    def fill_it(run: Path, on_frame: _Report) -> Filling:
        from denoscope.acquisition import fill_run

        _refuse(movie=movie, frames=frames, dark=dark or None, picture=picture or None, **choices)
        return fill_run(run, output, bundle=bundle, backend=backend, camera=camera(), on_frame=on_frame)

    def action() -> tuple[Mapping[str, Any] | Record, int]:
        if fill is None:
            result = _with_progress(shell, denoise_it, partial(_interrupted, movie, output))
        else:
            result = _with_progress(shell, partial(fill_it, fill), _interrupted_filling)
        for sentence in _sentences(result):
            shell.say(sentence)
        if fill is None and bundle is None:
            shell.say(
                f"Bundle: {RECORDED}. For more speed, or the picture that a recording shows live: --bundle live."
            )
        return result, int(not result.complete)

    shell.run(action)


def _with_progress(
    shell: Shell, work: Callable[[_Report], Denoising | Filling], interrupted: Callable[[int, int], str]
) -> Denoising | Filling:
    """Do the work under a progress line; an interruption says what it leaves behind."""
    done_of = (0, 0)
    with ProgressLine(shell, "denoising", "frame") as bar:

        def on_frame(done: int, total: int) -> None:
            nonlocal done_of
            done_of = done, total
            bar.show(done, total)

        try:
            return work(on_frame)
        except KeyboardInterrupt:
            CommandEnd.is_near()
            raise KeyboardInterrupt(interrupted(*done_of)) from None


def _interrupted(movie: Path | None, output: Path | None, done: int, total: int) -> str:
    """Return what an interruption leaves behind, and what to type."""
    from denoscope.acquisition.offline.denoise import RECORDED_MOVIE
    from denoscope.acquisition.offline.journal import Journal

    output = output or (None if movie is None else movie / RECORDED_MOVIE)
    if output is not None and Journal(output).exists():
        return f"interrupted {_after(done, total)}; add --resume to go on"
    return f"interrupted {_after(done, total)}; nothing was written: type the same command to begin"


def _interrupted_filling(done: int, total: int) -> str:
    return f"interrupted {_after(done, total)}; the run is as it was: type the same command to begin anew"


def _after(done: int, total: int) -> str:
    return f"after {done} of {counted(total, 'frame')}" if total else "before the first frame"


def _refuse(**values: object) -> None:
    from denoscope.runtime import InvalidInput

    for name, value in values.items():
        if value is not None and value is not False:
            raise InvalidInput(
                f"`{name}` {value} does not go with `fill`, whose settings are those of the run: leave it out."
            )


def _sentences(result: Denoising | Filling) -> Iterator[str]:
    """Yield the outcome as plain sentences, the first complete by itself."""
    from denoscope.acquisition.results import Filling

    rate = f"{rounded(1 / result.frame_s)} frames/s with {result.denoiser.backend}" if result.frame_s else ""
    ended = "Done" if result.complete else "Finished, but not everything is good"
    if isinstance(result, Filling):
        lost = f", {result.missing} cannot be denoised" if result.missing else ""
        yield (
            f"{ended}. {counted(result.frames, 'frame')}: {result.kept} kept from the recording, "
            f"{result.computed} computed now{lost} ({rate})."
        )
    else:
        there = f", {result.resumed_from} of them before" if result.resumed_from else ""
        yield f"{ended}. {counted(result.frames, 'frame')} denoised{there} ({rate})."
    for sentence in result.incomplete:
        yield f"Missing: {sentence}."
    if result.untrue:
        yield f"Problem: {result.untrue}."
    yield f"Denoised movie: {result.output}"
    if not isinstance(result, Filling) and result.std is not None:
        yield f"Standard deviation: {result.std}"
    if not isinstance(result, Filling) and result.picture is not None:
        yield f"Before and after: {result.picture}"
    notes = result.notes
    if not isinstance(result, Filling):
        notes = [*filter(None, [result.movie_note]), *notes]
        if result.noise is not None and result.noise.warning:
            yield f"Note: {result.noise.warning}."
    if not isinstance(result, Filling) and result.traces is not None:
        yield _traced(result.traces)
    for note in notes:
        yield f"Note: {note.rstrip('.')}."


def _traced(traces: TracesRecord) -> str:
    if not traces.frames:
        return "Traces: none, because 100 denoised frames are needed to find regions."
    return (
        f"Traces of {counted(traces.regions, 'region')} in {counted(traces.frames, 'frame')}: {traces.file}"
    )
