"""The stream: push one frame in, get denoised frames out, each input accounted for."""

from __future__ import annotations

import operator
import os
from collections import deque
from time import perf_counter
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.kept_light import change_of_mean, changed, lies_in_rounding, missing_light
from denoscope.runtime.artefacts.light import STEADY, Light, LightMeter, lit_as_one, noise_of, under
from denoscope.runtime.artefacts.scanner import Scanner, ScannerArtefacts, measure_scanner
from denoscope.runtime.backends.registry import Backend, Choice
from denoscope.runtime.bundle.bundle import Bundle
from denoscope.runtime.bundle.chosen import ChosenBackend
from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.motion.moves import moves
from denoscope.runtime.motion.placement import Placement
from denoscope.runtime.movies.holes import Holes, unmasked
from denoscope.runtime.noise.clipped import all_without_clipped, take_out_clipped
from denoscope.runtime.noise.counts import Region, check_frame, check_kind, is_plainly, native
from denoscope.runtime.noise.few_photons_mean import keep_mean, light_of
from denoscope.runtime.noise.noise import Intensity, estimate_intensity
from denoscope.runtime.noise.saturation import saturated_part
from denoscope.runtime.types import (
    Denoised,
    FrameMeta,
    Rebind,
    StageClock,
    StageSeconds,
    StageTimes,
    StreamCounters,
    StreamKey,
)
from denoscope.runtime.words import counted

from .arguments import check_instance, check_meta, check_seconds, whole_number
from .arrivals import Entry, Held, check_order
from .calibration import CATCH_UP, START_S, Calibration
from .following import off_the_scene, onto_the_centre, onto_the_next, onto_the_scene
from .guard import Guard, GuardFinding
from .ring import Ring, Step
from .window import BoundWindow

__all__ = ["FAILED", "Stream"]

_BRIGHTER = 10.0  # standard deviations above the median of the frames that the noise was estimated from

FAILED = "failed"  # the drop reason of frames that were in flight when the backend raised

_ROUNDED_OFF = 0.2  # of a change of the mean

_PATIENCE = 64  # frames without values that a calibration waits for

Frame = npt.NDArray[Any]
_Kind = tuple[tuple[int, int], np.dtype[Any]]


