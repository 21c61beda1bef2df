"""Open what it takes to denoise a recorded movie: the movie, the stream, the files, each complete when it is there."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.notes.alternation import alternation_note
from denoscope.acquisition.notes.noise_check import check_noise
from denoscope.acquisition.provenance import package_version, provenance_of
from denoscope.acquisition.raw.disk import check_space
from denoscope.acquisition.raw.pages import PageFile
from denoscope.acquisition.results import CameraRecord, MovieProvenance, NoiseCheck
from denoscope.acquisition.sinks import FrameIndex, Layout, MovieSink, open_sink
from denoscope.acquisition.sources.movie_about import MovieAbout, about_movie, checked_run
from denoscope.acquisition.sources.part import Part
from denoscope.runtime import InvalidInput, counted

from .chunks import Cut
from .given import GivenMovie
from .input_watch import WatchedMovie, sample_hash
from .journal import Calibrated, Journal
from .outputs import partial_of
from .traces import MovieTraces

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie, CameraCalibration, Denoised, Stream

__all__ = [
    "Choice",
    "MovieFiles",
    "OpenModel",
    "OpenMovie",
    "Request",
    "WantedTraces",
    "check_input",
    "open_files",
    "open_model",
    "open_movie",
]

_RESERVE_BYTES = 200_000_000

Facts = dict[str, object]
"""Facts that the result of a run depends on, as the journal has them; compared, never read by name."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Part of a file that is denoised, and its frames; see `denoise_movie`."""

    part: Part
    frames: slice

    def record(self) -> list[str | int | None]:
        """Return the part as the journal has it."""
        part = self.part
        turns = [part.interleaved] if part.interleaved else []
        axes = [part.axes] if part.axes else []
        return [part.channel, part.plane, part.position, *turns, *axes]


@dataclass(frozen=True, slots=True)
class WantedTraces:
    """Regions whose traces are written to a file, and the counts without light; see `denoise_movie`."""

    regions: str
    path: Path
    dark: float


@dataclass(frozen=True, slots=True)
class Request:
    """Movie to denoise and files to write; see `denoise_movie`."""

    movie: Path
    output: Path
    std: Path | None
    choice: Choice
    camera: CameraCalibration | None
    float32: bool
    fix_line_offset: bool
    traces: WantedTraces | None = None
    picture: bool | None = False

    @property
    def given(self) -> GivenMovie:
        """The movie as the denoiser is given it."""
        return GivenMovie(self.movie, self.choice.part, self.camera, self.float32)

    @property
    def paths(self) -> list[Path]:
        """Files to write."""
        return [self.output] if self.std is None else [self.std, self.output]


@dataclass(frozen=True, slots=True)
class OpenMovie:
    """The frames to denoise.

    Attributes
    ----------
    frames
        As the stream is given them: (T, H, W), corrected or float32 where that was asked for.
    watched
        The same, remembering what was read.
    first
        Number of the first of them in the file.
    cut
        Their chunks.
    about, info
        Facts of the file, for the output.
    noise
        Measured once.
    note
        About the file, for the user; empty without one.
    incomplete, sidecar_note
        What a recording lacks, and what its sidecar does not say.
    facts
        Those that the result depends on, for the journal.
    """

    frames: AnyMovie
    watched: WatchedMovie
    first: int
    cut: Cut
    about: MovieAbout
    info: SourceInfo
    noise: NoiseCheck | None
    note: str
    incomplete: list[str]
    sidecar_note: str | None
    facts: Facts

    @property
    def length(self) -> int:
        """Frames."""
        return self.cut.length


@dataclass(frozen=True, slots=True)
class OpenModel:
    """The stream, calibrated by the movie or as an interrupted run was.

    Attributes
    ----------
    stream
        Empty.
    provenance
        Of the denoised frames.
    facts
        Those that the result depends on, for the journal.
    """

    stream: Stream
    provenance: MovieProvenance
    facts: Facts


