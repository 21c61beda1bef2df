"""A session's denoiser that gives way to another one between two frames, and is opened again where that one fails."""

from __future__ import annotations

import queue
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.denoisers.facts import MovieFacts, SameTreatment, same_treatment
from denoscope.acquisition.denoisers.local import SessionDenoiser
from denoscope.acquisition.errors import DenoiserFailed, one_line
from denoscope.runtime import GuardFinding, StreamCounters

from .trial import Trial

if TYPE_CHECKING:
    import numpy.typing as npt

    from denoscope.acquisition.denoisers.exchange import Description, PushTimes
    from denoscope.runtime import Denoised, FrameMeta, StreamKey

__all__ = ["Failure", "SwapPoint", "SwappingDenoiser"]

_HELD = 4096  # frames whose places are remembered; more than any denoiser holds
_TRIES = 200  # frames at which the two denoisers may hold different frames before a trial is given up
_LOST = "denoiser failed"  # the drop reason of frames that a denoiser held when it failed


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure of a denoiser that had taken over, and what is in use since.

    Attributes
    ----------
    bundle
        Name of the one that failed.
    why
        What happened, without a full stop.
    lost
        Frames that it held, which are not denoised while recording.
    back_to, sha256
        Name of the bundle that is in use again, and SHA-256 of its files.
    """

    bundle: str
    why: str
    lost: int
    back_to: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class SwapPoint:
    """Moment at which one denoiser gave way to another.

    Attributes
    ----------
    frame
        Page of ``raw.tif`` of the first output of the new one.
    memory_frames
        Frames that the new one had seen before the one that was pushed to it first.
    failure
        Why the one before gave way, where it failed; None where the new one is better.
    """

    frame: int
    memory_frames: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Used:
    """Bundle that is or was in use: its place, its name in words, SHA-256 of its files, and the trial it won."""

    bundle: str
    name: str
    sha256: str | None
    trial: Trial | None = None


class SwappingDenoiser:
    """The denoiser in use, and perhaps a second one that is tried beside it.

    It is used by the session's thread alone, as any `SessionDenoiser`; another thread may only start and cancel trials
    and read `points`. Both denoisers get every frame. The second one takes over before a frame for which it has
    finished all frames before, and when both hold the same frames: the outputs of these then come from the second, each
    once and in order.

    Where one that took over fails, the bundle before it is opened again and goes on with the next frame, under the
    same conditions. The frames that the failed one held are counted as ``denoiser failed``. A failure of the first one
    is raised, as that of any denoiser.

    Parameters
    ----------
    first
        In use from the beginning.
    bundle
        What it was opened with.
    reopen
        Opens a bundle under `same_treatment`; None where none is opened again.

    Attributes
    ----------
    points
        One entry for each time that a second denoiser took over.
    prepared
        Shape, dtype and streams that `prepare` was given.
    """

    def __init__(
        self,
        first: SessionDenoiser,
        bundle: str = "",
        reopen: Callable[[str, SameTreatment], SessionDenoiser] | None = None,
    ) -> None:
        self._now: Any = first
        self._reopen = reopen
        self._trial: Trial | None = None
        sha256 = first.provenance.get("bundle_sha256")
        self._used = [_Used(bundle, str(first.provenance.get("bundle", bundle)), sha256)]
        self._pushed = self._handed = 0  # frames handed over, and outputs returned, by all of them
        self._told: SameTreatment | None = None
        self._tries = 0
        self._keys: set[StreamKey] = set()
        self._recent: deque[int] = deque(maxlen=_HELD)
        self._before = StreamCounters(0, 0, {}, 0)  # of denoisers that gave way
        self._at_start = StreamCounters(0, 0, {}, 0)  # of the one in use, when it took over
        self._steps = self._refinements = 0
        self._guard: GuardFinding | None = None
        self._guards: tuple[object, GuardFinding] | None = None
        self._times: list[PushTimes] = []
        self.points: queue.SimpleQueue[SwapPoint] = queue.SimpleQueue()
        self.prepared: tuple[tuple[int, int], Any, int] | None = None
        self.look_ahead: int = first.look_ahead
        self.provenance = first.provenance

    # -- for the thread that adapts

    def try_out(self, trial: Trial, told: SameTreatment) -> None:
        """Give each frame to the trial's denoiser too, and let it take over when it is in step.

        Parameters
        ----------
        trial
            Has just begun.
        told
            The `same_treatment` that its denoiser was opened with.
        """
        self._told, self._tries = told, 0
        self._trial = trial

    # -- for the session's thread

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames, over all denoisers that were in use."""
        now: StreamCounters = self._now.counters
        if not self._before.received:
            return now
        before, start = self._before, self._at_start
        return StreamCounters(
            before.received + now.received - start.received,
            before.emitted + now.emitted - start.emitted,
            _sum(before.dropped, now.dropped, start.dropped),
            now.in_flight,
            _sum(before.unusual, now.unusual, start.unusual),
        )

    @property
    def under_way(self) -> int:
        """Frames that were handed over and not answered yet."""
        return int(self._now.under_way)

    @property
    def steps(self) -> int:
        """Finished steps of all denoisers that were in use."""
        return self._steps + int(self._now.steps)

    @property
    def pid(self) -> int:
        """Of the process in use."""
        return int(self._now.pid)

    def learned(self) -> MovieFacts:
        """Return what the denoiser in use has found out, with the findings of the guard of those before."""
        known: MovieFacts = self._now.learned()
        found = known.copy()
        if self._before.received:
            found["intensity_refinements"] = self._refinements
            found["guard"] = self._guard_of(found.get("guard"))
        return found

    def _guard_of(self, found: Any) -> Any:
        if self._guard is None or found is None:
            return found if self._guard is None else self._guard.model_dump()
        if self._guards is None or self._guards[0] is not found:  # asked for with every frame
            self._guards = found, self._guard.and_of(GuardFinding.model_validate(found))
        return self._guards[1].model_dump()

    def times(self) -> list[PushTimes]:
        """Return the times of the frames that were answered since the last call, in order."""
        times, self._times = [*self._times, *self._now.times()], []
        return times

    def describe(self) -> Description:
        """Return the backend and the memory of the process in use."""
        description: Description = self._now.describe()
        return description

    def prepare(self, shape: tuple[int, int], dtype: npt.DTypeLike, streams: int) -> None:
        """Open so many streams for frames of a shape and dtype now."""
        self.prepared = shape, dtype, streams
        self._now.prepare(shape, dtype, streams)

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Take one frame; return the outputs that are due."""
        outputs = self.begin(frame, meta, skip=skip)
        return outputs + self._settle()

    def begin(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Hand over one frame; return the outputs of frames before it that are there."""
        self._keys.add(meta.key)
        outputs = [] if self._trial is None else self._go_over(meta)
        if self._trial is not None:
            self._trial.offer(frame, meta)
        outputs += self._outputs(lambda now: now.begin(frame, meta, skip=skip))
        self._recent.append(-1 if meta.source_index is None else meta.source_index)
        self._pushed += 1
        return outputs

    def collect(self) -> list[Denoised]:
        """Wait for the answer to the oldest frame under way; return its outputs."""
        return self._outputs(lambda now: now.collect())

    def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        """Finish what one stream holds and begin it anew; a trial ends."""
        self._cancel("the recording was paused or changed while the new bundle was tried")
        # Another denoiser has no such stream, so there is nothing to begin anew in it.
        return self._outputs(
            lambda now: now.restart(key, recalibrate=recalibrate), again=False, recalibrate=recalibrate
        )

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held; a trial ends."""
        self._cancel("the recording ended while the new bundle was tried")
        return self._outputs(lambda now: now.flush(), again=False)

    def close(self) -> None:
        """Let go of everything."""
        self._cancel("the recording ended while the new bundle was tried")
        self._now.close()
        for used in self._used:
            if used.trial is not None:
                used.trial.release()

    def _cancel(self, why: str) -> None:
        if (trial := self._trial) is not None:
            self._trial = None
            trial.cancel(why, again=True)

    def _settle(self) -> list[Denoised]:
        outputs: list[Denoised] = []
        while self._now.under_way:
            outputs += self.collect()
        return outputs

    def _outputs(
        self, ask: Callable[[Any], list[Denoised]], *, again: bool = True, recalibrate: bool = False
    ) -> list[Denoised]:
        """Ask the denoiser in use for outputs; where it fails, go back to the one before.

        Parameters
        ----------
        ask
            Returns the outputs of a denoiser.
        again
            Ask the one before, too.
        recalibrate
            Whether the conditions that were found so far do not hold any more.
        """
        outputs: list[Denoised] = []
        while True:
            try:
                asked = ask(self._now)
            except Exception as error:
                if len(self._used) < 2 or self._reopen is None:
                    raise
                outputs += self._go_back(error, recalibrate=recalibrate)
                if again:
                    continue
                return outputs
            self._handed += len(asked)
            return outputs + asked

    def _go_back(self, error: Exception, *, recalibrate: bool) -> list[Denoised]:
        """Open the bundle before the one in use, which failed; return outputs that the failed one had finished.

        Raises
        ------
        DenoiserFailed
            Where no bundle can be opened again.
        """
        failed, dead = self._used.pop(), self._now
        outputs: list[Denoised] = dead.rest()
        self._handed += len(outputs)
        self._cancel("the denoiser in use failed while the new bundle was tried")
        counts, steps, learned = self.counters, self.steps, self.learned()
        dropped = Counter(counts.dropped)
        lost = self._pushed - self._handed - dropped.total()
        dropped[_LOST] += lost
        self._times = self.times()
        dead.close()
        if failed.trial is not None:
            failed.trial.release()
        known = not recalibrate and not learned.get("intensity_provisional")
        new: Any = self._opened_again(same_treatment(learned if known else {}), error)
        self._refinements = int(learned.get("intensity_refinements") or 0)
        if learned.get("guard") is not None:
            self._guard = GuardFinding.model_validate(learned["guard"])
        self._before = StreamCounters(self._pushed, self._handed, dict(+dropped), 0, counts.unusual)
        self._at_start, self._now, self._steps = new.counters, new, steps - int(new.steps)
        recent, back = list(self._recent), self._used[-1]
        first = recent[-min(lost, len(recent))] if lost else recent[-1] + 1
        failure = Failure(failed.name, one_line(error), lost, back.name, back.sha256)
        self.points.put(SwapPoint(first, 0, failure))
        return outputs

    def _opened_again(self, told: SameTreatment, error: Exception) -> SessionDenoiser:
        """Return a denoiser with the newest bundle before the one that failed that can be opened."""
        assert self._reopen is not None
        why = ""
        while self._used:
            used = self._used[-1]
            try:
                new = self._reopen(used.bundle, told)
            except Exception as another:  # noqa: BLE001  the one before it may still open
                reason = one_line(another)
            else:
                if new.provenance.get("bundle_sha256") == used.sha256:
                    return new
                new.close()
                reason = "its files were changed"
            why = f"{self._used.pop().name} could not be opened again ({reason})"
        raise DenoiserFailed(f"{one_line(error)}; {why}") from error

    def _go_over(self, meta: FrameMeta) -> list[Denoised]:
        """Let the trial's denoiser take over before this frame, where it can; return the outputs of the other."""
        trial = self._trial
        assert trial is not None
        if len(self._keys) > 1:
            trial.cancel("the recording has several streams")
        if trial.problem is not None:
            self._trial = None
            return []
        new: Any = trial.in_step()
        if new is None:
            return []
        outputs, old = self._settle(), self._now
        if self._trial is None:  # the denoiser in use failed in this moment
            return outputs
        if same_treatment(old.learned()) != self._told:
            self._cancel("the brightness or the motion was measured anew while the new bundle was tried")
            return outputs
        held = old.counters.in_flight
        if new.counters.in_flight != held or new.look_ahead != old.look_ahead:
            self._tries += 1
            if self._tries > _TRIES:
                self._cancel("the two denoisers did not hold the same frames")
            return outputs
        before = self.counters
        self._steps, self._times = self.steps, self.times()
        learned = self.learned()
        if not trial.hand_over(old):
            return outputs
        self._used.append(
            _Used(trial.bundle, Path(trial.bundle).name, new.provenance.get("bundle_sha256"), trial)
        )
        self._refinements = int(learned.get("intensity_refinements") or 0)
        if learned.get("guard") is not None:
            self._guard = GuardFinding.model_validate(learned["guard"])
        self._before, self._at_start, self._now, self._trial = before, new.counters, new, None
        self._steps -= int(new.steps)
        first = self._recent[-held] if held else (meta.source_index or 0)
        self.points.put(SwapPoint(first, trial.pushed - held))
        return outputs


def _sum(before: Mapping[str, int], now: Mapping[str, int], start: Mapping[str, int]) -> dict[str, int]:
    """Return counts by name of all denoisers, those of the one in use since it took over."""
    total = Counter(before)
    total.update(now)
    total.subtract(start)
    return {name: count for name, count in total.items() if count}
