from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition import Frame
from denoscope.acquisition.contracts import Stamp
from denoscope.acquisition.lane.lane import DenoiseLane
from denoscope.acquisition.lane.latency import LatencyHistogram, Rate
from denoscope.runtime import Denoised, FrameMeta, StageTimes, Stream, StreamCounters
from support.patience import tried_again
from support.tiny_bundle import stamped, tiny_bundle

PIXELS = np.zeros((4, 4), np.uint16)


class Echo:
    """A denoiser with a look-ahead of two frames; `before` is called at each push."""

    def __init__(self, before: Any = lambda _number: None) -> None:
        self.before = before
        self.held: list[FrameMeta] = []
        self.skips: list[int] = []
        self.counters = StreamCounters(0, 0, {}, 0)

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        self.before(meta.number)
        self.held.append(meta)
        if len(self.held) < 3:
            return []
        due = self.held.pop(0)
        if skip:
            self.skips.append(due.number)
            self.counters = StreamCounters(0, 0, {skip: len(self.skips)}, 0)
            return []
        return [self.emit(due)]

    def emit(self, meta: FrameMeta) -> Denoised:
        now_s = time.perf_counter()
        times = StageTimes(meta.t_received_s, now_s, now_s, now_s, now_s, now_s)
        return Denoised(PIXELS, None, meta, times)

    def flush(self) -> list[Denoised]:
        held, self.held = self.held, []
        return [self.emit(meta) for meta in held]


class Sink:
    def __init__(self, fail_on: int = -1) -> None:
        self.indices: list[int] = []
        self.fail_on = fail_on

    def append(self, output: Denoised, stamp: Stamp) -> None:
        if stamp.index == self.fail_on:
            raise OSError(28, "No space left on device")
        self.indices.append(stamp.index)


def feed(lane: DenoiseLane, count: int, interval_s: float = 0.0, **changes: Any) -> None:
    lane.start()
    for number in range(count):
        values: dict[str, Any] = {"camera": "Cam", **changes}
        lane.offer(number, Frame(PIXELS, number, time.perf_counter(), tags={}, **values))
        time.sleep(interval_s)
    lane.finish()


def balanced(lane: DenoiseLane, received: int) -> dict[str, int]:
    emitted, dropped = lane.counts()
    assert emitted + sum(dropped.values()) == received
    return dict(dropped)


def make(denoiser: Any, sink: Any, **changes: Any) -> DenoiseLane:
    return DenoiseLane(
        denoiser, sink, **{"look_ahead": 2, "queue_frames": 64, "lag_s": 60.0, "finish_s": 60.0, **changes}
    )


def test_every_frame_comes_out_in_order() -> None:
    sink = Sink()
    # Room for twice as many frames: more than half a queue at the start counts as falling behind.
    lane = make(Echo(), sink, queue_frames=100)
    feed(lane, 50)
    assert sink.indices == list(range(50))
    assert balanced(lane, 50) == {}
    assert lane.problem is None
    assert lane.ended


def test_the_end_waits_for_a_denoiser_that_is_slow_and_not_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joins: list[float | None] = []

    class Slow(Echo):
        """Finishes steps until its flush is told to return."""

        def __init__(self, *, hangs: bool) -> None:
            super().__init__()
            self.steps, self.hangs, self.go_on = 0, hangs, threading.Event()

        def flush(self) -> list[Denoised]:
            self.go_on.wait(250)
            return super().flush()

    for hangs in (False, True):
        denoiser, sink = Slow(hangs=hangs), Sink()
        lane = make(denoiser, sink, finish_s=2.0)
        join = lane._thread.join

        def waited(timeout: float | None = None, *, denoiser: Slow = denoiser, join: Any = join) -> None:
            joins.append(timeout)
            denoiser.steps += not denoiser.hangs  # as if the whole time had passed
            if len(joins) == 3:
                denoiser.go_on.set()
                join(250)

        monkeypatch.setattr(lane._thread, "join", waited)
        joins.clear()
        feed(lane, 10)
        denoiser.go_on.set()
        join(250)
        if hangs:
            assert joins == [24.0]
            assert "left behind" in (lane.problem or "")
        else:
            assert joins == [24.0] * 3
            assert sink.indices == list(range(10))
            assert balanced(lane, 10) == {}