@dataclass(frozen=True, slots=True)
class MovieFiles:
    """Files that are being written.

    Attributes
    ----------
    sink
        Takes denoised frames.
    deviations
        Takes their predicted standard deviations; None where nobody wants them.
    traces
        Measures regions; None where nobody wants their traces.
    times_s
        Time of each frame; None where the file does not say so.
    """

    sink: MovieSink
    deviations: PageFile | None
    traces: MovieTraces | None
    times_s: tuple[float, ...] | None

    def append(self, out: Denoised, movie: OpenMovie) -> None:
        """Take the next output of a movie."""
        number = out.meta.number
        time_s = None if self.times_s is None else self.times_s[number]
        self.sink.append(out.frame, FrameIndex(out.meta.key, number, time_s, {}))
        if self.deviations is not None:
            assert out.std is not None
            self.deviations.append(out.std)
        if self.traces is not None:
            self.traces.add(out, movie.frames[number], page=movie.first + number, time_s=time_s)

    def sync(self) -> None:
        """Put all frames on the disk."""
        self.sink.sync()
        if self.deviations is not None:
            self.deviations.sync()
        if self.traces is not None:
            self.traces.sync()

    def finish(self, provenance: MovieProvenance) -> None:
        """Complete the files."""
        self.sink.finish(provenance.as_json())
        if self.deviations is not None:
            self.deviations.close()
        if self.traces is not None:
            self.traces.finish()


