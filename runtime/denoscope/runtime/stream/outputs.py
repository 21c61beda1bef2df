"""Make the output of a frame that became due: denoised, with its light, its artefacts and its holes of saturation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.kept_light import (
    Change,
    change_of_mean,
    changed,
    lost_in_rounding,
    some_counts_more,
)
from denoscope.runtime.noise.few_photons_mean import keep_mean
from denoscope.runtime.noise.noise import noise_of
from denoscope.runtime.types import Denoised, StageTimes
from denoscope.runtime.window.both_sides import BothSides
from denoscope.runtime.window.picture import Made

from .accounts import Accounts
from .arrivals import Entry
from .binder import Bound
from .following import onto_the_centre
from .residuals.deviation import DeviationFactor
from .residuals.guard import Guard
from .ring import Ring
from .settings import StreamSettings

__all__ = ["OutputMaker", "Pending"]

Frame = npt.NDArray[Any]


@dataclass(slots=True)
class Pending:
    """An output that was begun.

    Attributes
    ----------
    bound
        What it is made with.
    entry
        The frame.
    started, launched
        When it was begun, and when that returned.
    seen
        Count of measured frames that the guard had seen.
    made
        The picture, which may be on its way; None for a frame that is shown as measured.
    of_window
        Slot of the window's oldest frame, and which frames are there.
    around
        Frames of the window.
    above
        Light of the frame, in counts above the camera's offset.
    """

    bound: Bound
    entry: Entry
    started: float
    launched: float
    seen: int = 0
    made: Made | None = None
    of_window: tuple[int, int] = (0, 0)
    around: Sequence[Entry] = ()
    above: float = 0.0


class OutputMaker:
    """Turn the centre of a window into an output.

    Parameters
    ----------
    settings
        Of the stream.
    ring
        Frames of the window.
    guard
        Compares outputs with what was measured.
    accounts
        Are told of seconds and of frames shown as measured.
    sides
        Long memory of both sides, where the bundle has one.

    Attributes
    ----------
    learns_from
        Numbers of the frames that the factor of the deviations is learned from; None for all that are denoised.
    """

    def __init__(
        self,
        settings: StreamSettings,
        ring: Ring[Entry],
        guard: Guard,
        accounts: Accounts,
        sides: BothSides | None = None,
    ) -> None:
        self._sides = sides
        self._std, self._fix_line_offset = settings.std, settings.fix_line_offset
        self._ring = ring
        self._guard = guard
        self._accounts = accounts
        self._deviation = DeviationFactor()
        self.learns_from: range | None = None

    @property
    def factor(self) -> float:
        """Factor of the predicted deviations, by what the movie has shown so far."""
        return self._deviation.factor

    def forget(self) -> None:
        """Forget what the scene has shown."""
        self._deviation.restart()

    def must_learn(self, number: int) -> bool:
        """Return whether a frame must be learned from although its output is not wanted."""
        looking = self._sides is not None and self._sides.looking
        return self._std and not looking and self.learns_from is not None and number in self.learns_from

    def learn(self, bound: Bound, entry: Entry, rotation: int) -> None:
        """Learn from the centre how true the deviation is, without an output."""
        if entry.rows is None or entry.shown is not None:
            return
        pending = self.begin(bound, entry, rotation)
        assert pending.made is not None
        bound.window.arrive(pending.made)
        frame = self._with_its_light(pending, bound.window.read(pending.made))
        self._scaled_std(pending, frame if bound.scanner is None else bound.scanner.put_back(frame))

    def _scaled_std(self, pending: Pending, frame: Frame) -> npt.NDArray[np.float32]:
        """Return the predicted deviation of a denoised frame, by what the movie has shown."""
        bound, entry, made = pending.bound, pending.entry, pending.made
        assert made is not None
        std = bound.window.read_std(made)
        if bound.scanner is not None:
            std = bound.scanner.place(std)
        if entry.rows is not None and (self.learns_from is None or entry.meta.number in self.learns_from):
            self._deviation.learn(entry.rows, frame, std, bound.lights.under(entry.light))
        if self._deviation.factor > 1:
            std *= np.float32(self._deviation.factor)
        return std

    def begin(self, bound: Bound, entry: Entry, rotation: int) -> Pending:
        """Begin the output of the centre; `rotation` is the slot of the window's oldest frame.

        `finish` may be called when the next frame has entered: what it needs of the window and the light is kept.
        """
        aligning = perf_counter()
        if entry.shown is not None:
            return Pending(bound, entry, aligning, aligning)
        window, seconds = bound.window, self._accounts.seconds
        window.set_intensity(bound.lights.under(entry.light))
        if self._sides is not None:
            window.put_memory(self._sides)
        onto_the_centre(window, self._ring.entries, entry, rotation)
        started = perf_counter()
        seconds.align += started - aligning
        presence = self._ring.presence
        made = window.fuse(rotation, presence, entry.place)
        launched = perf_counter()
        seconds.fuse += launched - started
        around = [each for each in self._ring.entries if each is not None]
        above = bound.lights.above(entry.lit)
        return Pending(
            bound, entry, started, launched, self._guard.seen, made, (rotation, presence), around, above
        )

    def finish(self, pending: Pending) -> Denoised:
        """Wait for an output that was begun, and return it."""
        bound, entry, made = pending.bound, pending.entry, pending.made
        if made is None:
            assert entry.shown is not None
            return self._show(bound, entry, entry.shown)
        window, scanner, seconds = bound.window, bound.scanner, self._accounts.seconds
        waiting = perf_counter()
        window.arrive(made)
        fused = perf_counter()
        frame = window.read(made)
        self._guard.look_until(pending.seen)
        self._guard.check_numbers(entry.meta.number, frame)
        frame = self._with_its_light(pending, frame)
        if scanner is not None:
            frame = scanner.put_back(frame)
        std = self._scaled_std(pending, frame) if self._std else None
        if entry.hot is not None:
            entry.hot.put_back(frame, std)
        self._guard.check(entry.meta.number, frame)
        if entry.clipped is not None:
            clipped = entry.clipped
            if scanner is not None and self._fix_line_offset:
                clipped = clipped.moved((frame.shape[0], frame.shape[1]), scanner.as_placed)
            clipped.put_back(frame, std)
        emitted = perf_counter()
        seconds.fuse += fused - waiting
        seconds.convert += emitted - fused
        seconds.outputs += 1
        times = StageTimes(
            entry.meta.t_received_s, entry.pushed, entry.encoded, pending.started, fused, emitted
        )
        return Denoised(frame, std, entry.meta, times, self.factor if self._std else 1.0)

    def _show(self, bound: Bound, entry: Entry, shown: Frame) -> Denoised:
        """Return a frame as measured."""
        now = perf_counter()
        self._accounts.show(entry.light.unusual)
        intensity = bound.lights.intensity
        assert intensity is not None
        std = noise_of(shown, intensity) if self._std else None
        times = StageTimes(entry.meta.t_received_s, entry.pushed, entry.encoded, now, now, perf_counter())
        self._accounts.seconds.outputs += 1
        return Denoised(shown, std, entry.meta, times)

    def _with_its_light(self, pending: Pending, frame: Frame) -> Frame:
        """Return a denoised frame with the light of the measured one, where light changes or is of few photons."""
        lights, entry, around = pending.bound.lights, pending.entry, pending.around
        own, above = entry.lit, pending.above
        lit = [each.lit for each in around if each.lit is not None]
        moves = pending.bound.window.follows
        change = lights.missing(frame, own, lit, above, moves=moves)
        if change is not None:
            frame = self._changed(pending, frame, change)
        if entry.few is None:
            return frame
        kept = keep_mean(frame, entry.few, [each.few.mean for each in around if each.few is not None])
        if kept is not frame:
            return kept
        change = lights.missing(frame, own, lit, above, unseen=True, moves=moves)
        return frame if change is None else self._changed(pending, frame, change)

    def _changed(self, pending: Pending, frame: Frame, change: Change) -> Frame:
        """Return the denoised centre as ``factor * frame + shift``."""
        rounded = changed(frame, change)
        if not lost_in_rounding(frame, rounded, change):
            return rounded
        # Where most pixels are rounded alike, the mean does not follow what is added: once more then.
        wanted = change_of_mean(frame, change)
        again = self._rounded_once(pending, change)
        got = float(again.mean()) - float(frame.mean())
        if abs(got - wanted) > change.tolerance:
            change = replace(change, shift=change.shift + wanted - got)
            again = self._rounded_once(pending, change)
            missing = wanted + float(frame.mean()) - float(again.mean())
            if abs(missing) > change.tolerance:
                return some_counts_more(again, missing, pending.entry.meta.number)
        return again

    def _rounded_once(self, pending: Pending, change: Change) -> Frame:
        """Return the centre as ``factor * frame + shift``, rounded once."""
        window, made = pending.bound.window, pending.made
        factor, shift = change.factor, change.shift
        assert made is not None
        intensity = pending.bound.lights.under(pending.entry.light)
        offset, scale = factor * intensity.offset + shift, factor * intensity.scale
        other = intensity.model_copy(update={"offset": offset, "scale": scale})
        converted = window.convert_again(made, other)
        if converted is not None:
            return converted
        window.set_intensity(other)
        again = window.fuse(*pending.of_window, pending.entry.place)
        window.arrive(again)
        return window.read(again)