@tried_again
def test_no_output_is_made_without_a_frame_that_was_left_at_the_deadline(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / f"{len(list(tmp_path.iterdir()))}.denoscope", window=7)
    movie = [stamped(number) for number in range(30)]
    with Stream(bundle, "onnxruntime-cpu") as stream:
        whole = [
            each.frame
            for number, frame in enumerate(movie)
            for each in stream.push(frame, FrameMeta(number, 0.0))
        ]

    class Slow(Stream):
        def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
            time.sleep(0.05)
            return super().push(frame, meta, skip=skip)

    kept: dict[int, Any] = {}

    class Keeping(Sink):
        def append(self, output: Denoised, stamp: Stamp) -> None:
            kept[stamp.index] = output.frame

    with Slow(bundle, "onnxruntime-cpu") as stream:
        lane = make(stream, Keeping(), look_ahead=3, finish_s=0.4)
        lane.start()
        for number, frame in enumerate(movie):
            lane.offer(number, Frame(frame, number, time.perf_counter(), "Cam", {}))
        lane.finish()
    dropped = balanced(lane, 30)
    assert dropped == {"end of session": 30 - len(kept)}
    assert 0 < len(kept) < 27
    for number, frame in kept.items():
        np.testing.assert_array_equal(frame, whole[number])


def test_a_full_queue_is_counted_and_never_blocks() -> None:
    gate = threading.Event()
    lane = make(Echo(lambda _n: gate.wait(250)), Sink(), queue_frames=4)
    lane.start()
    began_s = time.perf_counter()
    for number in range(40):
        lane.offer(number, Frame(PIXELS, number, time.perf_counter(), "Cam", {}))
    assert time.perf_counter() - began_s < 100
    gate.set()
    lane.finish()
    assert balanced(lane, 40)["overrun"] >= 35


@tried_again
def test_late_frames_are_encoded_but_their_outputs_skipped() -> None:
    echo = Echo(lambda number: time.sleep(0.03 if 10 <= number < 20 else 0))
    lane = make(echo, Sink(), lag_s=0.05)
    feed(lane, 60, interval_s=0.005)
    dropped = balanced(lane, 60)
    dropped.pop("passed over", None)  # on a busy computer
    assert dropped == {"keep-up": len(echo.skips)}
    assert echo.skips


@tried_again
def test_encoding_the_first_frames_anew_is_not_falling_behind() -> None:
    class Refining(Echo):
        """Takes 1.5 s for frame 20, because it measures the noise again."""

        refinements = 0

        def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
            if meta.number == 20:
                time.sleep(1.5)
                self.refinements += 1
            return super().push(frame, meta, skip=skip)

        def learned(self) -> dict[str, Any]:
            return {"intensity_refinements": self.refinements}

    sink = Sink()
    lane = make(Refining(), sink, lag_s=1.0, finish_s=10.0)
    feed(lane, 40, interval_s=0.02)
    assert balanced(lane, 40) == {}
    assert sink.indices == list(range(40))
    assert lane.tally.startup.counts.sum() > 10


@tried_again
def test_a_denoiser_that_is_too_slow_shows_the_newest_frames() -> None:
    ages_s = []

    class Dated(Sink):
        def append(self, output: Denoised, stamp: Stamp) -> None:
            super().append(output, stamp)
            ages_s.append(time.perf_counter() - stamp.t_received_s)

    class Slow(Echo):
        def emit(self, meta: FrameMeta) -> Denoised:
            time.sleep(0.03)
            return super().emit(meta)

    lane = make(Slow(), Dated(), lag_s=0.3)
    feed(lane, 200, interval_s=0.01)
    assert balanced(lane, 200)["keep-up"] > 30
    # It falls behind up to the limit once, and then stays close to the camera.
    assert max(ages_s) > 0.25
    assert np.median(ages_s[-10:]) < 0.25


