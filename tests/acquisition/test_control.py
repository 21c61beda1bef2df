"""Pause, resume and stop: from a program, from another process, from the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from denoscope.acquisition import Frame, SessionControl, SessionState, make_settings, read_raw
from denoscope.acquisition.control.control import Action, Request, RequestFiles
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.regions import search
from denoscope.acquisition.regions.trace_file import read_traces
from denoscope.acquisition.view.board.link import LiveView, OpenView
from denoscope.runtime import InvalidInput
from support.plain_results import ask, fill_run, live
from support.tiny_bundle import tiny_bundle

from .conftest import QUICK, Run, environment
from .test_regions import AtOnce
from .test_routing import Listed


class Steady(Listed):
    """Shows its frames one by one, when they are due, and calls back before some of them."""

    def __init__(self, frames: list[Frame], before: dict[int, Callable[[], None]]) -> None:
        super().__init__(frames)
        self._before = before
        self._count = 0

    def pop(self) -> Frame | None:
        action = self._before.get(self._count)
        if action is not None:
            action()
        frame = super().pop()
        self._count += frame is not None
        return frame


def frames_of(count: int) -> list[Frame]:
    chance = np.random.default_rng(5)
    return [
        Frame(chance.poisson(200, (48, 56)).astype(np.uint16), n, time.perf_counter(), "Cam", {"n": n})
        for n in range(count)
    ]


class Conductor:
    """Asks, and waits in the camera's thread until the session has done it."""

    def __init__(self) -> None:
        self.control = SessionControl()
        self.state = SessionState.NEW
        self.in_flight = -1

    def see(self, status: Any, *_: Any) -> None:
        self.state = status.state
        if self.state is SessionState.PAUSED:
            self.in_flight = status.in_flight

    def until(self, ask_for: Callable[[], None], state: SessionState) -> Callable[[], None]:
        def wait() -> None:
            ask_for()
            deadline_s = time.monotonic() + 250
            while self.state is not state:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            while state is SessionState.PAUSED and self.in_flight:
                assert time.monotonic() < deadline_s, "what was held is denoised during the pause"
                time.sleep(0.01)

        return wait


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    tiny_bundle(tmp_path / "tiny.denoscope", intensity=None, calibration_frames=8)
    return str(tmp_path / "tiny.denoscope")


def test_a_pause_costs_denoised_frames_and_no_raw_ones(tmp_path: Path, tiny: str) -> None:
    act = Conductor()
    source = Steady(
        frames_of(60),
        {
            30: act.until(act.control.pause, SessionState.PAUSED),
            40: act.until(act.control.resume, SessionState.RECORDING),
        },
    )
    settings = make_settings(
        core="demo", output=tmp_path / "run", bundle=tiny, picture=False, lag_s=60, finish_s=60, fill=False
    )
    report = live(settings, source=source, on_status=act.see, control=act.control)
    frames = report["frames"]
    assert frames["received"] == frames["written_raw"] == 60 == len(read_raw(tmp_path / "run"))
    assert frames["dropped"] == {"paused": 10}
    assert frames["denoised"] == 50
    assert report["outcome"]["exit_code"] == 0
    (pause,) = report["pauses"]
    assert (pause["start_frame"], pause["end_frame"]) == (30, 40)
    assert pause["start_s"] < pause["end_s"] <= report["timing"]["duration_s"]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    asked = [(line["event"], line["done"], line["state"], line["by"]) for line in log if "by" in line]
    assert asked == [("pause", True, "paused", "program"), ("resume", True, "recording", "program")]
    # What went by is computed afterwards, and what was denoised live is kept.
    filled = fill_run(tmp_path / "run", bundle=tiny)
    assert (filled["kept"], filled["computed"], filled["missing"]) == (50, 10, 0)
    with tifffile.TiffFile(tmp_path / "run" / "denoised.ome.tif") as tiff:
        assert tiff.series[0].shape == (60, 48, 56)


def test_a_stop_is_a_good_end(tmp_path: Path, tiny: str) -> None:
    act = Conductor()
    # It ends at once or, where the wish comes after the last frame, with it: both are good ends.
    source = Steady(frames_of(60), {20: act.control.stop})
    settings = make_settings(
        core="demo", output=tmp_path / "run", bundle=tiny, picture=False, denoiser="thread"
    )
    report = live(settings, source=source, control=act.control)
    assert report["outcome"]["exit_code"] == 0
    assert report["frames"]["received"] == report["frames"]["written_raw"]


