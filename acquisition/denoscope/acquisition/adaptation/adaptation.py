"""Adaptation of a running session: train in another process, try what it offers, go on with it where it is better."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.denoisers.facts import same_treatment
from denoscope.acquisition.denoisers.local import DenoiserRequest, SessionDenoiser
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.extras import require
from denoscope.acquisition.results import AdaptationRecord, AdaptationRound, BundleSwap, DelayDuring
from denoscope.runtime import Bundle, InvalidInput, counted

from .plan import AdaptationPlan, TrainingRequest
from .swapping import Failure, SwappingDenoiser
from .trainer import Trainer
from .trial import Trial, TrialPlan

if TYPE_CHECKING:
    from denoscope.acquisition.lane.tally import Tally
    from denoscope.acquisition.processes.wire import Words

__all__ = ["PLAN", "Adaptation", "Surroundings", "check_adaptation"]

PLAN = AdaptationPlan()
"""Numbers of every adaptation."""

_TURN_S = 0.25
_TELL_S = 1.0
_TRIALS = 3  # of one bundle
_AGAIN_S = 20.0
_MOST_FAILED = 2  # bundles that may fail after they took over before training ends
_NO_SKIP = ("paused",)  # reasons for which a frame is not denoised that say nothing about the computer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """View of a session as its adaptation has it.

    Attributes
    ----------
    written
        Returns how many raw frames are written.
    dropped
        Returns how many frames were not denoised, by reason.
    streams
        Returns how many streams there are so far.
    tally
        Of the lane: it is told the phase.
    tell
        Notes an event in the log, as ``tell(event, **values)``.
    """

    written: Callable[[], int]
    dropped: Callable[[], Mapping[str, int]]
    streams: Callable[[], int]
    tally: Tally
    tell: Callable[..., None]


@dataclass(slots=True)
class _Offer:
    """A bundle that the training process offers."""

    folder: Path
    sha256: str
    done: AdaptationRound
    trials: int = 0
    not_before_s: float = 0.0


def check_adaptation(bundle: str, *, denoiser: str, keep_raw: bool) -> None:
    """Refuse an adaptation that cannot work, before anything is opened.

    Raises
    ------
    InvalidInput
        One sentence with the remedy.
    """
    require("torch", extra="train", purpose="`adapt`")
    if not keep_raw:
        raise InvalidInput(
            "`adapt` learns from raw.tif in the run folder, and none is written here: leave it out."
        )
    if denoiser != "process":
        raise InvalidInput(f"`adapt` needs `denoiser` process, not {denoiser}: leave one of the two out.")
    method = Bundle.load(bundle).manifest.method
    if method != "live":
        raise InvalidInput(
            f"`adapt` trains bundles of the method live, and `bundle` {bundle} is of the method {method}: choose "
            "another bundle, or train it before the recording (denoscope train)."
        )
    if (processors := _processors()) < 2:
        raise InvalidInput(
            f"`adapt` trains on a processor that the denoiser does not need, and this computer has {processors}: "
            "leave it out."
        )


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Adaptation:
    """Everything of an adaptation, in a thread that the recording does not wait for.

    Parameters
    ----------
    denoiser
        Of the session.
    make
        Opens another denoiser.
    request
        What the first one was asked for.
    run, camera
        Run folder, and the calibration as ``camera_gain``, ``camera_offset`` and ``camera_roi``.

    Attributes
    ----------
    record
        For the report; complete after `complete`.
    notes
        Sentences for the user; complete after `complete`.
    """

    def __init__(
        self,
        denoiser: SwappingDenoiser,
        make: Callable[[DenoiserRequest], SessionDenoiser],
        request: DenoiserRequest,
        run: Path,
        camera: Mapping[str, str | None],
    ) -> None:
        self._plan = plan = PLAN
        self._denoiser = denoiser
        self._make = make
        self._request = request
        self._training = TrainingRequest(
            str(run.absolute()), request.bundle, **(plan.of_rounds() | {**camera})
        )
        self.record = AdaptationRecord(threads=plan.threads)
        self.notes: list[str] = []
        self._trainer: Trainer | None = None
        self._seen: Surroundings | None = None
        self._offer: _Offer | None = None
        self._trial: Trial | None = None
        self._written: deque[tuple[float, int]] = deque()
        self._settled = self._skipped = 0
        self._paused_until_s = self._told_s = 0.0
        self._paused = False
        self._started_s = time.perf_counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="denoscope-adapt", daemon=True)

    def start(self, seen: Surroundings) -> None:
        """Begin, because the camera runs."""
        self._seen, self._started_s = seen, time.perf_counter()
        self._trainer = Trainer(self._training, self._plan, look_every_s=_TURN_S)
        self._thread.start()

    def close(self) -> None:
        """End training and trials; the denoiser in use stays as it is. Safe to call twice."""
        trainer = self._trainer
        self._ended.set()
        if trainer is not None:
            trainer.close()
        if self._thread.ident is not None:
            self._thread.join()
        if self._trial is not None:
            self._trial.cancel("the recording ended while the new bundle was tried", again=True)

    def _run(self) -> None:
        try:
            while not self._ended.wait(_TURN_S):
                self._turn()
        except Exception as error:  # noqa: BLE001  the recording goes on, whatever it was
            self._end(f"it failed ({type(error).__name__}: {one_line(error)})")

    def _end(self, why: str) -> None:
        """Train no more."""
        if self.record.problem is None:
            self.record.problem = why
            assert self._seen is not None
            self._seen.tell("adaptation ended", text=why)
        if self._trainer is not None:
            self._trainer.close()

    def _turn(self) -> None:
        trainer, seen = self._trainer, self._seen
        assert trainer is not None
        assert seen is not None
        now_s = time.perf_counter()
        self._look_at_the_session(now_s)
        self._look_at_the_trial(now_s)
        if self.record.problem is None:
            self._look_at_the_trainer(now_s)
        trying = self._trial is not None
        seen.tally.phase = "trial" if trying else ("training" if trainer.works else "idle")

    def _look_at_the_session(self, now_s: float) -> None:
        seen = self._seen
        assert seen is not None
        self._written.append((now_s, seen.written()))
        while self._written and now_s - self._written[0][0] >= self._plan.settle_s:
            self._settled = self._written.popleft()[1]
        skipped = sum(count for reason, count in seen.dropped().items() if reason not in _NO_SKIP)
        if skipped > self._skipped:
            self._skipped, self._paused_until_s = skipped, now_s + self._plan.pause_s
        if self.record.problem is None and seen.streams() > 1:
            self._end("the recording has several streams, and only one can be learned from")

    def _look_at_the_trainer(self, now_s: float) -> None:
        trainer, seen = self._trainer, self._seen
        assert trainer is not None
        assert seen is not None
        pause = now_s < self._paused_until_s
        if pause and not self._paused:
            self.record.paused += 1
        if pause != self._paused or now_s - self._told_s >= _TELL_S:
            self._told_s, self._paused = now_s, pause
            trainer.tell_frames(self._settled, pause=pause)
        while not trainer.news.empty():
            self._hear(trainer.news.get())
        trainer.look()
        if trainer.problem is not None:
            self._end(trainer.problem)

    def _hear(self, words: Words) -> None:
        seen = self._seen
        assert seen is not None
        if "failed" in words:
            self.record.refused.append(str(words["failed"]))
            seen.tell("adaptation", text=words["failed"])
            return
        done = AdaptationRound.model_validate(words["round"])
        done.at_s = time.perf_counter() - self._started_s
        if "offer" not in words:
            self.record.rounds.append(done)
            seen.tell("adaptation", **done.as_json())
            return
        self._offer = _Offer(Path(words["offer"]), str(words["sha256"]), done)

    # -- trials

    def _look_at_the_trial(self, now_s: float) -> None:
        self._look_at_the_points()
        offer, trial = self._offer, self._trial
        if offer is None:
            return
        if trial is None:
            if now_s >= max(offer.not_before_s, self._paused_until_s):
                self._try(offer)
        elif trial.problem is not None:
            self._trial = None
            if trial.again and offer.trials < _TRIALS:
                offer.not_before_s = now_s + _AGAIN_S
                return
            self._refuse(offer, trial.problem)

    def _try(self, offer: _Offer) -> None:
        learned = self._denoiser.learned()
        if learned.get("intensity") is None or learned.get("intensity_provisional"):
            return
        told, prepared = same_treatment(learned), self._denoiser.prepared
        request = replace(
            self._request,
            bundle=str(offer.folder),
            look_ahead=self._denoiser.look_ahead,
            intensity=told["intensity"],
            scanner=told["scanner"],
            align=told["align"],
        )

        def make() -> SessionDenoiser:
            if Bundle.load(offer.folder).digest != offer.sha256:
                raise InvalidInput("its files are not those that were offered")
            denoiser = self._make(request)
            try:
                if prepared is not None:
                    denoiser.prepare(*prepared)
            except BaseException:
                denoiser.close()
                raise
            return denoiser

        plan = self._plan
        offer.trials += 1
        lengths = TrialPlan(plan.warm_frames, plan.checked_frames, plan.backlog_frames)
        self._trial = Trial(make, lengths, str(offer.folder))
        self._denoiser.try_out(self._trial, told)

    def _refuse(self, offer: _Offer, why: str) -> None:
        assert self._trainer is not None
        assert self._seen is not None
        sentence = f"{offer.folder.name} was not used: {why}"
        self.record.refused.append(sentence)
        self._seen.tell("adaptation", text=sentence)
        self._offer = None
        self._trainer.tell_verdict(offer.folder.name, used=False)

    def _look_at_the_points(self) -> None:
        while not self._denoiser.points.empty():
            point = self._denoiser.points.get()
            if point.failure is None:
                self._swapped(point.frame, point.memory_frames)
            else:
                self._failed(point.frame, point.failure)

    def _failed(self, frame: int, failure: Failure) -> None:
        """Note that a bundle failed after it had taken over; its weights are not tried again."""
        assert self._trainer is not None
        assert self._seen is not None
        sentence = (
            f"{failure.bundle} failed after it had taken over ({failure.why}); from frame {frame} on the movie was "
            f"denoised with {failure.back_to} again, {counted(failure.lost, 'frame')} in between not while recording, "
            "and its weights were not tried again"
        )
        self.record.failed.append(sentence)
        self._add_swap(
            BundleSwap(
                frame=frame,
                bundle=failure.back_to,
                bundle_sha256=failure.sha256 or "",
                trained_on_frames=0,
                gain_nats=0.0,
                error_nats=0.0,
                at_s=time.perf_counter() - self._started_s,
                failed=failure.why,
            )
        )
        self._trainer.tell_failed()
        if self._offer is not None:
            self._trial = None
            self._refuse(self._offer, f"it was trained from {failure.bundle}, which failed")
        if len(self.record.failed) == _MOST_FAILED:
            self._end(f"{counted(_MOST_FAILED, 'new bundle')} failed after they had taken over")

    def _swapped(self, frame: int, memory_frames: int) -> None:
        offer = self._offer
        assert offer is not None
        assert self._trainer is not None
        assert self._seen is not None
        swap = BundleSwap(
            frame=frame,
            bundle=offer.folder.name,
            bundle_sha256=offer.sha256,
            trained_on_frames=offer.done.frames - offer.done.held_out,
            gain_nats=offer.done.gain_nats,
            error_nats=offer.done.error_nats,
            memory_frames=memory_frames,
            at_s=time.perf_counter() - self._started_s,
        )
        self._add_swap(swap)
        self._offer = self._trial = None
        self._trainer.tell_verdict(offer.folder.name, used=True)

    def _add_swap(self, swap: BundleSwap) -> None:
        assert self._seen is not None
        self.record.swaps.append(swap)
        # Read by the denoised movie when it is closed, and by whoever fills the run.
        self._denoiser.provenance["swaps"] = [each.as_json() for each in self.record.swaps]
        self._seen.tell("bundle changed", **swap.as_json())

    # -- the end

    def complete(self) -> None:
        """Complete the record and the notes, after `close` and after the last frame was denoised."""
        record, trainer, seen = self.record, self._trainer, self._seen
        if trainer is None or seen is None:
            return
        self._look_at_the_points()
        if self._offer is not None:
            record.refused.append(
                f"{self._offer.folder.name} is better and came too late to be used while recording"
            )
        record.processor_s, record.peak_bytes = trainer.processor_s, trainer.peak_bytes
        for phase, histogram in seen.tally.by_phase.items():
            found = histogram.quantiles_s()
            if found:
                frames = int(histogram.counts.sum())
                record.delay[phase] = DelayDuring(frames=frames, p50_s=found["p50"], p99_s=found["p99"])
        self.notes += adaptation_notes(record)


def adaptation_notes(record: AdaptationRecord) -> list[str]:
    """Return what the user is told about an adaptation, sentences without a full stop."""
    found = [
        f"from frame {swap.frame} on the movie was denoised with {swap.bundle}, which was trained on "
        f"{counted(swap.trained_on_frames, 'frame')} of this recording"
        for swap in record.swaps
        if swap.failed is None
    ]
    found += record.refused
    if not record.rounds:
        found.append("`adapt`: the recording ended before a first round of training was complete")
        return found
    last = record.rounds[-1]
    how = f"{last.total_nats:+.4f} ± {last.total_error_nats:.4f} nats a pixel"
    if last.total_db is not None and last.total_error_db is not None:
        how = f"{last.total_db:+.2f} ± {last.total_error_db:.2f} dB"
    found.append(
        f"`adapt`: {counted(len(record.rounds), 'round')} of training, {record.processor_s:.0f} s of processor time; "
        f"the last weights predict frames that they did not see {how} better than the bundle of the beginning"
    )
    idle, training = record.delay.get("idle"), record.delay.get("training")
    if idle is not None and training is not None:
        found.append(
            f"delay with and without training: median {training.p50_s * 1e3:.0f} and {idle.p50_s * 1e3:.0f} ms, 99 % "
            f"within {training.p99_s * 1e3:.0f} and {idle.p99_s * 1e3:.0f} ms"
        )
    return found
