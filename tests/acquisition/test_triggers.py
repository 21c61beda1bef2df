"""Triggers: conditions in words, actions that may hang, hold-off, limit, dry run."""

from __future__ import annotations

import math
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.regions.measure import FrameTraces
from denoscope.acquisition.triggers import actions
from denoscope.acquisition.triggers import trigger as trigger_module
from denoscope.acquisition.triggers.actions import Firing, open_action
from denoscope.acquisition.triggers.condition import parse_condition
from denoscope.acquisition.triggers.trigger import RunningTrigger, Trigger, parse_trigger
from denoscope.runtime import InvalidInput, StreamKey

NAMES = ("1", "2", "soma 3")


def frame(number: int, dff: float = 0.0, *, received_s: float | None = None, place: int = 2) -> LiveFrame:
    values = np.zeros(3)
    values[place] = dff
    pixels = np.full((4, 4), 100, np.uint16)
    return LiveFrame(
        number=number,
        index=number,
        raw=pixels,
        denoised=pixels + 1,
        std=None,
        stream=StreamKey(),
        t_received_s=time.perf_counter() if received_s is None else received_s,
        t_denoised_s=time.perf_counter(),
        traces=FrameTraces(NAMES, values, values, values, values),
    )


class Core:
    """A core of Micro-Manager that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def get_shutter_device(self) -> str:
        return "White Light Shutter"

    def set_shutter_open(self, value: bool) -> None:
        self.told.append(("shutter", value))

    def has_property(self, device: str, name: str) -> bool:
        if device != "Camera":
            raise RuntimeError(f'No device with label "{device}"')
        return name in ("Gain", "ReadOnly")

    def is_property_read_only(self, _device: str, name: str) -> bool:
        return name == "ReadOnly"

    def get_allowed_property_values(self, _device: str, _name: str) -> list[str]:
        return ["1", "2"]

    def set_property(self, device: str, name: str, value: str) -> None:
        self.told.append((device, name, value))


@pytest.mark.parametrize(
    ("text", "course", "fires"),
    [
        ("region soma 3 dff > 0.5 for 2 frames", [0, 0.6, 0, 0.6, 0.6, 0.6], [4]),
        ("region soma 3 dff > 0.5", [0, 0.6, 0, 0.6], [1, 3]),
        ("any region dff >= 0.6", [0, 0.6, 0.1], [1]),
        ("region soma 3 denoised < -1", [0, -2, -2], [1]),
        ("region 1 raw > 0.1", [5, 5, 5], []),
        ("frame denoised > 100.5", [0, 0], [0]),
        ("frame raw > 100.5", [0, 0], []),
    ],
)
def test_a_condition_fires_when_it_begins_to_hold(text: str, course: list[float], fires: list[int]) -> None:
    fired: list[int] = []
    trigger = RunningTrigger(Trigger(text, lambda firing: fired.append(firing.number), hold_off_s=0.0))
    trigger.check(NAMES)
    for number, value in enumerate(course):
        trigger.watch(frame(number, value))
    record = trigger.close()
    assert fired == fires
    assert (record.fired, record.done) == (len(fires), len(fires))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "region dff > 1",
        "region 3 dff = 1",
        "region 3 brightness > 1",
        "region 3 dff > x",
        "frame dff > 1",
        "region 3 dff > 1 for 0 frames",
        "any region dff > 1 then",
        "region 3 dff > 1 and frame raw > 2",
    ],
)
def test_a_condition_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="the trigger"):
        parse_trigger(text)


def test_a_region_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="waits for region 9"):
        parse_condition("region 9 dff > 1").check(NAMES)


def test_hold_off_and_limit_are_kept_and_counted() -> None:
    fired: list[int] = []
    trigger = RunningTrigger(
        Trigger("region 1 dff > 1", lambda f: fired.append(f.number), hold_off_s=1.0, limit=2)
    )
    for number in range(12):  # on and off at 2 Hz
        trigger.watch(frame(number, 2.0 * (number % 2), received_s=number / 4, place=0))
    record = trigger.close()
    assert fired == [1, 5]
    assert record.held_off == 4


def test_a_dry_run_notes_firings_and_does_nothing() -> None:
    fired: list[int] = []
    told: list[dict[str, Any]] = []
    trigger = RunningTrigger(
        Trigger("any region dff > 1", lambda f: fired.append(f.number), dry_run=True),
        tell=lambda event, **values: told.append({"event": event, **values}),
    )
    trigger.watch(frame(7, 2.0))
    record = trigger.close()
    assert not fired
    assert record.fired == 1
    assert record.dry_run
    assert told[0]["outcome"] == "dry run"
    assert (told[0]["frame"], told[0]["region"], told[0]["value"]) == (7, "soma 3", 2.0)
    assert 0 <= told[0]["delay_s"] < 100


def test_an_action_that_hangs_or_raises_never_holds_up_the_frames() -> None:
    forever = threading.Event()
    hangs = RunningTrigger(Trigger("any region dff > 1", lambda _f: forever.wait(), hold_off_s=0.0))
    raises = RunningTrigger(Trigger("any region dff > 1", lambda _f: 1 / 0, hold_off_s=0.0))
    began_s = time.perf_counter()
    for number in range(100):
        for trigger in (hangs, raises):
            trigger.watch(frame(number, 2.0 * (number % 2)))
    assert time.perf_counter() - began_s < 100
    stuck, failed = hangs.close(), raises.close()
    forever.set()
    assert stuck.not_done > 30
    assert "left behind" in str(stuck.problem)
    assert "ZeroDivisionError" in str(failed.problem)


def test_a_program_decides_itself_and_may_raise_or_hang() -> None:
    fired: list[Firing] = []
    mine = RunningTrigger(Trigger(lambda f: f.denoised.mean() > 100 and f.number == 3, fired.append))
    wrong = RunningTrigger(Trigger(lambda f: f.absent))
    for number in range(5):
        mine.watch(frame(number))
        wrong.watch(frame(number))
    assert mine.close().fired == 1
    assert fired[0].number == 3
    assert math.isnan(fired[0].value)
    assert "AttributeError" in str(wrong.close().problem)


def test_a_program_that_hangs_or_is_too_slow_or_gives_nan_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_module, "_CLOSE_S", 0.2)
    forever = threading.Event()
    hangs = RunningTrigger(Trigger(lambda _frame: forever.wait()))
    for number in range(80):
        hangs.watch(frame(number))
    problem = hangs.close().problem
    assert problem is not None
    assert "did not come back" in problem
    assert "frames were not looked at" in problem
    forever.set()

    monkeypatch.setattr(trigger_module, "_CLOSE_S", 200.0)
    begun, goes_on = threading.Event(), threading.Event()

    def slow(_frame: LiveFrame) -> bool:
        begun.set()
        return not goes_on.wait(200)

    late = RunningTrigger(Trigger(slow))
    late.watch(frame(0))
    assert begun.wait(200)
    for number in range(1, 70):
        late.watch(frame(number))
    goes_on.set()
    assert late.close().problem == "its condition was too slow: 5 frames were not looked at"

    for nan in (math.nan, np.float32("nan"), np.float64("nan")):
        unsure = RunningTrigger(Trigger(lambda _frame, nan=nan: nan))
        unsure.watch(frame(0))
        record = unsure.close()
        assert record.fired == 0
        assert record.problem == "its condition gave NaN 1 time, which counts as not met"


@pytest.mark.parametrize("text", ["region soma 3 dff > 0.5", "any region dff < 0.5"])
def test_a_condition_on_regions_without_light_is_named(text: str) -> None:
    trigger = RunningTrigger(Trigger(text))
    for number in range(3):
        trigger.watch(
            replace(frame(number), traces=FrameTraces(NAMES, *(np.full(len(NAMES), math.nan),) * 4))
        )
    problem = trigger.close().problem
    assert problem is not None
    assert "is no number, because its baseline was never above `dark`" in problem
    trigger = RunningTrigger(Trigger(text))
    trigger.watch(frame(0, math.nan))
    trigger.watch(frame(1))
    assert trigger.close().problem is None  # it could be met


def test_frames_that_a_program_keeps_or_changes_are_its_own() -> None:
    shared = np.zeros((4, 4), np.uint16)  # the denoiser uses its memory again
    std = np.ones((4, 4), np.float32)
    measured, before = (
        [FrameTraces(("1",), *(np.full(1, float(number)) for _ in range(4))) for number in range(3)]
        for _ in range(2)
    )
    kept: list[LiveFrame] = []
    handed, look = threading.Event(), threading.Event()

    def keep(seen: LiveFrame) -> bool:
        assert look.wait(250)
        kept.append(seen)
        assert seen.traces is not None
        seen.traces.dff[:] = seen.earlier[0].dff[:] = 99.0
        seen.raw[0, 0] += 50
        if len(kept) == 3:
            handed.set()
        return False

    trigger = RunningTrigger(Trigger(keep))
    for number in range(3):
        shared[...] = number
        std[...] = number
        trigger.watch(
            LiveFrame(
                number,
                number,
                shared,
                shared,
                std,
                StreamKey(),
                0.0,
                0.0,
                traces=measured[number],
                earlier=(before[number],),
            )
        )
    look.set()
    assert handed.wait(250)
    trigger.close()
    assert [int(seen.denoised[1, 1]) for seen in kept] == [0, 1, 2]
    assert [int(seen.raw[0, 0]) for seen in kept] == [50, 51, 52]
    assert [float(seen.std[1, 1]) for seen in kept if seen.std is not None] == [0.0, 1.0, 2.0]
    for traces in (measured, before):
        assert [float(each.dff[0]) for each in traces] == [0.0, 1.0, 2.0]  # they are still to be written
    assert int(shared[0, 0]) == 2


def test_properties_and_shutter_are_set_and_mistakes_come_before_the_recording() -> None:
    core = Core()
    firing = Firing("x", 4, 4, "1", 0.7, 0.0, 0.0)
    for text in ("shutter close", "shutter open", "set Camera Gain 2"):
        open_action(text, core)(firing)
    assert core.told == [("shutter", False), ("shutter", True), ("Camera", "Gain", "2")]
    for text, says in (
        ("shutter blink", "can open or close"),
        ("set Laser Power 3", "No device"),
        ("set Camera ReadOnly 3", "no property ReadOnly that can be set"),
        ("set Camera Gain 9", "one of 1, 2"),
        ("set Camera Gain", "not understood"),
        ('set "Camera', "not understood"),
        ("email me", "not understood"),
        ("socket 99999 X", "a port of this computer"),
        ("socket 10.0.0.7:80 X", "a port of this computer"),
        ("serial COM3@fast X", "is a number"),
        ("serial /no/such/port X", "serial port"),
    ):
        with pytest.raises(InvalidInput, match=says):
            open_action(text, core)
    with pytest.raises(InvalidInput, match="a camera that denoscope drives"):
        open_action("shutter close", None)


def test_a_line_is_sent_to_a_socket_and_again_after_the_listener_was_restarted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        port = server.getsockname()[1]
        action = open_action(f"socket {port} FIRE {{frame}} {{region}} {{value}}")
        peer, _ = server.accept()
        with peer:
            action(Firing("x", 12, 12, "soma 3", 0.75, 0.0, 0.0))
            assert peer.recv(100) == b"FIRE 12 soma 3 0.75\n"
        action(Firing("x", 13, 13, "", 0.5, 0.0, 0.0))
        again, _ = server.accept()
        again.settimeout(5)
        assert again.recv(100) == b"FIRE 13  0.5\n"  # the first line after that is not lost
        again.close()
        action.close()
    with pytest.raises(InvalidInput, match="start the program that"):
        open_action(f"socket {port} FIRE")


def test_a_line_is_sent_over_a_serial_port() -> None:
    serial = pytest.importorskip("serial", reason="needs the extra 'serial'")
    action: Any = open_action("serial loop://@9600 FIRE {frame}")
    action(Firing("x", 5, 5, "", 0.0, 0.0, 0.0))
    assert action._port.read(7) == b"FIRE 5\n"  # private: the loop of pyserial is read where it is written
    action.close()
    assert serial.__version__


@pytest.mark.parametrize("values", [{"hold_off_s": -1}, {"hold_off_s": math.inf}, {"limit": 0}])
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Trigger("frame raw > 1", **values)


def test_regions_without_light_beside_others_are_no_problem() -> None:
    trigger = RunningTrigger(Trigger("any region dff > 0.5"))
    for number in range(3):
        trigger.watch(frame(number, math.nan))
    assert trigger.close().problem is None


def test_every_nan_of_a_program_is_counted() -> None:
    answers = iter([math.nan, math.nan, True, math.nan, 0.5])
    trigger = RunningTrigger(Trigger(lambda _frame: next(answers)))
    for number in range(5):
        trigger.watch(frame(number))
    assert trigger.close().problem == "its condition gave NaN 3 times, which counts as not met"


def test_a_socket_has_time_for_each_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        action: Any = open_action(f"socket {server.getsockname()[1]} FIRE")
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"ready")  # what it says is passed over
            action(Firing("x", 12, 12, "", 0.75, 0.0, 0.0))
            assert peer.recv(100) == b"FIRE\n"
            assert action._socket.gettimeout() == actions._SEND_S  # private: no line here fills the buffers
        action.close()
