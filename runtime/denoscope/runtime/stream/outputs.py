"""Make the output of a frame that became due: denoised, with its light, its artefacts and its holes of saturation."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy.typing as npt

from denoscope.runtime.artefacts.kept_light import change_of_mean, changed, lies_in_rounding
from denoscope.runtime.artefacts.light import noise_of
from denoscope.runtime.noise.few_photons_mean import keep_mean
from denoscope.runtime.types import Denoised, StageTimes
from denoscope.runtime.window.both_sides import BothSides

from .accounts import Accounts
from .arrivals import Entry
from .binder import Bound
from .following import onto_the_centre
from .guard import Guard
from .ring import Ring
from .settings import StreamSettings

__all__ = ["OutputMaker"]

Frame = npt.NDArray[Any]

_ROUNDED_OFF = 0.2  # of a change of the mean


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

    def make(self, bound: Bound, entry: Entry, rotation: int) -> Denoised:
        """Return the output of the centre; `rotation` is the slot of the window's oldest frame."""
        if entry.shown is not None:
            return self._show(bound, entry, entry.shown)
        window, scanner, seconds = bound.window, bound.scanner, self._accounts.seconds
        aligning = perf_counter()
        window.set_intensity(bound.lights.under(entry.light))
        if self._sides is not None:
            window.put_memory(self._sides)
        onto_the_centre(window, self._ring.entries, entry, rotation)
        started = perf_counter()
        seconds.align += started - aligning
        window.fuse(rotation, self._ring.presence, entry.place)
        fused = perf_counter()
        frame = window.read(entry.place)
        self._guard.check_numbers(entry.meta.number, frame)
        frame = self._with_its_light(bound, frame, entry, rotation)
        std = window.read_std(entry.place) if self._std else None
        if scanner is not None:
            frame = scanner.put_back(frame)
            std = None if std is None else scanner.place(std)
        self._guard.check(entry.meta.number, frame)
        if entry.clipped is not None:
            clipped = entry.clipped
            if scanner is not None and self._fix_line_offset:
                clipped = clipped.moved((frame.shape[0], frame.shape[1]), scanner.as_placed)
            clipped.put_back(frame, std)
        emitted = perf_counter()
        seconds.fuse += fused - started
        seconds.convert += emitted - fused
        seconds.outputs += 1
        times = StageTimes(entry.meta.t_received_s, entry.pushed, entry.encoded, started, fused, emitted)
        return Denoised(frame, std, entry.meta, times)

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

    def _with_its_light(self, bound: Bound, frame: Frame, entry: Entry, rotation: int) -> Frame:
        """Return a denoised frame with the light of the measured one, where light changes or is of few photons."""
        lights, own = bound.lights, entry.lit
        around = [e.lit for e in self._ring.entries if e is not None and e.lit is not None]
        change = lights.missing(frame, own, around)
        if change is not None:
            frame = self._changed(bound, frame, entry, rotation, change)
        if entry.few is None:
            return frame
        seen = (e.few for e in self._ring.entries if e is not None)
        kept = keep_mean(frame, entry.few, [few.mean for few in seen if few is not None])
        if kept is not frame:
            return kept
        change = lights.missing(frame, own, around, unseen=True)
        return frame if change is None else self._changed(bound, frame, entry, rotation, change)

    def _changed(
        self, bound: Bound, frame: Frame, entry: Entry, rotation: int, change: tuple[float, float]
    ) -> Frame:
        """Return the denoised centre as ``factor * frame + shift``."""
        if not lies_in_rounding(frame, change):
            return changed(frame, change)
        # Where most pixels are rounded alike, the mean does not follow what is added: once more then.
        wanted = change_of_mean(frame, change)
        again = self._fuse_again(bound, entry, rotation, change)
        got = float(again.mean()) - float(frame.mean())
        if abs(got - wanted) > _ROUNDED_OFF * abs(wanted):
            change = change[0], change[1] + wanted - got
            again = self._fuse_again(bound, entry, rotation, change)
        return again

    def _fuse_again(self, bound: Bound, entry: Entry, rotation: int, change: tuple[float, float]) -> Frame:
        """Return the centre as ``factor * frame + shift``, rounded once."""
        window, (factor, shift) = bound.window, change
        intensity = bound.lights.under(entry.light)
        offset, scale = factor * intensity.offset + shift, factor * intensity.scale
        window.set_intensity(intensity.model_copy(update={"offset": offset, "scale": scale}))
        window.fuse(rotation, self._ring.presence, entry.place)
        return window.read(entry.place)
