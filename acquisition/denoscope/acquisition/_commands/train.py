"""``denoscope train``: a bundle from the user's own noisy movies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition._extras import require
from denoscope.acquisition._shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.train import FitProgress, FitResult, TrainingMovie

__all__ = ["train"]


def train(
    movies: Annotated[
        list[Path], typer.Argument(help="Noisy movies (TIFF), one channel and plane over time.")
    ],
    output: Annotated[Path, typer.Option(help="Bundle folder to write, NAME.denoscope.")],
    start: Annotated[
        str, typer.Option("--from", help="Bundle to begin with (name or folder), or `nothing`.")
    ] = "live",
    minutes: Annotated[float, typer.Option(help="How long to train.", min=0.05)] = 2.0,
    frames: Annotated[str | None, typer.Option(help="Train on frames A:B only, for example 0:500.")] = None,
    simulated: Annotated[int, typer.Option(help="Simulated movies to learn from as well.", min=0)] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted training of this output.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a bundle on your own movie: minutes, no clean data needed, never worse than it began."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        require("torch", extra="train", purpose="training")
        from denoscope.acquisition._range import frame_range
        from denoscope.export import export_bundle, load_network
        from denoscope.runtime import Bundle, InvalidInput, QualityRecord
        from denoscope.train import FitSettings, fit, movie_from_file, simulated_movies
        from denoscope.train._report import save_report

        if output.exists() and not (output / "bundle.json").is_file():
            raise InvalidInput(f"--output {output} exists and is not a bundle: name another folder.")
        parent = None if start == "nothing" else Bundle.load(start)
        network = None if parent is None else load_network(parent)
        loaded = [movie_from_file(path, frame_range(frames)) for path in movies]
        checkpoint = output.with_name(output.name + ".checkpoint.safetensors")
        _announce(shell, loaded, minutes, parent.manifest.name if parent else "nothing")
        result = _fit_with_bar(
            shell,
            lambda on_progress: fit(
                [*loaded, *simulated_movies(simulated, seed=seed)],
                checkpoint,
                settings=FitSettings(minutes=minutes, seed=seed, learning_rate=5e-4 if network else 2e-3),
                network=network.settings if network else None,
                start=network.state_dict() if network else None,
                resume=resume,
                on_progress=on_progress,
            ),
        )
        name = output.name.removesuffix(".denoscope")
        bundle = export_bundle(
            result.network,
            output,
            name=name,
            trained_on=[
                *([f"started from {parent.manifest.name} ({parent.digest[:12]})"] if parent else []),
                *(f"{m.name}, {len(m.frames)} frames, the last 15 % held out" for m in loaded),
                *([f"{simulated} simulated movies"] if simulated else []),
                f"{result.steps} steps in {result.seconds / 60:.1f} minutes",
            ],
            quality=[
                QualityRecord(
                    movie=", ".join(m.name for m in loaded),
                    metric="held-out negative log-likelihood of the measured pixels, lower is better",
                    value=min(result.score_after, result.score_before) if parent else result.score_after,
                    baseline=result.score_before,
                    baseline_name="before training",
                )
            ],
        )
        picture = output.with_name(f"{name}-report.png")
        save_report(result, loaded[0], picture)
        checkpoint.unlink(missing_ok=True)
        shell.say(_verdict(result))
        shell.say(f"Bundle: {output}\nPicture: {picture}")
        return {
            "bundle": str(output),
            "bundle_sha256": bundle.digest,
            "picture": str(picture),
            "steps": result.steps,
            "training_s": result.seconds,
            "score_before": result.score_before,
            "score_after": result.score_after,
            "improved": result.improved,
        }, 0

    shell.run(action)


def _announce(shell: Shell, movies: list[TrainingMovie], minutes: float, start: str) -> None:
    for movie in movies:
        unit = movie.intensity
        shell.say(
            f"{movie.name}: {len(movie.frames)} frames of {movie.frames.shape[1]} x {movie.frames.shape[2]}, "
            f"gain {unit.gain:.3g} counts a photon, noise {unit.scale:.3g} counts at the median {unit.offset:.4g}"
        )
    shell.say(f"Training from {start} for {minutes:g} min, then half a minute of export and measurement")


def _fit_with_bar(shell: Shell, run: Any) -> FitResult:
    """Run the training with a bar that shows the loss and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(file=shell.stream), disable=shell.quiet
    ) as bar:
        task = bar.add_task("", total=1)

        def show(p: FitProgress) -> None:
            bar.update(task, completed=p.done, description=f"step {p.step}, loss {p.loss:.3f}")

        result: FitResult = run(show)
    return result


def _verdict(result: FitResult) -> str:
    change = result.score_before - result.score_after
    if result.improved:
        return (
            f"Held-out score {result.score_before:.4f} -> {result.score_after:.4f} nats a pixel "
            f"(better by {change:.4f}): the new weights are in the bundle"
        )
    return (
        f"Held-out score {result.score_before:.4f} -> {result.score_after:.4f} nats a pixel: training did not "
        "help on frames it had not seen, so the bundle holds the weights it began with"
    )
