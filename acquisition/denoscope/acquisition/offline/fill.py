"""Complete the denoised movie of a live session: the outputs that were skipped, computed from the raw frames."""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from denoscope.acquisition.contracts import REPORT, Frame, SourceInfo
from denoscope.acquisition.denoisers.converting import Convert, conversion
from denoscope.acquisition.denoisers.kept_bundle import bundle_in_log, bundles_of
from denoscope.acquisition.denoisers.routing import Route, Router, Routes
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.notes.noise_check import noise_note
from denoscope.acquisition.provenance import provenance_of
from denoscope.acquisition.raw.disk import check_space
from denoscope.acquisition.raw.run_check import CheckedRun
from denoscope.acquisition.raw.writer import RawRecording, read_raw
from denoscope.acquisition.results import (
    CameraRecord,
    Filling,
    MovieProvenance,
    Provenance,
    SessionProvenance,
    SessionReport,
)
from denoscope.acquisition.sinks import FrameIndex, Layout, MovieSink, open_sink
from denoscope.acquisition.sinks.live_movies import LiveMovie, live_movie
from denoscope.runtime import DenoscopeError, InvalidInput, bad_link

from .outputs import check_output, give_name, locked, partial_of

if TYPE_CHECKING:
    from denoscope.runtime import (
        Backend,
        Bundle,
        CameraCalibration,
        Denoised,
        GuardFinding,
        Stream,
        StreamKey,
    )

__all__ = ["FILLED_MOVIE", "fill_in_place", "fill_run"]

FILLED_MOVIE = "denoised_complete.ome.tif"
_RESERVE_BYTES = 200_000_000
_STREAMS = 4096
_KEPT = "kept"


def fill_run(
    run: Path | str,
    output: Path | str | None = None,
    *,
    bundle: str | None = None,
    backend: str = "auto",
    camera: CameraCalibration | None = None,
    on_frame: Callable[[int, int], None] = lambda _done, _total: None,
) -> Filling:
    """Write the complete denoised movie of a live session.

    Frames that were denoised live are copied as they are. The others are computed by streams that take every raw
    frame in the order of the recording, as a session that kept up would have: with the session's bundle, look-ahead,
    intensity and alignment.

    Parameters
    ----------
    run
        Run folder, with ``raw.tif`` and ``raw.jsonl``; what else is missing after a crash is computed.
    output
        As for `denoise_movie`; None for ``denoised_complete.ome.tif`` in the run folder.
    bundle, backend
        None and ``auto`` for the session's.
    camera
        Calibration, where the session had one; it must be the same.
    on_frame
        Called with the number of raw frames done, and of all.

    Returns
    -------
    Filling
        Also says how many frames were kept, computed and cannot be denoised, and what is missing of the recording.

    Raises
    ------
    DenoscopeError
        When the folder is no run, or the bundle, backend, calibration or disk do not allow it.

    Examples
    --------
    >>> done = fill_run("run")
    >>> done.frames, done.kept + done.computed, done.output.name
    (24, 24, 'denoised_complete.ome.tif')
    """
    run = Path(run)
    if not run.exists() and bad_link(run) is None:  # of a link that leads nowhere more is said below
        raise InvalidInput(f"there is no run folder {run}: name the folder that a recording was written to.")
    output = run / FILLED_MOVIE if output is None else Path(output)
    check_output(output)
    with _damage(run):
        recorded = _read(run, camera)
    with ExitStack() as stack:
        unlocked = stack.enter_context(locked(output))
        if unlocked is not None:
            recorded.notes.append(unlocked)
        # It cannot be gone on with; once it is complete, nothing takes it away again.
        begun = stack.enter_context(ExitStack())
        begun.callback(_remove, partial_of(output))
        with _damage(run):
            model = _open_model(stack, recorded, bundle, backend, camera, std=False)
            movie = _NewMovie(stack, recorded, model, output)
        filling = _Filling(recorded, model, movie)
        started_s = time.perf_counter()
        checked = CheckedRun(recorded.recording, recorded.report)
        for index, pixels in checked.frames():
            filling.take(index, pixels)
            on_frame(index + 1, len(recorded.routes))
        filling.take_rest(copy=True)
        provenance = _provenance(recorded, model, filling)
        if (note := noise_note(provenance.intensity)) is not None:
            recorded.notes.append(note)
        begun.pop_all()
        movie.finish(provenance, output)
        frames = len(recorded.routes)
        return Filling(
            output=output,
            frames=frames,
            kept=filling.kept,
            computed=filling.computed,
            missing=frames - filling.kept - filling.computed,
            incomplete=checked.missing(),
            guard=model.guard,
            untrue=model.guard.sentence(),
            frame_s=(time.perf_counter() - started_s) / frames,
            notes=recorded.notes,
            denoiser=provenance,
        )