class Stream:
    """Denoise one movie frame by frame with a bundle.

    A frame's output is returned by the push of the frame `look_ahead` later, in order; `flush` returns
    the rest. Each frame is encoded once. A stream belongs to one thread at a time.

    Parameters
    ----------
    bundle
        What to run: a `Bundle`, or what `Bundle.load` takes.
    backend
        `auto`, a backend's name, or an open `Backend`, which the stream then does not close. `auto` goes
        on to the next that can run here when one refuses the bundle or the frame size; see `choice`.
    look_ahead
        Frames after the centre to wait for, 0 to the bundle's; None for the bundle's.
    intensity
        The movie's transform and noise. None takes the bundle's or, if it has none, estimates it from
        the first `calibration_frames` frames and freezes it. Frames are held until then and
        afterwards processed two a push, so that the camera's queue does not fill meanwhile.
    start_within_s
        Where that many frames do not come in so many seconds (by `FrameMeta.t_received_s`), the stream begins
        with an estimate from those that are there, at least `look_ahead` + 3, and refines it: with 8 frames, with
        16 and with all. The frames before are then encoded anew, so that what comes after equals what a
        stream gives that waited. None always waits.
    scanner
        What the instrument adds to every frame alike; it is taken off before a frame is denoised and put back
        afterwards. None measures it with the intensity, and takes none where the intensity is given.
    fix_line_offset
        Do not put the offset between odd and even lines back: outputs have straight lines.
    light
        Whether frames are brought to one light before they are mixed, and dark or saturated frames are left out
        of that and returned as measured; and whether the light of few photons is kept. Has no effect with the noise
        that a bundle comes with.
    std
        Whether outputs carry their predicted standard deviation.
    align
        Whether the motion of the scene is followed. None decides by the frames held for calibration, and later,
        should the scene begin to move; the stream then starts anew, see `rebinds`.
    threads
        Threads for one graph; None for `default_threads()`.

    Raises
    ------
    InvalidInput
        If the look-ahead is out of range, the backend unknown, the standard deviation asked of a method
        that predicts none, or threads are given with an open backend.
    BackendUnavailable
        If the named backend cannot run here or refuses the bundle's graphs.

    Examples
    --------
    >>> import numpy as np
    >>> from denoscope.runtime import FrameMeta, Stream
    >>> with Stream("live") as stream:  # doctest: +SKIP
    ...     outputs = stream.push(np.zeros((64, 64), np.uint16), FrameMeta(number=0, t_received_s=0.0))
    ...     outputs += stream.flush()
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        backend: str | Backend = "auto",
        *,
        look_ahead: int | None = None,
        intensity: Intensity | None = None,
        scanner: ScannerArtefacts | None = None,
        fix_line_offset: bool = False,
        std: bool = False,
        align: bool | None = None,
        start_within_s: float | None = START_S,
        light: bool = True,
        threads: int | None = None,
    ) -> None:
        check_instance(intensity, Intensity, "intensity")
        check_instance(scanner, ScannerArtefacts, "scanner")
        check_seconds(start_within_s, "start_within_s")
        if threads is not None:
            threads = whole_number(threads, "number of threads", "give 1 or more, or leave it out")
        if not isinstance(bundle, Bundle | str | os.PathLike):
            raise InvalidInput(
                f"{bundle!r} is not a bundle: give a Bundle, its folder, or the name of a shipped one."
            )
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        manifest = self.bundle.manifest
        if look_ahead is not None:
            offered = f"the bundle {manifest.name} offers 0 to {manifest.look_ahead}"
            look_ahead = whole_number(
                look_ahead, "number of frames to look ahead", f"{offered}, choose one of these"
            )
        self.look_ahead = manifest.look_ahead if look_ahead is None else look_ahead
        if not 0 <= self.look_ahead <= manifest.look_ahead:
            raise InvalidInput(
                f"A look-ahead of {counted(self.look_ahead, 'frame')} was asked for; the bundle {manifest.name} "
                f"offers 0 to "
                f"{manifest.look_ahead}: choose one of these."
            )
        if std and not manifest.predicts_std:
            raise InvalidInput(
                f"The bundle {manifest.name} ({manifest.method}) predicts no standard deviation: "
                "leave it out, or use a bundle of the method live."
            )
        self._given = intensity if intensity is not None else manifest.intensity
        self._intensity = self._given
        self._given_scanner = scanner
        self._artefacts = scanner or ScannerArtefacts()
        self._fix_line_offset = fix_line_offset
        self._scanner: Scanner | None = None
        self._start_within_s = start_within_s
        self._calibration = self._new_calibration()
        self._provisional = False
        self._refinements = 0
        self._std = std
        self._align = align
        self._placement: Placement | None = None
        self._light = light
        self._meter: LightMeter | None = None
        self._expected: Frame | None = None
        self._wanted_from: int | None = None
        self._given_frames = False  # whether frames were expected: the noise is then never estimated again
        self._lit: tuple[Light, Intensity | None, Intensity | None] = (STEADY, None, None)
        self._unusual: dict[str, int] = {}
        self._chosen = ChosenBackend(self.bundle, backend, threads, std=std)
        self._moving = manifest.flow_scale > 0
        self._ring: Ring[Entry] = Ring(manifest.window, self.look_ahead)
        self._window: BoundWindow | None = None
        self._canvas: tuple[_Kind, bool] | None = None  # of the window; whether parts are followed
        self._kind: _Kind | None = None  # of the movie in the ring
        self._key: StreamKey | None = None
        self._last_pushed: int | None = None
        self._last_entered: int | None = None
        self._last_due: int | None = None  # the last frame that was emitted or dropped
        self._held: deque[Held] = deque()  # never more than the calibration's frames
        self._holes = Holes()
        self._received = self._emitted = self._missing = 0
        self._dropped: dict[str, int] = {}
        self._rebinds: list[Rebind] = []
        self._seconds = StageClock()
        self._unusable: str | None = None
        self._guard = Guard()

    @property
    def choice(self) -> Choice:
        """Which backend runs the graphs, and why it was chosen."""
        return self._chosen.choice

    @property
    def backend_info(self) -> dict[str, str]:
        """Library, version, device, precision and threads of the backend."""
        return self._chosen.backend.describe()

    @property
    def intensity(self) -> Intensity | None:
        """The transform; None until it has been estimated. A `provisional` one may still be refined."""
        return self._intensity

    @property
    def scanner(self) -> ScannerArtefacts:
        """Line offset and fixed pattern of the instrument, as measured or given."""
        return self._artefacts

    @property
    def provisional(self) -> bool:
        """True while the transform is estimated from fewer than `calibration_frames` frames.

        It is estimated again when more of them come, before the next `flush`.
        """
        return self._provisional

    @property
    def refinements(self) -> int:
        """How often a provisional transform was replaced by one from more frames."""
        return self._refinements

    @property
    def guard(self) -> GuardFinding:
        """Frames whose denoised picture parts from the measured one by more than noise allows."""
        return self._guard.finding

    @property
    def guard_if_ended(self) -> GuardFinding:
        """Findings of the guard as they would be if the movie ended here; for who may not see its end."""
        return self._guard.finding_if_ended

    @property
    def guard_off(self) -> int:
        """Frames of which `guard` says so; for who asks with every frame."""
        return self._guard.off

    @property
    def tracks_motion(self) -> bool:
        """True while the stream tracks the motion of the scene."""
        return self._placement is not None and self._placement.follows

    @property
    def watches_for_motion(self) -> bool:
        """True where the stream would begin to track a scene that begins to move."""
        return self._align is None and not self.tracks_motion

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames: denoised, dropped and held."""
        in_flight = self._ring.waiting + len(self._held) + self._holes.waiting
        unusual = dict(self._unusual)
        return StreamCounters(self._received, self._emitted, dict(self._dropped), in_flight, unusual)

    @property
    def missing(self) -> int:
        """Frames that never arrived, by the gaps in the numbers."""
        return self._missing

    @property
    def rebinds(self) -> tuple[Rebind, ...]:
        """Each change of shape or dtype so far."""
        return tuple(self._rebinds)

    @property
    def steps(self) -> int:
        """Count of finished steps: frames encoded, outputs made, parts of an estimate.

        It grows during a push or a flush that takes long, and may be asked for from another thread.
        """
        seconds = self._seconds
        return seconds.pushes + seconds.outputs + seconds.estimates

    @property
    def stage_seconds(self) -> StageSeconds:
        """Seconds that each stage has taken so far."""
        return self._seconds.snapshot()

    def prepare(self, shape: tuple[int, int], dtype: npt.DTypeLike = np.uint16) -> None:
        """Bind and warm the graphs for frames of a shape (H, W) and a dtype, before the first arrives.

        Without it the first push does so, which takes longer than a frame. Has no effect once
        frames have been pushed.
        """
        self._check_usable()
        try:
            height, width = (operator.index(edge) for edge in shape)
            wanted = np.dtype(dtype)
        except (TypeError, ValueError):
            raise InvalidInput(
                f"Frames of the shape {shape!r} and the dtype {dtype!r} cannot be prepared: give (height, width) "
                "in whole pixels and a dtype like uint16."
            ) from None
        kind = check_kind((height, width), wanted)
        if self._kind is None:
            started = perf_counter()
            self._bind(kind)
            self._seconds.total += perf_counter() - started

    def push(self, frame: Frame, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Take one frame and return the outputs that became due, oldest first.

        Parameters
        ----------
        frame
            (H, W), at least 16 x 16, uint8, uint16, int16 or float32. It is not kept: its
            memory may be reused after the call. Another shape or dtype than before drains the stream
            and starts it anew, see `rebinds`. Pixels that are NaN or infinite are NaN in the output
            and its standard deviation, as are masked pixels of floats; their neighbours are denoised
            without them, and the frames around a frame without any finite value as if it were missing.
        meta
            Its number, greater than the last one's, and what travels with it. Numbers left out are
            missing frames: they are not emitted, and their neighbours do without them.
        skip
            A reason not to compute the outputs that become due with this push; they are counted in
            `counters.dropped` under it. The frame itself is encoded all the same, so that its
            neighbours do not suffer.

        Raises
        ------
        FrameMismatch
            If a stream cannot take the frame.
        InvalidInput
            If the number does not grow, the frame belongs to another movie, or the stream is closed
            or has failed. The stream is unchanged after this and after FrameMismatch.

        Notes
        -----
        When the backend raises, the error passes through, the frames in flight are counted as dropped
        for the reason `failed`, and the stream takes no more frames.
        """
        start = perf_counter()
        self._check_usable()
        check_meta(meta)
        known = self._kind is not None and is_plainly(frame, *self._kind)
        if not known:
            frame = unmasked(frame, f"Frame {meta.number}")
            check_frame(frame, meta.number)
        check_order(meta, self._last_pushed, self._key)
        if self._last_pushed is not None:
            self._missing += meta.number - self._last_pushed - 1
        self._received += 1
        self._last_pushed, self._key = meta.number, meta.key
        outputs: list[Denoised] = []
        try:
            whole = frame if known else self._holes.fill(frame, meta, start)
            if not known:
                self._rebind_if_changed(frame, meta.number, skip, outputs)
            if whole is None:
                self._pass_over(meta.number, skip, outputs)
            else:
                self._accept(whole, meta, start, skip, outputs)
            self._restore_holes(meta.number - self.look_ahead, skip, outputs)
        except BaseException:
            self._fail()
            raise
        self._emitted += len(outputs)
        self._seconds.total += perf_counter() - start
        return outputs

    def flush(self, *, skip: str | None = None) -> list[Denoised]:
        """Return the outputs of all frames in flight and forget the movie; another may follow.

        Parameters
        ----------
        skip
            A reason not to compute them; they are counted in `counters.dropped` under it.

        Notes
        -----
        The intensity transform stays frozen, numbers may start anew, the long memory is emptied.
        """
        start = perf_counter()
        self._check_usable()
        outputs: list[Denoised] = []
        try:
            self._drain(skip, outputs)
            self._restore_holes(None, skip, outputs)
        except BaseException:
            self._fail()
            raise
        self._guard.restart()
        self._last_pushed = self._key = self._last_due = self._expected = self._wanted_from = None
        self._emitted += len(outputs)
        self._seconds.total += perf_counter() - start
        return outputs

    def expect(self, frames: Frame, start: int | None = None) -> None:
        """Learn what the scene of the next movie looks like, so that its first frames are known if they are dark.

        Parameters
        ----------
        frames
            (T, H, W), the first of the movie; they are pushed afterwards as any others.
        start
            Number of the first frame whose output is wanted; those before are dropped for the reason `warm-up`.
        """
        self._check_usable()
        self._expected, self._given_frames, self._wanted_from = frames, True, start
        if self._meter is not None and self._last_entered is None:
            self._start_meter()

    def track_motion(self, on: bool) -> None:
        """Follow the motion of the scene from now on, or not, whatever was found out; only between movies."""
        self._check_usable()
        if self._last_pushed is not None:
            raise InvalidInput(
                "A movie has begun: call flush() before the stream is told to follow it or not."
            )
        self._align = on
        if self._kind is not None:
            self._bind(self._kind, follow=on)

    def use_scanner(self, artefacts: ScannerArtefacts) -> None:
        """Take these artefacts of the instrument off from now on, whatever was measured; only between movies."""
        self._check_usable()
        if self._last_pushed is not None:
            raise InvalidInput(
                "A movie has begun: call flush() before the stream is told about the instrument."
            )
        self._given_scanner = self._artefacts = artefacts
        if self._kind is not None:
            self._bind(self._kind, follow=self.tracks_motion or bool(self._align))

    def close(self) -> None:
        """Release the graphs, and the backend if the stream opened it. Safe to call twice."""
        if self._unusable != "is closed":
            self._unusable = "is closed"
            self._let_window_go()
            self._chosen.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_usable(self) -> None:
        if self._unusable is not None:
            raise InvalidInput(f"The stream {self._unusable} and takes no more frames: open a new one.")

    def _accept(
        self, frame: Frame, meta: FrameMeta, pushed: float, skip: str | None, outputs: list[Denoised]
    ) -> None:
        if self._calibration is None and not self._held:
            self._encode_into_ring(frame, meta, pushed, skip, outputs)
            return
        held = Held(frame.copy(), meta, pushed)
        self._held.append(held)
        if self._calibration is not None and self._calibration.keep(held):
            self._calibrate(self._calibration, skip, outputs)
        if self._intensity is not None:
            # The first output comes with the push that the stream begins with.
            least = self.look_ahead + 1 if self._last_due is None else 0
            for _ in range(min(max(self._catch_up, least), len(self._held))):
                self._enter_held(self._held.popleft(), skip, outputs)
                if self._intensity is None:  # another scene, whose noise is not known yet
                    break

    def _enter_held(self, held: Held, skip: str | None, outputs: list[Denoised]) -> None:
        self._encode_into_ring(held.frame, held.meta, held.pushed, skip, outputs)
        if self._calibration is not None:
            self._calibration.processed.append(held)

    def _new_calibration(self) -> Calibration | None:
        """Return how the transform is estimated; None where it is given."""
        self._catch_up = CATCH_UP
        if self._given is not None:
            return None
        frames = self.bundle.manifest.calibration_frames
        return Calibration(frames, self.look_ahead, self._start_within_s)

    def _rebind_if_changed(
        self, frame: Frame, number: int, skip: str | None, outputs: list[Denoised]
    ) -> None:
        """Change to a frame's kind, if it is another."""
        kind = ((frame.shape[0], frame.shape[1]), native(frame.dtype))
        if kind != self._kind:
            self._change_kind(kind, number, skip, outputs)

    def _change_kind(
        self,
        kind: _Kind,
        number: int,
        skip: str | None,
        outputs: list[Denoised],
    ) -> None:
        if self._kind is not None:
            (old_shape, old_dtype), (shape, dtype) = self._kind, kind
            self._drain(skip, outputs)
            self._rebinds.append(Rebind(number, old_shape, shape, old_dtype.name, dtype.name))
            if dtype != old_dtype and self._given is None:
                self._intensity = None  # another dtype is another scale
                self._artefacts = self._given_scanner or ScannerArtefacts()
                self._calibration = self._new_calibration()
        self._kind = kind
        self._bind(kind, follow=self.tracks_motion or bool(self._align))

    def _bind(self, kind: _Kind, *, follow: bool = False) -> None:
        """Bind the graphs to a canvas for frames of a shape and dtype."""
        scanner = Scanner(self._artefacts, *kind, fix=self._fix_line_offset)
        self._scanner = None if scanner.idle else scanner
        shape, dtype = scanner.canvas, kind[1]
        parts = self.bundle.manifest.subpixel
        watch = self._align is None
        self._placement = Placement(shape, self._intensity, follow=follow, parts=parts, watch=watch)
        self._start_meter()
        canvas = (self._placement.canvas, dtype), self._placement.parts
        if canvas == self._canvas:
            if self._intensity is not None:
                self._bound.set_intensity(self._intensity)
            return
        started = perf_counter()
        self._let_window_go()  # release the old buffers first
        self._window = self._chosen.attempt(lambda: self._open_window(dtype))
        self._canvas = canvas
        if self._intensity is not None:
            self._window.set_intensity(self._intensity)
        self._seconds.bind += perf_counter() - started

    def _start_meter(self) -> None:
        """Begin to measure the light of the frames."""
        self._meter = None
        # The noise that a bundle comes with was not measured on this movie, so nothing says what is a change.
        fixed = self.bundle.manifest.intensity
        if not self._light or self._intensity == fixed:
            return
        if self._intensity is not None and self._placement is not None:
            shape = self._placement.shape
            self._meter = LightMeter(shape, self._intensity)
            if self._expected is not None and self._expected.shape[1:] == shape:
                self._meter.begin(self._expected)

    def _under(self, light: Light) -> Intensity:
        """Return the transform for frames in some light."""
        assert self._intensity is not None
        if light is STEADY:
            return self._intensity
        known, base, made = self._lit
        if made is None or known is not light or base is not self._intensity:
            made = under(self._intensity, light)
            self._lit = light, self._intensity, made
        return made

    def _let_window_go(self) -> None:
        if self._window is not None:
            self._window.close()
        self._window = self._canvas = None

    def _open_window(self, dtype: np.dtype[Any]) -> BoundWindow:
        assert self._placement is not None
        canvas, scene = self._placement.canvas, self._placement.scene if self._placement.parts else None
        backend, graphs, manifest = self._chosen.backend, self._chosen.graphs.of(dtype), self.bundle.manifest
        return BoundWindow(backend, graphs, manifest, self.look_ahead, canvas, dtype, scene=scene)

    def _calibrate(self, calibration: Calibration, skip: str | None, outputs: list[Denoised]) -> None:
        """Estimate the transform from the frames so far, and whether the scene moves; encode anew what is encoded."""
        started = perf_counter()
        frames = np.stack([held.frame for held in calibration.kept])
        assert self._kind is not None
        if self._given_scanner is None:
            self._artefacts = measure_scanner(frames)
        self._seconds.estimates += 1
        scanner = Scanner(self._artefacts, *self._kind, fix=self._fix_line_offset)
        if not scanner.idle:
            frames = np.stack([scanner.take_off(frame) for frame in frames])
        self._refinements += self._intensity is not None
        frames, all_frames, intensity = self._estimate(frames)
        self._intensity = intensity
        self._seconds.estimates += 1
        follow = moves(frames, intensity) if self._align is None else self._align
        calibration.estimated()
        self._provisional = not calibration.complete
        self._catch_up = calibration.catch_up
        self._seconds.calibrate += perf_counter() - started
        processed = list(calibration.processed)
        if processed:
            self._forget_movie()
        self._bind(self._kind, follow=follow)
        if self._meter is not None and self._expected is None:
            self._meter.begin(all_frames)
        for held in processed:
            self._enter_held(held, skip, outputs)
        if calibration.complete:
            self._calibration = None

    def _estimate(self, frames: Frame) -> tuple[Frame, Frame, Intensity]:
        """Return frames (T, H, W) under one light, the same under their own, and the transform estimated from them."""
        intensity = None
        if saturated_part(frames) is not None:
            intensity = estimate_intensity(frames)
            frames = all_without_clipped(frames, intensity)
        as_one = lit_as_one(frames) if self._light else frames
        if intensity is None or as_one is not frames:
            intensity = estimate_intensity(as_one)
        return as_one, frames, intensity

    def _locate(self, frame: Frame, number: int, skip: str | None, outputs: list[Denoised]) -> Region:
        """Find where on the canvas a frame lies; start anew when the scene begins to move or has drifted away."""
        assert self._placement is not None
        place, change = self._placement.find(frame)
        if change is not None:
            self._end_movie(skip, outputs)
            if change == "moves" and self._kind is not None:
                self._bind(self._kind, follow=True)
            place, _ = self._placement.find(frame)
            assert self._kind is not None
            shape, dtype = self._kind[0], frame.dtype.name
            self._rebinds.append(Rebind(number, shape, shape, dtype, dtype, motion=change))
        return place

    def _encode_into_ring(
        self, frame: Frame, meta: FrameMeta, pushed: float, skip: str | None, outputs: list[Denoised]
    ) -> None:
        """Encode a frame into the ring, after a gap for each frame missing before it."""
        assert self._intensity is not None
        seconds, number = self._seconds, meta.number
        measured = frame
        frame, clipped = take_out_clipped(frame, self._intensity)
        self._guard.saw(number, frame)
        gap = 0 if self._last_entered is None else number - self._last_entered - 1
        if gap:
            for _ in range(min(gap, self._ring.size)):
                self._miss(skip, outputs)
        started = perf_counter()
        if self._scanner is not None:
            frame = self._scanner.take_off(frame)
        light = self._light_of(frame, None if clipped is None else measured, number, skip, outputs)
        if light.anew and self._calibrates_anew(frame):
            self._held.appendleft(Held(measured.copy(), meta, pushed))
            if self._calibration is not None:
                for held in self._held:
                    self._calibration.keep(held)
            return
        if light.unusual:
            self._pass_by(measured, meta, pushed, light, skip, outputs)
            return
        # Before the frame is located: a scene that begins to move has the window bound, and the light met, anew.
        lit = None if self._meter is None else self._meter.lit(number, light)
        place = self._locate(frame, number, skip, outputs)
        window = self._bound
        window.set_intensity(self._under(light))
        field, back = off_the_scene(window, self._placement)
        placed = perf_counter()
        window.write(frame, place)
        normalised = perf_counter()
        slot = self._ring.slot
        window.encode(slot)
        encoded = related = perf_counter()
        if self._moving:
            before = self._ring.before
            if before is not None:
                onto_the_next(window, before, (slot - 1) % self._ring.size, back)
                window.relate(slot)
            else:
                window.unrelate(slot)
            related = perf_counter()
            seconds.motion += related - encoded
        seconds.align += placed - started
        seconds.normalise += normalised - placed
        seconds.encode += encoded - normalised
        seconds.pushes += 1
        self._last_entered = number
        # The noise that a bundle comes with was that of its training: it learned what is the mean.
        estimated = self._intensity != self.bundle.manifest.intensity
        few = light_of(frame, self._under(light)) if estimated and self._light else None
        entry = Entry(meta, pushed, related, place, field, back, few, light, lit, clipped=clipped)
        self._emit_and_absorb(self._ring.enter(entry), skip, outputs)

    def _light_of(
        self, frame: Frame, measured: Frame | None, number: int, skip: str | None, outputs: list[Denoised]
    ) -> Light:
        """Measure the light of a frame; start anew when it shows another scene."""
        if self._meter is None:
            return STEADY
        if measured is not None and self._scanner is not None:
            measured = self._scanner.straighten(measured)
        light = self._meter.see(frame, measured)
        if light.anew:
            self._end_movie(skip, outputs)
            shape, dtype = (frame.shape[0], frame.shape[1]), frame.dtype.name
            self._rebinds.append(Rebind(number, shape, shape, dtype, dtype, motion="scene"))
            self._meter.begin_with(frame)
        return light

    def _calibrates_anew(self, frame: Frame) -> bool:
        """Wait for frames to estimate the noise from, where it was estimated from frames that were too dark for it."""
        intensity = self._intensity
        if (
            self._given is not None
            or self._given_frames
            or self._calibration is not None
            or intensity is None
        ):
            return False
        if float(np.median(frame[::8])) < intensity.offset + _BRIGHTER * intensity.scale:
            return False
        self._intensity = self._meter = None
        self._calibration = self._new_calibration()
        return True

    def _pass_by(
        self,
        frame: Frame,
        meta: FrameMeta,
        pushed: float,
        light: Light,
        skip: str | None,
        outputs: list[Denoised],
    ) -> None:
        """Let a frame without a picture of the scene enter the ring: missing for all others, shown as measured."""
        self._bound.unrelate(self._ring.slot)
        self._last_entered = meta.number
        nowhere = slice(0, 0), slice(0, 0)
        entry = Entry(meta, pushed, perf_counter(), nowhere, light=light, shown=frame.copy())
        self._emit_and_absorb(self._ring.enter(entry, usable=False), skip, outputs)

    def _show(self, entry: Entry, shown: Frame) -> Denoised:
        """Return a frame as measured."""
        assert self._intensity is not None
        now = perf_counter()
        kind = entry.light.unusual
        self._unusual[kind] = self._unusual.get(kind, 0) + 1
        std = noise_of(shown, self._intensity) if self._std else None
        times = StageTimes(entry.meta.t_received_s, entry.pushed, entry.encoded, now, now, perf_counter())
        self._seconds.outputs += 1
        return Denoised(shown, std, entry.meta, times)

    def _miss(self, skip: str | None, outputs: list[Denoised]) -> None:
        """Let a frame that is not there enter the ring."""
        self._bound.unrelate(self._ring.slot)
        self._emit_and_absorb(self._ring.enter(None), skip, outputs)

    def _emit_and_absorb(self, step: Step[Entry], skip: str | None, outputs: list[Denoised]) -> None:
        """Emit or drop the centre that became due, then absorb the frame that leaves the window."""
        due = None if step.centre is None else step.centre.meta.number
        # Frames that are encoded anew have been returned already.
        if step.centre is not None and due is not None and (self._last_due is None or due > self._last_due):
            self._last_due = due
            if skip is None and self._wanted_from is not None and due < self._wanted_from:
                skip = "warm-up"
            if skip is None:
                outputs.append(self._fuse(step.centre, step.rotation))
            else:
                self._dropped[skip] = self._dropped.get(skip, 0) + 1
        if step.leaving:
            started = perf_counter()
            oldest = self._ring.entries[0]
            assert oldest is not None
            onto_the_scene(self._bound, oldest, step.rotation)
            self._bound.remember(step.rotation)
            self._seconds.remember += perf_counter() - started

    def _pass_over(self, number: int, skip: str | None, outputs: list[Denoised]) -> None:
        """Let a frame without values be a missing one for its neighbours."""
        if self._held and self._holes.waiting > _PATIENCE:
            self._drain(skip, outputs)  # do not wait for more frames with values to calibrate with
        if self._held or self._last_entered is None:
            return  # the next frame to enter the ring finds the gap
        for _ in range(min(number - self._last_entered, self._ring.size)):
            self._miss(skip, outputs)
        self._last_entered = number

    def _restore_holes(self, last: int | None, skip: str | None, outputs: list[Denoised]) -> None:
        """Make NaN of what was not measured, and return the frames without values that are due."""
        holes = self._holes
        holes.restore(outputs)
        if holes.waiting:
            # Those that the ring has passed by, and all before a frame that was returned.
            passed = self._last_due if self._last_due is not None else -1
            if last is not None:
                last = passed if self._held else max(last, passed)
            due = holes.due(last)
            if skip is not None and due:
                self._dropped[skip] = self._dropped.get(skip, 0) + due
                holes.drop(due)
            elif due:
                outputs += holes.blanks(due, perf_counter(), std=self._std)
                outputs.sort(key=lambda out: out.meta.number)
        if self._last_due is not None:
            holes.forget(self._last_due)

    def _fuse(self, entry: Entry, rotation: int) -> Denoised:
        if entry.shown is not None:
            return self._show(entry, entry.shown)
        window, seconds = self._bound, self._seconds
        aligning = perf_counter()
        window.set_intensity(self._under(entry.light))
        onto_the_centre(window, self._ring.entries, entry, rotation)
        started = perf_counter()
        seconds.align += started - aligning
        window.fuse(rotation, self._ring.presence, entry.place)
        fused = perf_counter()
        frame = window.read(entry.place)
        self._guard.check_numbers(entry.meta.number, frame)
        frame = self._with_its_light(frame, entry, rotation)
        std = window.read_std(entry.place) if self._std else None
        if self._scanner is not None:
            frame = self._scanner.put_back(frame)
            std = None if std is None else self._scanner.place(std)
        self._guard.check(entry.meta.number, frame)
        if entry.clipped is not None:
            clipped = entry.clipped
            if self._scanner is not None and self._fix_line_offset:
                clipped = clipped.moved((frame.shape[0], frame.shape[1]), self._scanner.as_placed)
            clipped.put_back(frame, std)
        emitted = perf_counter()
        seconds.fuse += fused - started
        seconds.convert += emitted - fused
        seconds.outputs += 1
        times = StageTimes(entry.meta.t_received_s, entry.pushed, entry.encoded, started, fused, emitted)
        return Denoised(frame, std, entry.meta, times)

    def _with_its_light(self, frame: Frame, entry: Entry, rotation: int) -> Frame:
        """Return a denoised frame with the light of the measured one, where light changes or is of few photons."""
        around = [e.lit for e in self._ring.entries if e is not None and e.lit is not None]
        own = None if self._meter is None else entry.lit
        if own is not None and self._meter is not None:
            change = missing_light(frame, own, around, self._meter)
            if change is not None:
                frame = self._changed(frame, entry, rotation, change)
        if entry.few is None:
            return frame
        seen = (e.few for e in self._ring.entries if e is not None)
        kept = keep_mean(frame, entry.few, [few.mean for few in seen if few is not None])
        if kept is not frame or own is None or self._meter is None:
            return kept
        change = missing_light(frame, own, around, self._meter, unseen=True)
        return frame if change is None else self._changed(frame, entry, rotation, change)

    def _changed(self, frame: Frame, entry: Entry, rotation: int, change: tuple[float, float]) -> Frame:
        """Return the denoised centre as ``factor * frame + shift``."""
        if not lies_in_rounding(frame, change):
            return changed(frame, change)
        # Where most pixels are rounded alike, the mean does not follow what is added: once more then.
        wanted = change_of_mean(frame, change)
        again = self._fuse_again(entry, rotation, change)
        got = float(again.mean()) - float(frame.mean())
        if abs(got - wanted) > _ROUNDED_OFF * abs(wanted):
            change = change[0], change[1] + wanted - got
            again = self._fuse_again(entry, rotation, change)
        return again

    def _fuse_again(self, entry: Entry, rotation: int, change: tuple[float, float]) -> Frame:
        """Return the centre as ``factor * frame + shift``, rounded once."""
        window, (factor, shift) = self._bound, change
        intensity = self._under(entry.light)
        offset, scale = factor * intensity.offset + shift, factor * intensity.scale
        window.set_intensity(intensity.model_copy(update={"offset": offset, "scale": scale}))
        window.fuse(rotation, self._ring.presence, entry.place)
        return window.read(entry.place)

    def _drain(self, skip: str | None, outputs: list[Denoised]) -> None:
        """Finish every frame in flight and leave the ring and the memory empty."""
        if self._held:
            if self._intensity is None and self._calibration is not None:
                self._calibrate(self._calibration, skip, outputs)
            while self._held:
                self._enter_held(self._held.popleft(), skip, outputs)
                if self._intensity is None and self._calibration is not None:
                    self._calibrate(self._calibration, skip, outputs)
        self._end_movie(skip, outputs)
        if self._intensity is not None:
            self._calibration = None  # what there is stays

    def _end_movie(self, skip: str | None, outputs: list[Denoised]) -> None:
        """Finish what is in the ring, then empty the ring and the memory."""
        if self._last_entered is None:
            return
        while self._ring.waiting:
            self._miss(skip, outputs)
        self._forget_movie()

    def _forget_movie(self) -> None:
        """Empty the ring and the memory, whatever they hold."""
        self._ring.clear()
        self._bound.forget()
        if self._meter is not None:
            self._meter.restart()
        if self._calibration is not None:
            self._calibration.restart()
        if self._placement is not None:
            self._placement.restart()
        self._last_entered = None

    def _fail(self) -> None:
        lost = self._received - self._emitted - sum(self._dropped.values())
        self._dropped[FAILED] = self._dropped.get(FAILED, 0) + lost
        self._ring.clear()
        self._held.clear()
        self._holes.clear()
        self._calibration = None
        self._unusable = "has failed"

    @property
    def _bound(self) -> BoundWindow:
        if self._window is None:
            raise RuntimeError("No frame size is bound.")
        return self._window
