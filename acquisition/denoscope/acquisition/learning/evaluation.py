"""How good bundles are: against the truth, and on movies of which nobody knows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.extras import require
from denoscope.acquisition.notes.alternation import alternation_note
from denoscope.acquisition.raw.in_the_way import refuse_name
from denoscope.acquisition.sources.part import PartChoice

from .results import Evaluation

if TYPE_CHECKING:
    import numpy.typing as npt

    from denoscope.acquisition.results import LightBudget
    from denoscope.runtime import Bundle
    from denoscope.train.evaluation.records import HeldOutRecord, MovieRecord, PairRecord, Verdict
    from denoscope.train.evaluation.tables import ResultTable

__all__ = ["EvaluationListener", "evaluate", "reasons"]

_CALIBRATED = 32  # frames, as many as a stream estimates the noise from


class EvaluationListener:
    """Follow an evaluation; every method does nothing unless it is overridden."""

    def noted(self, sentence: str) -> None:
        """Take something that the user should know of a movie."""

    def began(self, name: str, frames: int, bundles: int) -> None:
        """Take the next movie, its frames and the number of bundles that will denoise it."""

    def progressed(self, frames: int) -> None:
        """Take the number of frames that the present bundle has denoised."""

    def checked(self, what: str, share: float) -> None:
        """Take the share, 0 to 1, of a further check that is done, and its name: ``comparing`` or ``dimming``."""

    def judged(self, record: PairRecord | MovieRecord, tables: Sequence[ResultTable]) -> None:
        """Take the result of one movie, and its numbers as tables."""


def evaluate(
    output: Path | str,
    *,
    pair: Sequence[tuple[Path | str, Path | str]] = (),
    movie: Sequence[Path | str] = (),
    simulated: bool = False,
    bundle: Sequence[Bundle | Path | str] = ("live",),
    backend: str = "auto",
    frames: slice = slice(None),
    channel: int | str | None = None,
    plane: int | str | None = None,
    position: int | str | None = None,
    interleaved: int | None = None,
    axes: str | None = None,
    object_radius: float = 5.0,
    track: bool = False,
    listener: EvaluationListener | None = None,
) -> Evaluation:
    """Measure bundles side by side and judge them in plain words, as ``denoscope evaluate`` does.

    Parameters
    ----------
    output
        Folder for ``evaluation.json``, ``evaluation.md`` and the pictures.
    pair
        Noisy movies with their clean truth, files of ``(T, H, W)`` counts of one shape.
    movie
        Noisy movies of which nobody knows the truth.
    simulated
        Use the simulated test movie too.
    bundle
        Bundles, their names or folders.
    backend
        Backend's name, or ``auto``.
    frames
        Part of every movie to use.
    channel, plane, position, interleaved, axes
        Choice in files of several movies, see `denoscope.runtime.open_movie`.
    object_radius
        Radius in pixels of the cells or particles that are counted.
    track
        Follow the objects of every frame (needs the extra ``tracking``).
    listener
        Told about every movie.

    Returns
    -------
    Evaluation
        Judgements and numbers, as in ``evaluation.json``.

    Raises
    ------
    InvalidInput
        If there is nothing to evaluate on, a movie or bundle cannot be used, or an extra is missing.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import tifffile
    >>> from denoscope.acquisition import demo_movie, evaluate
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "movie.tif")
    ...     tifffile.imwrite(path, demo_movie().frames[:12, :48, :48])
    ...     found = evaluate(Path(folder, "out"), movie=[path], bundle=["live-fast"])
    >>> [method.method for method in found.movies[0].methods]
    ['noisy', 'live-fast']
    >>> found.movies[0].methods[1].verdict in ("fine", "look here", "do not trust")
    True
    """
    require("skimage", extra="train", purpose="evaluation")
    from denoscope.runtime import Bundle, InvalidInput, counted

    if not pair and not movie and not simulated:
        raise InvalidInput(
            "There is nothing to evaluate on: give a noisy and a clean movie (`pair`), a noisy one (`movie`), or "
            "`simulated`."
        )
    if track:
        from denoscope.train.evaluation.cells import require_tracker

        require_tracker()
    bundles = [b if isinstance(b, Bundle) else Bundle.load(b) for b in bundle]
    output = Path(output)
    refuse_name(output)
    run = _Run(listener or EvaluationListener(), output, bundles, backend, object_radius, track=track)
    choice: PartChoice = {
        "channel": channel,
        "plane": plane,
        "position": position,
        "interleaved": interleaved,
        "axes": axes,
    }
    pairs = list(_pairs(run, pair, frames, choice, simulated=simulated))
    alone = [Path(path) for path in movie]
    movies = [(path.stem, run.whole(path, run.read(path, frames, choice))[0]) for path in alone]
    output.mkdir(parents=True, exist_ok=True)
    margins: dict[str, dict[str, float]] = {}
    scored: list[PairRecord] = []
    plain: list[MovieRecord] = []
    count = len(pairs) + len(movies)

    def write() -> Evaluation:
        """Write the numbers of the movies so far: what comes after them may be interrupted."""
        done = len(scored) + len(plain)
        late = f"stopped after {done} of {counted(count, 'movie')}, which are all there is"
        notes = run.notes if done == count else [*run.notes, late]
        found = Evaluation(
            pairs=scored, margin_db=margins, movies=plain, notes=notes, light=run.light, held_out=run.held_out
        )
        _replace(output / "evaluation.json", found.model_dump_json(indent=2))
        _replace(output / "evaluation.md", "\n".join(run.markdown))
        return found

    try:
        for name, arrays in pairs:
            record, margins[name] = run.pair(name, *arrays)
            scored.append(record)
            found = write()
        for name, counts in movies:
            plain.append(run.movie(name, counts))
            found = write()
    except KeyboardInterrupt:
        done = len(scored) + len(plain)
        kept = f"{output / 'evaluation.json'} holds {done} of {counted(count, 'movie')}"
        raise KeyboardInterrupt(f"interrupted; {kept if done else 'no movie was done'}") from None
    return found


def _pairs(
    run: _Run,
    pair: Sequence[tuple[Path | str, Path | str]],
    frames: slice,
    choice: PartChoice,
    *,
    simulated: bool,
) -> Iterator[tuple[str, tuple[npt.NDArray[Any], ...]]]:
    """Yield name and frames of each movie whose truth is known."""
    for noisy, clean in pair:
        both = [run.read(Path(path), frames, choice) for path in (noisy, clean)]
        yield Path(noisy).stem, run.whole(Path(noisy), *both, *_known(*both))
    if simulated:
        from denoscope.train import test_movie

        made = test_movie()
        yield "simulated test movie", (made.as_uint16()[frames], made.clean[frames])


def _caption(picture: str) -> str:
    """Return what a picture of a movie without truth shows; `picture` is its name without that of the movie."""
    what, _, bundle = picture.removesuffix(".png").partition("_")
    return {
        "projections": "One frame, mean and maximum over time, with the objects that were found",
        "traces": "Traces of cells, raw and denoised",
        "flow": "Motion between neighbouring frames",
        "residual": f"What {bundle} took away: it should look like noise, without structure",
    }[what]


def _replace(path: Path, text: str) -> None:
    """Write a file whole: of one that does not fit onto the disk, the one before stays."""
    part = path.with_name(f"{path.name}.partial")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _can_budget(bundle: Bundle) -> bool:
    """Return whether a bundle can predict what less light costs: live, and with deviations."""
    return bundle.manifest.predicts_std and not bundle.manifest.two_sided


def _known(*movies: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return where all movies (T, H, W) have values, 1 or 0, where that is not everywhere; else nothing."""
    import numpy as np

    if len({movie.shape for movie in movies}) > 1 or all(movie.dtype.kind != "f" for movie in movies):
        return []
    known = np.logical_and.reduce([np.isfinite(movie) for movie in movies])
    return [] if known.all() else [known.astype(np.uint8)]


