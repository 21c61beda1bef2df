"""Denoised frames for the user's program: paired with their raw frame, never at the recording's cost."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np

from denoscope.acquisition.contracts import Stamp
from denoscope.acquisition.frames.callback import CallbackThread
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.frames.mailbox import EVERY, NEWEST, Mailbox
from denoscope.acquisition.frames.pipe import FrameReader, FrameWriter
from denoscope.acquisition.frames.tap import FrameTap
from denoscope.acquisition.processes.wire import Message
from denoscope.acquisition.regions.measure import FrameTraces
from denoscope.runtime import Denoised, FrameMeta, StageTimes, StreamCounters, StreamKey

TIMES = StageTimes(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def live_frame(number: int) -> LiveFrame:
    pixels = np.full((2, 2), number, np.uint16)
    return LiveFrame(number, number, pixels, pixels, None, StreamKey(), 0.0, 0.1)


class Late:
    """Gives frames back two frames later, and leaves out those that it is told to skip."""

    def __init__(self) -> None:
        self.held: list[tuple[Any, FrameMeta, str | None]] = []
        self.counters = StreamCounters(0, 0, {}, 0)

    def _out(self, keep: int) -> list[Denoised]:
        due, self.held = self.held[: max(0, len(self.held) - keep)], self.held[-keep:] if keep else []
        return [Denoised(frame + 1, None, meta, TIMES) for frame, meta, skip in due if skip is None]

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        self.held.append((frame, meta, skip))
        return self._out(2)

    def flush(self) -> list[Denoised]:
        return self._out(0)

    def restart(self, _key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        return self._out(0)

    def learned(self) -> dict[str, Any]:
        return {"a": 1}


class Sink:
    def __init__(self) -> None:
        self.taken: list[int] = []

    def append(self, output: Denoised, stamp: Stamp) -> None:
        self.taken.append(stamp.index)


def play(tap: FrameTap, count: int = 20, skipped: tuple[int, ...] = ()) -> Sink:
    denoiser: Any = tap.denoiser(Late())
    inner = Sink()
    sink = tap.sink(inner)
    keys = [StreamKey(camera="a"), StreamKey(camera="b")]
    for index in range(count):
        meta = FrameMeta(index // 2, float(index), keys[index % 2], source_index=index)
        pixels = np.full((2, 2), index, np.uint16)
        outputs = denoiser.push(pixels, meta, skip="keep-up" if index in skipped else None)
        for output in outputs:
            sink.append(output, Stamp(output.meta.source_index, output.meta.t_received_s, None, 0.0))
    for output in denoiser.flush():
        sink.append(output, Stamp(output.meta.source_index, output.meta.t_received_s, None, 0.0))
    assert denoiser.learned() == {"a": 1}
    assert denoiser.restart(keys[0], recalibrate=False) == []
    return inner


def test_each_denoised_frame_comes_with_the_raw_frame_of_its_number() -> None:
    seen: list[LiveFrame] = []
    sink = play(FrameTap([seen.append]), skipped=(3, 4, 11))
    assert [frame.index for frame in seen] == sink.taken
    assert len(seen) == 17
    for frame in seen:
        assert (frame.raw == frame.index).all()
        assert (frame.denoised == frame.index + 1).all()
        assert frame.stream.camera == "ab"[frame.index % 2]
        assert frame.delay_s == frame.t_denoised_s - frame.index


def test_the_newest_regions_come_first_and_those_before_beside_them() -> None:
    seen: list[LiveFrame] = []
    newest, before, first = (FrameTraces((name,), *(np.ones(1),) * 4) for name in "321")
    play(FrameTap([seen.append], measure=lambda frame: [newest, before, first] if frame.index else []))
    assert (seen[0].traces, seen[0].earlier) == (None, ())
    for frame in seen[1:]:
        assert frame.traces is newest
        assert frame.earlier == (before, first)


def test_a_frame_keeps_the_traces_of_every_search_on_its_way_to_another_process() -> None:
    first, again = (
        FrameTraces(names, *(np.full(len(names), k) for k in (1.0, 2.0, 3.0, 0.5)))
        for names in (("1", "2"), ("3", "4", "5"))
    )
    writer, reader = FrameWriter(), FrameReader()
    sizes = []
    for sets in ([], [first], [again, first], [again, first]):
        frame = replace(live_frame(7), traces=sets[0] if sets else None, earlier=tuple(sets[1:]))
        words, body = writer.pack(frame)
        sizes.append(len(json.dumps(words)))
        read = reader.read(Message(json.loads(json.dumps(words)), b"".join(body)))
        arrived = [traces for traces in (read.traces, *read.earlier) if traces is not None]
        assert [traces.names for traces in arrived] == [traces.names for traces in sets]
        for one, other in zip(arrived, sets, strict=True):
            for kind in ("raw", "denoised", "std", "dff"):
                np.testing.assert_array_equal(getattr(one, kind), getattr(other, kind))
    assert sizes[3] < sizes[2]  # names are sent once


def test_a_listener_that_raises_is_not_asked_again_and_costs_no_frame() -> None:
    seen: list[LiveFrame] = []

    def raises(_frame: LiveFrame) -> None:
        raise ValueError("no")

    def measures(_frame: LiveFrame) -> None:
        raise RuntimeError("cannot measure")

    tap = FrameTap([raises, seen.append], measure=measures)  # type: ignore[arg-type]
    assert len(play(tap).taken) == 20
    assert len(seen) == 20
    assert len(tap.problems) == 2
    assert "cannot measure" in tap.problems[0]


def test_raw_frames_are_kept_for_the_denoiser_no_longer_than_needed() -> None:
    tap = FrameTap([])
    play(tap, 400, skipped=tuple(range(100, 200)))
    assert tap.without_raw == 0
    assert tap._bytes == 0  # private: what is held is nobody else's business
    assert not any(tap._held.values())


def test_a_mailbox_keeps_the_newest_and_counts_what_was_missed() -> None:
    box = Mailbox(3)
    for number in range(10):
        box.offer(live_frame(number))
    box.close()
    assert [frame.number for frame in box] == [7, 8, 9]
    assert (box.offered, box.missed) == (10, 7)
    box.offer(live_frame(11))
    assert box.take() is None


def test_every_frame_is_handed_over_in_order_and_the_end_is_waited_for() -> None:
    seen: list[int] = []

    def slowly(frame: LiveFrame) -> None:
        time.sleep(0.002)
        seen.append(frame.number)

    thread = CallbackThread(slowly)
    for number in range(EVERY):
        thread.offer(live_frame(number))
    thread.close()
    assert seen == list(range(EVERY))
    assert thread.problem() is None
    assert thread.note() is None
    assert thread.counts.called == EVERY


def test_a_slow_function_misses_frames_which_is_said() -> None:
    release = threading.Event()
    thread = CallbackThread(lambda _frame: release.wait())
    for number in range(200):
        thread.offer(live_frame(number))
    release.set()
    thread.close()
    note = str(thread.note())
    assert "missed" in note
    assert "of 200 denoised frames" in note
    assert thread.problem() is None
    counts = thread.counts
    assert counts.called + counts.missed == counts.offered == 200


def test_newest_only_sees_the_newest_and_complains_of_nothing() -> None:
    first, seen = threading.Event(), []

    def look(frame: LiveFrame) -> None:
        seen.append(frame.number)
        first.wait()

    thread = CallbackThread(look, newest=True)
    thread.offer(live_frame(0))
    while not seen:
        time.sleep(0.001)
    for number in range(1, 50):
        thread.offer(live_frame(number))
    first.set()
    thread.close()
    assert seen == [0, 49]
    assert NEWEST == 1
    assert thread.note() is None


def test_a_function_that_raises_is_called_again_and_counted() -> None:
    def raises(frame: LiveFrame) -> None:
        if frame.number % 2:
            raise KeyError("odd")

    thread = CallbackThread(raises)
    for number in range(10):
        thread.offer(live_frame(number))
    thread.close()
    assert thread.counts.raised == 5
    assert thread.counts.called == 10
    assert "raised an error for 5 frames (KeyError: 'odd')" in str(thread.problem())


def test_a_function_that_never_comes_back_is_left_behind() -> None:
    forever = threading.Event()
    thread = CallbackThread(lambda _frame: forever.wait())
    for number in range(5):
        thread.offer(live_frame(number))
    began_s = time.perf_counter()
    thread.close(patience_s=0.2)
    assert time.perf_counter() - began_s < 100
    assert "was left behind" in str(thread.problem())
    assert thread.counts.left_behind
    forever.set()
