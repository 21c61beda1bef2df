"""``denoscope train``: a bundle from the user's own noisy movies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition.cli.camera_options import GainOption, OffsetOption, RoiOption
from denoscope.acquisition.cli.movie_options import (
    ChannelOption,
    InterleavedOption,
    PlaneOption,
    PositionOption,
)
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.denoisers.converting import load_camera
from denoscope.acquisition.extras import require
from denoscope.runtime import counted

if TYPE_CHECKING:
    from denoscope.runtime import Bundle
    from denoscope.train import FitPlan, FitProgress, FitResult, FitSettings, TrainingMovie

__all__ = ["train"]

_DEFAULT_MINUTES = 2.0


class MethodName(StrEnum):
    """Methods that can be trained."""

    LIVE = "live"
    STS_UVD = "sts-uvd"
    UMVD = "umvd"


class SizeName(StrEnum):
    """Sizes of the `live` network."""

    FAST = "fast"
    STANDARD = "standard"
    HQ = "hq"


class PrecisionName(StrEnum):
    """Arithmetic of the convolutions."""

    AUTO = "auto"
    FULL = "32"
    BFLOAT = "bf16-mixed"
    HALF = "16-mixed"


def train(
    movies: Annotated[list[Path], typer.Argument(help="Noisy movies of any format.")],
    output: Annotated[Path, typer.Option(help="Bundle folder to write, NAME.denoscope.")],
    method: Annotated[MethodName | None, typer.Option(help="What to train [default: live].")] = None,
    size: Annotated[
        SizeName | None, typer.Option(help="Size of a `live` network that starts from nothing.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Frames that one output sees, odd; starts from nothing.", min=3)
    ] = None,
    guided: Annotated[
        bool,
        typer.Option(
            "--guided", help="Warp neighbours along the motion, in a `live` that starts from nothing."
        ),
    ] = False,
    one_photon: Annotated[
        bool,
        typer.Option(
            "--one-photon",
            help="With --method umvd: remove the background of a one-photon movie and amplify the neurons' response "
            "before the network sees it; both are undone afterwards.",
        ),
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Bundle to begin with (name or folder), or `nothing` [default: the shipped `live` for the "
            "method live without --size, --window and --guided, else nothing].",
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="How long to train [default: 2].", min=0.05)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of 200 steps instead.", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps instead.", min=1)] = None,
    frames: Annotated[str | None, typer.Option(help="Train on frames A:B only, for example 0:500.")] = None,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    interleaved: InterleavedOption = None,
    camera_gain: GainOption = None,
    camera_offset: OffsetOption = None,
    camera_roi: RoiOption = None,
    simulated: Annotated[int, typer.Option(help="Simulated movies to learn from as well.", min=0)] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted training of this output.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the bundle, report and CSV of an earlier training.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    precision: Annotated[
        PrecisionName,
        typer.Option(
            help="Arithmetic of the convolutions; auto is bf16-mixed for --minutes on a processor that computes in "
            "bfloat16, else 32."
        ),
    ] = PrecisionName.AUTO,
    devices: Annotated[int, typer.Option(help="Graphics cards to train on.", min=1)] = 1,
    log: Annotated[Path | None, typer.Option(help="Folder for training.csv and TensorBoard events.")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a bundle on your own movie: minutes, no clean data needed, never worse than it began."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        require("torch", extra="train", purpose="training")
        from denoscope.acquisition.cli.range import frame_range
        from denoscope.export import export_bundle
        from denoscope.runtime import InvalidInput, open_movie
        from denoscope.train import (
            ADAPTATION_RATE,
            METHODS,
            StsUvdFit,
            fit,
            movie_from_file,
            simulated_movies,
        )
        from denoscope.train.fitting.checkpoint import remove_checkpoint
        from denoscope.train.fitting.precision import automatic_precision
        from denoscope.train.fitting.report import Report, save_report, verdict

        if output.exists() and not (output / "bundle.json").is_file():
            raise InvalidInput(f"--output {output} exists and is not a bundle: name another folder.")
        name = output.name.removesuffix(".denoscope")
        checkpoint = output.with_name(output.name + ".checkpoint.safetensors")
        table = output.with_name(f"{name}-training.csv") if log is None else log / "training.csv"
        page = output.with_name(f"{name}-report.html")
        if not overwrite:
            _refuse_existing([output, page, table], interrupted=checkpoint.is_file(), resume=resume)
        if sum(budget is not None for budget in (minutes, epochs, steps)) > 1:
            raise InvalidInput("--minutes, --epochs and --steps are three ways to say how long: give one.")
        beginning = _beginning(
            method, size, window, start, guided=guided, one_photon=one_photon, truth=simulated > 0
        )
        camera = load_camera(camera_gain, camera_offset, camera_roi)
        choice: dict[str, Any] = {
            "channel": channel,
            "plane": plane,
            "position": position,
            "interleaved": interleaved,
            "camera": camera,
        }
        loaded = [movie_from_file(path, frame_range(frames), **choice) for path in movies]
        warnings = _choose_blind_spot(beginning, loaded)
        if camera is not None:
            where: dict[str, Any] = {
                "channel": channel,
                "plane": plane,
                "position": position,
                "interleaved": interleaved,
            }
            warnings += filter(None, (camera.warning(open_movie(path, **where)) for path in movies))
        entry = METHODS[beginning.method]
        if entry.name == "live":
            loaded = [_as_seen_live(shell, movie) for movie in loaded]
        changes: dict[str, Any] = {"learning_rate": ADAPTATION_RATE} if beginning.parent else {}
        if steps is not None:
            changes |= {"steps": steps, "epochs": None}
        elif epochs is not None:
            changes["epochs"] = epochs
        else:
            changes["minutes"] = minutes or _DEFAULT_MINUTES
        changes["precision"] = precision.value
        if precision is PrecisionName.AUTO:
            # With a number of steps the same seed is to give the same bits on every machine's float32.
            changes["precision"] = automatic_precision() if "minutes" in changes else PrecisionName.FULL.value
        settings = entry.settings(seed=seed, devices=devices, **changes)
        _announce(shell, loaded, warnings, log)
        try:
            result = _fit_with_bar(
                shell,
                lambda on_progress: fit(
                    [*loaded, *simulated_movies(simulated, seed=seed)],
                    checkpoint,
                    method=beginning.method,
                    settings=settings,
                    network=beginning.shape,
                    start=beginning.weights,
                    flow=beginning.flow,
                    resume=resume,
                    log=table,
                    events=log,
                    on_plan=lambda plan: shell.say(_outlook(plan, beginning, settings)),
                    on_progress=on_progress,
                ),
            )
        except KeyboardInterrupt:
            saved = checkpoint.is_file()
            if not saved:
                table.unlink(missing_ok=True)
            remedy = (
                "the same command with --resume goes on from the last checkpoint"
                if saved
                else "nothing was kept"
            )
            shell.say(f"Interrupted: {remedy}")
            return {"error": f"interrupted: {remedy}", "exit_code": 130}, 130
        if isinstance(result, StsUvdFit) and (sentence := result.warning()):
            warnings.append(sentence)
            shell.say(f"Warning: {sentence}")
        with_flow = {"flow": beginning.flow} if beginning.method == "sts-uvd" else {}
        bundle = export_bundle(
            result.network,
            output,
            name=name,
            trained_on=[
                *([f"started from {beginning.name}"] if beginning.parent else []),
                *(f"{m.name}, {counted(len(m.frames), 'frame')}, the last 15 % held out" for m in loaded),
                *([f"{counted(simulated, 'simulated movie')}"] if simulated else []),
                *(
                    [f"held on to the start by {result.caution:.0%}"]
                    if result.improved and result.caution
                    else []
                ),
                *([f"corrected with {camera.source} ({camera.sha256[:12]})"] if camera else []),
                f"{counted(result.steps, 'step')} in {result.seconds / 60:.1f} minutes",
            ],
            quality=[_quality(result, loaded, entry.score)],
            **with_flow,
        )
        report = Report(name, entry, settings, beginning.shape, loaded, beginning.name, warnings)
        save_report(result, report, page)
        remove_checkpoint(checkpoint)
        shell.say(verdict(result, entry))
        shell.say(f"Bundle: {output}\nReport: {page}\nLog:    {table}")
        return {
            "bundle": str(output),
            "bundle_sha256": bundle.digest,
            "report": str(page),
            "log": str(table),
            "method": entry.name,
            "steps": result.steps,
            "precision": settings.precision,
            "training_s": result.seconds,
            "processor_s": result.processor_s,
            "stopped": result.stopped,
            "score": entry.score,
            "score_before": result.score_before,
            "score_after": result.score_after,
            "improved": result.improved,
            "warnings": warnings,
            "camera": camera.describe() if camera else None,
        }, 0

    shell.run(action)


def _refuse_existing(paths: list[Path], *, interrupted: bool, resume: bool) -> None:
    """Refuse to replace what an earlier training wrote; its table is continued by --resume."""
    from denoscope.acquisition.errors import OutputExists

    bundle, page, table = paths
    for path in (bundle, page, *([] if resume and interrupted else [table])):
        if path.exists():
            remedy = "add --resume to go on with the interrupted training, or " if interrupted else ""
            raise OutputExists(
                f"{path} exists: {remedy}name another --output, or add --overwrite to replace it."
            )


@dataclass
class _Beginning:
    """Start of a training."""

    method: str
    shape: Any
    parent: Bundle | None = None
    weights: dict[str, Any] | None = None
    flow: Any = None

    @property
    def name(self) -> str:
        """The parent in words."""
        if self.parent is None:
            return "nothing"
        return f"{self.parent.manifest.name} ({self.parent.digest[:12]})"


def _beginning(
    method: MethodName | None,
    size: SizeName | None,
    window: int | None,
    start: str | None,
    *,
    guided: bool = False,
    one_photon: bool = False,
    truth: bool = False,
) -> _Beginning:
    """Load the parent, or choose the shape of a network that starts from nothing.

    A second stage needs movies with truth to learn from.
    """
    from denoscope.export import load_network
    from denoscope.runtime import Bundle, InvalidInput
    from denoscope.train import METHODS, LiveNetSettings, UmvdSettings
    from denoscope.train.fitting.checkpoint import refuse_pickle
    from denoscope.train.flow.net import load_flow

    asked = "live" if method is None else method.value
    if one_photon and (asked != "umvd" or start not in (None, "nothing")):
        raise InvalidInput(
            "--one-photon is for a network of the method umvd that starts from nothing: give --method umvd without "
            "--from, or leave --one-photon out."
        )
    if start is None:
        shaped = size is not None or window is not None or guided
        start = "live" if asked == "live" and not shaped else "nothing"
    if start != "nothing":
        if size is not None or window is not None or guided:
            raise InvalidInput(
                f"--size, --window and --guided shape a network that starts from nothing, and --from {start} has its "
                "shape already: leave them out, or give --from nothing."
            )
        refuse_pickle(Path(start))
        parent = Bundle.load(start)
        if method is not None and parent.manifest.method != asked:
            raise InvalidInput(
                f"--from {start} holds the method {parent.manifest.method}, not {asked}: choose another bundle "
                "or leave --method out."
            )
        network = load_network(parent)
        flow = _flow_of(parent, network)
        return _Beginning(parent.manifest.method, network.settings, parent, network.state_dict(), flow)
    if asked != "live" and size is not None:
        raise InvalidInput(f"--size {size.value} is for the method live: leave it out for {asked}.")
    if asked != "live" and guided:
        raise InvalidInput(f"--guided is for the method live: leave it out for {asked}.")
    changes: dict[str, Any] = {} if window is None else {"window": window}
    if asked == "live":
        if guided:
            changes["guided"] = True
        if not truth:
            changes["second_width"] = 0
        if window is not None:
            changes["look_ahead"] = min(3, window // 2)
        shape = LiveNetSettings.preset(size.value if size else "standard", **changes)
        # One pass: the cost of the flow of every frame counts where frames come live.
        return _Beginning(asked, shape, flow=load_flow(passes=1) if shape.guided else None)
    make = UmvdSettings.one_photon if one_photon else METHODS[asked].shape
    return _Beginning(asked, make(**changes), flow=load_flow() if asked == "sts-uvd" else None)


def _flow_of(parent: Bundle, network: Any) -> Any:
    """Return the flow network that goes with a parent, None for a method without flow."""
    if parent.manifest.method == "sts-uvd":
        from denoscope.export import load_bundle_flow

        return load_bundle_flow(parent)
    return getattr(network, "flow", None)


def _choose_blind_spot(beginning: _Beginning, movies: list[TrainingMovie]) -> list[str]:
    """Fit the blind spot of a `live` network to the movies' noise; return what to say about the noise."""
    from denoscope.train import LiveNetSettings, blind_spots_for, hiding_noise

    needed, sentences = blind_spots_for(movies)
    if isinstance(beginning.shape, LiveNetSettings):
        trained = beginning.parent is not None
        beginning.shape, more = hiding_noise(beginning.shape, needed, trained=trained)
        sentences += more
    return sentences