def open_movie(request: Request, chunk: int, warm_up: int) -> OpenMovie:
    """Open the movie, and check its noise and the disk.

    Raises
    ------
    DenoscopeError
        If the file is no movie, has no such part, or its output does not fit onto the disk.
    """
    from denoscope.runtime import LazyMovie

    choice, camera = request.choice, request.camera
    frames = request.given.open()
    incomplete, sidecar_note = checked_run(request.movie, len(frames))
    whole, chosen = len(frames), _range_of(choice.frames, len(frames), request.movie)
    if len(chosen) < whole:
        frames = frames[chosen.start : chosen.stop]
    note = frames.note if isinstance(frames, LazyMovie) else ""
    note = "; ".join(filter(None, (note, alternation_note(frames))))
    noise = check_noise(frames, camera)
    # Not in the journals of older runs, which took every frame.
    part_of: Facts = {"first_frame": chosen.start} if len(chosen) < whole else {}
    facts = part_of | {
        "movie": request.movie.name,
        "part": choice.record(),
        "frames": len(frames),
        "shape": list(frames.shape[1:]),
        "dtype": frames.dtype.name,
        "sampled_frames": sample_hash(frames),
        "camera": None if camera is None else camera.describe(),
        "float32": request.float32,
        "fix_line_offset": request.fix_line_offset,
        "standard_deviation": None if request.std is None else request.std.name,
        "frames_a_chunk": [chunk, warm_up],
    }
    if request.traces is not None:
        facts["regions"] = [request.traces.regions, request.traces.dark]
    about = about_movie(request.movie, whole, choice.part, frames).of_frames(chosen)
    given = request.given.convert(frames)
    info = _info(request, about, given)
    per_frame = info.frame_bytes + (4 * info.shape[0] * info.shape[1] if request.std else 0)
    needed = -(-len(given) * per_frame // info.frame_bytes)
    check_space(request.output.parent, info, needed, _RESERVE_BYTES)
    return OpenMovie(
        frames=given,
        watched=WatchedMovie(given),
        first=chosen.start,
        cut=Cut(len(given), chunk, warm_up),
        about=about,
        info=info,
        noise=noise,
        note=note,
        incomplete=incomplete,
        sidecar_note=sidecar_note,
        facts=facts,
    )


def open_model(
    stack: ExitStack,
    request: Request,
    movie: OpenMovie,
    before: Calibrated | None,
    bundle: str,
    backend: str,
    look_ahead: int | None,
) -> OpenModel:
    """Open the stream, calibrated by the movie's first frames or as the interrupted run was.

    Parameters
    ----------
    stack
        Closes the stream.
    request, movie
        What is denoised.
    before
        Calibration of the interrupted run; None where a run begins.
    bundle, backend, look_ahead
        As for `denoise_movie`.
    """
    from denoscope.runtime import Bundle, Stream, calibrate_stream

    if before is not None and backend == "auto":
        backend = before.backend
    opened = Bundle.load(bundle)
    measures_std = request.traces is not None and opened.manifest.predicts_std
    stream = stack.enter_context(
        Stream(
            opened,
            backend,
            look_ahead=look_ahead,
            std=request.std is not None or measures_std,
            fix_line_offset=request.fix_line_offset,
            intensity=None if before is None else before.intensity,
            align=None if before is None else before.aligned,
            scanner=None if before is None else before.scanner,
        )
    )
    if before is None:
        calibrate_stream(stream, movie.frames)
    assert stream.intensity is not None
    aligned = stream.tracks_motion if before is None else before.aligned
    camera = request.camera
    provenance = MovieProvenance(
        **dict(provenance_of(stream))
        | {
            "movie": request.movie.name,
            "camera": None if camera is None else CameraRecord.model_validate(camera.describe()),
            "intensity": stream.intensity,
            "aligned": aligned,
            "scanner": stream.scanner,
            "float32": request.float32,
            "fix_line_offset": request.fix_line_offset,
            "first_frame": movie.first,
            "chunk_frames": movie.cut.chunk,
            "warm_up_frames": movie.cut.warm_up,
        }
    )
    facts = {
        "denoscope": package_version(),
        "bundle": stream.bundle.digest,
        "look_ahead": stream.look_ahead,
        "backend": stream.choice.name,
        "backend_details": dict(stream.backend_info),
        "intensity": stream.intensity.model_dump(),
        "aligned": aligned,
        "scanner": stream.scanner.model_dump(mode="json"),
    }
    return OpenModel(stream, provenance, facts)


def open_files(stack: ExitStack, request: Request, movie: OpenMovie, keep: int | None) -> MovieFiles:
    """Open the files, new or where an interrupted run left them after `keep` frames; `stack` closes them."""
    from denoscope.runtime import StreamKey

    traces, wanted = None, request.traces
    if wanted is not None:  # before the others, because regions may not fit
        traces = MovieTraces(wanted.path, wanted.regions, dark=wanted.dark, shape=movie.info.shape, done=keep)
        stack.callback(traces.close)
    times_s = movie.about.times_s
    layout = Layout(movie.info, (StreamKey(),), movie.length, times_s=times_s)
    sink = open_sink(request.output, partial_of(request.output), layout, keep=keep)
    stack.callback(sink.close)
    deviations = None if request.std is None else _open_deviations(stack, request.std, movie, layout, keep)
    return MovieFiles(sink, deviations, traces, times_s)


def _open_deviations(
    stack: ExitStack, path: Path, movie: OpenMovie, layout: Layout, keep: int | None
) -> PageFile:
    partial = partial_of(path)
    if keep is None:
        partial.unlink(missing_ok=True)
    floats = replace(layout, source=replace(movie.info, dtype=np.dtype(np.float32)))
    return stack.enter_context(
        PageFile(partial, keep=keep, pixel_size_um=movie.info.pixel_size_um, classic=floats.small)
    )


def check_input(movie: OpenMovie, journal: Journal) -> None:
    """Refuse to go on where frames changed of which the output is written.

    Raises
    ------
    InvalidInput
        Where one has.
    """
    unfinished = [chunk for chunk in movie.cut if chunk.index not in journal.chunks]
    for chunk in movie.cut:
        if chunk.index in journal.inputs:
            movie.watched.check(journal.inputs[chunk.index], chunk.start, chunk.stop - chunk.start)
    frames, wanted = journal.half
    if frames and wanted and unfinished:
        movie.watched.check(wanted, unfinished[0].start, frames)


def _info(request: Request, about: MovieAbout, frames: AnyMovie) -> SourceInfo:
    return SourceInfo(
        "file",
        request.movie.name,
        "",
        (frames.shape[1], frames.shape[2]),
        frames.dtype,
        pixel_size_um=about.pixel_size_um,
        exposure_s=about.exposure_s,
        frame_rate_hz=1 / about.increment_s if about.increment_s else None,
        frames=len(frames),
        channel=about.channel,
        details={"objective": about.objective} if about.objective else {},
    )


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