def _remove(partial: Path) -> None:
    """Remove a file or folder that was begun, if the disk allows it."""
    with suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


@contextmanager
def _damage(run: Path) -> Iterator[None]:
    """Turn what a file with other contents than a session writes leads to into a sentence."""
    try:
        yield
    except DenoscopeError:
        raise
    except (AttributeError, LookupError, RecursionError, StopIteration, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{run} is damaged: raw.jsonl or report.json there does not hold what a session writes "
            f"({type(error).__name__}: {one_line(error)}); denoscope denoise {run / 'raw.tif'} needs neither."
        ) from error


def fill_in_place(
    run: Path,
    *,
    camera: CameraCalibration | None = None,
    std: bool = False,
    on_frame: Callable[[int, int], None] = lambda _done, _total: None,
    goes_on: Callable[[], bool] = lambda: True,
    on_untrue: Callable[[str], None] = lambda _sentence: None,
) -> int:
    """Compute what a session skipped, in the movie that it wrote itself: measured frames give way to denoised ones.

    The pixels are those that `fill_run` gives. The movie is valid at every moment; frames that are not computed yet
    stay the measured ones, and stay listed as such.

    Parameters
    ----------
    run
        Run folder of a session that has ended, with its report.
    camera
        Calibration, where the session had one.
    std
        Whether the session wrote the predicted deviations, to be completed too.
    on_frame
        Called with the number of raw frames done, and of all.
    goes_on
        Asked before each frame; False ends it with what is computed so far.
    on_untrue
        Called with a sentence where computed frames are not to be trusted.

    Returns
    -------
    int
        Frames that were computed.

    Raises
    ------
    DenoscopeError
        As for `fill_run`; the movie is valid then too.
    """
    recorded = _read(run, camera)
    frames = len(recorded.routes)
    with ExitStack() as stack:
        model = _open_model(stack, recorded, None, "auto", camera, std=std)
        movie = _SameMovie(stack, recorded, model, std=std)
        filling = _Filling(recorded, model, movie)
        try:
            for index, pixels in enumerate(recorded.recording.frames()):
                if not (movie.left and goes_on()):
                    break
                if index < frames:
                    filling.take(index, pixels)
                on_frame(index + 1, frames)
            else:
                filling.take_rest(copy=False)
        finally:
            movie.settle()
        if (untrue := model.guard.sentence()) is not None:
            on_untrue(untrue)
        return filling.computed


@dataclass
class _Track:
    """How far one stream is."""

    places: list[int] = field(default_factory=list)
    """Raw frame of each index of the stream."""
    recent: deque[int] = field(default_factory=deque)
    """Indices that are in flight."""
    pushed: int = 0
    shape: tuple[int, ...] | None = None
    """Of the last frame pushed."""
    written: int = 0
    """Indices below this one are done."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Files and report that a session left.

    Attributes
    ----------
    run
        Run folder.
    recording, report
        Raw frames, and ``report.json``, if there is one.
    denoiser
        Of the session.
    routes
        Where each raw frame went; None for those that the session did not denoise either.
    notes
        Sentences for the user.
    """

    run: Path
    recording: RawRecording
    report: SessionReport | None
    denoiser: SessionProvenance
    routes: list[Route | None]
    notes: list[str]

    def tracks(self) -> dict[StreamKey, _Track]:
        """Return the streams, none of them begun."""
        tracks: dict[StreamKey, _Track] = {}
        for index, route in enumerate(self.routes):
            if route is not None:
                tracks.setdefault(route.key, _Track()).places.append(index)
        return tracks


@dataclass(frozen=True, slots=True)
class _Part:
    """Stretch of a recording that one bundle was in use for, and what computes its frames.

    Attributes
    ----------
    start, stop
        Pages of ``raw.tif``, the last one exclusive.
    first, router
        The first stream, and all of them.
    """

    start: float
    stop: float
    first: Stream
    router: Router

    def holds(self, page: int) -> bool:
        """Return whether a raw frame belongs to this stretch."""
        return self.start <= page < self.stop


