"""Training while recording: another bundle takes over between two frames, and nothing of it can harm a recording."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import SessionControl, SessionReport, fill_run, live
from denoscope.acquisition.adaptation import adaptation as module
from denoscope.acquisition.adaptation.adaptation import Adaptation, Surroundings, check_adaptation
from denoscope.acquisition.adaptation.plan import AdaptationPlan, TrainingRequest
from denoscope.acquisition.adaptation.process import _Ended, _Process
from denoscope.acquisition.adaptation.swapping import Failure, SwappingDenoiser, SwapPoint
from denoscope.acquisition.adaptation.trial import Trial, TrialPlan
from denoscope.acquisition.denoisers.facts import same_treatment
from denoscope.acquisition.denoisers.kept_bundle import bundle_in_log
from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser
from denoscope.acquisition.errors import DenoiserFailed, DenoiserLost
from denoscope.acquisition.lane.tally import Tally
from denoscope.acquisition.results import AdaptationRound, BundleSwap, SessionProvenance
from denoscope.acquisition.session.ending.report import write_report
from denoscope.runtime import Bundle, Denoised, FrameMeta, InvalidInput, StreamKey
from support.changed_bundle import changed_bundle
from support.tiny_bundle import tiny_bundle

from .test_fill import frames_of, record

KEY = StreamKey("A")
PLAN = TrialPlan(warm_frames=4, checked_frames=32, backlog_frames=64)


class Ahead(LocalDenoiser):
    """A denoiser of this process with the methods of one in another; `late` answers stay under way."""

    late = 0
    fails: Exception | None = None

    def __init__(self, request: DenoiserRequest) -> None:
        super().__init__(request)
        self._waiting: list[list[Denoised]] = []
        self.closed = False

    @property
    def under_way(self) -> int:
        return len(self._waiting)

    def begin(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        if self.fails is not None:
            raise self.fails
        self._waiting.append(self.push(frame, meta, skip=skip))
        return self.collect() if len(self._waiting) > self.late else []

    def collect(self) -> list[Denoised]:
        return self._waiting.pop(0)

    def flush(self) -> list[Denoised]:
        if self.fails is not None:
            raise self.fails
        return super().flush()

    def rest(self) -> list[Denoised]:
        return []

    def times(self) -> list[Any]:
        return []

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle, and others that differ from it."""
    folder = tmp_path_factory.mktemp("bundles")
    tiny = folder / "tiny.denoscope"
    tiny_bundle(tiny, intensity=None, calibration_frames=8)
    changes: dict[str, dict[str, float]] = {
        "brighter": {"shift": 0.02},
        "nan": {"factor": float("nan")},
        "off": {"shift": 1.0},
    }
    for name, change in changes.items():
        changed_bundle(folder / f"{name}.denoscope", of=str(tiny), **change)
    return {"tiny": tiny, **{name: folder / f"{name}.denoscope" for name in changes}}


def movie(count: int) -> Any:
    return np.random.default_rng(5).poisson(150, (count, 32, 40)).astype(np.uint16)


def opened(bundle: Path, learned: Any = None) -> Ahead:
    told = {} if learned is None else same_treatment(learned)
    return Ahead(DenoiserRequest(str(bundle), "onnxruntime-cpu", threads=1, **told))


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 250
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def play(
    denoiser: SwappingDenoiser,
    bundle: Path,
    frames: Any,
    at: int = 20,
    plan: TrialPlan = PLAN,
    fails_at: int | None = None,
) -> tuple[list[Denoised], Trial]:
    """Push frames, and try a bundle from frame `at` on; the trial finishes each frame before the next comes.

    After frame `fails_at` the denoiser in use fails.
    """
    outputs: list[Denoised] = []

    def push(number: int) -> None:
        outputs.extend(denoiser.begin(frames[number], FrameMeta(number, 0.0, KEY, source_index=number)))

    for number in range(at):
        push(number)
    learned = denoiser.learned()
    trial = Trial(lambda: opened(bundle, learned), plan, str(bundle))
    denoiser.try_out(trial, same_treatment(learned))
    until(lambda: trial._open or trial.problem is not None)
    for number in range(at, len(frames)):
        push(number)
        until(lambda: trial.pushed == trial._offered or trial.problem is not None)
        counts = denoiser.counters
        assert counts.received == number + 1
        assert counts.emitted == len(outputs) + sum(map(len, denoiser._now._waiting))
        assert counts.received == counts.emitted + sum(counts.dropped.values()) + counts.in_flight
        if number == fails_at:
            denoiser._now.fails = DenoiserLost("ended by signal 9")
    while denoiser.under_way:
        outputs += denoiser.collect()
    return outputs + denoiser.flush(), trial


