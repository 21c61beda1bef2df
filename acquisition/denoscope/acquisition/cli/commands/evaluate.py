"""``denoscope evaluate``: how good bundles are, where the truth is known and where nobody knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition.cli.movie_options import (
    ChannelOption,
    InterleavedOption,
    PlaneOption,
    PositionOption,
)
from denoscope.acquisition.cli.range import frame_range
from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell
from denoscope.acquisition.extras import require
from denoscope.runtime import counted

if TYPE_CHECKING:
    import numpy.typing as npt

    from denoscope.runtime import Bundle
    from denoscope.train.evaluation.tables import ResultTable

__all__ = ["evaluate"]


def evaluate(
    output: Annotated[Path, typer.Option(help="Folder for evaluation.json, evaluation.md and the pictures.")],
    pair: Annotated[
        list[Path] | None,
        typer.Option(metavar="NOISY CLEAN", help="A noisy movie and its clean truth; may be repeated."),
    ] = None,
    movie: Annotated[
        list[Path] | None,
        typer.Option(help="A noisy movie of which nobody knows the truth; may be repeated."),
    ] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="Use the simulated test movie too.")] = False,
    bundle: Annotated[
        list[str] | None, typer.Option(help="Bundle (name or folder); may be repeated.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Backend's name, or auto.")] = "auto",
    frames: Annotated[
        str | None, typer.Option(metavar="A:B", help="Frames to use, of every movie; B is exclusive.")
    ] = None,
    channel: ChannelOption = None,
    plane: PlaneOption = None,
    position: PositionOption = None,
    interleaved: InterleavedOption = None,
    object_radius: Annotated[
        float, typer.Option(metavar="PX", help="Radius of the cells or particles that are counted.")
    ] = 5.0,
    track: Annotated[
        bool, typer.Option("--track", help="Follow the objects of every frame (needs the extra tracking).")
    ] = False,
    at_least: Annotated[
        float | None,
        typer.Option(help="Exit with 1 unless every bundle beats the best tuned filter by so many dB."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure bundles of any method side by side: against truth, or on real movies without it."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        require("skimage", extra="train", purpose="evaluation")
        from denoscope.runtime import Bundle, InvalidInput

        if not pair and not movie and not simulated:
            raise InvalidInput(
                "There is nothing to evaluate on: give --pair NOISY CLEAN, --movie MOVIE, or --simulated."
            )
        if at_least is not None and not pair and not simulated:
            raise InvalidInput(
                f"--at-least {at_least:g} needs a truth: give --pair NOISY CLEAN or --simulated."
            )
        if track:
            from denoscope.train.evaluation.cells import require_tracker

            require_tracker()
        chosen = frame_range(frames)
        bundles = [Bundle.load(b) for b in bundle or ["live"]]
        choice: dict[str, Any] = {
            "channel": channel,
            "plane": plane,
            "position": position,
            "interleaved": interleaved,
        }
        pairs = _pairs(shell, pair or [], chosen, choice, simulated=simulated)
        movies = [
            (path.stem, _without_holes(shell, path, _opened(shell, path, chosen, choice))[0])
            for path in movie or []
        ]
        output.mkdir(parents=True, exist_ok=True)
        evaluation = _Evaluation(shell, output, bundles, backend, object_radius, track)
        report: dict[str, Any] = {"pairs": [], "margin_db": {}, "movies": []}
        for name, noisy, clean in pairs:
            result, margins = evaluation.pair(name, noisy, clean)
            report["pairs"].append(result)
            report["margin_db"][name] = margins
        report["movies"] = [evaluation.movie(name, noisy) for name, noisy in movies]
        (output / "evaluation.json").write_text(_dumps(report), encoding="utf-8")
        (output / "evaluation.md").write_text("\n".join(evaluation.markdown), encoding="utf-8")
        shell.say(f"Wrote evaluation.json, evaluation.md and the pictures of every movie to {output}")
        if at_least is not None:
            least = min(m for margins in report["margin_db"].values() for m in margins.values())
            if least < at_least:
                shell.say(f"Below the bar: the least margin is {least:.2f} dB, {at_least:g} dB are asked for")
                return report, 1
        return report, 0

    shell.run(action)


def _pairs(
    shell: Shell, files: list[Path], chosen: slice, choice: dict[str, Any], *, simulated: bool
) -> list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    from denoscope.runtime import InvalidInput
    from denoscope.train import test_movie

    noisy_files, clean_files = files[::2], files[1::2]
    if len(noisy_files) != len(clean_files):
        raise InvalidInput(f"--pair {noisy_files[-1]} has no clean movie: give two files, NOISY CLEAN.")
    pairs = [
        _pair(shell, noisy, _opened(shell, noisy, chosen, choice), _opened(shell, clean, chosen, choice))
        for noisy, clean in zip(noisy_files, clean_files, strict=True)
    ]
    if simulated:
        made = test_movie()
        pairs.append(("simulated test movie", made.as_uint16()[chosen], made.clean[chosen]))
    return pairs


def _pair(
    shell: Shell, path: Path, noisy: npt.NDArray[Any], clean: npt.NDArray[Any]
) -> tuple[str, npt.NDArray[Any], npt.NDArray[Any]]:
    if noisy.shape == clean.shape:
        noisy, clean = _without_holes(shell, path, noisy, clean)
    return path.stem, noisy, clean


def _without_holes(shell: Shell, path: Path, *movies: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Return movies without borders and frames of NaN, and say so; single pixels of NaN are filled."""
    from denoscope.runtime import without_holes

    whole = without_holes(*movies)
    if whole[0] is not movies[0]:
        length, height, width = whole[0].shape
        shell.say(
            f"Note: {path.name} holds NaN or infinite pixels: {counted(length, 'frame')} of {height} x {width} "
            "pixels without "
            "such borders are measured, and single pixels are filled."
        )
    return whole