def test_pausing_twice_changes_nothing(tmp_path: Path, tiny: str) -> None:
    act = Conductor()
    twice = act.until(act.control.pause, SessionState.PAUSED)
    source = Steady(
        frames_of(40), {20: twice, 21: act.control.pause, 22: act.control.resume, 23: act.control.find}
    )
    settings = make_settings(
        core="demo", output=tmp_path / "run", bundle=tiny, picture=False, denoiser="thread"
    )
    report = live(settings, source=source, on_status=act.see, control=act.control)
    assert len(report["pauses"]) == 1
    assert "a request to find regions again did nothing: the session was started without regions" in str(
        report["outcome"]["notes"]
    )
    assert report["pauses"][0]["end_s"] is not None, "the end of the recording ends a pause"


def test_regions_are_found_again_when_asked_for(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "Thread", AtOnce)
    rows, columns = np.mgrid[:48, :56]
    bright = (np.hypot(rows - 14, columns - 14) < 5) | (np.hypot(rows - 30, columns - 40) < 5)
    frames = [replace(frame, pixels=frame.pixels + np.uint16(300) * bright) for frame in frames_of(170)]
    cells = np.zeros((48, 56), np.uint8)
    cells[2:6, 2:6] = 4
    tifffile.imwrite(tmp_path / "cells.tif", cells)
    run, act = tmp_path / "run", Conductor()

    def find() -> None:
        act.control.find(5.0)
        wait_for(run / "log.jsonl", '"event": "find"')

    settings = make_settings(
        core="demo",
        output=run,
        bundle=tiny,
        picture=False,
        denoiser="thread",
        lag_s=60,
        regions=tmp_path / "cells.tif",
        trigger=("region 4 dff > 99",),
    )
    shown = threading.Event()

    def show(_self: OpenView, _status: Any, *, searching: bool = False) -> None:
        if searching:
            shown.set()

    monkeypatch.setattr(OpenView, "show", show)
    # Of the 100 frames that a search takes, 30 can have come by then.
    source = Steady(frames, {30: find, 60: lambda: shown.wait(250)})
    report = live(settings, source=source, control=act.control, view=LiveView(Slab()))
    assert report["outcome"]["exit_code"] == 0
    assert report["outcome"]["problems"] == [], "region 4 is measured until the end, as its trigger needs"
    assert shown.is_set(), "the window says that cells are being searched"
    (again,) = report["traces"]["again"]
    assert (report["traces"]["frames"], again["regions"]) == (170, 2)
    assert 0 < again["frames"] <= 70  # a hundred were searched in
    assert len(read_traces(run / "traces-2.csv")) == again["frames"]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (found,) = [line for line in log if line["event"] == "regions"]
    assert (found["count"], found["first"], found["last"]) == (2, "5", "6")
    for radius in (0.0, float("nan"), 10**400, True, "6"):
        with pytest.raises(InvalidInput, match="give 1 to 200"):
            act.control.find(radius)  # type: ignore[arg-type]


@pytest.mark.parametrize("radius_px", [4.5, None])
def test_the_radius_of_cells_to_find_again_reaches_the_session(
    tmp_path: Path, radius_px: float | None
) -> None:
    (tmp_path / "log.jsonl").write_text("{}\n")
    asked: list[Request] = []

    def session() -> None:
        while not asked:
            asked.extend(RequestFiles(tmp_path).take())
        with (tmp_path / "log.jsonl").open("a") as log:
            log.write(json.dumps({"event": "find", "request": asked[0].name, "done": True}) + "\n")

    thread = threading.Thread(target=session)
    thread.start()
    assert ask(tmp_path, Action.FIND, radius_px=radius_px, timeout_s=250)["done"]
    thread.join()
    assert [(each.action, each.radius_px) for each in asked] == [(Action.FIND, radius_px)]
    with pytest.raises(InvalidInput, match=r"the radius of a cell is 0\.0; give 1 to 200"):
        ask(tmp_path, Action.FIND, radius_px=0.0)


