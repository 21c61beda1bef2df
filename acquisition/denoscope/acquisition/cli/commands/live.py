"""``denoscope live``: record from a microscope and denoise while recording."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition.cli.camera_options import (
    BinningOption,
    ExposureOption,
    GainOption,
    OffsetOption,
    RoiOption,
    SensorOption,
)
from denoscope.acquisition.cli.movie_options import (
    AxesOption,
    ChannelOption,
    FixLineOffsetOption,
    InterleavedOption,
    PlaneOption,
    PositionOption,
)
from denoscope.acquisition.cli.region_options import (
    DarkOption,
    DryRunOption,
    HoldOffOption,
    LimitOption,
    RegionsOption,
    TriggerOption,
)
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.acquisition.results import SessionReport
    from denoscope.acquisition.session.opening.forecast import Forecast
    from denoscope.acquisition.view.window.live_window import LiveWindow

__all__ = ["ViewOption", "live", "record"]

PreviewOption = Annotated[
    bool,
    typer.Option(
        "--preview",
        help="Show raw and denoised frames in the window and save nothing, until you click Record there; with --view.",
    ),
]
ViewOption = Annotated[
    bool, typer.Option("--view", help="Show raw and denoised frames side by side in a window.")
]


def _open_window(shell: Shell) -> LiveWindow:
    """Return a window that stays after the recording where somebody is there to close it."""
    from denoscope.acquisition.view.window.live_window import LiveWindow

    window = LiveWindow(stay=shell.interactive)
    shell.say("Opening the live view. The recording starts when it is open, or after 30 s.")
    return window


def _answered_for(shell: Shell, forecast: Forecast, *, force: bool) -> bool:
    """Say the forecast, and ask where it has a problem and somebody is there to answer."""
    if forecast.problem is None:
        shell.say(f"{forecast.sentence[0].upper()}{forecast.sentence[1:]}.")
        return True
    if force:
        shell.say(f"Warning: {forecast.problem}. Recording anyway (--force).")
        return True
    if not shell.interactive:
        return False
    shell.say(f"{forecast.problem[0].upper()}{forecast.problem[1:]}.\nRecord anyway? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def record(shell: Shell, *, announced: str = "", view: bool = False, **values: Any) -> None:
    """Run one session with these settings, shown on the screen, and leave with its exit code.

    Parameters
    ----------
    shell
        To speak with.
    announced
        Said once the settings are known to be good; empty for nothing.
    view
        Whether frames are shown in a window.
    values
        Of `make_settings`.
    """
    shell = replace(shell, interrupted="interrupted before anything was recorded")

    def action() -> tuple[SessionReport, int]:
        from denoscope.acquisition.cli.progress import FillBar
        from denoscope.acquisition.cli.screen import Screen
        from denoscope.acquisition.control.control import SessionControl, TerminalKeys
        from denoscope.acquisition.processes.signals import CommandEnd, interrupts
        from denoscope.acquisition.processes.words import never_wait
        from denoscope.acquisition.session.ending.summary import summary
        from denoscope.acquisition.session.live import live as run
        from denoscope.acquisition.session.settings import make_settings
        from denoscope.runtime import InvalidInput

        never_wait()
        settings = make_settings(**values)
        if announced:
            shell.say(announced)
        if settings.preview and not view:
            raise InvalidInput("`preview` shows frames in a window: give `view` too.")
        window = _open_window(shell) if view else None
        if settings.preview:
            shell.say(
                "Preview: nothing is saved. Click Record in the window to record, Stop or Ctrl-C to end."
            )
        control = SessionControl()
        with interrupts() as late:
            with TerminalKeys(control) as keys, Screen(shell) as screen, FillBar(shell, screen.end) as bar:
                screen.preview = settings.preview

                def arm(forecast: Forecast) -> bool:
                    screen.preview = False
                    if not _answered_for(shell, forecast, force=settings.force):
                        return False
                    if shell.interactive:
                        found = "" if settings.regions is None else "f finds regions again, "
                        shell.say(
                            f"Type a key and Enter: p pauses the denoising, r resumes it, {found}q ends the recording."
                        )
                        keys.start()
                    # One more Ctrl-C after the recording must not hide what became of it.
                    late.listener = lambda: None
                    return True

                report = run(settings, on_status=screen, control=control, arm=arm, view=window, on_fill=bar)
            shell.say(summary(report))
            if not report.preview:
                first = " (look at report.png first)" if _has_picture(settings.output) else ""
                shell.say(f"Run folder: {settings.output}{first}")
            CommandEnd.is_near()
        return report, report.outcome.exit_code

    shell.run(action)


def live(
    core: Annotated[
        str,
        typer.Option(
            help="demo; HOST:PORT of a running Micro-Manager; FILE.cfg, a Micro-Manager configuration; watch:PATH, a "
            "file or folder that other software writes; or replay:PATH, a movie."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Run folder; it must not hold a recording yet.")],
    bundle: Annotated[str, typer.Option(help="Bundle folder, or the name of a shipped bundle.")] = "live",
    look_ahead: Annotated[
        int | None,
        typer.Option(help="Later frames that each output uses: fewer, less delay; more, less noise."),
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, or a backend that denoscope doctor names.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Processor threads to denoise with.")] = None,
    denoiser: Annotated[
        str,
        typer.Option(
            help="process: denoise in another process, so that a crash there costs no raw frame; thread: in this one."
        ),
    ] = "process",
    frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
    movie: Annotated[Path | None, typer.Option(help="Movie that --core demo replays.")] = None,
    fps: Annotated[float, typer.Option(help="Frames per second of --core demo and replay:PATH.")] = 30.0,
    idle_s: Annotated[
        float, typer.Option(help="Seconds without a change after which watch:PATH has ended.")
    ] = 10.0,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    interleaved: InterleavedOption = None,
    axes: AxesOption = None,
    streams: Annotated[
        int, typer.Option(help="Highest number of cameras x channels x slices x positions.")
    ] = 64,
    mm_dir: Annotated[Path | None, typer.Option(help="Folder with the device adapters for FILE.cfg.")] = None,
    buffer_mb: Annotated[int, typer.Option(help="Size of Micro-Manager's circular buffer in MB.")] = 512,
    reserve_mb: Annotated[float, typer.Option(help="Disk space in MB that must stay free.")] = 200.0,
    rescue: Annotated[
        Path | None,
        typer.Option(
            help="Folder on another disk for raw frames that the disk of --output fails to take. "
            "(default: denoscope-rescued in your home folder)"
        ),
    ] = None,
    denoised_format: Annotated[
        str, typer.Option(help="Format of the denoised movie: ome-tiff, ome-zarr or ndtiff.")
    ] = "ome-tiff",
    std: Annotated[
        bool, typer.Option("--std", help="Write the predicted standard deviation too, as denoised_std.")
    ] = False,
    float32: Annotated[
        bool,
        typer.Option(
            "--float32",
            help="Write float32, not rounded to whole counts.",
        ),
    ] = False,
    fill: Annotated[
        bool,
        typer.Option(
            help="Denoise skipped frames when the recording has ended; else the movie shows the raw frame there."
        ),
    ] = True,
    fix_line_offset: FixLineOffsetOption = False,
    metrics: Annotated[
        str | None, typer.Option(help="Port where Prometheus, on this computer, reads the session's numbers.")
    ] = None,
    exposure_ms: ExposureOption = None,
    roi: SensorOption = None,
    binning: BinningOption = None,
    camera_fps: Annotated[
        float | None,
        typer.Option(help="Frames per second, for the disk check, of a camera slower than its exposure."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Record even if the disk check fails."),
    ] = False,
    picture: Annotated[bool, typer.Option(help="Draw report.png at the end.")] = True,
    view: ViewOption = False,
    preview: PreviewOption = False,
    regions: RegionsOption = None,
    dark: DarkOption = 0.0,
    trigger: TriggerOption = None,
    hold_off_s: HoldOffOption = 1.0,
    trigger_limit: LimitOption = None,
    dry_run: DryRunOption = False,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Train on the recorded frames while recording, and switch to the new weights if they are better. "
            'Needs the extra "train".',
        ),
    ] = False,
    camera_gain: GainOption = None,
    camera_offset: OffsetOption = None,
    camera_roi: RoiOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Record from a microscope and denoise while recording. Ctrl-C ends cleanly."""
    record(
        Shell(json=json, quiet=quiet, debug=debug),
        core=core,
        output=output,
        bundle=bundle,
        look_ahead=look_ahead,
        backend=backend,
        threads=threads,
        denoiser=denoiser,
        frames=frames,
        seconds=seconds,
        movie=movie,
        fps=fps,
        idle_s=idle_s,
        channel=channel,
        plane=plane,
        position=position,
        interleaved=interleaved,
        axes=axes,
        streams=streams,
        mm_dir=mm_dir,
        buffer_mb=buffer_mb,
        reserve_mb=reserve_mb,
        rescue=rescue,
        denoised_format=denoised_format,
        std=std,
        float32=float32,
        fill=fill,
        fix_line_offset=fix_line_offset,
        metrics=metrics,
        exposure_ms=exposure_ms,
        roi=roi,
        binning=binning,
        camera_fps=camera_fps,
        force=force,
        picture=picture,
        view=view,
        preview=preview,
        regions=regions,
        dark=dark,
        trigger=tuple(trigger or ()),
        hold_off_s=hold_off_s,
        trigger_limit=trigger_limit,
        dry_run=dry_run,
        adapt=adapt,
        camera_gain=camera_gain,
        camera_offset=camera_offset,
        camera_roi=camera_roi,
    )


def _has_picture(output: Path) -> bool:
    try:
        return (output / "report.png").is_file()
    except OSError:  # the share or disk went away, which the report says
        return False