def test_another_bundle_takes_over_between_two_frames(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ahead, "late", 2)
    frames, first = movie(80), opened(bundles["tiny"])
    denoiser = SwappingDenoiser(first)
    outputs, trial = play(denoiser, bundles["brighter"], frames)
    assert trial.problem is None
    point = denoiser.points.get_nowait()
    assert denoiser.points.empty()
    # 36 frames of trial after frame 20; the look-ahead of 3 frames is still held by then.
    assert (point.frame, point.memory_frames) == (53, 33)
    assert [output.meta.source_index for output in outputs] == list(range(80))
    assert denoiser.counters.emitted == 80
    assert denoiser.counters.dropped == {}

    alone, new, right = opened(bundles["tiny"]), opened(bundles["brighter"], first.learned()), {}
    for number, frame in enumerate(frames):
        meta = FrameMeta(number, 0.0, KEY, source_index=number)
        old_ones = alone.push(frame, meta)
        new_ones = new.push(frame, meta) if number >= 20 else []
        right.update({each.meta.number: each.frame for each in old_ones if each.meta.number < point.frame})
        right.update({each.meta.number: each.frame for each in new_ones if each.meta.number >= point.frame})
    assert len(right) == 77  # the others wait for frames that never come
    for output in outputs[:77]:
        np.testing.assert_array_equal(output.frame, right[output.meta.number], str(output.meta.number))
    until(lambda: first.closed)
    denoiser.close()


@pytest.mark.parametrize("at", [69, 79], ids=["in mid-run", "at the end"])
def test_the_bundle_before_goes_on_where_the_new_one_fails(bundles: dict[str, Path], at: int) -> None:
    frames, tiny = movie(80), str(bundles["tiny"])
    told: list[Any] = []

    def reopen(bundle: str, conditions: Any) -> Ahead:
        assert bundle == tiny
        told.append(conditions)
        return Ahead(DenoiserRequest(bundle, "onnxruntime-cpu", threads=1, **conditions))

    denoiser = SwappingDenoiser(opened(bundles["tiny"]), tiny, reopen)
    outputs, _trial = play(denoiser, bundles["brighter"], frames, fails_at=at)
    assert denoiser.points.get_nowait().failure is None
    back = denoiser.points.get_nowait()
    lost = list(range(at - 2, at + 1))  # the look-ahead, which the failed one held
    assert back == SwapPoint(
        lost[0], 0, Failure("brighter.denoscope", "ended by signal 9", 3, "tiny", Bundle.load(tiny).digest)
    )
    assert [output.meta.source_index for output in outputs] == [n for n in range(80) if n not in lost]
    counts = denoiser.counters
    assert (counts.received, counts.emitted, counts.in_flight) == (80, 77, 0)
    assert counts.dropped == {"denoiser failed": 3}
    assert told[0]["intensity"] is not None
    alone, right = reopen(tiny, told[0]), list[Denoised]()
    for number in range(at + 1, 80):
        right += alone.push(frames[number], FrameMeta(number, 0.0, KEY, source_index=number))
    right += alone.flush()
    for output, expected in zip(outputs[len(outputs) - len(right) :], right, strict=True):
        np.testing.assert_array_equal(output.frame, expected.frame)
    denoiser.close()