def _as_seen_live(shell: Shell, movie: TrainingMovie) -> TrainingMovie:
    """Align a movie that moves as a whole, as a live session does before the network sees it."""
    from denoscope.train import aligned

    still = aligned(movie)
    if still is not movie:
        shell.say(
            f"{movie.name} moves as a whole: {counted(len(still.frames), 'frame')} aligned as in a live session; "
            "learned from is what every frame shows"
        )
    return still


def _announce(shell: Shell, movies: list[TrainingMovie], warnings: list[str], log: Path | None) -> None:
    from denoscope.train.fitting.logs import tensorboard_installed

    for movie in movies:
        unit = movie.intensity
        shell.say(
            f"{movie.name}: {counted(len(movie.frames), 'frame')} of {movie.frames.shape[1]} x "
            f"{movie.frames.shape[2]}, "
            f"gain {unit.gain:.3g} counts a photon, noise {unit.scale:.3g} counts at the median {unit.offset:.4g}"
        )
        if movie.note:
            shell.say(f"Note: {movie.note}")
    for sentence in warnings:
        shell.say(f"Warning: {sentence}")
    if log is not None and not tensorboard_installed():
        shell.say(
            'TensorBoard is not installed (python -m pip install ".[tensorboard]"): only the CSV log is written'
        )


