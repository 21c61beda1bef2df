"""The board between a session and its viewer: what is put there is seen whole, newest only, and nobody waits."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition import Frame, SessionControl, SourceInfo, make_settings
from denoscope.acquisition.contracts import Stamp
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.raw.writer import RawWriter
from denoscope.acquisition.session.states import FinishReason, SessionState, SessionStatus
from denoscope.acquisition.sinks.base import PixelsAt
from denoscope.acquisition.sinks.live import LiveFormat, open_live_sink
from denoscope.acquisition.view.board.board import Board, Slot, Wish
from denoscope.acquisition.view.board.link import LiveView
from denoscope.acquisition.view.board.publisher import Publisher, ShownRaw, ShownSink, status_values
from denoscope.acquisition.view.window.contrast import AutoContrast
from denoscope.acquisition.view.window.line import Level, StatusLine
from denoscope.acquisition.view.window.past import PastFrames
from denoscope.runtime import Denoised, FrameMeta, StageTimes, StreamKey

STATUS = SessionStatus(
    SessionState.RECORDING, None, 12.0, 360, 358, 350, {}, 5, 0, 30.0, 29.5, {"p50": 0.021, "p99": 0.034}
)


def board(shape: tuple[int, int] = (6, 8)) -> Board:
    return Board.create(Slab(), 4 * shape[0] * shape[1])[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_newest_only(dtype: Any) -> None:
    shared = board()
    assert shared.get(Slot.RAW) is None
    assert shared.get_status() is None
    for number in range(5):
        shared.put(Slot.RAW, np.full((6, 8), number, dtype), number)
    picture = shared.get(Slot.RAW)
    assert picture is not None
    assert (picture.number, picture.step, picture.order) == (4, 1, 5)
    assert picture.pixels.dtype == dtype
    np.testing.assert_array_equal(picture.pixels, 4)
    assert shared.get(Slot.RAW, picture.order) is None
    assert shared.get(Slot.DENOISED) is None
    shared.put(Slot.RAW, np.full((2, 3), 9, dtype), 5)  # the ROI became smaller
    smaller = shared.get(Slot.RAW, picture.order)
    assert smaller is not None
    assert smaller.pixels.shape == (2, 3)
    shared.close()


def test_large_frames_are_thinned_out() -> None:
    shared = board((16, 16))
    large = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    shared.put(Slot.DENOISED, large, 0)
    picture = shared.get(Slot.DENOISED)
    assert picture is not None
    assert picture.step == 4
    np.testing.assert_array_equal(picture.pixels, large[::4, ::4])
    assert Board.create(Slab(), 1 << 30)[0].nbytes < 80e6
    shared.close()


def test_status_and_wishes() -> None:
    shared = board()
    shared.put_status({"state": "recording", "text": "é"})
    assert shared.get_status() == {"state": "recording", "text": "é"}
    with pytest.raises(ValueError, match="exceeds"):
        shared.put_status({"text": "x" * 70_000})
    assert shared.get_status() == {"state": "recording", "text": "é"}
    assert shared.wishes == (0, None)
    shared.ask(Wish.PAUSE)
    shared.ask(Wish.RESUME)
    assert shared.wishes == (2, Wish.RESUME)
    shared.want(3)
    shared.beat()
    assert (shared.wanted, shared.beats) == (3, 1)
    shared.close()


@pytest.mark.parametrize("preview", [False, True])
def test_a_wish_of_the_viewer_is_one_request_to_the_session(tmp_path: Path, preview: bool) -> None:
    view, control = LiveView(Slab()), SessionControl()
    info = SourceInfo("demo", "demo", "Camera", (6, 8), np.dtype(np.uint16))
    shown = view.open(make_settings(core="demo", output=tmp_path, preview=preview), info)
    assert view._board is not None  # private: the viewer's end of it
    asked = []
    for wish in Wish:
        view._board.ask(wish)
        for _ in range(2):  # the board still holds it
            shown.pass_on(control)
        asked.append([(each.action.value, each.origin) for each in control.take()])
    expected = {"STOP": "stop", "PAUSE": "pause", "RESUME": "resume", "FIND": "find"}
    expected |= {"RECORD": "stop"} if preview else {}  # of the preview
    assert asked == [[(expected[wish.name], "view")] if wish.name in expected else [] for wish in Wish]
    assert view.recording_wanted is preview
    for searching in (True, False):
        shown.show(STATUS, searching=searching)
        assert (view._board.get_status() or {})["searching"] is searching
    view.close()


def test_foreign_memory_is_refused() -> None:
    slab = Slab()
    slab.grow(4096)
    with pytest.raises(ValueError, match="version"):
        Board(slab)
    slab.close()


def test_no_frame_is_ever_seen_torn() -> None:
    shared = board((64, 64))
    done = threading.Event()

    def write() -> None:
        for number in range(4000):
            shared.put(Slot.RAW, np.full((64, 64), number, np.uint16), number)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    order, seen = 0, 0
    while not done.is_set() or seen == 0:
        picture = shared.get(Slot.RAW, order)
        if picture is not None:
            assert picture.order > order
            assert picture.pixels.min() == picture.pixels.max() == picture.number
            order, seen = picture.order, seen + 1
    writer.join()
    shared.close()


# -- the session's end


class Kept:
    written, confirmed, doubts = 0, 7, 3

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def append(self, *taken: Any) -> None:
        self.taken.append(taken)
        self.written += 1

    def sync(self) -> None:
        self.taken.append("sync")

    def close(self) -> None:
        self.taken.append("close")


def frame(number: int, value: int, **axes: Any) -> Frame:
    tags = {"Axes": axes} if axes else {}
    return Frame(np.full((6, 8), value, np.uint16), number, time.perf_counter(), "Camera", tags)


def denoised(number: int, value: int, key: StreamKey) -> Denoised:
    pixels = np.full((6, 8), value, np.uint16)
    return Denoised(
        pixels, None, FrameMeta(number=number, t_received_s=0.0, key=key), StageTimes(0, 0, 0, 0, 0, 0)
    )


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoscope.acquisition.view.board.publisher._PERIOD_S", 0.0)


@pytest.mark.parametrize("name", ["ome-tiff", "ome-zarr", "ndtiff"])
def test_frames_of_the_past_are_read_from_the_files(tmp_path: Path, name: LiveFormat) -> None:
    shared = board()
    publisher = Publisher(shared, 4)
    info = SourceInfo("fake", "fake", "Camera", (6, 8), np.dtype(np.uint16))
    raw = RawWriter(tmp_path, info, "0")
    movie = open_live_sink(tmp_path, name, info, {}, std=False)
    shown_raw = ShownRaw(raw, publisher, lambda: PixelsAt("raw.tif", raw.pixels_at or 0))
    shown_sink = ShownSink(movie, publisher, lambda: movie.pixels_at)
    places = shared.places
    past = PastFrames(places, tmp_path)
    assert past.read(Slot.RAW, 0) is None
    for page in range(6):
        one = frame(page // 2, 100 + page)
        shown_raw.append(replace(one, tags={"Camera": "Camera", "Channel": ("DAPI", "FITC")[page % 2]}))
        if page != 3:
            # Each stage position gets a separate OME-Zarr.
            key = StreamKey(camera="Camera", channel=("DAPI", "FITC")[page % 2], position=page // 4)
            shown_sink.append(denoised(page // 2, 200 + page, key), Stamp(page, 0.0, None, 0.0))
    for page in range(6):
        seen = past.read(Slot.RAW, page)
        assert seen is not None
        assert (seen.number, int(seen.pixels[2, 3]), seen.pixels.shape) == (page // 2, 100 + page, (6, 8))
        clean = past.read(Slot.DENOISED, page)
        assert (clean is None) == (page == 3)
        assert clean is None or int(clean.pixels[2, 3]) == 200 + page
    assert past.read(Slot.RAW, 6) is None
    # The page of the stream that is shown, or the one before it.
    assert [past.find(page, 0) for page in range(6)] == [0, 0, 2, 2, 4, 4]
    assert [past.find(page, 1) for page in range(6)] == [None, 1, 1, 3, 3, 5]
    # An older frame than the table holds is not mistaken for the one in its place.
    assert past.read(Slot.RAW, past.longest) is None
    shown_raw.close()
    movie.close()  # puts its pages in order; their pixels stay where they are
    shared.close()
    clean = past.read(Slot.DENOISED, 5)
    assert clean is not None
    assert int(clean.pixels[0, 0]) == 205
    (tmp_path / "raw.tif").unlink()
    assert past.read(Slot.RAW, 0) is None


@pytest.mark.usefixtures("unhurried")
def test_sinks_are_asked_first_and_then_shown() -> None:
    shared, raw, sink = board(), Kept(), Kept()
    publisher = Publisher(shared, 4)
    shown_raw, shown_sink = ShownRaw(raw, publisher), ShownSink(sink, publisher)
    one, output = frame(7, 30), denoised(5, 31, StreamKey(camera="Camera"))
    shown_raw.append(one)
    shown_sink.append(output, Stamp(5, 0.0, None, 0.0))
    shown_raw.sync()
    shown_raw.close()
    assert raw.taken == [(one,), "sync", "close"]
    assert (shown_raw.written, shown_raw.confirmed, shown_raw.doubts) == (1, raw.confirmed, raw.doubts)
    assert sink.taken[0][0] is output
    seen = [shared.get(slot) for slot in (Slot.RAW, Slot.DENOISED)]
    assert [(each.number, int(each.pixels[0, 0])) for each in seen if each] == [(7, 30), (5, 31)]


@pytest.mark.usefixtures("unhurried")
def test_one_stream_is_shown_and_the_viewer_says_which() -> None:
    shared = board()
    publisher = Publisher(shared, 4)
    for number, channel in enumerate(["DAPI", "FITC", "DAPI", "FITC"]):
        publisher.raw(frame(number, number, time=number // 2, channel=channel))
    assert publisher.streams == ["Camera · DAPI", "Camera · FITC"]
    picture = shared.get(Slot.RAW)
    assert picture is not None
    assert (picture.number, int(picture.pixels[0, 0])) == (
        1,
        2,
    )  # number in its stream, as of the denoised frame
    shared.want(1)
    publisher.raw(frame(5, 5, time=2, channel="FITC"))
    publisher.raw(frame(6, 6, time=3, channel="DAPI"))
    picture = shared.get(Slot.RAW)
    assert picture is not None
    assert (picture.number, int(picture.pixels[0, 0])) == (2, 5)


@pytest.mark.usefixtures("unhurried")
def test_raw_and_denoised_show_the_same_frame_as_long_as_denoised_ones_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = board()
    publisher = Publisher(shared, 4)
    key = StreamKey(camera="Camera")

    def numbers() -> list[tuple[int, int]]:
        seen = [shared.get(slot) for slot in (Slot.RAW, Slot.DENOISED)]
        return [(each.number, int(each.pixels[0, 0])) for each in seen if each]

    for number in range(4):
        publisher.raw(frame(number, 10 + number))
    assert numbers() == [(3, 13)]  # while the denoiser measures the brightness
    publisher.denoised(denoised(1, 21, key))
    assert numbers() == [(1, 11), (1, 21)]
    publisher.raw(frame(4, 14))
    publisher.denoised(denoised(2, 22, key))
    assert numbers() == [(2, 12), (2, 22)]
    monkeypatch.setattr("denoscope.acquisition.view.board.publisher._ALONE_S", 0.0)
    publisher.raw(frame(5, 15))  # denoising was paused
    assert numbers() == [(5, 15), (2, 22)]


def test_a_broken_board_costs_the_picture_only() -> None:
    shared, raw = board(), Kept()
    publisher = Publisher(shared, 4)
    shown = ShownRaw(raw, publisher)
    shared.close()
    for number in range(3):
        shown.append(frame(number, 1))
    publisher.status({})
    assert raw.written == 3
    assert publisher.problem is not None
    assert publisher.problem.startswith("the live view got no more frames")


def test_no_more_than_sixty_frames_a_second_are_copied() -> None:
    shared = board()
    publisher = Publisher(shared, 4)
    start_s = time.perf_counter()
    while time.perf_counter() - start_s < 0.3:
        publisher.raw(frame(0, 1))
    picture = shared.get(Slot.RAW)
    assert picture is not None
    assert 1 <= picture.order <= 60 * (time.perf_counter() - start_s) + 1


# -- words and colours


def values(**changes: Any) -> dict[str, Any]:
    info = SourceInfo("demo", "demo", "Camera", (100, 100), np.dtype(np.uint16))
    made = status_values(STATUS, info, make_settings(core="demo", output=Path()), ["Camera"], 1)
    return {**made, "free_bytes": 10**12, **changes}


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, Level.GOOD, "raw written 358 of 360"),
        (
            {"dropped": {"keep-up": 3}, "fps_out": 14.2},
            Level.WARNING,
            "this computer denoises 14 of 30 frames/s: all raw frames are saved, the rest",
        ),
        ({"dropped": {"paused": 3}, "state": "paused"}, Level.CALM, "skipped 0"),
        (
            {"state": "paused"},
            Level.CALM,
            "paused: the denoised picture is 0 s old, raw frames are still recorded",
        ),
        ({"state": "finished", "missing": 2, "dropped": {"keep-up": 3}}, Level.CALM, "finished"),
        ({}, Level.GOOD, "delay 21 ms (99 % within 34 ms)"),
        ({"latency_s": {"p50": 12.34, "p99": 40.0}}, Level.GOOD, "delay 12.3 s (99 % within 40.0 s)"),
        ({"fps_in": 1 / 30, "fps_out": 1 / 30}, Level.GOOD, "0.033 frames/s, 0.033 denoised"),
        ({"elapsed_s": 7260.0}, Level.GOOD, "recording 2 h 1 min"),
        ({"missing": 2}, Level.WARNING, "2 frames never arrived"),
        ({"free_bytes": 10**8}, Level.WARNING, "disk nearly full: 100 MB free"),
        ({"free_bytes": 3 * 10**8}, Level.WARNING, "disk full in 83 s"),
        ({"free_bytes": None}, Level.GOOD, "recording 12 s"),
        ({"problems": ["denoising failed (x)"]}, Level.BAD, "denoising failed (x)"),
        ({"latency_s": {}, "emitted": 0}, Level.GOOD, "measuring the noise: the denoised picture comes"),
        (
            {"latency_s": {}, "emitted": 0, "received": 0},
            Level.GOOD,
            "waiting for the first frame · recording",
        ),
        ({"latency_s": {}}, Level.GOOD, "catching up"),
        ({"keeps_raw": False}, Level.GOOD, "raw kept elsewhere"),
        ({"preview": True}, Level.NOTE, "Preview: nothing is saved · 12 s"),
        ({"dropped": {"keep-up": 3}}, Level.WARNING, "3 frames were skipped, and none is now"),
        (
            {"preview": True, "dropped": {"keep-up": 3}, "fps_out": 9.0},
            Level.WARNING,
            "a recording saves all raw frames",
        ),
        ({"preview": True, "state": "finished"}, Level.CALM, "The preview has ended: nothing was saved"),
        (
            {"state": "finished", "message": FinishReason.STOPPED.value},
            Level.CALM,
            "the user asked it to stop",
        ),
    ],
)
def test_line(changes: dict[str, Any], level: Level, words: str) -> None:
    text, found = StatusLine().write(values(**changes), 100.0)
    assert found is level
    assert words in text


def test_line_of_a_preview_speaks_of_no_raw_frames_on_the_disk() -> None:
    for state in ("recording", "paused", "stopping", "finished"):
        text, _ = StatusLine().write(values(preview=True, keeps_raw=False, state=state), 100.0)
        assert "raw" not in text
        assert "nothing" in text


def test_the_terminal_says_that_a_preview_saves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    from denoscope.acquisition.cli.screen import Screen
    from denoscope.acquisition.cli.shell import Shell
    from denoscope.acquisition.results import SessionProvenance

    status = SessionStatus(SessionState.RECORDING, None, 12.0, 360, 0, 350, {}, 5, 0, 30.0, 29.5, {})
    info = SourceInfo("demo", "demo", "Camera", (100, 100), np.dtype(np.uint16))
    for preview, words in ((True, "state preview: nothing is saved, 12 s"), (False, "raw saved 0/360")):
        screen = Screen(Shell(json=False, quiet=False, debug=False))
        screen.preview = preview
        screen(status, info, SessionProvenance())
        said = "".join(capsys.readouterr())
        assert words in said
        assert ("raw saved" in said) is not preview


def test_line_forgets_skips_and_notices_silence() -> None:
    line = StatusLine()
    skipped = values(dropped={"overrun": 2})
    assert line.write(skipped, 0.0)[1] is Level.WARNING
    assert line.write({**skipped, "count": 2}, 11.0)[1] is Level.GOOD
    text, level = line.write({**skipped, "count": 2}, 22.5)
    assert level is Level.WARNING
    assert text.startswith("no word from the session for 12 s")


def test_a_pause_says_how_old_the_picture_is() -> None:
    line = StatusLine()
    line.write(values(), 0.0)
    assert "picture is 12 s old" in line.write(values(state="paused", count=2), 12.0)[0]
    assert "old" not in line.write(values(emitted=351, count=3), 13.0)[0]


def test_contrast_follows_without_flicker() -> None:
    rng = np.random.default_rng(1)
    contrast = AutoContrast()
    dim, bright = rng.poisson(50, (64, 64)), rng.poisson(500, (64, 64))
    low, high = contrast.update(dim, 0.0)
    assert 25 < low < 50 < high < 90
    flash = contrast.update(bright, 0.03)
    assert flash[1] - high < 0.05 * (500 - high)
    for step in range(200):
        settled = contrast.update(bright, 0.03 * (step + 2))
    assert 400 < settled[0] < 500 < settled[1]
    flat = AutoContrast().update(np.zeros((4, 4), np.uint16), 0.0)
    assert flat == (0.0, 1.0)


def test_contrast_of_floats_holes_and_saturated_frames() -> None:
    small = np.linspace(0, 0.01, 4096, dtype=np.float32).reshape(64, 64)
    low, high = AutoContrast().update(small, 0.0)
    assert 0 <= low < 0.001
    assert 0.009 < high < 0.0101
    framed = small.copy()
    framed[:5] = np.nan
    framed[-1] = np.inf
    contrast = AutoContrast()
    assert contrast.update(np.full((8, 8), np.nan, np.float32), 0.0) == (0.0, 1.0)
    low, high = contrast.update(framed, 0.1)
    assert 0 <= low < high < 0.011
    assert contrast.update(np.full((8, 8), np.nan, np.float32), 0.2) == (low, high)
    assert AutoContrast().update(np.full((8, 8), 4095, np.uint16), 0.0) == (0.0, 4095.0)
    assert AutoContrast().update(np.full((8, 8), 100, np.uint16), 0.0) == (100.0, 101.0)