def test_denoising_ends_where_no_bundle_can_be_opened_again(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(bundles["tiny"])
    first.fails = DenoiserLost("ended by signal 9")
    alone = SwappingDenoiser(first, "", lambda _bundle, _told: first)
    with pytest.raises(DenoiserLost, match="ended by signal 9"):  # nothing was in use before it
        alone.push(movie(1)[0], FrameMeta(0, 0.0, KEY, source_index=0))
    alone.close()

    changed = opened(bundles["brighter"])  # in the place of the first bundle
    denoiser = SwappingDenoiser(opened(bundles["tiny"]), "first", lambda _bundle, _told: changed)
    with pytest.raises(
        DenoiserFailed, match=r"signal 9; tiny could not be opened again \(its files were changed\)"
    ):
        play(denoiser, bundles["brighter"], movie(80), fails_at=69)
    assert changed.closed
    denoiser.close()


def test_frames_of_another_stream_end_a_trial(bundles: dict[str, Path]) -> None:
    denoiser, frames = SwappingDenoiser(opened(bundles["tiny"])), movie(30)
    for number in range(20):
        denoiser.push(frames[number], FrameMeta(number, 0.0, KEY, source_index=number))
    trial = Trial(lambda: opened(bundles["brighter"], denoiser.learned()), PLAN)
    denoiser.try_out(trial, same_treatment(denoiser.learned()))
    denoiser.push(frames[20], FrameMeta(0, 0.0, StreamKey("B"), source_index=20))
    assert trial.problem == "the recording has several streams"
    trial.join(10)
    denoiser.close()


@pytest.mark.parametrize(
    ("name", "words"), [("nan", "no numbers|not finite|NaN"), ("off", "beyond what noise")]
)
def test_a_bad_bundle_is_never_used(bundles: dict[str, Path], name: str, words: str) -> None:
    denoiser = SwappingDenoiser(opened(bundles["tiny"]))
    outputs, trial = play(denoiser, bundles[name], movie(80))
    assert trial.problem is not None
    assert re.search(words, trial.problem), trial.problem
    assert not trial.again
    assert denoiser.points.empty()
    assert [output.meta.source_index for output in outputs] == list(range(80))
    denoiser.close()


def test_a_restart_ends_a_trial_and_another_may_follow(bundles: dict[str, Path]) -> None:
    denoiser = SwappingDenoiser(opened(bundles["tiny"]))
    frames = movie(40)
    for number, frame in enumerate(frames):
        denoiser.push(frame, FrameMeta(number, 0.0, KEY, source_index=number))
    learned = denoiser.learned()
    trial = Trial(lambda: opened(bundles["brighter"], learned), PLAN)
    denoiser.try_out(trial, same_treatment(learned))
    until(lambda: trial._open)
    denoiser.push(frames[0], FrameMeta(40, 0.0, KEY, source_index=40))
    denoiser.restart(KEY, recalibrate=False)
    assert trial.problem is not None
    assert trial.again
    trial.join(250)
    denoiser.close()


def test_a_trial_that_is_too_slow_gives_up_and_never_waits(bundles: dict[str, Path]) -> None:
    denoiser, gate = SwappingDenoiser(opened(bundles["tiny"])), threading.Event()

    class Slow(Ahead):
        def push(self, *values: Any, **more: Any) -> list[Denoised]:
            gate.wait(250)
            return super().push(*values, **more)

    trial = Trial(lambda: Slow(DenoiserRequest(str(bundles["brighter"]), "onnxruntime-cpu")), PLAN)
    frames = movie(90)
    denoiser.try_out(trial, {})
    until(lambda: trial._open)
    outputs = []
    for number, frame in enumerate(frames):
        outputs += denoiser.push(frame, FrameMeta(number, 0.0, KEY, source_index=number))
    gate.set()
    assert trial.problem is not None
    assert "too slow" in trial.problem
    assert trial.again
    assert len(outputs) == 87
    trial.join(250)
    denoiser.close()


def test_what_cannot_work_is_said_before_anything_is_recorded(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = str(bundles["tiny"])
    check_adaptation(tiny, denoiser="process", keep_raw=True)
    with pytest.raises(InvalidInput, match="`denoiser` process, not thread"):
        check_adaptation(tiny, denoiser="thread", keep_raw=True)
    with pytest.raises(InvalidInput, match=r"raw\.tif"):
        check_adaptation(tiny, denoiser="process", keep_raw=False)
    monkeypatch.setattr(module, "_processors", lambda: 1)
    with pytest.raises(InvalidInput, match="this computer has 1"):
        check_adaptation(tiny, denoiser="process", keep_raw=True)
    monkeypatch.setattr("denoscope.acquisition.extras.find_spec", lambda _: None)
    with pytest.raises(InvalidInput, match=r'pip install "\.\[train\]"'):
        check_adaptation(tiny, denoiser="process", keep_raw=True)


def surroundings(events: list[dict[str, Any]], dropped: dict[str, int] | None = None) -> Surroundings:
    return Surroundings(
        written=lambda: 50,
        dropped=lambda: dropped or {},
        streams=lambda: 1,
        tally=Tally("pop"),
        tell=lambda event, **values: events.append({"event": event, **values}),
    )


@pytest.fixture
def adaptation(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Adaptation]]:
    """Return an adaptation whose training process behaves as told."""
    made: list[Adaptation] = []
    denoiser = SwappingDenoiser(opened(bundles["tiny"]))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))

    def make(how: str, **plan: Any) -> Adaptation:
        monkeypatch.setenv("STUB_TRAINER", how)
        numbers = {
            "settle_s": 0.0,
            "least_frames": 10,
            "growth": 1.0,
            "idle": False,
            "patience_s": 30.0,
        } | plan
        monkeypatch.setattr(module, "PLAN", AdaptationPlan(module="support.stub_trainer", **numbers))
        request = DenoiserRequest(str(bundles["tiny"]))
        no_map = {"camera_gain": None, "camera_offset": None, "camera_roi": None}
        made.append(Adaptation(denoiser, lambda asked: opened(Path(asked.bundle)), request, tmp_path, no_map))
        return made[-1]

    yield make
    for each in made:
        each.close()
    denoiser.close()