def _outlook(plan: FitPlan, beginning: _Beginning, settings: FitSettings) -> str:
    return (
        f"Training {beginning.method} from {beginning.name} on {plan.device}: about {counted(plan.steps, 'step')} of "
        f"{plan.step_s * 1000:.0f} ms ({counted(settings.batch, 'window')} of {settings.crop} x {settings.crop} "
        "pixels, "
        f"precision {settings.precision}), "
        f"{_duration(plan.seconds)}, {plan.memory_bytes / 2**20:.0f} MiB of memory beside the program and the "
        "movies; then half a minute of export and measurement"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.1f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _fit_with_bar(
    shell: Shell, run: Callable[[Callable[[FitProgress], None]], FitResult[Any]]
) -> FitResult[Any]:
    """Run the training with a bar that shows the loss, the held-out score and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=shell.stream), disable=shell.quiet) as bar:
        task = bar.add_task("", total=1)

        def show(p: FitProgress) -> None:
            score = "" if p.score != p.score else f", held out {p.score:.3f}"
            left = _duration(p.remaining_s).removeprefix("about ")
            bar.update(
                task, completed=p.done, description=f"step {p.step}, loss {p.loss:.3f}{score}, {left} left"
            )

        return run(show)


def _quality(result: FitResult[Any], movies: list[TrainingMovie], score: str) -> Any:
    from denoscope.runtime import QualityRecord

    return QualityRecord(
        movie=", ".join(m.name for m in movies),
        metric=f"{score}, lower is better",
        value=result.score_after if result.improved else result.score_before,
        baseline=result.score_before,
        baseline_name="before training",
    )
