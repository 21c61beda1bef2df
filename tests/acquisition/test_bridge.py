"""A guest in a running Micro-Manager: what is refused, what is left alone, what is waited for, what is said."""

from __future__ import annotations

import atexit
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.plain_results import live

pytest.importorskip("zmq", reason="needs the extra 'micromanager'")

from denoscope.acquisition import SessionStatus, make_settings, read_raw
from denoscope.acquisition.errors import SourceFailed, SourceUnavailable
from denoscope.acquisition.session.opening.forecast import Load, make_forecast, refused
from denoscope.acquisition.sources.micromanager import bridge as bridge_module
from denoscope.acquisition.sources.micromanager import java as java
from denoscope.acquisition.sources.micromanager.bridge import BridgeSource
from denoscope.acquisition.sources.micromanager.bridge_sequence import is_another
from denoscope.acquisition.testing import numbered_frames, pop_all

from . import bridge_peer
from .bridge_peer import RUNNING, Camera, Peer

Serve = Callable[..., Peer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start peers that are stopped in the end."""
    peers: list[Peer] = []

    def start(camera: Any, **more: Any) -> Peer:
        peer = Peer(camera, **more)
        peers.append(peer)
        peer.start()
        return peer

    yield start
    for peer in peers:
        peer.stop()


def source_of(peer: Peer, **more: Any) -> BridgeSource:
    return BridgeSource("127.0.0.1", peer.port, **more)


def record(peer: Peer, output: Path, bundle: Path, source: BridgeSource | None = None, **more: Any) -> Any:
    shown = more.pop("on_status", None)
    settings = make_settings(
        core=f"127.0.0.1:{peer.port}",
        bundle=str(bundle),
        output=output,
        picture=False,
        denoiser="thread",
        **more,
    )
    return live(settings, source=source or source_of(peer), on_status=shown)


METHOD_RAISED = """java.lang.Exception: Error in device "Camera": Cannot start (the trigger is armed)
mmcorej.MMCoreJJNI.CMMCore_startSequenceAcquisition__SWIG_0(Native Method)
mmcorej.CMMCore.startSequenceAcquisition(CMMCore.java:1180)
java.base/jdk.internal.reflect.DirectMethodHandleAccessor.invoke(DirectMethodHandleAccessor.java:103)
org.micromanager.pyjavaz.ZMQServer.lambda$initialize$1(ZMQServer.java:141)
"""
TWO_LINES = "java.lang.Exception: first line\nsecond line\nmmcorej.CMMCore.x(CMMCore.java:1)\n"
REPEATED = "java.lang.RuntimeException: java.lang.ArithmeticException: / by zero\n\tat a.B.c(B.java:2)\n"
SERVER_RAISED = """java.lang.RuntimeException: java.lang.reflect.InvocationTargetException
\tat org.micromanager.pyjavaz.ZMQServer.runConstructor(ZMQServer.java:395)
Caused by: java.lang.reflect.InvocationTargetException
\tat java.base/jdk.internal.reflect.NativeConstructorAccessorImpl.newInstance0(Native Method)
\t... 8 more
Caused by: mmcorej.org.json.JSONException: JSONObject["name"] not found.
\tat mmcorej.org.json.JSONObject.get(JSONObject.java:395)
\t... 12 more
"""


@pytest.mark.parametrize(
    ("stack", "name", "text"),
    [
        (
            METHOD_RAISED,
            "java.lang.Exception",
            'Error in device "Camera": Cannot start (the trigger is armed)',
        ),
        (SERVER_RAISED, "mmcorej.org.json.JSONException", 'JSONObject["name"] not found'),
        (TWO_LINES, "java.lang.Exception", "first line second line"),
        ("java.lang.NullPointerException\n\tat a.b.C.d(C.java:1)\n", "java.lang.NullPointerException", ""),
        (REPEATED, "java.lang.ArithmeticException", "/ by zero"),
        ("no stack at all", "java.lang.Exception", "no stack at all"),
        ("", "java.lang.Exception", ""),
    ],
)
def test_a_java_exception_becomes_one_sentence(stack: str, name: str, text: str) -> None:
    error = java.exception_from("here:4827", "popNextTaggedImage", stack)
    assert (error.name, error.text) == (name, text)
    assert "\n" not in str(error)
    assert ".java:" not in str(error)
    assert str(error).startswith("Micro-Manager at here:4827 refused popNextTaggedImage")
    assert error.stack == stack  # --debug shows it below the sentence
    assert stack in error.__notes__


def test_a_sequence_that_runs_is_left_alone(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    camera = Camera(numbered_frames(12), rate_hz=1000)
    camera.start("gui")
    while camera.count() < 30:
        time.sleep(0.01)
    peer = serve(camera, snapped=True)
    with pytest.raises(SourceUnavailable, match="a sequence runs in the Micro-Manager") as caught:
        record(peer, tmp_path / "run", bundle)
    assert "`core` watch:" in str(caught.value)
    assert camera.events == ["start gui"]
    assert camera.running()
    assert [camera.pop()[1] for _ in range(30)] == list(range(30))
    assert not (tmp_path / "run").exists()
    assert peer.objects == {}


def test_frames_that_somebody_is_still_fetching_are_left_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_module, "_WATCH_S", 3.0)
    camera = Camera(numbered_frames(12), rate_hz=5000)
    camera.start("gui")
    while camera.count() < 500:
        time.sleep(0.01)
    camera.stop("gui")
    numbers: list[int] = []
    over = threading.Event()

    def fetch() -> None:
        while not over.wait(0.05) and camera.count():
            numbers.append(camera.pop()[1])

    thread = threading.Thread(target=fetch)
    thread.start()
    source = source_of(serve(camera))
    try:
        source.open()
        with pytest.raises(SourceUnavailable, match="still fetching"):
            source.start()
    finally:
        over.set()
        thread.join()
        source.close()
    rest = [camera.pop()[1] for _ in range(camera.count())]
    assert numbers + rest == list(range(len(numbers) + len(rest)))
    assert camera.events == ["start gui", "stop gui by gui"]


def test_frames_that_nobody_fetches_are_said_to_be_cleared(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_module, "_WATCH_S", 0.05)
    camera = Camera(numbered_frames(6), rate_hz=5000)
    camera.start("gui")
    while camera.count() < 7:
        time.sleep(0.01)
    camera.stop("gui")
    left = camera.count()
    source = source_of(serve(camera))
    source.open()
    source.start()
    assert len(pop_all(source)) == 6
    assert f"{left} frames of an earlier sequence" in source.notes()[0]
    source.close()


def test_what_was_started_after_ours_is_not_stopped(serve: Serve) -> None:
    camera = Camera(numbered_frames(8))
    source = source_of(serve(camera))
    source.open()
    source.start()
    assert len(pop_all(source)) == 8
    camera.rate_hz = 2000
    camera.start("gui")
    while camera.count() < 20:  # its newest frame has a higher number than our last one
        time.sleep(0.01)
    source.stop()
    source.close()
    assert camera.running()
    assert camera.events == ["start us", "start gui"]


def test_ours_is_stopped_in_the_end(serve: Serve) -> None:
    camera = Camera(numbered_frames(500), rate_hz=100)
    source = source_of(serve(camera))
    source.open()
    source.start()
    assert len(pop_all(source, most=3)) == 3
    source.close()
    assert camera.events == ["start us", "stop us by us"]


@pytest.mark.parametrize("rate_hz", [20, 1000])
def test_a_sequence_that_took_the_place_of_ours_is_not_stopped(serve: Serve, rate_hz: float) -> None:
    camera = Camera(numbered_frames(500), rate_hz=20)
    source = source_of(serve(camera))
    source.open()
    source.start()
    taken = len(pop_all(source, most=12))
    with camera.lock:
        camera.stop("gui")
        camera.start("gui")
    camera.rate_hz = rate_hz
    while rate_hz > 20 and camera.count() <= taken:  # its numbers have overtaken ours
        time.sleep(0.01)
    source.stop()
    source.close()
    assert camera.running()
    assert camera.events[-2:] == ["stop us by gui", "start gui"]


def test_a_recording_ends_where_another_sequence_begins(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    camera = Camera(numbered_frames(2000, (16, 16)), rate_hz=100)
    peer = serve(camera)

    def intrude(status: SessionStatus, *_: Any) -> None:
        if status.received > 20 and camera.owner == "us":
            with camera.lock:
                camera.stop("gui")
                camera.start("gui")

    report = record(peer, tmp_path / "run", bundle, on_status=intrude)
    assert report["outcome"]["reason"] == "source_failed"
    assert "another program started a sequence" in report["outcome"]["problems"][0]
    frames = read_raw(tmp_path / "run").read()
    assert 20 < len(frames) < 2000
    np.testing.assert_array_equal(frames, camera.frames[: len(frames)])
    assert camera.running()
    assert "stop gui by us" not in camera.events


@pytest.mark.parametrize(
    ("last", "now", "another"),
    [
        ((5, 100.0), (6, 100.0), False),
        ((5, 100.0), (6, 3700.0), False),  # the clock was set
        ((5, 100.0), (9, 100.1), False),  # frames were lost
        ((5, 100.0), (9, 102.0), True),
        ((5, None), (9, 102.0), False),
        ((5, 100.0), (5, 100.0), True),
        ((5, None), (0, None), True),
        ((2**31 - 1, 100.0), (-(2**31), 100.0), False),  # a counter of 32 bits begins anew
    ],
)
def test_frames_of_another_sequence(last: Any, now: Any, another: bool) -> None:
    assert is_another(last, now) is another


@pytest.mark.parametrize("moved_s", [-5400.0, -3600.0, -2.0, 40.0])
def test_a_sequence_is_the_same_when_somebody_sets_the_date(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, moved_s: float
) -> None:
    camera = Camera(numbered_frames(5000, (16, 16)), rate_hz=100)
    peer = serve(camera)
    source = source_of(peer)
    source.open()
    source.start()
    pop_all(source, most=5)
    real = time.time
    if moved_s != -3600.0:  # summer time ends: the date of frames moves, the seconds since 1970 do not
        monkeypatch.setattr(time, "time", lambda: real() + moved_s)
    peer.date_moved_s = moved_s
    while (
        camera.count() < 2 * bridge_module._BATCH
    ):  # the newest is not the one after the last that was popped
        time.sleep(0.01)
    source.stop()
    assert camera.events == ["start us", "stop us by us"]
    assert not camera.running()
    numbers = [frame.number for frame in pop_all(source)]
    assert numbers == list(range(5, 5 + len(numbers)))
    source.close()


def test_time_for_which_this_computer_slept_is_not_micro_managers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(peer := serve(Camera(numbered_frames(5)), snapped=True), patience_s=5.0)
    source.open()
    call = call_of_another_program(peer, "sleep", 600.0)
    while not peer.calls.get("sleep"):
        time.sleep(0.005)
    real, asleep = time.perf_counter, iter([0.0, 0.0, 3600.0])
    slept_s = 0.0

    def clock() -> float:
        nonlocal slept_s
        slept_s += next(asleep, 0.0)
        return real() + slept_s

    monkeypatch.setattr(time, "perf_counter", clock)
    with closing(source):
        source.start()  # waits for the other program
        assert slept_s == 3600.0
        call.join()
        source.stop()


def test_a_count_that_is_ahead_of_the_buffer(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    # Slow enough that the buffer is empty now and then on a busy computer too.
    peer = serve(Camera(numbered_frames(10, (16, 16)), rate_hz=10), ahead=True)
    report = record(peer, tmp_path / "run", bundle)
    assert report["outcome"]["exit_code"] == 0, report["outcome"]
    assert peer.races > 0
    np.testing.assert_array_equal(read_raw(tmp_path / "run").read(), peer.frames)


@pytest.mark.parametrize("method", ["startSequenceAcquisition", "getImageHeight", "isSequenceRunning"])
def test_nothing_is_left_of_a_recording_that_never_began(
    serve: Serve, bundle: Path, tmp_path: Path, method: str
) -> None:
    peer = serve(numbered_frames(5), raises={method: f"{RUNNING}\nIt is the camera's."})
    with pytest.raises(SourceUnavailable, match=f"refused {method}") as caught:
        record(peer, tmp_path / "deep" / "run", bundle)
    message = str(caught.value)
    assert "It is the camera's" in message
    assert "\n" not in message
    assert "CMMCore.java" not in message
    assert any("CMMCore.java" in note for note in caught.value.__notes__)
    assert not (tmp_path / "deep").exists()
    (tmp_path / "deep" / "run").mkdir(parents=True)
    (tmp_path / "deep" / "run" / "notes.txt").write_text("the user's")
    with pytest.raises(SourceUnavailable):
        record(peer, tmp_path / "deep" / "run", bundle)
    assert [path.name for path in (tmp_path / "deep" / "run").iterdir()] == ["notes.txt"]
    peer.raises.clear()
    report = record(peer, tmp_path / "deep" / "run", bundle)
    assert report["frames"]["written_raw"] == 5


def test_an_exception_in_the_middle_keeps_what_came(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    camera = Camera(numbered_frames(2000, (16, 16)), rate_hz=100)
    peer = serve(camera)

    def fail(status: SessionStatus, *_: Any) -> None:
        if status.received > 10:
            peer.raises["popNextTaggedImage"] = "The camera was unplugged."

    report = record(peer, tmp_path / "run", bundle, on_status=fail)
    (problem,) = report["outcome"]["problems"]
    assert "The camera was unplugged (Exception)" in problem
    assert "CMMCore.java" not in problem
    frames = read_raw(tmp_path / "run").read()
    np.testing.assert_array_equal(frames, camera.frames[: len(frames)])
    assert report["frames"]["received"] == len(frames) > 10
    assert camera.events == ["start us", "stop us by us"]


def call_of_another_program(peer: Peer, method: str, *arguments: Any) -> threading.Thread:
    """Let another client of the server call something that takes its time."""

    def run() -> None:
        other = java.JavaServer("127.0.0.1", peer.port, name="other")
        with closing(other):  # where a test fails too: ZeroMQ waits for ever for a socket that is open
            other.connect(10)
            core = other.construct("mmcorej.CMMCore", lambda _s: True)
            other.values([core.call(method, *arguments), core.let_go()], lambda _s: True)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_long_call_of_another_program_is_waited_for(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    peer = serve(Camera(numbered_frames(150, (16, 16)), rate_hz=50))
    calls: list[threading.Thread] = []
    busy: list[float] = []

    def shown(status: SessionStatus, *_: Any) -> None:
        busy.append(status.busy_s)
        if status.received > 5 and not calls:
            calls.append(call_of_another_program(peer, "sleep", 2200.0))

    report = record(peer, tmp_path / "run", bundle, on_status=shown)
    calls[0].join()
    assert report["outcome"]["exit_code"] == 0, report["outcome"]
    assert report["frames"]["received"] == 150 == len(read_raw(tmp_path / "run"))
    assert max(busy) >= 1
    # A busy computer may let it wait more than once.
    notes = report["outcome"]["notes"]
    assert any(re.search(r"was busy \d+ times?,", note) for note in notes), report["outcome"]
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert "source busy" in events
    assert "source answers again" in events


def test_it_can_be_stopped_while_micro_manager_is_busy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_module, "_STOP_S", 0.3)
    peer = serve(Camera(numbered_frames(500), rate_hz=100))
    source = source_of(peer)
    source.open()
    source.start()
    pop_all(source, most=3)
    call = call_of_another_program(peer, "sleep", 1500.0)
    while not source.busy_s:
        source.pop()
    with pytest.raises(SourceFailed, match=r"busy.*camera may still be running"):
        source.stop()
    source.close()
    call.join()


def test_a_server_that_hangs(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    peer = serve(Camera(numbered_frames(40), rate_hz=50), silent_after=15)
    report = record(peer, tmp_path / "run", bundle, source_of(peer, patience_s=1.5))
    assert report["outcome"]["reason"] == "source_failed"
    assert "did not answer for 2 s" in report["outcome"]["problems"][0]
    assert "camera may still be running" in report["outcome"]["problems"][0]
    recording = read_raw(tmp_path / "run")
    assert 0 < len(recording) <= 15
    np.testing.assert_array_equal(recording.read(), peer.frames[: len(recording)])


def test_micro_manager_is_closed_and_started_again(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    peer = serve(Camera(numbered_frames(5000, (16, 16)), rate_hz=100))

    def close(status: SessionStatus, *_: Any) -> None:
        if status.received > 10:
            peer.stop()

    report = record(peer, tmp_path / "run", bundle, on_status=close)
    assert "was closed, or it crashed" in report["outcome"]["problems"][0]
    assert report["frames"]["received"] == len(read_raw(tmp_path / "run")) > 10
    # In the same process, at the same address.
    again = serve(numbered_frames(9), port=peer.port)
    assert record(again, tmp_path / "again", bundle)["frames"]["written_raw"] == 9


def test_nothing_piles_up_here_or_there(serve: Serve) -> None:
    source = source_of(peer := serve(numbered_frames(200, (8, 8))))
    source.open()
    source.start()
    before = atexit._ncallbacks()
    assert len(pop_all(source)) == 200
    assert atexit._ncallbacks() == before
    assert len(peer.objects) == 1  # the core
    source.close()
    assert not peer.objects
    assert peer.calls["popNextTaggedImage"] <= 201


def test_tags_as_micro_manager_sends_them(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    peer = serve(numbered_frames(60), tags={"Objective-Label": "10 \N{GREEK SMALL LETTER MU}m"})
    report = record(peer, tmp_path / "run", bundle)
    assert any("question mark" in note for note in report["outcome"]["notes"])
    records = read_raw(tmp_path / "run").records
    assert [each["number"] for each in records] == list(range(60))
    assert all(len(each["tags"]) > 180 for each in records)
    assert records[30]["tags"]["Stage007-Property 7"] == "value 7 of 49"
    assert all(each["core_unix_s"] for each in records)
    assert report["frames"]["missing_numbers"] == 0
    lines = (tmp_path / "run" / "raw.jsonl").read_bytes().splitlines()
    assert len(lines[1]) > 5000
    assert max(map(len, lines[2:])) < 600


def test_latin_1_comes_whole(serve: Serve) -> None:
    source = source_of(serve(numbered_frames(2)))
    source.open()
    source.start()
    frame = pop_all(source)[0]
    assert frame.tags["Objective-Label"] == "20x 0.8 \N{MICRO SIGN}m"
    assert not any("question" in note for note in source.notes())
    source.close()


def test_an_overflow_advises_what_helps(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    peer = serve(Camera(numbered_frames(5000, (16, 16)), rate_hz=50_000, capacity=40))
    report = record(peer, tmp_path / "run", bundle)
    assert report["outcome"]["reason"] == "core_overflow"
    (problem,) = report["outcome"]["problems"]
    assert "`buffer_mb`" not in problem
    assert "Tools > Options (250 MB now)" in problem
    # The overflow is the reason: nobody stopped the camera.
    assert not any("before denoscope stopped it" in note for note in report["outcome"]["notes"])


LINK = {"link_frames_per_s": 300.0, "link_measured": True, "link_buffer_bytes": 50 * 2**20}


@pytest.mark.parametrize(
    ("exposure_s", "given", "refused_for"),
    [
        (0.01, {}, None),
        (0.001, {}, "at most 1000 frames/s"),
        (0.001, {"camera_fps": 250.0}, None),
        (0.01, {"camera_fps": 600.0}, "sends 600 frames/s"),
        (0.001, {"frames": 500}, None),  # it fits into Micro-Manager's buffer
        (0.001, {"frames": 500_000}, "at most 1000 frames/s"),
        (None, {}, None),
    ],
)
def test_a_camera_that_the_connection_does_not_carry(
    serve: Serve, tmp_path: Path, exposure_s: float | None, given: dict[str, Any], refused_for: str | None
) -> None:
    from denoscope.acquisition import SourceInfo

    kind = np.dtype(np.uint16)
    info = SourceInfo("bridge", "x:1", "Cam", (128, 128), kind, exposure_s=exposure_s, details=LINK)
    values: dict[str, Any] = {"frames": None, "seconds": None, "camera_fps": None, **given}
    found = make_forecast(tmp_path, info, Load(), **values, reserve=0, memory=2**40, patient=False)
    if refused_for is None:
        assert found.problem is None
        return
    assert found.problem is not None
    assert refused_for in found.problem
    assert "carries 300 frames/s (9.8 MB/s, measured now)" in found.problem
    assert ("`camera_fps`" in found.problem) is ("camera_fps" not in given)
    assert "`buffer_mb`" not in found.problem
    error = refused(found)
    assert isinstance(error, SourceUnavailable)
    assert str(error).endswith("`force` records anyway.")


@pytest.mark.parametrize("snapped", [False, True])
def test_the_connection_is_measured_and_nothing_is_changed(serve: Serve, snapped: bool) -> None:
    peer = serve(numbered_frames(3), snapped=snapped)
    source = source_of(peer)
    info = source.open()
    assert info.details["link_measured"] is snapped
    assert info.details["link_frames_per_s"] > 5
    assert info.details["link_buffer_bytes"] == 250 * 2**20
    source.close()
    assert peer.camera.events == []
    assert not peer.objects


@pytest.mark.parametrize("snapped", [False, True])
def test_the_texts_of_a_frame_count_without_an_image_too(serve: Serve, snapped: bool) -> None:
    # The texts take most of the time of a small frame: an estimate without them was ten times too high.
    source = source_of(serve(numbered_frames(3), snapped=snapped, text_s=0.05, exposure_ms=0))
    info = source.open()
    source.close()
    assert info.details["link_frames_per_s"] < 1 / 0.05


def test_an_older_micro_manager_without_the_state_of_all_devices(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [each for each in bridge_peer._METHODS if each[0] != "getSystemStateCache"]
    monkeypatch.setattr(bridge_peer, "_METHODS", methods)
    source = source_of(serve(numbered_frames(3)))
    assert source.open().details["link_frames_per_s"] > 5
    source.close()


@pytest.mark.parametrize("rate", [1483.0, 12_500.0])
def test_rates_are_no_powers_of_ten(serve: Serve, tmp_path: Path, rate: float) -> None:
    from denoscope.acquisition import SourceInfo

    link = {**LINK, "link_frames_per_s": rate}
    info = SourceInfo("bridge", "x:1", "Cam", (16, 16), np.dtype(np.uint16), exposure_s=1e-5, details=link)
    values: dict[str, Any] = {"frames": None, "seconds": None, "camera_fps": None}
    found = make_forecast(tmp_path, info, Load(), **values, reserve=0, memory=2**40, patient=False)
    assert f"carries {rate:.0f} frames/s" in (found.problem or "")
    assert f"Micro-Manager {rate:.0f} frames/s" in found.sentence
    assert "e+" not in f"{found.sentence} {found.problem}"


def test_an_error_of_the_virtual_machine_is_an_exception(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    peer = serve(numbered_frames(50), raises={"popNextTaggedImage": "OutOfMemoryError"})
    report = record(peer, tmp_path / "run", bundle)
    (problem,) = report["outcome"]["problems"]
    assert problem.endswith("refused popNextTaggedImage: OutOfMemoryError")


def test_a_server_that_tells_of_no_handshake_is_missed_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = serve(Camera(numbered_frames(5000), rate_hz=100))
    source = source_of(peer)
    look = java.JavaServer._look

    def deaf(self: java.JavaServer, monitor: Any) -> None:
        before = self._greeted
        look(self, monitor)
        self._greeted = before  # as with a server of an older ZeroMQ

    monkeypatch.setattr(java.JavaServer, "_look", deaf)
    source.open()
    source.start()
    pop_all(source, most=3)
    peer.stop()
    with pytest.raises(SourceFailed, match="was closed, or it crashed"):
        pop_all(source)
    source.close()


@pytest.mark.parametrize(("host", "tunnel"), [("127.0.0.1", False), ("localhost", False), ("scope-pc", True)])
def test_a_server_on_another_computer_needs_a_tunnel(
    monkeypatch: pytest.MonkeyPatch, host: str, tunnel: bool
) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(java.socket, "create_connection", nobody)
    source = BridgeSource(host, 4827)
    with pytest.raises(SourceUnavailable, match="nothing listens") as caught:
        source.open()
    source.close()
    assert ("ssh -N -L 4827:127.0.0.1:4827 scope-pc" in str(caught.value)) is tunnel


def test_a_method_that_an_older_micro_manager_lacks(serve: Serve) -> None:
    core = java.JavaObject("1", "mmcorej.CMMCore", {"getExposure": ((), ("java.lang.String",))})
    assert core.call("getExposure", "Cam")["argument-types"] == ["java.lang.String"]
    assert core.call("getExposure")["argument-types"] == []
    with pytest.raises(SourceUnavailable, match="has no popNextTaggedImage"):
        core.call("popNextTaggedImage")
    with pytest.raises(SourceUnavailable, match="has no getExposure with 1"):
        core.call("getExposure", 3)