@pytest.mark.parametrize(
    ("how", "plan", "words"),
    [
        pytest.param("crash", {}, "SIGABRT|ended with code|crashed", marks=pytest.mark.slow),
        pytest.param("memory", {"memory_mb": 400}, "400 MB are the limit", marks=pytest.mark.slow),
        ("stopped", {"patience_s": 1.0}, "made no progress"),
        ("killed", {}, "SIGKILL|ended with code"),
    ],
)
def test_a_training_process_that_fails_is_ended_and_said(
    adaptation: Callable[..., Adaptation],
    how: str,
    plan: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if how == "stopped" and not hasattr(signal, "SIGSTOP"):
        pytest.skip("needs POSIX signals")
    events: list[dict[str, Any]] = []
    monkeypatch.setattr("denoscope.acquisition.adaptation.trainer._START_S", 30.0)
    adapting = adaptation(how if how in ("crash", "memory") else "level", **plan)
    adapting.start(surroundings(events))
    trainer = adapting._trainer
    assert trainer is not None
    if how in ("stopped", "killed"):
        until(lambda: bool(adapting.record.rounds) and trainer.peak_bytes is not None)
        os.kill(trainer.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    until(lambda: adapting.record.problem is not None)
    assert re.search(words, adapting.record.problem or "")
    trainer._child.process.wait(250)
    assert events[-1] == {"event": "adaptation ended", "text": adapting.record.problem}
    adapting.close()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_time_for_which_the_computer_slept_is_not_the_training_process(
    adaptation: Callable[..., Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapting = adaptation("level")
    adapting.start(surroundings([]))
    trainer = adapting._trainer
    assert trainer is not None
    until(lambda: trainer.peak_bytes is not None)
    os.kill(trainer.pid, signal.SIGSTOP)  # no message comes between the sleep and the first look
    time.sleep(0.1)
    awake, awake_too, slept_s = time.perf_counter, time.monotonic, 7200.0
    monkeypatch.setattr(trainer._looks, "look", looked := Mock(wraps=trainer._looks.look))
    monkeypatch.setattr(time, "perf_counter", lambda: awake() + slept_s)
    monkeypatch.setattr(time, "monotonic", lambda: awake_too() + slept_s)
    until(lambda: looked.call_count > 3 or adapting.record.problem is not None)
    os.kill(trainer.pid, signal.SIGCONT)
    assert adapting.record.problem is None


def test_a_full_disk_costs_the_new_bundle_alone(
    adaptation: Callable[..., Adaptation], tmp_path: Path
) -> None:
    adapting, events = adaptation("full"), list[dict[str, Any]]()
    adapting.start(surroundings(events))
    until(lambda: bool(adapting.record.refused))
    assert "could not be saved ([Errno 28] No space left on device)" in adapting.record.refused[0]
    assert not list(tmp_path.iterdir())
    assert adapting.record.problem is None
    adapting.close()
    assert adapting.record.rounds


def test_training_is_held_up_while_frames_are_skipped(adaptation: Callable[..., Adaptation]) -> None:
    dropped: dict[str, int] = {"paused": 7}
    adapting = adaptation("level", pause_s=1000.0)
    adapting.start(surroundings([], dropped))
    until(lambda: bool(adapting.record.rounds))
    assert adapting.record.paused == 0
    dropped["keep-up"] = 1
    until(lambda: adapting.record.paused == 1)

    def stands_still() -> bool:
        rounds = len(adapting.record.rounds)
        time.sleep(0.4)
        return len(adapting.record.rounds) == rounds

    until(stands_still)
    adapting.close()


def test_weights_that_failed_in_use_are_not_tried_again(adaptation: Callable[..., Adaptation]) -> None:
    events: list[dict[str, Any]] = []
    adapting = adaptation("level")
    adapting.start(surroundings(events))
    points = adapting._denoiser.points
    points.put(SwapPoint(40, 0, Failure("adapted-1.denoscope", "ended by signal 9", 5, "tiny", "abc")))
    until(lambda: bool(adapting.record.failed))
    assert adapting.record.failed[0] == (
        "adapted-1.denoscope failed after it had taken over (ended by signal 9); from frame 40 on the movie was "
        "denoised with tiny again, 5 frames in between not while recording, and its weights were not tried again"
    )
    swap = adapting.record.swaps[0]
    assert (swap.frame, swap.bundle, swap.bundle_sha256, swap.failed) == (
        40,
        "tiny",
        "abc",
        "ended by signal 9",
    )
    assert adapting.record.problem is None
    points.put(SwapPoint(90, 0, Failure("adapted-2.denoscope", "ended by signal 9", 5, "tiny", "abc")))
    until(lambda: adapting.record.problem is not None)
    assert adapting.record.problem == "2 new bundles failed after they had taken over"
    adapting.close()
    adapting.complete()
    assert not any("trained on 0 frames" in note for note in adapting.notes)


def test_training_goes_on_from_the_weights_before_those_that_failed() -> None:
    told: list[dict[str, Any]] = []
    did: list[str] = []

    class Learning:
        def learn(self, frames: int) -> AdaptationRound:
            did.append(f"learn {frames}")
            if len(did) == 1:
                process._back = 1  # in the middle of the round
            else:
                process._ended = True
            return AdaptationRound(
                frames=frames,
                held_out=1,
                steps=1,
                seconds=0.0,
                processor_s=0.0,
                gain_nats=1.0,
                error_nats=0.1,
                total_nats=1.0,
                total_error_nats=0.1,
                offered=len(did) == 1,
            )

        def go_back(self) -> None:
            did.append("go back")

    wire: Any = SimpleNamespace(send=told.append)
    process = _Process(wire, lambda _request, _tick: None)
    process._frames, process._pause = 1000, False
    with pytest.raises(_Ended):
        process._train(Learning(), TrainingRequest("run", "tiny", least_frames=100))
    assert did == ["learn 1000", "go back", "learn 1000"]
    assert not any("offer" in words for words in told)


def test_skipped_frames_are_filled_by_the_bundle_that_was_in_use(tmp_path: Path) -> None:
    skipped = [20, 21, 41, 42]
    record(tmp_path / "run", frames_of(60), skipped)
    changed_bundle(tmp_path / "run" / "adapted-1.denoscope", shift=5.0, of=str(tmp_path / "tiny.denoscope"))
    other = tmp_path / "run" / "adapted-1.denoscope"
    fill_run(tmp_path / "run", tmp_path / "first.ome.tif", backend="onnxruntime-cpu")
    report = SessionReport.read(tmp_path / "run")
    swap = BundleSwap(
        frame=30,
        bundle=other.name,
        bundle_sha256=Bundle.load(other).digest,
        trained_on_frames=20,
        gain_nats=0.1,
        error_nats=0.01,
    )
    back = BundleSwap(
        frame=39,
        bundle="tiny",
        bundle_sha256=str(report.denoiser.bundle_sha256),
        trained_on_frames=0,
        gain_nats=0.0,
        error_nats=0.0,
        failed="ended by signal 9",
    )
    report.denoiser.swaps = [swap, back]
    write_report(report, tmp_path / "run")
    done = fill_run(tmp_path / "run", tmp_path / "both.ome.tif", backend="onnxruntime-cpu")
    assert (done.kept, done.computed) == (56, 4)
    assert done.denoiser.swaps == [swap, back]
    first, both = tifffile.imread(tmp_path / "first.ome.tif"), tifffile.imread(tmp_path / "both.ome.tif")
    brighter = [float(np.mean(both[at].astype(float) - first[at])) for at in range(60)]
    # An output is skipped where it is due, three frames later.
    assert [at for at in range(60) if brighter[at] != 0] == [38]  # from 39 on the first one was in use again
    shutil.copytree(tmp_path / "tiny.denoscope", tmp_path / "elsewhere")
    shutil.rmtree(other)
    with pytest.raises(InvalidInput, match=r"adapted-1\.denoscope, which is not in .* any more"):
        fill_run(tmp_path / "run", tmp_path / "none.ome.tif")
    (tmp_path / "elsewhere").rename(other)
    with pytest.raises(InvalidInput, match="put a copy of the session's there"):
        fill_run(tmp_path / "run", tmp_path / "none.ome.tif")


@pytest.mark.slow
def test_a_session_goes_on_with_the_bundle_that_its_training_offers(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("STUB_TRAINER", "good")
    plan = AdaptationPlan(
        "support.stub_trainer", idle=False, least_frames=10, settle_s=0.1, warm_frames=8, checked_frames=32
    )
    monkeypatch.setattr(module, "PLAN", plan)
    tifffile.imwrite(tmp_path / "movie.tif", movie(6000))
    control, seen, used, killed = SessionControl(), list[int](), list[Any](), list[int]()

    def look(status: Any, _source: Any, provenance: SessionProvenance) -> None:
        if len(provenance.swaps) > len(seen):
            seen.append(status.received)
        if len(seen) == 1 and status.received > seen[0] + 20 and not killed:
            killed.append(used[0].pid)
            os.kill(killed[0], signal.SIGTERM)
        if len(seen) == 2 and status.received > seen[1] + 20:
            control.stop("test")

    def keep(denoiser: Any) -> Any:
        used.append(denoiser)
        return denoiser

    run = tmp_path / "run"
    report = live(
        core=f"replay:{tmp_path / 'movie.tif'}",
        output=run,
        bundle=str(bundles["tiny"]),
        fps=40,
        picture=False,
        fill=False,
        adapt=True,
        control=control,
        on_status=look,
        wrap=keep,
    )
    assert report.adaptation is not None
    swap, back = report.adaptation.swaps
    assert report.outcome.problems == report.adaptation.failed
    assert len(report.adaptation.failed) == 1
    assert back.failed is not None
    assert (back.bundle_sha256, back.bundle) == (Bundle.load(bundles["tiny"]).digest, "tiny")
    assert 0 < report.frames.dropped["denoiser failed"] < 20
    assert report.denoiser.swaps == report.adaptation.swaps
    frames = report.frames
    assert frames.received == frames.written_raw == frames.denoised + sum(frames.dropped.values())
    assert Bundle.load(run / swap.bundle).digest == swap.bundle_sha256
    assert {"idle", "trial"} & report.adaptation.delay.keys()
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [each["frame"] for each in events if each["event"] == "bundle changed"] == [swap.frame, back.frame]
    assert any(swap.bundle in note for note in report.outcome.notes)
    with tifffile.TiffFile(run / "denoised.ome.tif") as tif:
        assert swap.bundle_sha256 in (tif.ome_metadata or "")
    assert bundle_in_log(run).swaps == [swap, back]


@pytest.mark.slow
@pytest.mark.usefixtures("short_rehearsals")
def test_rounds_of_training_learn_from_the_raw_frames_alone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from denoscope.acquisition.adaptation.learner import Learner

    rows, columns = np.mgrid[:48, :48]
    scene = 60 + 40 * np.sin(1.9 * columns) * np.sin(1.7 * rows)
    frames = np.random.default_rng(0).poisson(scene, (120, 48, 48)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "raw.tif", frames)
    ticks = list[int]()
    request = TrainingRequest(
        str(tmp_path), "live-fast", steps=(8, 8), batch=4, crop=32, least_frames=60, hold_out=0.2
    )
    learner = Learner(request, lambda: ticks.append(1))
    first = learner.learn(90)
    assert (first.frames, first.held_out, first.steps) == (90, 18, 8)
    assert ticks
    second = learner.learn(120)
    assert second.total_nats > 2 * second.total_error_nats
    digest = learner.save(tmp_path / "adapted-1.denoscope", second)
    learner.judge(used=True)
    bundle = Bundle.load(tmp_path / "adapted-1.denoscope")
    assert bundle.digest == digest
    assert bundle.manifest.look_ahead == Bundle.load("live-fast").manifest.look_ahead