@dataclass(frozen=True, slots=True)
class _Model:
    """Model that computes the frames, and the movie that was denoised live.

    Attributes
    ----------
    parts
        The stretches of the recording, one for each bundle; only those of which frames are missing, and the first.
    delay
        Frames of its stream after which an output comes at the latest.
    provenance
        Of the computed frames.
    live
        Frames that were denoised live.
    convert
        What is done to a frame before; None for nothing.
    """

    parts: list[_Part]
    delay: int
    provenance: Provenance
    live: LiveMovie
    convert: Convert | None

    @property
    def first(self) -> Stream:
        """The first stream of the bundle that the session began with."""
        return self.parts[0].first

    @property
    def guard(self) -> GuardFinding:
        """Findings about all frames that were computed."""
        found = self.parts[0].router.guard
        for part in self.parts[1:]:
            found = found.and_of(part.router.guard)
        return found


def _read(run: Path, camera: CameraCalibration | None) -> _Recorded:
    """Read what a session left, and check that the calibration is the session's."""
    recording = read_raw(run)
    notes = list(recording.notes)
    report = _read_report(run, notes)
    denoiser = bundle_in_log(run) if report is None else report.denoiser
    now = None if camera is None else CameraRecord.model_validate(camera.describe()).as_json()
    then = None if denoiser.camera is None else denoiser.camera.as_json()
    if report is not None and then != now:
        raise InvalidInput(
            f"the session's camera calibration was {then}, now it is {now}: give the same `camera`."
        )
    of = Routes(_STREAMS)
    routes = [_route(of, record) for record in recording.records]
    if not any(routes):
        raise InvalidInput(f"{run} holds no frame that can be denoised: there is nothing to fill.")
    return _Recorded(run, recording, report, denoiser, routes, notes)


def _read_report(run: Path, notes: list[str]) -> SessionReport | None:
    try:
        return SessionReport.read(run)
    except FileNotFoundError:
        notes.append("the session left no report: the brightness is measured now")
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise InvalidInput(f"{run / REPORT} is damaged ({what}); move it away to fill without it.") from error
    except ValueError as error:
        raise InvalidInput(f"{run / REPORT} {error}; move it away to fill without it.") from None


def _open_model(
    stack: ExitStack,
    recorded: _Recorded,
    bundle: str | None,
    backend: str,
    camera: CameraCalibration | None,
    *,
    std: bool,
) -> _Model:
    """Open the denoiser and what was denoised live; `stack` closes them."""
    from denoscope.runtime import ScannerArtefacts, Stream, choose_backend

    denoiser, routes = recorded.denoiser, recorded.routes
    changed = any(route is not None and route.change is not None for route in routes)
    intensity = None if changed else denoiser.intensity
    known = intensity is not None
    tracks = recorded.tracks()
    about = recorded.recording.header["source"]
    live = stack.enter_context(live_movie(recorded.run, about, recorded.notes))
    missing = {
        page for key, track in tracks.items() for at, page in enumerate(track.places) if (key, at) not in live
    }
    parts: list[_Part] = []
    delay, provenance = 0, Provenance()
    if bundle is None and denoiser.bundle_sha256 is None:  # raw frames alone, as in a rescue folder
        recorded.notes.append(
            f"nothing in {recorded.run} names the bundle of the recording: {denoiser.bundle} was used; for another, "
            "name it with `bundle`"
        )
    for start, stop, model in bundles_of(recorded.run, denoiser, bundle):
        if parts and not any(start <= page < stop for page in missing):
            continue
        engine, choice = choose_backend(denoiser.backend if backend == "auto" else backend, bundle=model)
        stack.callback(engine.close)

        def stream(model: Bundle = model, engine: Backend = engine, **given: Any) -> Stream:
            return Stream(
                model,
                engine,
                look_ahead=parts[0].first.look_ahead if parts else denoiser.look_ahead,
                std=std,
                fix_line_offset=denoiser.fix_line_offset,
                **given,
            )

        first = stack.enter_context(
            stream(
                intensity=intensity,
                align=bool(denoiser.aligned) if known else None,
                scanner=(denoiser.scanner or ScannerArtefacts()) if known else None,
            )
        )
        router = Router(first, stream)
        stack.callback(router.close)
        parts.append(_Part(start, stop, first, router))
        # An output comes this many frames of its stream later at most.
        alone = known and len(tracks) == 1
        held = first.look_ahead + (0 if alone else model.manifest.calibration_frames + 1)
        delay = max(delay, held)
        if len(parts) == 1:
            provenance = provenance_of(first, choice)
    return _Model(
        parts=parts,
        delay=delay,
        provenance=provenance,
        live=live,
        convert=conversion(camera=camera, float32=_was_float32(denoiser, tracks, live)),
    )


