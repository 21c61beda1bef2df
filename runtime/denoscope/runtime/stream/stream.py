"""The stream: push one frame in, get denoised frames out, each input accounted for."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from copy import deepcopy
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.light import Light
from denoscope.runtime.artefacts.scanner import ScannerArtefacts
from denoscope.runtime.backends.registry import Backend, Choice
from denoscope.runtime.bundle.bundle import Bundle
from denoscope.runtime.bundle.chosen import ChosenBackend
from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.motion.both_ways import Displacement, placed_both_ways
from denoscope.runtime.motion.field import Field
from denoscope.runtime.motion.moves import Watch, moves
from denoscope.runtime.movies.arguments import check_movie
from denoscope.runtime.movies.holes import Holes, unmasked
from denoscope.runtime.noise.clipped import take_out_clipped
from denoscope.runtime.noise.counts import Region, check_frame, check_kind, is_plainly, native
from denoscope.runtime.noise.few_photons_mean import light_of
from denoscope.runtime.noise.noise import Intensity
from denoscope.runtime.types import Denoised, FrameMeta, Rebind, StageSeconds, StreamCounters, StreamKey
from denoscope.runtime.window.both_sides import BothSides
from denoscope.runtime.window.window import BoundWindow

from .accounts import FAILED, Accounts
from .arguments import check_flag, check_meta, check_reason, whole_number
from .arrivals import Entry, Held, check_order
from .binder import Binder, Bound, Kind
from .calibration.certain import agree, is_certain
from .calibration.intake import Intake
from .calibration.learned import Estimate, Learned
from .calibration.schedule import START_S, Calibration
from .following import Route, off_the_scene, onto_the_next
from .outputs import OutputMaker
from .passage import Passage, Turn
from .residuals.deviation import rows_of
from .residuals.guard import Guard, GuardFinding
from .ring import Ring
from .settings import check_settings

if TYPE_CHECKING:
    from denoscope.runtime.movies import AnyMovie

__all__ = ["FAILED", "Stream"]

_SURVEY = "survey"  # the reason for which frames of a survey are not denoised

_PATIENCE = 64  # frames without values that a calibration waits for

Frame = npt.NDArray[Any]


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
        The stream begins before that, with 4, 6, 8 or 16 frames, if the estimate from them is certain. It keeps
        that estimate if the variance from `calibration_frames` frames is the same within 2 % and the scene does not
        move. Where nothing is certain after so many seconds (by `FrameMeta.t_received_s`), it begins with an
        estimate from the frames that are there, at least `look_ahead` + 3, and refines it: with 8 frames, with 16
        and with all. Each time an estimate is replaced, the frames before are encoded anew, so that what comes after
        equals what a stream gives that waited. None always waits, as do frames that all come within 0.2 s.
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
        Whether the motion of the scene is tracked. None decides by the frames held for calibration, and later,
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
        if threads is not None:
            threads = whole_number(threads, "number of threads", "give 1 or more, or leave it out")
        if not isinstance(bundle, Bundle | str | os.PathLike):
            raise InvalidInput(
                f"{bundle!r} is not a bundle: give a Bundle, its folder, or the name of a shipped one."
            )
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        manifest = self.bundle.manifest
        settings = check_settings(
            manifest,
            look_ahead,
            intensity,
            scanner,
            start_within_s,
            fix_line_offset=fix_line_offset,
            std=std,
            align=align,
            light=light,
        )
        self.look_ahead = settings.look_ahead
        self._std, self._light, self._fix_line_offset = std, light, fix_line_offset
        self._align = align
        self._accounts = Accounts()
        seconds = self._accounts.seconds
        self._guard = Guard()
        self._holes = Holes()
        self._learned = Learned(settings, manifest.intensity, seconds)
        self._intake = Intake(
            manifest.calibration_frames,
            self.look_ahead,
            start_within_s,
            calibrate=not self._learned.given,
        )
        ring: Ring[Entry] = Ring(manifest.window, self.look_ahead)
        self._sides = BothSides(manifest.memory_decay) if manifest.two_sided else None
        self._route: Route | None = None  # while the places of a recorded movie are looked for
        self._places: dict[int, Displacement] = {}  # those that are known beforehand, by frame number
        self._maker = OutputMaker(settings, ring, self._guard, self._accounts, self._sides)
        self._passage = Passage(ring, self._maker, self._accounts, self._sides)
        self._chosen = ChosenBackend(self.bundle, backend, threads, std=std)
        self._binder = Binder(self.bundle, self._chosen, settings, self._learned, seconds)
        self._kind: Kind | None = None  # of the movie in the ring
        self._key: StreamKey | None = None
        self._last_pushed: int | None = None
        self._unusable: str | None = None
        # Of the scene that a stream with a certain noise model began with.
        self._confirming: Watch | None = None

    @property
    def choice(self) -> Choice:
        """Backend that runs the graphs, and why it was chosen."""
        return self._chosen.choice

    @property
    def backend_info(self) -> dict[str, str]:
        """Library, version, device, precision and threads of the backend; on GPUs how frames were computed."""
        info = self._chosen.backend.describe()
        bound = self._binder.now
        if bound is None or not bound.window.overlaps:
            return info
        whole, made = bound.window.whole, bound.window.made
        said = (
            f"{whole} of {made} as one call, {self._passage.ahead} begun while the one before was under way"
        )
        return {**info, "pushes": said}

    @property
    def overlaps(self) -> bool:
        """True where `push` with `ahead` begins a frame before the output of the one before has come down."""
        return self._binder.now is not None and self._binder.now.window.overlaps

    @property
    def intensity(self) -> Intensity | None:
        """The transform; None until it has been estimated. A `provisional` one may still be refined."""
        return self._learned.intensity

    @property
    def scanner(self) -> ScannerArtefacts:
        """Line offset and fixed pattern of the instrument, as measured or given."""
        return self._learned.artefacts

    @property
    def straightens_lines(self) -> bool:
        """True where an offset between odd and even lines is corrected, so that outputs differ by it from frames."""
        return self._fix_line_offset and bool(self._learned.artefacts.line_offset)

    @property
    def provisional(self) -> bool:
        """True while the transform is estimated from fewer than `calibration_frames` frames.

        It is estimated again when more of them come, before the next `flush`.
        """
        return self._learned.provisional

    @property
    def refinements(self) -> int:
        """How often a provisional transform was replaced by one from more frames."""
        return self._learned.refinements

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
    def deviation_factor(self) -> float:
        """Factor of the predicted deviations: above 1 where a scene that moves shows that they are too small."""
        return self._maker.factor

    @property
    def tracks_motion(self) -> bool:
        """True while the stream tracks the motion of the scene."""
        return self._binder.follows

    @property
    def watches_for_motion(self) -> bool:
        """True where the stream would begin to track a scene that begins to move."""
        return self._align is None and not self.tracks_motion

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames: denoised, dropped and held."""
        passage = self._passage
        in_flight = (
            passage.ring.waiting + len(passage.under_way) + len(self._intake.held) + self._holes.waiting
        )
        return self._accounts.counters(in_flight)

    @property
    def missing(self) -> int:
        """Frames that never arrived, by the gaps in the numbers."""
        return self._accounts.missing

    @property
    def rebinds(self) -> tuple[Rebind, ...]:
        """Each change of shape or dtype so far."""
        return tuple(self._accounts.rebinds)

    @property
    def steps(self) -> int:
        """Count of finished steps: frames encoded, outputs made, parts of an estimate.

        It grows during a push or a flush that takes long, and may be asked for from another thread.
        """
        seconds = self._accounts.seconds
        return seconds.pushes + seconds.outputs + seconds.estimates

    @property
    def stage_seconds(self) -> StageSeconds:
        """Seconds that each stage has taken so far."""
        return self._accounts.seconds.snapshot()

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
            self._binder.bind(kind, follow=False)
            self._accounts.seconds.total += perf_counter() - started

    def push(
        self, frame: Frame, meta: FrameMeta, *, skip: str | None = None, ahead: bool = False
    ) -> list[Denoised]:
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
        ahead
            Another frame is there already: on a GPU the output that becomes due with this push may then be returned
            by the next push, or by `collect` or `flush`, so that the next frame goes up before this one has come
            down. The outputs and their order stay the same.

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
        if skip is not None:
            check_reason(skip)
        known = self._kind is not None and is_plainly(frame, *self._kind)
        if not known:
            frame = unmasked(frame, f"Frame {meta.number}")
            check_frame(frame, meta.number)
        check_order(meta, self._last_pushed, self._key)
        accounts = self._accounts
        if self._last_pushed is not None:
            accounts.missing += meta.number - self._last_pushed - 1
        accounts.received += 1
        self._last_pushed, self._key = meta.number, meta.key
        # What is not plainly a frame of the movie may need the outputs before it.
        turn = Turn(skip, [], ahead and known and self._intake.idle and not self._holes.waiting)
        try:
            if not turn.ahead:
                self._passage.finish(turn)
            whole = frame if known else self._holes.fill(frame, meta, start)
            if not known:
                self._rebind_if_changed(frame, meta.number, turn)
            if whole is None:
                self._pass_over(meta.number, turn)
            else:
                self._accept(whole, meta, start, turn)
            self._restore_holes(meta.number - self.look_ahead, turn)
        except BaseException:
            self._fail()
            raise
        accounts.emitted += len(turn.outputs)
        accounts.seconds.total += perf_counter() - start
        return turn.outputs

    def collect(self) -> list[Denoised]:
        """Return the output that a push with `ahead` has left under way, if any."""
        self._check_usable()
        turn = Turn(None, [])
        try:
            self._passage.finish(turn)
        except BaseException:
            self._fail()
            raise
        self._accounts.emitted += len(turn.outputs)
        return turn.outputs

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
        check_reason(skip)
        turn = Turn(skip, [])
        try:
            self._passage.finish(turn)
            self._drain(turn)
            self._restore_holes(None, turn)
        except BaseException:
            self._fail()
            raise
        self._guard.restart()
        self._binder.expect(None, begun=False)
        self._passage.end_movie()
        if self._sides is not None and not self._sides.looking:
            self._sides.forget()
            self._places = {}
        self._last_pushed = self._key = None
        self._accounts.emitted += len(turn.outputs)
        self._accounts.seconds.total += perf_counter() - start
        return turn.outputs

    def expect(self, frames: Frame, start: int | None = None, learns_from: range | None = None) -> None:
        """Learn what the scene of the next movie looks like, so that its first frames are known if they are dark.

        Parameters
        ----------
        frames
            (T, H, W), the first of the movie; they are pushed afterwards as any others.
        start
            Number of the first frame whose output is wanted; those before are dropped for the reason `warm-up`.
        learns_from
            Numbers of the frames that `deviation_factor` is learned from, wanted or not, so that deviations do not
            depend on `start`; None for all frames that are denoised.
        """
        self._check_usable()
        check_movie(frames, "frames")
        if start is not None:
            start = whole_number(start, "frame number", "number frames 0, 1, 2, ... in whole numbers")
        self._learned.settled = True
        self._passage.wanted_from = start
        self._maker.learns_from = learns_from
        self._binder.expect(frames, begun=self._passage.last_entered is not None)

    def survey(self, movie: Sequence[Frame] | AnyMovie, first: int, stop: int) -> None:
        """Look at the frames `first` to `stop` (exclusive) of a recorded movie before they are pushed.

        A bundle whose memory has two sides then knows, with each frame that is pushed, what comes after it; any other
        has no use for it, and nothing is done. The same frames must then be pushed with the same numbers, from `first`
        on and at least until the last output that is wanted; `flush` forgets what was seen. No graph runs but the one
        that puts frames onto a scene that moves, so it takes a few percent of the time of denoising; more on small
        frames whose parts move, which are tracked back and forth.

        Parameters
        ----------
        movie
            (T, H, W).
        first, stop
            Numbers of the first frame, and of the frame after the last. `expect` must be called anew afterwards.

        Raises
        ------
        InvalidInput
            If a movie has begun, the noise is not known yet, or the temporary folder is full; see also `push`.
        """
        self._check_usable()
        if self._sides is None:
            return
        if self._last_pushed is not None or self._intake.calibration is not None:
            raise InvalidInput(
                "A movie has begun, or its noise is not known: survey a movie with a stream that was calibrated and "
                "flushed."
            )
        self._places = {}
        if self._align or self.tracks_motion:
            self._places = self._places_of(movie, first, stop)
        self._sides.begin_look()
        with self._accounts.unchanged():
            for number in range(first, stop):
                self.push(np.asarray(movie[number]), FrameMeta(number, 0.0), skip=_SURVEY)
            self.flush(skip=_SURVEY)
        self._sides.end_look()

    def _places_of(self, movie: Sequence[Frame] | AnyMovie, first: int, stop: int) -> dict[int, Displacement]:
        """Return where frames lie on the scene, by their numbers, as those before and after show it.

        A movie of several scenes has none: it is tracked forwards, as a live one.
        """
        assert self._sides is not None
        expected, wanted_from = self._binder.expected, self._passage.wanted_from
        self._sides.begin_look()
        self._route = route = Route()
        try:
            with self._accounts.unchanged():
                for number in range(first, stop):
                    self.push(np.asarray(movie[number]), FrameMeta(number, 0.0), skip=_SURVEY)
                bound = self._binder.now
                placement = None if bound is None else deepcopy(bound.placement)
                self.flush(skip=_SURVEY)
        finally:
            self._route = None
        if expected is not None:
            self.expect(expected, wanted_from)
        if bound is None or placement is None or not placement.parts or route.scenes != 1:
            return {}
        scanner, intensity = bound.scanner, self._learned.intensity
        assert intensity is not None

        def frame_of(number: int) -> Frame | None:
            frame = np.asarray(movie[number])
            if frame.dtype.kind == "f" and not np.isfinite(frame).all():
                return None  # it keeps what was found where its holes were filled
            frame, _ = take_out_clipped(frame, intensity)
            return frame if scanner is None else scanner.take_off(frame)

        return placed_both_ways(placement, route.found, frame_of)

    def track_motion(self, on: bool) -> None:
        """Follow the motion of the scene from now on, or not, whatever was found out; only between movies."""
        self._check_usable()
        check_flag(on, "on")
        if self._last_pushed is not None:
            raise InvalidInput(
                "A movie has begun: call flush() before the stream is told to follow it or not."
            )
        self._align, self._binder.watch = on, False
        if self._kind is not None:
            self._binder.bind(self._kind, follow=on)

    def use_scanner(self, artefacts: ScannerArtefacts) -> None:
        """Take these artefacts of the instrument off from now on, whatever was measured; only between movies."""
        self._check_usable()
        if not isinstance(artefacts, ScannerArtefacts):
            raise InvalidInput(
                f"artefacts was given {artefacts!r}: give an object of the class ScannerArtefacts."
            )
        if self._last_pushed is not None:
            raise InvalidInput(
                "A movie has begun: call flush() before the stream is told about the instrument."
            )
        self._learned.use_scanner(artefacts)
        if self._kind is not None:
            self._binder.bind(self._kind, follow=self.tracks_motion or bool(self._align))

    def close(self) -> None:
        """Release the graphs, and the backend if the stream opened it. Safe to call twice."""
        if self._unusable != "is closed":
            self._unusable = "is closed"
            if self._sides is not None:
                self._sides.forget()
            self._binder.close()
            self._passage.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_usable(self) -> None:
        if self._unusable is not None:
            raise InvalidInput(f"The stream {self._unusable} and takes no more frames: open a new one.")

    def _accept(self, frame: Frame, meta: FrameMeta, pushed: float, turn: Turn) -> None:
        """Process a frame, or hold it until the noise is known."""
        intake, learned = self._intake, self._learned
        if intake.idle:
            self._encode_into_ring(frame, meta, pushed, turn)
            return
        due = intake.take(Held(frame.copy(), meta, pushed))
        if self._confirming is not None and intake.calibration is not None and intake.calibration.certain:
            assert learned.intensity is not None
            self._confirming.see(take_out_clipped(frame, learned.intensity)[0])
        if due == "now":
            self._calibrate(turn)
        elif due == "if certain":
            self._begin_if_certain(turn)
        if learned.intensity is not None:
            # The first output comes with the push that the stream begins with.
            least = self.look_ahead + 1 if self._passage.last_due is None else 0
            for _ in range(min(max(intake.catch_up, least), len(intake.held))):
                self._enter_held(intake.held.popleft(), turn)
                if learned.intensity is None:  # another scene, whose noise is not known yet
                    break

    def _enter_held(self, held: Held, turn: Turn) -> None:
        self._encode_into_ring(held.frame, held.meta, held.pushed, turn)
        if self._intake.calibration is not None:
            self._intake.calibration.processed.append(held)

    def _rebind_if_changed(self, frame: Frame, number: int, turn: Turn) -> None:
        """Change to a frame's kind, if it is another."""
        kind = ((frame.shape[0], frame.shape[1]), native(frame.dtype))
        if kind == self._kind:
            return
        if self._kind is not None:
            (old_shape, old_dtype), (shape, dtype) = self._kind, kind
            self._drain(turn)
            self._accounts.rebinds.append(Rebind(number, old_shape, shape, old_dtype.name, dtype.name))
            if dtype != old_dtype and not self._learned.given:
                self._learned.forget()  # another dtype is another scale
                self._intake.begin_again()
        self._kind = kind
        self._binder.bind(kind, follow=self.tracks_motion or bool(self._align))

    def _begin_if_certain(self, turn: Turn) -> None:
        """Begin with the noise of the frames so far, if it is certain."""
        calibration = self._intake.calibration
        assert calibration is not None
        started = perf_counter()
        estimate = self._learned.measure([held.frame for held in calibration.kept])
        calibration.certain = is_certain(estimate)
        frames = estimate.as_one
        self._accounts.seconds.calibrate += perf_counter() - started
        if calibration.certain:
            self._calibrate(turn, estimate)
            self._confirming = Watch((frames.shape[1], frames.shape[2]), estimate.intensity)
            for frame in frames:
                self._confirming.see(frame)

    def _is_confirmed(self, calibration: Calibration) -> bool:
        """Say whether more frames say the same as those of the certain noise model that the stream began with."""
        learned = self._learned
        assert self._confirming is not None
        assert learned.intensity is not None
        if self._align is None and self._confirming.moves(at_first=True):
            return False
        if len(calibration.kept) < self.bundle.manifest.calibration_frames:
            return True  # that it does not move
        kept = [held.frame for held in calibration.kept]
        return agree(learned.measure(kept), learned.intensity, learned.artefacts)

    def _calibrate(self, turn: Turn, estimate: Estimate | None = None) -> None:
        """Estimate the noise from the frames so far, and whether the scene moves; encode anew what is encoded.

        Nothing is encoded anew where the noise that the stream began with was certain, and is confirmed.
        """
        started = perf_counter()
        calibration, kind, learned = self._intake.calibration, self._kind, self._learned
        assert calibration is not None
        assert kind is not None
        again = calibration.certain and calibration.begun
        if again and self._is_confirmed(calibration):
            calibration.estimated()
            learned.provisional = not calibration.complete
            if calibration.complete:
                self._intake.end_calibration()
            self._accounts.seconds.calibrate += perf_counter() - started
            return
        known_to_be_still = estimate is not None
        calibration.certain = known_to_be_still  # what was not confirmed is refined as any other
        if estimate is None:
            estimate = learned.measure([held.frame for held in calibration.kept])
        learned.take(estimate)
        follow = bool(self._align)
        if self._align is None and not known_to_be_still:
            follow = moves(estimate.as_one, estimate.intensity)
        calibration.estimated()
        learned.provisional = not calibration.complete
        self._intake.catch_up = calibration.catch_up
        self._accounts.seconds.calibrate += perf_counter() - started
        processed = list(calibration.processed)
        if processed:
            self._forget_movie()
        bound = self._binder.bind(kind, follow=follow)
        if not self._binder.expects:
            bound.lights.begin(estimate.frames)
        for held in processed:
            self._enter_held(held, turn)
        if calibration.complete:
            self._intake.end_calibration()

    def _encode_into_ring(self, frame: Frame, meta: FrameMeta, pushed: float, turn: Turn) -> None:
        """Encode a frame into the ring, after a gap for each frame missing before it."""
        learned, seconds, number = self._learned, self._accounts.seconds, meta.number
        bound, passage = self._binder.bound, self._passage
        assert learned.intensity is not None
        measured = frame
        frame, clipped = take_out_clipped(frame, learned.intensity)
        self._guard.saw(number, frame)
        passage.miss_until(bound, number, turn)
        started = perf_counter()
        as_scanned = frame
        if bound.scanner is not None:
            frame = bound.scanner.take_off(frame)
        frame, hot = bound.lights.without_hot(frame, as_scanned)
        light = self._light_of(bound, frame, None if clipped is None else measured, number, turn)
        if self._is_set_aside(bound, Held(measured, meta, pushed), frame, light, turn):
            return
        # Before the frame is located: a scene that begins to move has the window bound, and the light met, anew.
        lit = bound.lights.lit(number, light)
        bound, place = self._locate(bound, frame, number, turn)
        window, under_light = bound.window, bound.lights.under(light)
        window.set_intensity(under_light)
        field, back = off_the_scene(window, bound.placement)
        placed = perf_counter()
        if self._route is not None:
            passage.enter(bound, Entry(meta, pushed, placed, place), turn)
            return
        window.write(frame, place)
        cells = None
        if self._sides is not None:
            cells = window.cells(field)
            self._sides.enter(cells)
            if self._sides.looking:
                passage.enter(bound, Entry(meta, pushed, placed, place), turn)
                return
        normalised = perf_counter()
        slot = passage.ring.slot
        window.encode(slot)
        encoded = related = perf_counter()
        if self.bundle.manifest.flow_scale > 0:
            self._relate_to_the_one_before(window, slot, back)
            related = perf_counter()
            seconds.motion += related - encoded
        seconds.align += placed - started
        seconds.normalise += normalised - placed
        seconds.encode += encoded - normalised
        seconds.pushes += 1
        # The noise that a bundle comes with was that of its training: it learned what is the mean.
        few = light_of(frame, under_light) if learned.of_this_movie and self._light else None
        rows = rows_of(number, as_scanned) if self._std and self.tracks_motion else None
        entry = Entry(
            meta,
            pushed,
            related,
            place,
            field,
            back,
            few,
            light,
            lit,
            clipped=clipped,
            hot=hot,
            rows=rows,
            cells=cells,
        )
        passage.enter(bound, entry, turn)

    def _relate_to_the_one_before(self, window: BoundWindow, slot: int, back: Field | None) -> None:
        """Compute the flow between the frame in a slot and the one before it."""
        ring = self._passage.ring
        if ring.before is None:
            window.unrelate(slot)
            return
        onto_the_next(window, ring.before, (slot - 1) % ring.size, back)
        window.relate(slot)

    def _light_of(self, bound: Bound, frame: Frame, measured: Frame | None, number: int, turn: Turn) -> Light:
        """Measure the light of a frame; start anew when it shows another scene."""
        if measured is not None and bound.scanner is not None:
            measured = bound.scanner.straighten(measured)
        light = bound.lights.see(frame, measured)
        if light.anew:
            self._end_movie(turn)
            self._accounts.start_anew(number, (frame.shape[0], frame.shape[1]), frame.dtype, "scene")
            bound.lights.begin_with(frame)
        return light

    def _is_set_aside(self, bound: Bound, held: Held, frame: Frame, light: Light, turn: Turn) -> bool:
        """Keep a frame of much more light for a new calibration, pass by an unusual one; return whether either."""
        if light.anew and self._learned.far_too_dark_for(frame) and self._intake.calibration is None:
            self._calibrate_again_from(Held(held.frame.copy(), held.meta, held.pushed))
            return True
        if light.unusual:
            nowhere = slice(0, 0), slice(0, 0)
            shown = held.frame.copy()
            entry = Entry(held.meta, held.pushed, perf_counter(), nowhere, light=light, shown=shown)
            self._passage.pass_by(bound, entry, turn)
        return bool(light.unusual)

    def _calibrate_again_from(self, held: Held) -> None:
        """Wait for frames to estimate the noise from, this one the first."""
        self._learned.forget_noise()
        self._binder.stop_measuring_light()
        self._intake.begin_again()
        self._intake.take_back(held)

    def _locate(self, bound: Bound, frame: Frame, number: int, turn: Turn) -> tuple[Bound, Region]:
        """Find where on the canvas a frame lies; start anew when the scene begins to move or has drifted away."""
        known = self._places.get(number)
        if known is not None:
            return bound, bound.placement.put(known)
        if self._route is not None and not bound.placement.begun:
            self._route.scenes += 1
        place, change = bound.placement.find(frame)
        if change is not None:
            if self._route is not None:
                self._route.scenes += 1
            assert self._kind is not None
            self._end_movie(turn)
            if change == "moves":
                bound = self._binder.bind(self._kind, follow=True)
            place, _ = bound.placement.find(frame)
            self._accounts.start_anew(number, self._kind[0], frame.dtype, change)
        if self._route is not None:
            self._route.found[number] = bound.placement.displacement
        return bound, place

    def _pass_over(self, number: int, turn: Turn) -> None:
        """Let a frame without values be a missing one for its neighbours."""
        if self._intake.held and self._holes.waiting > _PATIENCE:
            self._drain(turn)  # do not wait for more frames with values to calibrate with
        if self._intake.held or self._passage.last_entered is None:
            return  # the next frame to enter the ring finds the gap
        self._passage.pass_over(self._binder.bound, number, turn)

    def _restore_holes(self, last: int | None, turn: Turn) -> None:
        """Make NaN of what was not measured, and return the frames without values that are due."""
        holes, last_due = self._holes, self._passage.last_due
        holes.restore(turn.outputs)
        if holes.waiting:
            # Those that the ring has passed by, and all before a frame that was returned.
            passed = last_due if last_due is not None else -1
            if last is not None:
                last = passed if self._intake.held else max(last, passed)
            due = holes.due(last)
            if turn.skip is not None and due:
                self._accounts.drop(turn.skip, due)
                holes.drop(due)
            elif due:
                turn.outputs += holes.blanks(due, perf_counter(), std=self._std)
                turn.outputs.sort(key=lambda out: out.meta.number)
        if last_due is not None:
            holes.forget(last_due)

    def _drain(self, turn: Turn) -> None:
        """Finish every frame in flight and leave the ring and the memory empty."""
        held = self._intake.held
        if held:
            self._calibrate_if_due(turn)
            while held:
                self._enter_held(held.popleft(), turn)
                self._calibrate_if_due(turn)
        self._end_movie(turn)
        if self._learned.intensity is not None:
            self._intake.end_calibration()  # what there is stays

    def _calibrate_if_due(self, turn: Turn) -> None:
        """Estimate the noise from what there is, where none is known."""
        if self._learned.intensity is None and self._intake.calibration is not None:
            self._calibrate(turn)

    def _end_movie(self, turn: Turn) -> None:
        """Finish what is in the ring, then empty the ring and the memory."""
        if self._passage.last_entered is not None:
            self._passage.leave(self._binder.bound, turn)
            self._forget_movie()

    def _forget_movie(self) -> None:
        """Empty the ring and the memory, whatever they hold."""
        self._passage.clear()
        self._binder.bound.forget()
        if self._intake.calibration is not None:
            self._intake.calibration.restart()

    def _fail(self) -> None:
        self._accounts.lose_the_rest()
        if self._passage.under_way and self._binder.now is not None:
            self._binder.now.window.close()  # the device may still write to their memory
        self._passage.abandon()
        self._passage.ring.clear()
        self._intake.clear()
        self._holes.clear()
        self._unusable = "has failed"
