"""Messages that are expected are looked for without a pause: at the right time, for a bounded time, or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition.denoisers.local import DenoiserRequest
from denoscope.acquisition.denoisers.remote import RemoteDenoiser
from denoscope.acquisition.processes import expected
from denoscope.acquisition.processes.wire import Wire
from denoscope.runtime import FrameMeta, StreamKey


class Clock:
    """Stand in for `time`: each reading takes 1 microsecond, each pause of nothing 4."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds or 4e-6


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(expected, "time", clock)
    return clock


def follow(
    clock: Clock, intervals_s: list[float], *, oversleeps_s: float = 0.0
) -> tuple[list[float | None], list[bool]]:
    """Let frames come; return the seconds that each was looked for (None where it was not), and which were seen."""
    rhythm, looked, seen = expected.Rhythm(), [], []
    due_s = clock.now_s
    for interval_s in intervals_s:
        due_s += interval_s
        here_s = due_s

        def wait(seconds: float, here_s: float = here_s) -> bool:
            clock.now_s = min(clock.now_s + seconds + oversleeps_s, max(clock.now_s, here_s))
            return clock.now_s >= here_s

        if rhythm.nears(wait):
            began_s = clock.now_s
            seen.append(rhythm.look(lambda here_s=here_s: clock.now_s >= here_s))
            looked.append(clock.now_s - began_s)
        else:
            looked.append(None)
        clock.now_s = max(clock.now_s, here_s)
        rhythm.note(here_s)
    return looked, seen


@pytest.mark.parametrize("interval_s", [0.0033, 0.01, 0.033])
def test_regular_frames_are_seen_as_they_come(clock: Clock, interval_s: float) -> None:
    shakes_s = np.random.default_rng(0).normal(0, 15e-6, 200)
    looked, seen = follow(clock, [interval_s + shake_s for shake_s in shakes_s], oversleeps_s=60e-6)
    assert looked[:9] == [None] * 9
    assert sum(seen) >= 0.8 * len(looked)
    spent_s = sum(each or 0.0 for each in looked)
    assert spent_s <= 0.05 * sum([interval_s] * 200)


@pytest.mark.parametrize(
    ("intervals_s", "why"),
    [
        (np.random.default_rng(0).uniform(0.005, 0.015, 100), "irregular"),
        (np.full(100, 0.2), "rare"),
        (np.full(100, 200e-6), "nearly without a pause"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_frames_are_not_looked_for(clock: Clock, intervals_s: Any, why: str) -> None:
    looked, _ = follow(clock, list(intervals_s))
    assert looked == [None] * 100, why


def test_a_camera_that_stops_costs_one_short_look(clock: Clock) -> None:
    looked, seen = follow(clock, [0.01] * 50 + [100.0])
    assert looked[-1] is not None
    assert looked[-1] < 1e-3
    assert seen[-1] is False


def test_looks_in_vain_become_rare(clock: Clock) -> None:
    glance, looks = expected.Glance(), 0
    for _ in range(256):
        if not glance.leaves_out():
            looks, began_s = looks + 1, clock.now_s
            assert not glance.until(lambda: False, clock.now_s + 200e-6)
            assert clock.now_s - began_s < 210e-6
    assert looks <= 10  # 1, 3, 7 ... are left out, then 63 of 64
    while glance.leaves_out():
        pass
    assert glance.until(lambda: True, clock.now_s)
    assert not glance.leaves_out()


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RemoteDenoiser]:
    """A process that gives each frame back, one frame later, and looks for every frame."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    denoiser = RemoteDenoiser(DenoiserRequest("nothing", look_ahead=1), module="support.awake")
    denoiser.prepare((24, 32), np.uint16, 1)
    yield denoiser
    denoiser.close()


def give(denoiser: RemoteDenoiser, number: int) -> Any:
    frame = np.full((24, 32), number + 1, np.uint16)
    return denoiser.begin(frame, FrameMeta(number, 0.0, StreamKey("A"), source_index=number))


two_processors = pytest.mark.skipif(not expected.looks_pay(), reason="needs two processors")


@two_processors
@pytest.mark.skipif(not Wire.waits, reason="needs waits for a pipe")
def test_frames_that_are_looked_for_come_back_in_order(nothing: RemoteDenoiser, tmp_path: Path) -> None:
    outputs = []
    for number in range(40):
        outputs += give(nothing, number)
        if number % 4 < 2:  # now and then two or three are under way
            while nothing.under_way:
                outputs += nothing.collect()
    outputs += nothing.flush()
    assert [output.meta.number for output in outputs] == list(range(40))
    for output in outputs:
        assert output.frame.min() == output.frame.max() == output.meta.number + 1
    seen = (tmp_path / "seen").read_text().split()
    assert seen.count("True") >= 10  # the others were there already


@two_processors
def test_answers_that_come_at_once_are_looked_for(
    nothing: RemoteDenoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def until(_self: Any, holds: Any, _until_s: float) -> bool:
        while not holds():
            pass
        looks.append(True)
        return True

    monkeypatch.setattr(expected.Glance, "until", until)
    for number in range(20):
        nothing._took_s = 1e-4
        give(nothing, number)
        nothing._settle()
    assert len(looks) == 20
    nothing._took_s = 1.0  # not after one that took long
    give(nothing, 20)
    nothing._settle()
    assert len(looks) == 20
    for number in (21, 22, 23):
        give(nothing, number)
    for left in (3, 2):  # not while others are under way
        nothing._took_s = 1e-4
        assert nothing.under_way == left
        nothing.collect()
        assert len(looks) == 20
    nothing._took_s = 1e-4
    nothing.collect()
    assert len(looks) == 21


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_on_one_processor_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})  # of this thread, and so of the process that it starts
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    try:
        assert not expected.looks_pay()
        denoiser = RemoteDenoiser(DenoiserRequest("nothing"), module="support.awake")
        try:
            monkeypatch.setattr(expected.Glance, "until", None)
            outputs = []
            for number in range(20):
                outputs += give(denoiser, number) + denoiser.collect()
            assert [output.meta.number for output in outputs] == list(range(20))
        finally:
            denoiser.close()
    finally:
        os.sched_setaffinity(0, before)
    assert not (tmp_path / "seen").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no wait for pipes")
def test_a_wait_at_a_pipe_ends_with_a_message_or_without() -> None:
    here, there = os.pipe()
    with os.fdopen(here, "rb") as incoming, os.fdopen(there, "wb") as outgoing:
        wire = Wire(incoming, outgoing)
        assert not wire.wait(0.001)
        wire.send({"a": 1})
        assert wire.wait(60.0)
        message = wire.receive()
        assert message is not None
        assert message.words == {"a": 1}
        assert not wire.wait(0.0)