def _was_float32(denoiser: SessionProvenance, tracks: Mapping[StreamKey, _Track], live: LiveMovie) -> bool:
    """Say whether the session wrote float32: by its report and, after a crash, by what was denoised live."""
    places = ((key, at) for key, track in tracks.items() for at in range(len(track.places)))
    first = next((place for place in places if place in live), None)
    kept = None if first is None else live.read(first).dtype
    return denoiser.float32 or kept == np.float32


class _Target(Protocol):
    """Movie that is filled."""

    def write(self, output: Denoised, key: StreamKey, at: int, track: _Track) -> None:
        """Take a computed frame, index `at` of its stream."""

    def keep(self, key: StreamKey, at: int, track: _Track) -> None:
        """Keep the frame that was denoised live."""


class _NewMovie:
    """A new movie, to which frames that were denoised live are copied.

    Parameters
    ----------
    stack
        Closes it.
    recorded, model
        What is filled, and by what.
    output
        File to write, under another name until it is complete.
    """

    def __init__(self, stack: ExitStack, recorded: _Recorded, model: _Model, output: Path) -> None:
        records, tracks = recorded.recording.records, recorded.tracks()
        source = _source(recorded.recording)
        if model.convert is not None:
            source = replace(source, dtype=np.dtype(np.float32))
        shapes = {(tuple(each["shape"]), each["dtype"]) for each in records if each["agrees"]}
        layout = Layout(
            source,
            tuple(tracks),
            max(len(track.places) for track in tracks.values()),
            one_shape=len(shapes) == 1,
            metadata_bytes=sum(len(json.dumps(dict(each["tags"]), default=str)) for each in records),
        )
        check_space(output.parent, source, len(recorded.routes), _RESERVE_BYTES)
        self._records = records
        self._live = model.live
        self._partial = output.with_name(output.name + ".partial")
        self._sink: MovieSink = open_sink(output, self._partial, layout)
        stack.callback(self._sink.close)

    def write(self, output: Denoised, key: StreamKey, at: int, track: _Track) -> None:
        """Take a computed frame."""
        self._sink.append(output.frame, self._place(key, at, track))

    def keep(self, key: StreamKey, at: int, track: _Track) -> None:
        """Copy the frame that was denoised live."""
        self._sink.append(self._live.read((key, at)), self._place(key, at, track))

    def finish(self, provenance: MovieProvenance, output: Path) -> None:
        """Complete the movie and give it its name."""
        self._sink.finish(provenance.as_json())
        give_name(self._partial, output)

    def _place(self, key: StreamKey, at: int, track: _Track) -> FrameIndex:
        record = self._records[track.places[at]]
        time_s = record["core_unix_s"] if record["core_unix_s"] is not None else record["received_s"]
        return FrameIndex(key, at, time_s, dict(record["tags"]))


class _SameMovie:
    """The movie that the session wrote, in which measured frames give way to denoised ones.

    Parameters
    ----------
    stack
        Closes it.
    recorded, model
        What is filled, and by what.
    std
        Whether the deviations are completed too.

    Attributes
    ----------
    left
        Frames that are not computed yet.
    """

    def __init__(self, stack: ExitStack, recorded: _Recorded, model: _Model, *, std: bool) -> None:
        self._live = model.live
        self.left = len(model.live.measured)
        about = recorded.recording.header["source"]
        self._deviations = (
            stack.enter_context(live_movie(recorded.run, about, recorded.notes, std=True)) if std else None
        )

    def write(self, output: Denoised, key: StreamKey, at: int, track: _Track) -> None:  # noqa: ARG002
        """Overwrite a measured frame."""
        if (key, at) in self._live.measured:
            self._live.overwrite((key, at), output.frame)
            if self._deviations is not None and output.std is not None:
                self._deviations.overwrite((key, at), output.std)
            self.left -= 1

    def keep(self, key: StreamKey, at: int, track: _Track) -> None:
        """Leave the frame where it is."""

    def settle(self) -> None:
        """Say which frames are denoised now."""
        self._live.settle()
        if self._deviations is not None:
            self._deviations.settle()


