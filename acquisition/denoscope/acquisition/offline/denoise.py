"""Denoise a recorded movie: every frame, nothing skipped, memory for a few frames only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from denoscope.acquisition.contracts import RECORDED, SourceInfo
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.notes.nan_count import NanCount
from denoscope.acquisition.notes.noise_check import check_noise, noise_note, rounding_note, scanner_notes
from denoscope.acquisition.notes.unusual import unusual_note
from denoscope.acquisition.provenance import package_version, provenance_of
from denoscope.acquisition.raw.disk import check_space
from denoscope.acquisition.raw.pages import PageFile
from denoscope.acquisition.results import CameraRecord, Denoising, MovieProvenance
from denoscope.acquisition.sinks import FrameIndex, Layout, MovieSink, format_of, open_sink
from denoscope.runtime import GuardFinding, InvalidInput, counted

from .chunks import CHUNK, WARM_UP, Chunk, Cut, run_chunk
from .input_watch import WatchedMovie, sample_hash
from .journal import Journal
from .movie_about import about_movie, checked_run, movie_of
from .outputs import check_files, check_output, give_name, locked, partial_of
from .traces import MovieTraces, traces_name

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie, CameraCalibration, Denoised, Stream

__all__ = ["RECORDED_MOVIE", "check_output", "denoise_movie"]

RECORDED_MOVIE = "denoised_recorded.ome.tif"

_RESERVE_BYTES = 200_000_000
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
    frames: slice = slice(None),
    camera: CameraCalibration | None = None,
    float32: bool = False,
    fix_line_offset: bool = False,
    resume: bool = False,
    dask: str | None = None,
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
        File for the traces; None for one beside the output, ``clean_traces.csv`` for ``clean.ome.tif``.
    dark
        Counts of the camera without light, which are no light in dF/F.
    channel, plane, position
        Which, where the movie has several.
    interleaved
        Channels that take turns frame by frame in a file that does not say so.
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
        raise InvalidInput(
            f"`dask` writes OME-Zarr only, frames in any order: name `output` {output.stem}.ome.zarr, without `std`."
        )
    if dask is not None and regions is not None:
        raise InvalidInput(
            "`regions` needs frames in order, which `dask` does not do: leave one of them out."
        )
    if traces is not None and regions is None:
        raise InvalidInput(f"`traces` {traces} needs `regions`: name a file with regions, or find.")
    check_files([movie], output, std)
    work = _Work(movie, output, std, camera, float32, Cut(0, chunk, warm_up), on_frame, resume=resume)
    work.fix_line_offset = fix_line_offset
    if regions is not None:
        work.regions = str(regions), traces_name(output) if traces is None else Path(traces), dark
    with ExitStack() as stack:
        work.unlocked = stack.enter_context(locked(output, std, journal=work.journal.exists()))
        work.open_movie(channel, plane, position, interleaved, frames)
        work.open_stream(stack, bundle, backend, look_ahead, resume=resume)
        work.open_output(stack)
        if dask is None:
            work.run()
        else:
            work.run_on_cluster(dask, bundle)
        return work.finish()


def _beside_the_live_one(run: Path) -> Path:
    """Return where the denoised movie of a run folder goes."""
    if movie_of(run) == run:
        raise InvalidInput(
            "`output` is missing: name the file to write, as in cleaned.ome.tif; only a run folder needs none."
        )
    return run / RECORDED_MOVIE


class _Work:
    """One run over a movie."""

    def __init__(
        self,
        movie: Path,
        output: Path,
        std: Path | None,
        camera: CameraCalibration | None,
        float32: bool,
        cut: Cut,
        on_frame: Callable[[int, int], None],
        *,
        resume: bool,
    ) -> None:
        self.journal = Journal(output)
        if resume and self.journal.exists():
            self.journal.load()
        for path in filter(None, (output, std)):
            # Of a run that was ended while its files got their names, one may have it already.
            if not self.journal.complete or partial_of(path).exists():
                check_output(path)
        format_of(output)
        self.unlocked: str | None = None
        self.movie, self.output, self.std, self.camera = movie_of(movie), output, std, camera
        self.float32 = float32
        self.fix_line_offset = False
        self.regions: tuple[str, Path, float] | None = None
        self.traces: MovieTraces | None = None
        self.cut, self.on_frame = cut, on_frame
        self.partial = partial_of(output)
        self.partial_std = None if std is None else partial_of(std)
        self.deviations: PageFile | None = None
        self.resumed = False
        self.earlier = self.journal.guard, dict(self.journal.unusual)
        """Findings of the interrupted run, and of a cluster's workers."""

    def open_movie(
        self,
        channel: str | None,
        plane: str | None,
        position: str | None,
        interleaved: int | None,
        part: slice,
    ) -> None:
        """Open the movie, and check its noise and the disk."""
        from denoscope.runtime import LazyMovie, as_float32, open_movie

        frames = open_movie(
            self.movie,
            channel=channel,
            plane=plane,
            position=position,
            interleaved=interleaved,
            mapped=False,
        )
        self.incomplete, self.sidecar_note = checked_run(self.movie, len(frames))
        whole, chosen = len(frames), _range_of(part, len(frames), self.movie)
        if len(chosen) < whole:
            frames = frames[chosen.start : chosen.stop]
        self.note = frames.note if isinstance(frames, LazyMovie) else ""
        self.noise = check_noise(frames, self.camera)
        self.first = chosen.start
        # Not in the journals of older runs, which took every frame.
        part_of: dict[str, Any] = {"first_frame": chosen.start} if len(chosen) < whole else {}
        self.job: dict[str, Any] = part_of | {
            "movie": self.movie.name,
            "part": [channel, plane, position, *([interleaved] if interleaved else [])],
            "frames": len(frames),
            "shape": list(frames.shape[1:]),
            "dtype": frames.dtype.name,
            "sampled_frames": sample_hash(frames),
            "camera": None if self.camera is None else self.camera.describe(),
            "float32": self.float32,
            "fix_line_offset": self.fix_line_offset,
            "standard_deviation": None if self.std is None else self.std.name,
            **({} if self.regions is None else {"regions": [self.regions[0], self.regions[2]]}),
            "frames_a_chunk": [self.cut.chunk, self.cut.warm_up],
        }
        self.frames: AnyMovie = frames if self.camera is None else self.camera.correct_movie(frames)
        if self.float32:
            self.frames = as_float32(self.frames)
        self.watched = WatchedMovie(self.frames)
        self.length = len(frames)
        self.cut = Cut(self.length, self.cut.chunk, self.cut.warm_up)
        shape, dtype = (self.frames.shape[1], self.frames.shape[2]), self.frames.dtype
        self.about = about = about_movie(self.movie, whole, channel, frames).of_frames(chosen)
        self.info = info = SourceInfo(
            "file",
            self.movie.name,
            "",
            shape,
            dtype,
            pixel_size_um=about.pixel_size_um,
            exposure_s=about.exposure_s,
            frame_rate_hz=1 / about.increment_s if about.increment_s else None,
            frames=self.length,
            channel=about.channel,
            details={"objective": about.objective} if about.objective else {},
        )
        per_frame = info.frame_bytes + (4 * shape[0] * shape[1] if self.std else 0)
        check_space(self.output.parent, info, -(-self.length * per_frame // info.frame_bytes), _RESERVE_BYTES)

    def open_stream(
        self, stack: ExitStack, bundle: str, backend: str, look_ahead: int | None, *, resume: bool
    ) -> None:
        """Open the stream, calibrated by the movie's first frames or as the interrupted run was."""
        from denoscope.runtime import Bundle, Intensity, ScannerArtefacts, Stream, calibrate_stream

        journal, known = self.journal, {}
        if not resume:
            journal.refuse()
        elif journal.exists():
            self.resumed = True
            journal.load()
            known = {
                "intensity": Intensity(**journal.job["intensity"]),
                "align": journal.job["aligned"],
                "scanner": ScannerArtefacts(**journal.job.get("scanner", {})),
            }
            backend = journal.job["backend"] if backend == "auto" else backend
        opened = Bundle.load(bundle)
        measures_std = self.regions is not None and opened.manifest.predicts_std
        self.stream: Stream = stack.enter_context(
            Stream(
                opened,
                backend,
                look_ahead=look_ahead,
                std=self.std is not None or measures_std,
                fix_line_offset=self.fix_line_offset,
                **known,
            )
        )
        if not self.resumed:
            calibrate_stream(self.stream, self.frames)
        assert self.stream.intensity is not None
        aligned = self.journal.job["aligned"] if self.resumed else self.stream.tracks_motion
        self.provenance = MovieProvenance(
            **dict(provenance_of(self.stream))
            | {
                "movie": self.movie.name,
                "camera": None
                if self.camera is None
                else CameraRecord.model_validate(self.camera.describe()),
                "intensity": self.stream.intensity,
                "aligned": aligned,
                "scanner": self.stream.scanner,
                "float32": self.float32,
                "fix_line_offset": self.fix_line_offset,
                "first_frame": self.first,
                "chunk_frames": self.cut.chunk,
                "warm_up_frames": self.cut.warm_up,
            }
        )
        self.job |= {
            "denoscope": package_version(),
            "bundle": self.stream.bundle.digest,
            "look_ahead": self.stream.look_ahead,
            "backend": self.stream.choice.name,
            "backend_details": dict(self.stream.backend_info),
            "intensity": self.stream.intensity.model_dump(),
            "aligned": aligned,
            "scanner": self.stream.scanner.model_dump(mode="json"),
        }
        if self.resumed:
            journal.check(self.job)
        journal.job = self.job

    def open_output(self, stack: ExitStack) -> None:
        """Open the files, new or where the interrupted run left them."""
        from denoscope.runtime import StreamKey

        done = self.done = self._frames_on_disk()
        self._check_input()
        if self.journal.complete:  # only the names are missing
            return
        keep = done if self.resumed else None
        if self.regions is not None:
            self._open_traces(stack, self.regions, keep)
        layout = Layout(self.info, (StreamKey(),), self.length, times_s=self.about.times_s)
        self.sink: MovieSink = open_sink(self.output, self.partial, layout, keep=keep)
        stack.callback(self.sink.close)
        if self.partial_std is not None:
            if keep is None:
                self.partial_std.unlink(missing_ok=True)
            floats = replace(layout, source=replace(self.info, dtype=np.dtype(np.float32)))
            self.deviations = stack.enter_context(
                PageFile(
                    self.partial_std, keep=keep, pixel_size_um=self.info.pixel_size_um, classic=floats.small
                )
            )
        if not self.resumed:
            self._save()

    def _open_traces(self, stack: ExitStack, regions: tuple[str, Path, float], keep: int | None) -> None:
        where, path, dark = regions
        shape = self.frames.shape[1], self.frames.shape[2]
        self.traces = MovieTraces(path, where, dark=dark, shape=shape, done=keep)
        stack.callback(self.traces.close)

    def _frames_on_disk(self) -> int:
        finished = [chunk for chunk in self.cut if chunk.index in self.journal.chunks]
        return sum(chunk.stop - chunk.start for chunk in finished) + self.journal.frames

    def _check_input(self) -> None:
        """Refuse to go on where frames changed of which the output is written."""
        unfinished = [chunk for chunk in self.cut if chunk.index not in self.journal.chunks]
        for chunk in self.cut:
            if chunk.index in self.journal.inputs:
                self.watched.check(self.journal.inputs[chunk.index], chunk.start, chunk.stop - chunk.start)
        frames, wanted = self.journal.half
        if frames and wanted and unfinished:
            self.watched.check(wanted, unfinished[0].start, frames)

    def run(self) -> None:
        """Denoise what is not there yet."""
        self.resumed_from, self.started_s = self.done, time.perf_counter()
        self.saved_s = self.started_s
        try:
            self._run_chunks()
        except KeyboardInterrupt:
            self._save()
            raise

    def run_on_cluster(self, url: str, bundle: str) -> None:
        """Let a cluster do what is not there yet."""
        from .cluster import Task, run_on_cluster

        self.resumed_from, self.started_s = self.done, time.perf_counter()
        channel, plane, position, *turns = self.job["part"]
        task = Task(
            self.movie.absolute(),
            channel,
            plane,
            position,
            self.camera,
            self.float32,
            self.partial.absolute(),
            str(Path(bundle).absolute()) if Path(bundle).is_dir() else bundle,
            self.job["bundle"],
            self.job["backend"],
            self.job["backend_details"],
            self.job["look_ahead"],
            self.job["intensity"],
            self.job["aligned"],
            self.job["scanner"],
            self.fix_line_offset,
            turns[0] if turns else None,
            self.first,
            self.length,
        )

        def on_chunk(chunk: Chunk, nan: NanCount, guard: GuardFinding, unusual: dict[str, int]) -> None:
            self.earlier = self.earlier[0].and_of(guard), _sum(self.earlier[1], unusual)
            self.journal.chunks.add(chunk.index)
            self.journal.nan.pixels += nan.pixels
            self.journal.nan.frames += nan.frames
            self.done += chunk.stop - starts[chunk]
            if starts[chunk] > chunk.start:  # what was left of the chunk that this computer had begun
                self.journal.half = 0, ""
            self._save()
            self.on_frame(self.done, self.length)

        waiting = [chunk for chunk in self.cut if chunk.index not in self.journal.chunks]
        # A run on one computer leaves the first of them half done.
        starts = {chunk: chunk.start for chunk in waiting}
        if waiting:
            starts[waiting[0]] += self.journal.frames
        run_on_cluster(url, task, starts, on_chunk)

    def _run_chunks(self) -> None:
        for chunk in self.cut:
            if chunk.index in self.journal.chunks:
                continue
            for out in run_chunk(
                self.stream, cast("AnyMovie", self.watched), chunk, chunk.start + self.journal.frames
            ):
                self._write(out)
            self.journal.inputs[chunk.index] = self.journal.half[1]
            self.journal.half = 0, ""
            self.journal.chunks.add(chunk.index)
            self._save()

    def _write(self, out: Denoised) -> None:
        times_s = self.about.times_s
        time_s = None if times_s is None else times_s[out.meta.number]
        self.journal.nan.add(out.frame)
        self.sink.append(out.frame, FrameIndex(out.meta.key, out.meta.number, time_s, {}))
        if self.deviations is not None:
            assert out.std is not None
            self.deviations.append(out.std)
        if self.traces is not None:
            raw = self.frames[out.meta.number]
            self.traces.add(out, raw, page=self.first + out.meta.number, time_s=time_s)
        # Counted in one step, so that an interruption finds number and hash in agreement.
        frames, chain = self.journal.half
        self.journal.half = frames + 1, self.watched.chain(chain, out.meta.number)
        self.done += 1
        self.on_frame(self.done, self.length)
        if time.perf_counter() - self.saved_s >= _SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        """Put the frames on the disk, then the journal that promises them."""
        self.sink.sync()
        if self.deviations is not None:
            self.deviations.sync()
        if self.traces is not None:
            self.traces.sync()
        self._note_findings()
        self.journal.write()
        self.saved_s = time.perf_counter()

    def _note_findings(self) -> None:
        guard, unusual = self.earlier
        self.journal.guard = guard.and_of(self.stream.guard_if_ended)
        self.journal.unusual = _sum(unusual, self.stream.counters.unusual)

    def finish(self) -> Denoising:
        """Complete the files and give them their names."""
        self._note_findings()
        if not self.journal.complete:
            self.sink.finish(self.provenance.as_json())
            if self.deviations is not None:
                self.deviations.close()
            self.journal.complete = True
            self.journal.write()
        for path in filter(None, (self.std, self.output)):
            if partial_of(path).exists() or not path.exists():
                give_name(partial_of(path), path)
        written = None if self.traces is None else self.traces.finish()
        self.journal.remove()
        new = self.done - self.resumed_from
        guard = self.journal.guard
        return Denoising(
            output=self.output,
            std=self.std,
            traces=written,
            frames=self.done,
            frame_s=(time.perf_counter() - self.started_s) / max(new, 1),
            resumed_from=self.resumed_from,
            movie_note=self.note,
            source=self.info.record(),
            notes=self._notes(),
            noise=self.noise,
            guard=guard,
            untrue=guard.sentence(),
            denoiser=self.provenance,
            incomplete=self.incomplete,
        )

    def _notes(self) -> list[str]:
        unconfirmed = self.journal.unconfirmed
        said = (
            None
            if unconfirmed is None
            else f"the disk did not confirm that the output is saved ({one_line(unconfirmed)}): a power cut may cost it"
        )
        rounding = rounding_note(self.provenance.intensity, self.frames.dtype)
        scanner = scanner_notes(self.provenance.scanner, fixed=self.fix_line_offset)
        unusual = unusual_note(self.journal.unusual)
        noise = noise_note(self.provenance.intensity)
        notes = (
            noise,
            rounding,
            unusual,
            self.journal.nan.note(),
            *scanner,
            self.sidecar_note,
            self.unlocked,
            said,
        )
        return [note for note in notes if note]


def _range_of(part: slice, length: int, movie: Path) -> range:
    """Return the frames of a movie that `part` names."""
    start, stop = part.start or 0, length if part.stop is None else part.stop
    if part.step not in (None, 1) or not 0 <= start < stop:
        raise InvalidInput(
            f"`frames` {start}:{stop} of {movie.name} ({counted(length, 'frame')}) holds no frame: give A:B with A < B."
        )
    if stop > length:
        raise InvalidInput(
            f"`frames` {start}:{stop} reaches beyond {movie.name}, which has {counted(length, 'frame')}: give frames "
            f"between 0 and {length}."
        )
    return range(start, stop)


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {kind: one.get(kind, 0) + other.get(kind, 0) for kind in {**one, **other}}
