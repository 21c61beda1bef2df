"""Denoise a recorded movie: every frame, nothing skipped, memory for a few frames only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from denoscope.acquisition.contracts import RECORDED
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.notes.line_light import line_light_note
from denoscope.acquisition.notes.noise_check import noise_note, rounding_note, scanner_notes
from denoscope.acquisition.notes.unusual import unusual_note
from denoscope.acquisition.results import Denoising
from denoscope.acquisition.sinks import format_of
from denoscope.acquisition.sources.movie_about import movie_of
from denoscope.acquisition.sources.part import Part
from denoscope.runtime import InvalidInput

from .chunks import CHUNK, WARM_UP, Chunk, run_chunk
from .journal import Journal
from .opening import (
    Choice,
    MovieFiles,
    OpenModel,
    OpenMovie,
    Request,
    WantedTraces,
    check_input,
    open_files,
    open_model,
    open_movie,
)
from .outputs import check_files, check_output, give_name, locked, partial_of, stem_of
from .traces import files_of_traces, name_traces, traces_name

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie, CameraCalibration, Denoised

    from .cluster import ChunkDone, Task

__all__ = ["RECORDED_MOVIE", "check_output", "denoise_movie"]

RECORDED_MOVIE = "denoised_recorded.ome.tif"

_SAVE_EVERY_S = 2.0


def denoise_movie(
    movie: Path | str,
    output: Path | str | None = None,
    *,
    bundle: str = RECORDED,
    backend: str = "auto",
    look_ahead: int | None = None,
    std: Path | str | None = None,
    regions: Path | str | None = None,
    traces: Path | str | None = None,
    dark: float = 0.0,
    channel: str | None = None,
    plane: str | None = None,
    position: str | None = None,
    interleaved: int | None = None,
    axes: str | None = None,
    frames: slice = slice(None),
    camera: CameraCalibration | None = None,
    float32: bool = False,
    fix_line_offset: bool = False,
    resume: bool = False,
    dask: str | None = None,
    picture: bool | None = False,
    chunk: int = CHUNK,
    warm_up: int = WARM_UP,
    on_frame: Callable[[int, int], None] = lambda _done, _total: None,
) -> Denoising:
    """Denoise a movie into a file of the same scale and, if not told otherwise, dtype, frame by frame.

    Parameters
    ----------
    movie
        (T, H, W) of whole numbers, of any format that `denoscope.runtime.open_movie` opens; ``raw.tif`` is one.
    output
        What to write: OME-TIFF (``.tif``), OME-Zarr (``.zarr``) or NDTiff (``.ndtiff``). It appears under this
        name when it is complete; until then it is ``OUTPUT.partial``, with a journal beside it. Of a run folder it
        may be None, for ``denoised_recorded.ome.tif`` there, beside the movie that was denoised live.
    bundle, backend, look_ahead
        As for `denoscope.runtime.Stream`. `recorded` looks at both sides of time; what the look-ahead leaves out of
        the window it knows from its averages.
    std
        BigTIFF to write with the predicted standard deviation, float32, in the movie's units.
    regions
        File with regions, or ``find`` or ``find:RADIUS``, whose traces are written; see
        `denoscope.acquisition.read_regions`. They are those that `denoscope.acquisition.live` writes.
    traces
        File for the traces; None for one beside the output, ``clean_traces.csv`` for ``clean.ome.tif``. Beside it
        lie ``clean_traces.json`` and a label image of the regions, ``clean_regions.tif``.
    dark
        Counts of the camera without light, which are no light in dF/F.
    channel, plane, position
        Part of the movie, by number or name, where it has several.
    interleaved
        Channels that take turns frame by frame in a file that does not say so.
    axes
        Order of the axes where the file names none, such as ``YXT``, see `denoscope.runtime.open_movie`.
    frames
        Part of the movie to denoise, as ``slice(100, 500)``; what is written begins with its first frame.
    camera
        Calibration to correct the frames with; the output then is float32, in photo-electrons.
    float32
        Write float32 in the movie's scale, not rounded to whole counts.
    fix_line_offset
        Correct an offset between odd and even lines in the denoised movie; else it stays as it is in the movie.
    resume
        Go on where an interrupted run of the same job ended, if there is one; the result is the same to the bit.
    dask
        Scheduler of a Dask cluster that does the chunks, like ``tcp://10.0.0.5:8786``; movie and output, which then is
        OME-Zarr, lie where all its workers see them under the same path.
    picture
        Draw one frame before and after, and two traces, beside the output: ``clean_picture.png`` for
        ``clean.ome.tif``. Needs the extra ``report``; None draws it if that is installed.
    chunk, warm_up
        Frames of a chunk, and frames before it that its stream takes first (`denoscope.acquisition.offline.chunks`).
    on_frame
        Called with the number of frames done, and of all.

    Returns
    -------
    Denoising
        Also has the time a frame, the noise, notes for the user, and where denoised frames are not to be trusted.

    Raises
    ------
    DenoscopeError
        If the movie, the bundle, the backend or the disk do not allow it, an interrupted run is in the
        way or was another job, or a denoised frame holds no numbers (`NotFinite`).

    Examples
    --------
    >>> done = denoise_movie("movie.tif", "cleaned.ome.tif")
    >>> done.frames, done.complete
    (24, True)
    """
    movie, std = Path(movie), None if std is None else Path(std)
    output = _beside_the_live_one(movie) if output is None else Path(output)
    if dask is not None and (std is not None or format_of(output) != "OME-Zarr"):
        name = stem_of(output)
        raise InvalidInput(
            f"`dask` writes OME-Zarr only, frames in any order: name `output` {name}.ome.zarr, without `std`."
        )
    if dask is not None and regions is not None:
        raise InvalidInput(
            "`regions` needs frames in order, which `dask` does not do: leave one of them out."
        )
    if traces is not None and regions is None:
        raise InvalidInput(f"`traces` {traces} needs `regions`: name a file with regions, or find.")
    wanted = None if regions is None else WantedTraces(str(regions), _traces_path(output, traces), dark)
    check_files([movie], output, std, () if wanted is None else files_of_traces(wanted.path))
    choice = Choice(Part(channel, plane, position, interleaved, axes), frames)
    request = Request(movie_of(movie), output, std, choice, camera, float32, fix_line_offset, wanted, picture)
    journal = _journal_of(request, resume=resume)
    with ExitStack() as stack:
        unlocked = stack.enter_context(locked(output, std, journal=journal.exists()))
        opened = open_movie(request, chunk, warm_up)
        if not resume:
            journal.refuse()
        resumed = resume and journal.exists()
        if resumed:
            journal.load()
        before = journal.calibrated() if resumed else None
        model = open_model(stack, request, opened, before, bundle, backend, look_ahead)
        job = opened.facts | model.facts
        if resumed:
            journal.check(job)
        journal.job = job
        done = sum(each.stop - each.start for each in opened.cut if each.index in journal.chunks)
        done += journal.frames
        check_input(opened, journal)
        # Where the journal is complete, only the names are missing.
        files = None if journal.complete else open_files(stack, request, opened, done if resumed else None)
        work = _Work(request, journal, opened, model, files, done, on_frame)
        if files is not None:
            if not resumed:
                work.save()
            if dask is None:
                work.run()
            else:
                work.run_on_cluster(dask, bundle)
        return work.finish(unlocked)


def _traces_path(output: Path, given: Path | str | None) -> Path:
    return traces_name(output) if given is None else Path(given)


def _beside_the_live_one(run: Path) -> Path:
    """Return where the denoised movie of a run folder goes."""
    if movie_of(run) == run:
        raise InvalidInput(
            "`output` is missing: name the file to write, as in cleaned.ome.tif; only a run folder needs none."
        )
    return run / RECORDED_MOVIE


def _journal_of(request: Request, *, resume: bool) -> Journal:
    """Return the journal of the run, read where there is one to resume; refuse files that are in the way."""
    journal = Journal(request.output)
    if resume and journal.exists():
        journal.load()
    for path in (request.output, *filter(None, [request.std])):
        # Of a run that was ended while its files got their names, one may have it already.
        if not journal.complete or partial_of(path).exists():
            check_output(path)
    format_of(request.output)
    return journal


class _Work:
    """One run over a movie.

    Parameters
    ----------
    request, journal, movie, model
        What is done, and how far it is.
    files
        What is written; None where only the names are missing.
    done
        Frames that are on the disk.
    on_frame
        As for `denoise_movie`.
    """

    def __init__(
        self,
        request: Request,
        journal: Journal,
        movie: OpenMovie,
        model: OpenModel,
        files: MovieFiles | None,
        done: int,
        on_frame: Callable[[int, int], None],
    ) -> None:
        self.request, self.journal = request, journal
        self.movie, self.model, self.files = movie, model, files
        self.done = self.resumed_from = self.said = done
        self.on_frame = on_frame
        self.started_s = self.saved_s = time.perf_counter()
        self.earlier = journal.guard, dict(journal.unusual)
        """Findings of the interrupted run, and of a cluster's workers."""

    def run(self) -> None:
        """Denoise what is not there yet."""
        try:
            self._run_chunks()
        except KeyboardInterrupt:
            self.save()
            raise

    def run_on_cluster(self, url: str, bundle: str) -> None:
        """Let a cluster do what is not there yet."""
        from .cluster import run_on_cluster

        def on_chunk(chunk: Chunk, done: ChunkDone) -> None:
            self.earlier = self.earlier[0].and_of(done.guard), _sum(self.earlier[1], done.unusual)
            self.journal.chunks.add(chunk.index)
            self.journal.nan.pixels += done.nan_pixels
            self.journal.nan.frames += done.nan_frames
            self.done += chunk.stop - starts[chunk]
            if starts[chunk] > chunk.start:  # what was left of the chunk that this computer had begun
                self.journal.half = 0, ""
            self.save()
            self.on_frame(self.done, self.movie.length)

        waiting = [chunk for chunk in self.movie.cut if chunk.index not in self.journal.chunks]
        # A run on one computer leaves the first of them half done.
        starts = {chunk: chunk.start for chunk in waiting}
        if waiting:
            starts[waiting[0]] += self.journal.frames
        run_on_cluster(url, self._task(bundle), starts, on_chunk)

    def _task(self, bundle: str) -> Task:
        from .cluster import Task

        request, stream = self.request, self.model.stream
        assert stream.intensity is not None
        return Task(
            given=replace(request.given, path=request.movie.absolute()),
            first=self.movie.first,
            length=self.movie.length,
            zarr=partial_of(request.output).absolute(),
            bundle=str(Path(bundle).absolute()) if Path(bundle).is_dir() else bundle,
            digest=stream.bundle.digest,
            backend=stream.choice.name,
            details=dict(stream.backend_info),
            look_ahead=stream.look_ahead,
            intensity=stream.intensity,
            aligned=bool(self.model.provenance.aligned),
            scanner=stream.scanner,
            fix_line_offset=request.fix_line_offset,
        )

    def _run_chunks(self) -> None:
        watched = cast("AnyMovie", self.movie.watched)
        for chunk in self.movie.cut:
            if chunk.index in self.journal.chunks:
                continue
            start = chunk.start + self.journal.frames
            done = self.done

            def on_held(number: int, start: int = start, done: int = done) -> None:
                self._say(done + number + 1 - start)

            for out in run_chunk(self.model.stream, watched, chunk, start, on_held):
                self._write(out)
            self.journal.inputs[chunk.index] = self.journal.half[1]
            self.journal.half = 0, ""
            self.journal.chunks.add(chunk.index)
            self.save()

    def _write(self, out: Denoised) -> None:
        assert self.files is not None
        self.journal.nan.add(out.frame)
        self.files.append(out, self.movie)
        # Counted in one step, so that an interruption finds number and hash in agreement.
        frames, chain = self.journal.half
        self.journal.half = frames + 1, self.movie.watched.chain(chain, out.meta.number)
        self.done += 1
        self._say(self.done)
        if time.perf_counter() - self.saved_s >= _SAVE_EVERY_S:
            self.save()

    def _say(self, done: int) -> None:
        """Tell how far the work is, the outputs that wait for others included; never less than before."""
        if done > self.said:
            self.said = done
            self.on_frame(done, self.movie.length)

    def save(self) -> None:
        """Put the frames on the disk, then the journal that promises them."""
        assert self.files is not None
        self.files.sync()
        self._note_findings()
        self.journal.write()
        self.saved_s = time.perf_counter()

    def _note_findings(self) -> None:
        guard, unusual = self.earlier
        self.journal.guard = guard.and_of(self.model.stream.guard_if_ended)
        self.journal.unusual = _sum(unusual, self.model.stream.counters.unusual)

    def finish(self, unlocked: str | None) -> Denoising:
        """Complete the files and give them their names; `unlocked` is why they could not be locked, for the user."""
        self._note_findings()
        if self.files is not None:
            self.files.finish(self.model.provenance)
            self.journal.complete = True
            self.journal.write()
        for path in self.request.paths:
            if partial_of(path).exists() or not path.exists():
                give_name(partial_of(path), path)
        wanted = self.request.traces
        traces = None if wanted is None else name_traces(wanted.path)
        self.journal.remove()
        new = self.done - self.resumed_from
        guard = self.journal.guard
        frame_s = (time.perf_counter() - self.started_s) / max(new, 1)
        picture, undrawn = self._draw() if self._picture_wanted() else (None, None)
        return Denoising(
            output=self.request.output,
            std=self.request.std,
            traces=traces,
            picture=picture,
            frames=self.done,
            frame_s=frame_s,
            resumed_from=self.resumed_from,
            movie_note=self.movie.note,
            source=self.movie.info.record(),
            notes=[*self._notes(unlocked), *filter(None, [undrawn])],
            noise=self.movie.noise,
            guard=guard,
            untrue=guard.sentence(),
            denoiser=self.model.provenance,
            incomplete=self.movie.incomplete,
        )

    def _picture_wanted(self) -> bool:
        wanted = self.request.picture
        return find_spec("matplotlib") is not None if wanted is None else wanted

    def _draw(self) -> tuple[Path | None, str | None]:
        from .before_after import picture_or_why

        movie, bundle = self.movie, self.model.provenance.bundle
        return picture_or_why(
            self.request.output,
            movie.frames,
            title=f"{self.request.movie.name}, denoised with {bundle}",
            first=movie.first,
            pixel_size_m=movie.info.record().pixel_size_m,
            units="counts" if self.request.camera is None else "photo-electrons",
        )

    def _notes(self, unlocked: str | None) -> list[str]:
        unconfirmed, provenance = self.journal.unconfirmed, self.model.provenance
        said = (
            None
            if unconfirmed is None
            else f"the disk did not confirm that the output is saved ({one_line(unconfirmed)}): a power cut may cost it"
        )
        rounding = rounding_note(provenance.intensity, self.movie.frames.dtype)
        scanner = scanner_notes(provenance.scanner, fixed=self.request.fix_line_offset)
        unusual = unusual_note(self.journal.unusual)
        noise = noise_note(provenance.intensity)
        notes = (
            noise,
            rounding,
            unusual,
            self.journal.nan.note(),
            *scanner,
            line_light_note(self.movie.frames),
            self.movie.sidecar_note,
            unlocked,
            said,
        )
        return [note for note in notes if note]


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {kind: one.get(kind, 0) + other.get(kind, 0) for kind in {**one, **other}}
