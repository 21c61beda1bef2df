"""Complete the denoised movie of a live session: the outputs that were skipped, computed from the raw frames."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from denoscope.acquisition.contracts import REPORT, Frame, SourceInfo
from denoscope.acquisition.denoisers.converting import conversion
from denoscope.acquisition.denoisers.kept_bundle import bundle_in_log, bundle_of
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
    SessionProvenance,
    SessionReport,
)
from denoscope.acquisition.sinks import FrameIndex, Layout, MovieSink, open_sink
from denoscope.acquisition.sinks.live_movies import LiveMovie, live_movie
from denoscope.runtime import DenoscopeError, InvalidInput

from .outputs import check_output, give_name, locked

if TYPE_CHECKING:
    from denoscope.runtime import CameraCalibration, Denoised, Stream, StreamKey

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
    output = run / FILLED_MOVIE if output is None else Path(output)
    check_output(output)
    with _damage(run):
        filling = _Filling(run, camera)
    with ExitStack() as stack:
        unlocked = stack.enter_context(locked(output))
        if unlocked is not None:
            filling.notes.append(unlocked)
        with _damage(run):
            filling.open_denoiser(stack, bundle, backend)
            filling.open_output(stack, output)
        started_s = time.perf_counter()
        checked = CheckedRun(filling.recording, filling.report)
        for index, pixels in checked.frames():
            filling.take(index, pixels)
            on_frame(index + 1, len(filling.routes))
        return filling.finish(output, started_s, checked.missing())


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
    filling = _FillingInPlace(run, camera, std)
    with ExitStack() as stack:
        filling.open_denoiser(stack, None, "auto")
        filling.open_movies(stack)
        try:
            for index, pixels in enumerate(filling.recording.frames()):
                if not (filling.left and goes_on()):
                    break
                if index < len(filling.routes):
                    filling.take(index, pixels)
                on_frame(index + 1, len(filling.routes))
            else:
                filling.take_rest()
        finally:
            filling.settle()
        if (untrue := filling.router.guard.sentence()) is not None:
            on_untrue(untrue)
        return filling.computed


@dataclass
class _Track:
    """How far one stream is."""

    places: list[int] = field(default_factory=list)
    """Raw frame of each index of the stream."""
    """Index by number, for what is in flight."""
    recent: deque[int] = field(default_factory=deque)
    pushed: int = 0
    shape: tuple[int, ...] | None = None
    """Of the last frame pushed."""
    written: int = 0
    """Indices below this one are done."""


class _Filling:
    def __init__(self, run: Path, camera: CameraCalibration | None, std: bool = False) -> None:
        self.run, self.camera, self.std = run, camera, std
        self.recording: RawRecording = read_raw(run)
        self.notes = list(self.recording.notes)
        self.report = self._read_report()
        self.denoiser: SessionProvenance = bundle_in_log(run) if self.report is None else self.report.denoiser
        self._check_camera()
        routes = Routes(_STREAMS)
        self.routes = [_route(routes, record) for record in self.recording.records]
        if not any(self.routes):
            raise InvalidInput(f"{run} holds no frame that can be denoised: there is nothing to fill.")
        self.tracks: dict[StreamKey, _Track] = {}
        for index, route in enumerate(self.routes):
            if route is not None:
                self.tracks.setdefault(route.key, _Track()).places.append(index)
        self.changed = any(route is not None and route.change is not None for route in self.routes)
        self.kept = self.computed = 0

    def _read_report(self) -> SessionReport | None:
        try:
            return SessionReport.read(self.run)
        except FileNotFoundError:
            self.notes.append("the session left no report: the brightness is measured now")
            return None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            what = f"{where}: {first['msg']}" if where else first["msg"]
            raise InvalidInput(
                f"{self.run / REPORT} is damaged ({what}); move it away to fill without it."
            ) from error
        except ValueError:
            raise InvalidInput(
                f"{self.run / REPORT} is a folder, a pipe or a device; move it away to fill without it."
            ) from None

    def _check_camera(self) -> None:
        now = None if self.camera is None else CameraRecord.model_validate(self.camera.describe()).as_json()
        then = None if self.denoiser.camera is None else self.denoiser.camera.as_json()
        if self.report is not None and then != now:
            raise InvalidInput(
                f"the session's camera calibration was {then}, now it is {now}: give the same `camera`."
            )

    def open_denoiser(self, stack: ExitStack, bundle: str | None, backend: str) -> None:
        """Open the denoiser and what was denoised live."""
        from denoscope.runtime import ScannerArtefacts, Stream, choose_backend

        model = bundle_of(self.run, self.denoiser, bundle)
        if backend == "auto":
            backend = self.denoiser.backend
        engine, choice = choose_backend(backend, bundle=model)
        stack.callback(engine.close)
        look_ahead = self.denoiser.look_ahead
        fix = self.denoiser.fix_line_offset
        intensity = None if self.changed else self.denoiser.intensity
        known = intensity is not None
        self.first: Stream = stack.enter_context(
            Stream(
                model,
                engine,
                look_ahead=look_ahead,
                std=self.std,
                fix_line_offset=fix,
                start_within_s=None,
                intensity=intensity,
                align=bool(self.denoiser.aligned) if known else None,
                scanner=(self.denoiser.scanner or ScannerArtefacts()) if known else None,
            )
        )
        self.router = Router(
            self.first,
            lambda: Stream(
                model,
                engine,
                look_ahead=self.first.look_ahead,
                std=self.std,
                fix_line_offset=fix,
                start_within_s=None,
            ),
        )
        stack.callback(self.router.close)
        # An output comes this many frames of its stream later at most.
        alone = known and len(self.tracks) == 1
        self.delay = self.first.look_ahead + (0 if alone else model.manifest.calibration_frames + 1)
        self.provenance = provenance_of(self.first, choice)
        about = self.recording.header["source"]
        self.live: LiveMovie = stack.enter_context(live_movie(self.run, about, self.notes))
        self.convert = conversion(camera=self.camera, float32=self._was_float32())

    def open_output(self, stack: ExitStack, output: Path) -> None:
        """Open the output."""
        source = _source(self.recording)
        if self.convert is not None:
            source = replace(source, dtype=np.dtype(np.float32))
        shapes = {(tuple(each["shape"]), each["dtype"]) for each in self.recording.records if each["agrees"]}
        layout = Layout(
            source,
            tuple(self.tracks),
            max(len(track.places) for track in self.tracks.values()),
            one_shape=len(shapes) == 1,
            metadata_bytes=sum(
                len(json.dumps(dict(each["tags"]), default=str)) for each in self.recording.records
            ),
        )
        check_space(output.parent, source, len(self.routes), _RESERVE_BYTES)
        self.partial = output.with_name(output.name + ".partial")
        self.sink: MovieSink = open_sink(output, self.partial, layout)
        stack.callback(self.sink.close)

    def _was_float32(self) -> bool:
        """Say whether the session wrote float32: by its report and, after a crash, by what was denoised live."""
        first = next(
            (
                (key, at)
                for key, track in self.tracks.items()
                for at in range(len(track.places))
                if (key, at) in self.live
            ),
            None,
        )
        kept = None if first is None else self.live.read(first).dtype
        return self.denoiser.float32 or kept == np.float32

    def take(self, index: int, pixels: npt.NDArray[Any]) -> None:
        """Take one raw frame."""
        from denoscope.runtime import FrameMeta

        route = self.routes[index]
        if route is None:
            return
        track = self.tracks[route.key]
        if route.change is not None:
            if route.change.what == "shape":
                self._drain(route.key, pixels.shape)
            self._emit(self.router.restart(route.key, recalibrate=route.change.recalibrate))
        track.recent.append(route.index)
        track.pushed, track.shape = route.index + 1, pixels.shape
        if len(track.recent) > self.delay + 1:
            track.recent.popleft()
        wanted = any((route.key, at) not in self.live for at in track.recent)
        frame = pixels if self.convert is None else self.convert(pixels)
        meta = FrameMeta(route.number, time.perf_counter(), route.key, source_index=route.index)
        self._emit(self.router.push(frame, meta, skip=None if wanted else _KEPT))

    def _drain(self, changed: StreamKey, shape: tuple[int, ...]) -> None:
        """Write all that came before a change of shape, of every stream that shares an image with the changed one.

        Their own next frames bring the change too, so this only comes a little early for them.
        """
        for key, track in self.tracks.items():
            shares = (key.camera, key.position) == (changed.camera, changed.position)
            if shares and track.shape != shape:
                self._emit(self.router.restart(key, recalibrate=False))
                self._copy(key, track.pushed)

    def _emit(self, outputs: list[Denoised]) -> None:
        """Write outputs that were not there, after what was kept before them."""
        for output in outputs:
            key = output.meta.key
            track = self.tracks[key]
            at = output.meta.source_index
            assert at is not None  # as it was pushed
            self._copy(key, at)
            if (key, at) not in self.live:
                self._write(output, key, at)
                self.computed += 1
                track.written = at + 1

    def _copy(self, key: StreamKey, stop: int) -> None:
        """Copy what was denoised live, up to an index."""
        track = self.tracks[key]
        for at in range(track.written, stop):
            if (key, at) in self.live:
                self._keep(key, at)
                self.kept += 1
        track.written = max(track.written, stop)

    def _write(self, output: Denoised, key: StreamKey, at: int) -> None:
        self.sink.append(output.frame, self._place(key, at))

    def _keep(self, key: StreamKey, at: int) -> None:
        self.sink.append(self.live.read((key, at)), self._place(key, at))

    def _place(self, key: StreamKey, at: int) -> FrameIndex:
        record = self.recording.records[self.tracks[key].places[at]]
        time_s = record["core_unix_s"] if record["core_unix_s"] is not None else record["received_s"]
        return FrameIndex(key, at, time_s, dict(record["tags"]))

    def finish(self, output: Path, started_s: float, incomplete: list[str]) -> Filling:
        """Write what is left, and give the movie its name."""
        self._emit(self.router.flush())
        for key, track in self.tracks.items():
            self._copy(key, len(track.places))
        provenance = MovieProvenance(
            **dict(self.provenance)
            | {
                "run": self.run.name,
                "started_utc": self.recording.header.get("started_utc"),
                "camera": self.denoiser.camera,
                "intensity": self.first.intensity,
                "aligned": self.first.tracks_motion,
                "scanner": self.first.scanner,
                "float32": self.denoiser.float32,
                "fix_line_offset": self.denoiser.fix_line_offset,
                "frames_kept_from_live": self.kept,
                "frames_computed_afterwards": self.computed,
                "backend_live": None if self.report is None else self.denoiser.backend,
            }
        )
        if (note := noise_note(provenance.intensity)) is not None:
            self.notes.append(note)
        self.sink.finish(provenance.as_json())
        give_name(self.partial, output)
        return Filling(
            output=output,
            frames=len(self.routes),
            kept=self.kept,
            computed=self.computed,
            missing=len(self.routes) - self.kept - self.computed,
            incomplete=incomplete,
            guard=self.router.guard,
            untrue=self.router.guard.sentence(),
            frame_s=(time.perf_counter() - started_s) / len(self.routes),
            notes=self.notes,
            denoiser=provenance,
        )


class _FillingInPlace(_Filling):
    """Writes into the movie that the session wrote."""

    def open_movies(self, stack: ExitStack) -> None:
        """Open the deviations too, and see which frames are to be computed."""
        self.left = len(self.live.measured)
        self.deviations: LiveMovie | None = None
        if self.std:
            about = self.recording.header["source"]
            self.deviations = stack.enter_context(live_movie(self.run, about, self.notes, std=True))

    def take_rest(self) -> None:
        """Take what the streams still hold."""
        self._emit(self.router.flush())

    def _write(self, output: Denoised, key: StreamKey, at: int) -> None:
        if (key, at) in self.live.measured:
            self.live.overwrite((key, at), output.frame)
            if self.deviations is not None and output.std is not None:
                self.deviations.overwrite((key, at), output.std)
            self.left -= 1

    def _keep(self, key: StreamKey, at: int) -> None:
        """Leave it where it is."""

    def settle(self) -> None:
        """Say which frames are denoised now."""
        self.live.settle()
        if self.deviations is not None:
            self.deviations.settle()


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