class _Filling:
    """Compute what a session skipped, and keep what it did not.

    Parameters
    ----------
    recorded, model
        What is filled, and by what.
    movie
        Takes the frames.

    Attributes
    ----------
    kept, computed
        Frames so far.
    """

    def __init__(self, recorded: _Recorded, model: _Model, movie: _Target) -> None:
        self._routes, self._records = recorded.routes, recorded.recording.records
        self._model = model
        self._movie = movie
        self._tracks = recorded.tracks()
        self.kept = self.computed = 0

    def take(self, index: int, pixels: npt.NDArray[Any]) -> None:
        """Take one raw frame."""
        from denoscope.runtime import FrameMeta

        route, model = self._routes[index], self._model
        if route is None:
            return
        track = self._tracks[route.key]
        if route.change is not None:
            if route.change.what == "shape":
                self._drain(route.key, pixels.shape)
            for part in model.parts:
                self._emit(part, part.router.restart(route.key, recalibrate=route.change.recalibrate))
        track.recent.append(route.index)
        track.pushed, track.shape = route.index + 1, pixels.shape
        if len(track.recent) > model.delay + 1:
            track.recent.popleft()
        missing = [track.places[at] for at in track.recent if (route.key, at) not in model.live]
        frame = pixels if model.convert is None else model.convert(pixels)
        # Noise that is not known is measured from as many frames as in the session, which depends on their times.
        received_s = self._records[index]["received_s"]
        meta = FrameMeta(route.number, received_s, route.key, source_index=route.index)
        for part in model.parts:
            wanted = any(part.holds(page) for page in missing)
            self._emit(part, part.router.push(frame, meta, skip=None if wanted else _KEPT))

    def take_rest(self, *, copy: bool) -> None:
        """Take what the streams still hold and, with `copy`, what was denoised live after it."""
        for part in self._model.parts:
            self._emit(part, part.router.flush())
        if copy:
            for key, track in self._tracks.items():
                self._copy(key, len(track.places))

    def _drain(self, changed: StreamKey, shape: tuple[int, ...]) -> None:
        """Write all that came before a change of shape, of every stream that shares an image with the changed one.

        Their own next frames bring the change too, so this only comes a little early for them.
        """
        for key, track in self._tracks.items():
            shares = (key.camera, key.position) == (changed.camera, changed.position)
            if shares and track.shape != shape:
                for part in self._model.parts:
                    self._emit(part, part.router.restart(key, recalibrate=False))
                self._copy(key, track.pushed)

    def _emit(self, part: _Part, outputs: list[Denoised]) -> None:
        """Write outputs of a part's own frames that were not there, after what was kept before them."""
        for output in outputs:
            key = output.meta.key
            track = self._tracks[key]
            at = output.meta.source_index
            assert at is not None  # as it was pushed
            if not part.holds(track.places[at]):
                continue
            self._copy(key, at)
            if (key, at) not in self._model.live:
                self._movie.write(output, key, at, track)
                self.computed += 1
                track.written = at + 1

    def _copy(self, key: StreamKey, stop: int) -> None:
        """Keep what was denoised live, up to an index."""
        track = self._tracks[key]
        for at in range(track.written, stop):
            if (key, at) in self._model.live:
                self._movie.keep(key, at, track)
                self.kept += 1
        track.written = max(track.written, stop)


def _provenance(recorded: _Recorded, model: _Model, filling: _Filling) -> MovieProvenance:
    denoiser = recorded.denoiser
    return MovieProvenance(
        **dict(model.provenance)
        | {
            "run": recorded.run.name,
            "started_utc": recorded.recording.header.get("started_utc"),
            "camera": denoiser.camera,
            "intensity": model.first.intensity,
            "aligned": model.first.tracks_motion,
            "scanner": model.first.scanner,
            "float32": denoiser.float32,
            "fix_line_offset": denoiser.fix_line_offset,
            "frames_kept_from_live": filling.kept,
            "frames_computed_afterwards": filling.computed,
            "backend_live": None if recorded.report is None else denoiser.backend,
            "swaps": denoiser.swaps,
        }
    )


def _route(routes: Routes, record: Mapping[str, Any]) -> Route | None:
    """Return where a recorded frame went; None where the session did not denoise it either."""
    if not record["agrees"]:
        return None
    # Of the pixels a route depends on shape and dtype only.
    pixels = np.broadcast_to(np.zeros((), record["dtype"]), record["shape"])
    return routes.of(
        Frame(pixels, record["number"], record["received_s"], record.get("camera", ""), record["tags"])
    )


def _source(recording: RawRecording) -> SourceInfo:
    about = recording.header["source"]
    first = next(record for record in recording.records if record["agrees"])
    size_m = about.get("pixel_size_m")
    return SourceInfo(
        about["kind"],
        about["name"],
        about["camera"],
        (first["shape"][0], first["shape"][1]),
        np.dtype(first["dtype"]),
        pixel_size_um=None if size_m is None else size_m * 1e6,
        exposure_s=about.get("exposure_s"),
        frame_rate_hz=about.get("frame_rate_hz"),
        channel=about.get("channel"),
    )