class _Run:
    """Settings that the movies of one call share, and the page so far."""

    def __init__(
        self,
        listener: EvaluationListener,
        output: Path,
        bundles: list[Bundle],
        backend: str,
        radius_px: float,
        *,
        track: bool,
    ) -> None:
        self.listener, self.output, self.bundles = listener, output, bundles
        self.backend, self.radius_px, self.track = backend, radius_px, track
        self.notes: list[str] = []
        self.light: dict[str, LightBudget] = {}
        self.held_out: dict[str, list[HeldOutRecord]] = {}
        self.markdown = ["# Evaluation\n"]
        self._stems: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)
        self.listener.noted(sentence)

    def read(self, path: Path, frames: slice, choice: PartChoice) -> npt.NDArray[Any]:
        """Read the chosen frames of a movie, refused before anything is read if memory cannot hold them."""
        import numpy as np

        from denoscope.runtime import InvalidInput, open_movie
        from denoscope.train.evaluation.real import MOST_PIXELS

        part = open_movie(path, mapped=False, **choice)[frames]
        if not len(part):
            raise InvalidInput(f"{path} has no frame in the chosen range: give other `frames`.")
        if math.prod(part.shape) > MOST_PIXELS:
            raise InvalidInput(
                f"{path} has {math.prod(part.shape) / 1e6:.0f} million pixels; evaluation holds at most "
                f"{MOST_PIXELS / 1e6:.0f} million in memory: choose fewer `frames`."
            )
        for note in filter(None, (getattr(part, "note", ""), alternation_note(part))):
            self.note(f"{path.name}: {note}")
        return np.asarray(part)

    def whole(self, path: Path, *movies: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        """Return movies without borders and frames of NaN, and say so; single pixels of NaN are filled.

        With a third one, made by `_known`, these pixels are left out of the numbers.
        """
        from denoscope.runtime import counted, without_holes

        if any(movie.shape != movies[0].shape for movie in movies):
            return movies  # refused with its own sentence
        filled = without_holes(*movies)
        if filled[0] is not movies[0]:
            length, height, width = filled[0].shape
            single = "left out" if len(movies) > 2 else "filled"
            self.note(
                f"{path.name} holds NaN or infinite pixels: {counted(length, 'frame')} of {height} x {width} pixels "
                f"without such borders are measured, and single pixels are {single}."
            )
        return filled

    def pair(
        self,
        name: str,
        noisy: npt.NDArray[Any],
        clean: npt.NDArray[Any],
        known: npt.NDArray[Any] | None = None,
    ) -> tuple[PairRecord, dict[str, float]]:
        """Score all bundles on a movie with truth; return the record and each bundle's margin in dB."""
        from denoscope.train.evaluation.pictures import save_comparison, save_reliability
        from denoscope.train.evaluation.tables import pair_tables, pair_verdicts
        from denoscope.train.evaluation.truth import evaluate_pair, unique_names

        stem = self._stem(name)
        self.listener.began(name, len(noisy), len(self.bundles))
        result = evaluate_pair(
            name,
            noisy,
            clean,
            self.bundles,
            backend=self.backend,
            radius_px=self.radius_px,
            on_frame=self.listener.progressed,
            known=None if known is None or known.all() else known > 0,
        )
        pictures = {
            f"{stem}.png": "One frame, the trace of the brightest region, and the error of each method"
        }
        save_comparison(result, clean, self.output / f"{stem}.png")
        if result.reliability:
            save_reliability(result, self.output / f"{stem}_reliability.png")
            pictures[f"{stem}_reliability.png"] = "How often the predicted error is right"
        record = result.record()
        self._tell(name, record, pair_verdicts(record), pair_tables(result), noisy, pictures)
        return record, {label: result.margin_db(label) for label in unique_names(self.bundles)}

    def movie(self, name: str, noisy: npt.NDArray[Any]) -> MovieRecord:
        """Measure all bundles on a movie without truth."""
        from denoscope.train.evaluation.pictures import save_movie_pictures
        from denoscope.train.evaluation.real import evaluate_movie
        from denoscope.train.evaluation.tables import movie_tables, movie_verdicts

        stem = self._stem(name)
        self.listener.began(name, len(noisy), len(self.bundles))
        result = evaluate_movie(
            name,
            noisy,
            self.bundles,
            backend=self.backend,
            radius_px=self.radius_px,
            track=self.track,
            on_frame=self.listener.progressed,
        )
        saved = save_movie_pictures(result, self.output, stem)
        pictures = {path.name: _caption(path.name.removeprefix(f"{stem}_")) for path in saved}
        record = result.record()
        self._tell(name, record, movie_verdicts(record), movie_tables(result), noisy, pictures)
        self._compare(name, noisy)
        self._light(name, stem, noisy)
        return record

    def _compare(self, name: str, noisy: npt.NDArray[Any]) -> None:
        """Say which bundle is truer, by frames left out, where there are several and the movie is long enough."""
        from denoscope.train.evaluation.held_out import LEAST_FRAMES, compare_held_out

        if len(self.bundles) < 2 or len(noisy) < LEAST_FRAMES:
            return
        found = compare_held_out(
            noisy,
            self.bundles,
            backend=self.backend,
            on_share=lambda share: self.listener.checked("comparing", share),
        )
        self.held_out[name] = found
        for each in found:
            self.note(f"{name}: {each.sentence()}.")
            self.markdown.append(f"Note: {each.sentence()}.\n")

    def _light(self, name: str, stem: str, noisy: npt.NDArray[Any]) -> None:
        """Predict what less light would cost, where the movie is long enough."""
        from denoscope.acquisition.offline.light_budget import LEAST_FRAMES, draw_light_budget, light_budget
        from denoscope.runtime import InvalidInput

        bundle = next((b for b in self.bundles if _can_budget(b)), None)
        if bundle is None or len(noisy) < LEAST_FRAMES:
            return
        try:
            budget = light_budget(
                noisy,
                bundle,
                backend=self.backend,
                pictures=True,
                on_share=lambda share: self.listener.checked("dimming", share),
            )
        except InvalidInput:  # noise that does not grow with the light, or frames too small
            return
        self.light[name] = budget
        self.note(f"{name}: {budget.sentence()} ({stem}_light.png).")
        self.markdown.append(f"Light: {budget.sentence()}.\n\n![Pictures at less light]({stem}_light.png)\n")
        draw_light_budget(budget, self.output / f"{stem}_light.png")

    def _tell(
        self,
        name: str,
        record: PairRecord | MovieRecord,
        verdicts: str,
        tables: list[ResultTable],
        noisy: npt.NDArray[Any],
        pictures: Mapping[str, str],
    ) -> None:
        from denoscope.runtime import estimate_intensity, frames_to_measure, measure_scanner

        self.listener.judged(record, tables)
        self.markdown.append(f"## {name}\n\n{verdicts}")
        noise = estimate_intensity(noisy[:_CALIBRATED]).warning()
        of_scanner = measure_scanner(frames_to_measure(noisy)).sentences()
        for sentence in filter(None, (noise, *of_scanner)):
            self.note(f"{name}: {sentence}")
            self.markdown.append(f"Note: {sentence}.\n")
        self.markdown += [f"{caption}:\n\n![{caption}]({file})\n" for file, caption in pictures.items()]
        details = "\n".join(table.markdown() for table in tables)
        self.markdown.append(
            f"<details markdown><summary>The numbers behind it</summary>\n\n{details}\n</details>\n"
        )

    def _stem(self, name: str) -> str:
        """Return the stem of a movie's pictures; movies of one name in several folders get a number."""
        from denoscope.train.evaluation.pictures import file_stem

        stem = file_stem(name)
        self._stems.append(stem)
        times = self._stems.count(stem)
        return stem if times == 1 else f"{stem}_{times}"


def reasons(verdicts: Sequence[Verdict]) -> str:
    """Return why something has to be looked at and what to do, or why nothing has."""
    serious = [v for v in verdicts if v.level != "fine"]
    if serious:
        return "\n".join(f"{v.why} {v.todo}" for v in serious)
    told = ("structure", "activity", "objects")
    return " ".join(v.why for v in verdicts if v.about in told)