def _opened(shell: Shell, path: Path, chosen: slice, choice: dict[str, Any]) -> npt.NDArray[Any]:
    """Read the chosen frames of a movie, refused before anything is read if memory cannot hold them."""
    import math

    import numpy as np

    from denoscope.runtime import InvalidInput, open_movie
    from denoscope.train.evaluation.real import MOST_PIXELS

    part = open_movie(path, **choice)[chosen]
    if not len(part):
        raise InvalidInput(f"{path} has no frame in the chosen range: give another --frames A:B.")
    if math.prod(part.shape) > MOST_PIXELS:
        raise InvalidInput(
            f"{path} has {math.prod(part.shape) / 1e6:.0f} million pixels; evaluation holds at most "
            f"{MOST_PIXELS / 1e6:.0f} million in memory: choose frames with --frames A:B."
        )
    if note := getattr(part, "note", ""):
        shell.say(f"Note: {note}")
    return np.asarray(part)


@dataclass
class _Evaluation:
    """Settings that the movies of one call share, and the tables so far."""

    shell: Shell
    output: Path
    bundles: list[Bundle]
    backend: str
    radius_px: float
    track: bool

    def __post_init__(self) -> None:
        self.markdown: list[str] = []
        self._stems: list[str] = []

    def pair(
        self, name: str, noisy: npt.NDArray[Any], clean: npt.NDArray[Any]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Score all bundles on a movie with truth; return the result and each bundle's margin."""
        from denoscope.train.evaluation.pictures import save_comparison, save_reliability
        from denoscope.train.evaluation.tables import pair_tables
        from denoscope.train.evaluation.truth import evaluate_pair, unique_names

        stem = self._stem(name)
        with _bar(self.shell, f"{name}, {counted(len(self.bundles), 'bundle')}", len(noisy)) as show:
            result = evaluate_pair(
                name,
                noisy,
                clean,
                self.bundles,
                backend=self.backend,
                radius_px=self.radius_px,
                on_frame=show,
            )
        save_comparison(result, clean, self.output / f"{stem}.png")
        if result.reliability:
            save_reliability(result, self.output / f"{stem}_reliability.png")
        self._tell(pair_tables(result))
        self._name_artefacts(noisy)
        margins = {name: result.margin_db(name) for name in unique_names(self.bundles)}
        for method, margin in margins.items():
            self.shell.say(f"{method}: {margin:+.2f} dB to the best tuned filter")
        return result.to_dict(), margins

    def movie(self, name: str, noisy: npt.NDArray[Any]) -> dict[str, Any]:
        """Measure all bundles on a movie without truth."""
        from denoscope.train.evaluation.pictures import save_movie_pictures
        from denoscope.train.evaluation.real import evaluate_movie
        from denoscope.train.evaluation.tables import movie_tables

        stem = self._stem(name)
        with _bar(self.shell, f"{name}, {counted(len(self.bundles), 'bundle')}", len(noisy)) as show:
            result = evaluate_movie(
                name,
                noisy,
                self.bundles,
                backend=self.backend,
                radius_px=self.radius_px,
                track=self.track,
                on_frame=show,
            )
        save_movie_pictures(result, self.output, stem)
        self._tell(movie_tables(result))
        if (warning := result.intensity.warning()) is not None:
            self._note(warning)
        self._name_artefacts(noisy)
        return result.to_dict()

    def _name_artefacts(self, noisy: npt.NDArray[Any]) -> None:
        """Say what the scanner or detector adds to every frame."""
        from denoscope.runtime import frames_to_measure, measure_scanner

        for sentence in measure_scanner(frames_to_measure(noisy)).sentences():
            self._note(sentence)

    def _note(self, sentence: str) -> None:
        self.shell.say(f"Note: {sentence}")
        self.markdown.append(f"Note: {sentence}.\n")

    def _stem(self, name: str) -> str:
        """Return the stem of a movie's pictures; movies of one name in several folders get a number."""
        from denoscope.train.evaluation.pictures import file_stem

        stem = file_stem(name)
        self._stems.append(stem)
        times = self._stems.count(stem)
        return stem if times == 1 else f"{stem}_{times}"

    def _tell(self, tables: list[ResultTable]) -> None:
        from rich.console import Console
        from rich.table import Table

        for table in tables:
            self.markdown.append(table.markdown())
            if self.shell.quiet:
                continue
            shown = Table(title=table.title, title_justify="left")
            for index, head in enumerate(table.columns):
                shown.add_column(head, justify="left" if index < table.texts else "right")
            for row in table.rows:
                shown.add_row(*row)
            Console(file=self.shell.stream, width=118).print(shown)


def _dumps(report: dict[str, Any]) -> str:
    import json

    return json.dumps(report, indent=2)


@contextmanager
def _bar(shell: Shell, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Open a progress bar; the context gives a function to call with the number of frames done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=shell.stream), disable=shell.quiet, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
