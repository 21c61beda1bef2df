"""``denoscope train``: a bundle from the user's own noisy movies."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from denoscope.acquisition.cli.camera_options import GainOption, OffsetOption, RoiOption
from denoscope.acquisition.cli.flags import with_flags
from denoscope.acquisition.cli.movie_options import (
    AxesOption,
    ChannelOption,
    InterleavedOption,
    PlaneOption,
    PositionOption,
)
from denoscope.acquisition.cli.progress import ProgressLine, duration
from denoscope.acquisition.cli.range import frame_range
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.processes.signals import CommandEnd
from denoscope.runtime import counted
from denoscope.runtime.words import rounded

if TYPE_CHECKING:
    from denoscope.acquisition.learning.results import TrainingResult
    from denoscope.acquisition.learning.training import TrainingPlan
    from denoscope.train import FitProgress, TrainingMovie

__all__ = ["train"]


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
    method: Annotated[MethodName | None, typer.Option(help="Method to train (default: live).")] = None,
    size: Annotated[
        SizeName | None, typer.Option(help="Size of a `live` network that is trained from scratch.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Frames that each output uses, odd; trains from scratch.", min=3)
    ] = None,
    guided: Annotated[
        bool,
        typer.Option(
            "--guided",
            help="Warp neighbouring frames along the motion; trains a `live` network from scratch.",
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
            help="Bundle to begin with (name or folder), or `nothing` (default: the shipped `live`; nothing with "
            "another method, --size, --window or --guided).",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Minutes to train (default: 2). Calibration, export and checks follow; their time is printed first.",
            min=0.05,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Train for epochs of 200 steps instead.", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Train for this many steps instead.", min=1)] = None,
    frames: Annotated[str | None, typer.Option(help="Train on frames A:B only, for example 0:500.")] = None,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    interleaved: InterleavedOption = None,
    axes: AxesOption = None,
    camera_gain: GainOption = None,
    camera_offset: OffsetOption = None,
    camera_roi: RoiOption = None,
    simulated: Annotated[int, typer.Option(help="Simulated movies to learn from as well.", min=0)] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training of this output.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the bundle, report and CSV of an earlier training.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    precision: Annotated[
        PrecisionName,
        typer.Option(
            help="Arithmetic; auto takes bf16-mixed with --minutes where the processor computes in bfloat16, else 32."
        ),
    ] = PrecisionName.AUTO,
    devices: Annotated[int, typer.Option(help="Graphics cards to train on.", min=1)] = 1,
    log: Annotated[Path | None, typer.Option(help="Folder for training.csv and TensorBoard events.")] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Print steps, noise model and all verdicts too.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a bundle on your own noisy movie; no clean movie is needed.

    If training does not help on held-out frames, you get the original model back.
    """
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[TrainingResult | dict[str, str | int], int]:
        from denoscope.acquisition.learning.training import TrainingInterrupted, train_bundle

        try:
            with _listener(shell, details=details) as listener:
                result = train_bundle(
                    movies,
                    output,
                    method=None if method is None else method.value,
                    size=None if size is None else size.value,
                    window=window,
                    guided=guided,
                    one_photon=one_photon,
                    start=start,
                    minutes=minutes,
                    epochs=epochs,
                    steps=steps,
                    frames=frame_range(frames),
                    channel=channel,
                    plane=plane,
                    position=position,
                    interleaved=interleaved,
                    axes=axes,
                    camera_gain=camera_gain,
                    camera_offset=camera_offset,
                    camera_roi=camera_roi,
                    simulated=simulated,
                    resume=resume,
                    overwrite=overwrite,
                    seed=seed,
                    precision=precision.value,
                    devices=devices,
                    log=log,
                    listener=listener,
                )
        except TrainingInterrupted as interrupted:
            CommandEnd.is_near()
            sentence = with_flags(str(interrupted))
            shell.complain(sentence)
            return {"error": sentence, "exit_code": 130}, 130
        for verdict in result.verdicts:
            if details or verdict.level != "fine" or verdict.about == "training":
                shell.say(str(verdict))
        if details:
            shell.say(
                f"{result.steps} steps in {result.training_s:.0f} s ({result.stopped}), "
                f"{result.other_s:.0f} s for everything else."
            )
        shell.say(
            f"Bundle: {result.bundle}\nReport: {result.report} (open it in a browser)\nLog:    {result.log}"
        )
        if result.improved:
            shell.say(f"To use it, add to live or denoise: --bundle {result.bundle}")
        return result, 0

    shell.run(action)


def _listener(shell: Shell, *, details: bool) -> Any:
    """Return the listener that prints; its class is made when the command runs, to start fast."""
    from denoscope.acquisition.learning.training import TrainingListener

    class Screen(TrainingListener):
        """Print what happens, with a bar while it trains."""

        def __init__(self) -> None:
            self._line = ProgressLine(shell, "training")
            self._checking = ProgressLine(shell, "checking")

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            self._line.end()
            self._checking.end()

        def read(self, movie: TrainingMovie) -> None:
            count, height, width = movie.frames.shape
            noise = ""
            if details:
                unit = movie.intensity
                noise = (
                    f"; {rounded(unit.gain)} counts a photon, noise of {rounded(unit.scale)} counts at the median "
                    f"{rounded(unit.offset, 4)}"
                )
            shell.say(f"{movie.name}: {counted(count, 'frame')} of {height} x {width}{noise}")

        def noted(self, sentence: str) -> None:
            shell.say(f"Note: {sentence}")

        def warned(self, sentence: str) -> None:
            shell.say(f"Note: {sentence}")

        def planned(self, plan: TrainingPlan) -> None:
            shell.say(_outlook(plan, details=details))

        def progressed(self, progress: FitProgress) -> None:
            self._line.show(progress.done, 1, _score(progress), left_s=progress.remaining_s)

        def finishing(self, stage: str) -> None:
            self._line.end()
            words = {"export": "Writing the bundle ...", "report": "Checking it on the end of the movie ..."}
            shell.say(words[stage])

        def checked(self, share: float) -> None:
            self._checking.show(share, 1)

    return Screen()


def _outlook(plan: TrainingPlan, *, details: bool) -> str:
    beginning = "nothing" if plan.began_from == "nothing" else plan.began_from.split(" (")[0]
    where = "the processor" if plan.device == "cpu" else plan.device
    text = (
        f"Training {plan.method} from {beginning} on {where} for {duration(plan.training_s)}; then "
        f"{duration(plan.finishing_s)} of calibration, export and checks "
        f"({duration(plan.training_s + plan.finishing_s)} from now)."
    )
    if not details:
        return text
    return (
        f"{text}\nStarted from {plan.began_from}. About {plan.steps} steps of {plan.step_s * 1000:.0f} ms, "
        f"{plan.batch} windows of {plan.crop} x {plan.crop} pixels each, precision {plan.precision}, "
        f"{plan.memory_bytes / 2**20:.0f} MB of memory beside the program and the movies."
    )


def _score(progress: FitProgress) -> str:
    known = progress.score == progress.score  # NaN before the first
    return f"on unseen frames {progress.score:.3f} (lower is better)" if known else ""
