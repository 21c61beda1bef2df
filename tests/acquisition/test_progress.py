from __future__ import annotations

import io
from typing import Any

import pytest

from denoscope.acquisition import Evaluation, SessionReport
from denoscope.acquisition.cli import progress
from denoscope.acquisition.cli.progress import FillBar, ProgressLine, duration
from denoscope.acquisition.cli.shell import Shell
from denoscope.acquisition.results import StageDelay
from denoscope.acquisition.session.ending.summary import skipped_by_reason, summary

from .conftest import Run


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_of_text_say_how_far_and_how_long(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine(Shell(), "denoising", "frame") as line:
        for done in range(0, 101, 10):
            line.show(done, 100, "movie")
            clock.now_s += 3
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "denoising: 20 of 100 frames, about 24 s left, movie"
    assert len(said) == 5


def test_a_share_and_a_given_time(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(Shell(), "training")
    line.show(0.0, 1)
    clock.now_s += 6
    line.show(0.25, 1, left_s=200.0)
    assert capsys.readouterr().out == "training: 25%, about 3.3 min left\n"


def test_work_in_steps_is_told_at_once_and_keeps_its_clock(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ProgressLine(Shell(), "measuring", "case", waits=False)
    line.show(0, 4, "first")
    clock.now_s += 30
    line.interrupt()
    line.show(1, 4, "second")
    line.end()
    line.show(0, 2, "others")
    assert capsys.readouterr().out.splitlines() == [
        "measuring: 0 of 4 cases, first",
        "measuring: 1 of 4 cases, about 90 s left, second".replace("about 90 s", duration(90)),
        "measuring: 0 of 2 cases, others",
    ]


def test_a_terminal_gets_one_line_that_is_drawn_again(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    with ProgressLine(Shell(), "training") as line:
        line.show(0.5, 1, "on [unseen] frames", left_s=30)
    text = terminal.getvalue()
    assert "training" in text
    assert "50%" in text
    assert "about 30 s left, on [unseen] frames" in text


def test_nothing_is_said_where_nobody_listens(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    begun = []
    with FillBar(Shell(quiet=True), lambda: begun.append(1)) as bar:
        for done in range(10):
            bar(done, 10)
            clock.now_s += 60
    assert (capsys.readouterr().out, begun) == ("", [])


def test_filling_says_first_what_it_does(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    begun = []
    with FillBar(Shell(), lambda: begun.append(1)) as bar:
        bar(1, 10)
        bar(2, 10)
    assert capsys.readouterr().out.startswith("Denoising the skipped frames from raw.tif. Ctrl-C")
    assert begun == [1]


def test_what_is_left_is_never_no_time() -> None:
    assert duration(0.2) == "about 1 s"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("replay", "the movie is at its end"), ("watch", "no new frames came"), ("config", "camera stopped")],
)
def test_a_movie_has_no_camera_that_stops(kind: str, words: str) -> None:
    report = SessionReport()
    report.outcome.reason, report.source.kind = "source_ended", kind
    assert words in summary(report).splitlines()[0]


@pytest.mark.parametrize(
    ("queue_s", "told"),
    [
        (0.001, "100 waiting for later frames, 200 computing"),
        (0.15, "100 waiting for later frames, 150 because the denoiser was busy, 50 computing"),
        (9.0, "100 waiting for later frames, 200 because the denoiser was busy, 0 computing"),
    ],
)
def test_a_busy_denoiser_is_told_from_computing(queue_s: float, told: str) -> None:
    report = SessionReport()
    timing = report.timing
    timing.latency_p50_s, timing.latency_p99_s, timing.fps_in_hz = 0.3, 0.5, 30.0
    timing.stages = {"queue": StageDelay(p50_s=queue_s, p99_s=queue_s)}
    report.denoiser.look_ahead = 3
    assert f"Delay 300 ms (median): {told}; 99 % of frames within 500 ms." in summary(report)


def test_reasons_that_mean_the_same_are_one() -> None:
    assert skipped_by_reason({"keep-up": 2, "passed over": 3, "paused": 1}) == {
        "computer too slow": 5,
        "paused by you": 1,
    }


def test_an_evaluation_counts_the_frames_of_all_bundles(
    clock: Clock, denoscope: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_two_movies(_output: object, *, listener: Any, **_settings: object) -> Evaluation:
        for movie in ("one", "two"):
            listener.began(movie, 10, 2)
            for frames in (*range(1, 11), *range(1, 11)):
                listener.progressed(frames)
                clock.now_s += 6
            for name in ("comparing", "dimming"):
                listener.checked(name, 0.25)
                clock.now_s += 6
                listener.checked(name, 0.5)
            listener.noted(f"{movie} is done")
        return Evaluation()

    monkeypatch.setattr("denoscope.acquisition.learning.evaluation.evaluate", of_two_movies)
    said = denoscope("evaluate", "--movie", "m.tif", "--output", "out").stdout.splitlines()
    middle = said.index("Note: one is done") + 1
    for movie, lines in (("one", said[:middle]), ("two", said[middle:])):
        counts = [int(line.split()[1]) for line in lines if line.startswith("denoising: ")]
        assert counts == sorted(counts)
        assert counts[-1] == 20, "frames of both bundles"
        assert "comparing the bundles: 50%, about 12 s left" in lines
        assert "trying less light: 50%, about 12 s left" in lines
        assert f"Note: {movie} is done" in lines