def test_files_that_are_no_requests_are_passed_over(tmp_path: Path) -> None:
    words = ["", "{", "[]", '{"action": "explode", "name": "a"}', '{"action": "stop"}', "x" * 5000]
    words += [
        '{"action": "find", "name": "a", "radius_px": -1}',
        '{"action": "find", "name": "a", "radius_px": "x"}',
    ]
    for number, text in enumerate(words):
        (tmp_path / f"request-{number}.json").write_text(text)
    (tmp_path / "request-z.json").write_text('{"action": "pause", "name": "z"}')
    files = RequestFiles(tmp_path)
    assert [request.action for request in files.take()] == [Action.PAUSE]
    assert not list(files.take())
    assert not list(tmp_path.iterdir())


def test_whoever_asks_a_folder_without_a_session_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no run folder of a live session"):
        ask(tmp_path, Action.STOP)
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(RuntimeError, match=r"did not answer within 0\.2 s"):
        ask(tmp_path, Action.STOP, timeout_s=0.2)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InvalidInput, match="has ended"):
        ask(tmp_path, Action.STOP)
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "report.json"}


def wait_for(path: Path, text: str, writer: subprocess.Popen[Any] | None = None) -> None:
    """Wait for a text in a file; not for a process that ended before it wrote it."""
    deadline_s = time.monotonic() + 250
    ended = False
    while not path.exists() or text not in path.read_text(encoding="utf-8"):
        assert not ended, f"{writer.args} ended with {writer.returncode} before it wrote {text}"  # type: ignore[union-attr]
        ended = writer is not None and writer.poll() is not None  # it may have written it last
        assert time.monotonic() < deadline_s, f"{text} never came in {path}"
        time.sleep(0.05)


def command(movie: Path, bundle: Path, run: Path) -> list[str]:
    words: list[Any] = [sys.executable, "-m", "denoscope.acquisition.cli.app", "live"]
    words += ["--core", f"replay:{movie}", "--fps", 40, "--frames", 4000, "--bundle", bundle]
    return [*map(str, words), "--output", str(run), "--no-picture", "--backend", QUICK]


def test_another_process_pauses_resumes_and_stops(
    bundle: Path, movie: Path, tmp_path: Path, denoscope: Run
) -> None:
    run = tmp_path / "run"
    session = subprocess.Popen(
        command(movie, bundle, run),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        wait_for(run / "log.jsonl", '"recording"', session)
        answers = []
        for word in ("pause", "pause", "resume", "find", "stop"):
            done = denoscope(word, run, "--json")
            assert done.returncode == 0, done.stderr
            answers.append(json.loads(done.stdout))
        output, errors = session.communicate(timeout=280)
    finally:
        session.kill()
    assert session.returncode == 0, errors
    assert [answer["done"] for answer in answers] == [True, False, True, False, True]
    assert "was started without regions" in answers[3]["why"]
    assert "Stopped as you asked" in output
    report = json.loads((run / "report.json").read_text())
    frames = report["frames"]
    assert report["outcome"]["reason"] == "stopped"
    assert frames["received"] == frames["written_raw"] == len(read_raw(run)) > 0
    went_by = report["pauses"][0]["end_frame"] - report["pauses"][0]["start_frame"]
    assert abs(frames["dropped"]["paused"] - went_by) <= 1, "one frame may arrive while the pause begins"
    assert not list(run.glob("request-*"))
    late = denoscope("pause", run)
    assert late.returncode == 2
    assert "has ended" in late.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_keys_in_the_terminal(bundle: Path, movie: Path, tmp_path: Path) -> None:
    import pty

    run = tmp_path / "run"
    master, slave = pty.openpty()
    session = subprocess.Popen(
        [*command(movie, bundle, run), "--regions", "find"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(),
    )
    os.close(slave)
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(master, 4096):
                shown.append(data)
        except OSError:  # the other end closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(run / "log.jsonl", '"recording"', session)
        for key, event in (("p", '"pause"'), ("r", '"resume"'), ("f", '"find"'), ("q", '"stop"')):
            os.write(master, f"{key}\n".encode())
            wait_for(run / "log.jsonl", event, session)
        assert session.wait(250) == 0
    finally:
        session.kill()
        session.wait()
        reader.join(250)
        os.close(master)
    words = b"".join(shown).decode(errors="replace")
    assert "p pauses the denoising, r resumes it, f finds regions again, q ends" in " ".join(words.split())
    assert "Stopped as you asked" in words
    log = (run / "log.jsonl").read_text()
    assert log.count('"by": "terminal"') == 4