@pytest.mark.parametrize("late", [False, True])
@tried_again
def test_outputs_go_on_however_fast_the_camera_is(late: bool) -> None:
    """A denoiser that cannot even encode every frame shows a few in a row, again and again."""
    when_s = []

    class Dated(Sink):
        def append(self, output: Denoised, stamp: Stamp) -> None:
            super().append(output, stamp)
            when_s.append((time.perf_counter(), time.perf_counter() - stamp.t_received_s))

    slow_from = 300 if late else 0
    sink = Dated()
    lane = make(Echo(lambda number: time.sleep(0.02 if number >= slow_from else 0)), sink, lag_s=0.1)
    feed(lane, 1500, interval_s=0.001)
    dropped = balanced(lane, 1500)
    assert dropped["passed over"] > 100
    times = [t for t, _ in when_s]
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.5
    assert sink.indices[-1] > 1000
    assert sorted(age for _, age in when_s[10:-5])[len(when_s) // 2 - 8] < 0.3
    assert any(b - a == 1 for a, b in zip(sink.indices[20:], sink.indices[21:], strict=False))


def test_a_patient_lane_passes_nothing_over() -> None:
    sink = Sink()
    lane = make(Echo(lambda _n: time.sleep(0.002)), sink, lag_s=0.01, queue_frames=8, finish_s=20.0)
    lane.start()
    for number in range(600):
        lane.offer(number, Frame(PIXELS, number, time.perf_counter(), "Cam", {}), wait=True)
    lane.finish()
    assert set(balanced(lane, 600)) <= {"keep-up"}


@pytest.mark.parametrize(("denoiser", "sink"), [("fails", "good"), ("good", "fails")])
def test_a_failure_is_said_and_every_later_frame_counted(denoiser: str, sink: str) -> None:
    def explode(number: int) -> None:
        if number == 20:
            raise ValueError("a bad\nday")

    lane = make(Echo(explode) if denoiser == "fails" else Echo(), Sink(18 if sink == "fails" else -1))
    feed(lane, 60, interval_s=0.001)
    assert balanced(lane, 60) == {"denoiser failed": 42}
    assert lane.problem is not None
    assert "\n" not in lane.problem
    assert "not affected" in lane.problem


def test_the_backlog_ends_with_its_time() -> None:
    lane = make(Echo(lambda _n: time.sleep(0.1)), Sink(), finish_s=0.2)
    feed(lane, 40)
    assert balanced(lane, 40)["end of session"] > 20


def test_frames_that_cannot_be_denoised_are_counted() -> None:
    lane = make(Echo(), Sink())
    lane.start()
    now_s = time.perf_counter()
    lane.offer(0, Frame(PIXELS, 0, now_s, "A", {}))
    lane.offer(1, Frame(PIXELS, 1, now_s, "A", {}, agrees=False))
    lane.offer(2, Frame(PIXELS, 0, now_s, "B", {}))
    lane.finish()
    assert balanced(lane, 3) == {"shape disagrees with its tags": 1, "another camera": 1}


def test_latency_counts_from_the_cores_stamp() -> None:
    lane = make(Echo(), Sink())
    lane.start()
    for number in range(20):
        stamp = Frame(PIXELS, number, time.perf_counter(), "A", {}, core_unix_s=time.time() - 0.5)
        lane.offer(number, stamp)
        time.sleep(0.002)
    lane.finish()
    assert lane.tally.latency.quantiles_s()["p50"] > 0.5
    assert lane.tally.latency_from == "TimeReceivedByCore"


@tried_again
def test_the_stages_of_a_frames_way() -> None:
    lane = make(Echo(lambda _number: time.sleep(0.004)), Sink())
    feed(lane, 20, 0.02)
    spent = {stage: histogram.quantiles_s().get("p50") for stage, histogram in lane.tally.stages.items()}
    assert spent["compute"] is not None
    assert 0.004 <= spent["compute"] < 0.5
    assert all(spent[stage] is not None for stage in ("to_queue", "queue", "deliver"))
    assert spent["hop_to"] is spent["hop_back"] is None  # there is no process to hop to


def test_clocks_that_cannot_be_compared_are_not() -> None:
    lane = make(Echo(), Sink())
    feed(lane, 10, core_unix_s=time.time() - 3600)
    assert lane.tally.latency_from == "pop"
    assert {**lane.tally.startup.quantiles_s(), **lane.tally.latency.quantiles_s()}["max"] < 60


def test_quantiles_are_exact_to_one_percent() -> None:
    values = np.random.default_rng(5).lognormal(-3, 1, 5000)
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(float(value))
    quantiles = histogram.quantiles_s()
    for percent in (50, 95, 99):
        assert quantiles[f"p{percent}"] == pytest.approx(np.percentile(values, percent), rel=0.015)
    assert quantiles["max"] == values.max()
    assert LatencyHistogram().quantiles_s() == {}


def test_rate() -> None:
    rate = Rate(window_s=2)
    assert rate.sample(0.0, 0) == 0
    assert [rate.sample(t / 10, 3 * t) for t in range(1, 60)][-1] == pytest.approx(30)


def test_metadata_that_nobody_understands_costs_one_frame() -> None:
    from denoscope.acquisition.denoisers.routing import Routes

    class Odd(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("no such tag")

    sink = Sink()
    lane = make(Echo(), sink, routes=Routes(4))
    lane.start()
    tags: Any = [{}, {"Axes": {"z": float("inf"), "position": 1e999}}, {}, Odd(), {}]
    for number, each in enumerate(tags):
        lane.offer(number, Frame(PIXELS, number, time.perf_counter(), "Cam", each))
    lane.finish()
    assert sink.indices == [0, 1, 2, 4]
    assert balanced(lane, 5) == {"metadata not understood": 1}
