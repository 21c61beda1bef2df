"""Messages are true where nothing was done, nothing is named, or something else is in the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tifffile
from filelock import FileLock, Timeout

from denoscope.acquisition import OutputExists, SourceInfo, make_settings, read_raw
from denoscope.acquisition.cli import app
from denoscope.acquisition.cli.screen import _rows  # what the screen shows, without a terminal
from denoscope.acquisition.denoisers.local import LocalDenoiser
from denoscope.acquisition.errors import DiskUnwritable
from denoscope.acquisition.offline import denoise as offline
from denoscope.acquisition.processes.signals import Interrupts
from denoscope.acquisition.raw.in_the_way import in_the_way
from denoscope.acquisition.results import SessionProvenance
from denoscope.acquisition.session import supervisor
from denoscope.acquisition.session.opening import open_run as opening
from denoscope.acquisition.session.states import SessionState, SessionStatus
from denoscope.acquisition.sinks import live_movies
from denoscope.acquisition.sources import open_source
from denoscope.runtime import InvalidInput, bad_link
from support.plain_results import denoise_movie, fill_run, live, summary
from support.signals import raise_signal

from .conftest import Run
from .test_fill import frames_of, record
from .test_outputs import _exit, command  # helpers of another test
from .test_routing import Listed

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")


# -- nothing was begun, or nothing denoised


def interrupt(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["open_movie", "open_model"])
def test_interrupted_before_anything_was_begun(
    bundle: Path,
    movie: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    words = ("denoise", movie, "--output", tmp_path / "x.tif", "--bundle", bundle)
    with monkeypatch.context() as patched:
        patched.setattr(offline, where, interrupt)
        assert command(*words) == 130
    said = capsys.readouterr().err
    assert "before the first frame; nothing was written" in said
    assert "--resume" not in said
    assert not list(tmp_path.iterdir())
    assert command(*words, "--quiet") == 0  # what it says to type works


@pytest.mark.parametrize("frame", [0, 1, 3])
def test_interrupted_when_something_is_there(
    bundle: Path,
    movie: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    frame: int,
) -> None:
    words = ("denoise", movie, "--output", tmp_path / "x.tif", "--bundle", bundle)
    write, count = offline._Work._write, 0

    def some(self: Any, out: Any) -> None:
        nonlocal count
        if count == frame:
            raise KeyboardInterrupt
        count += 1
        write(self, out)

    with monkeypatch.context() as patched:
        patched.setattr(offline._Work, "_write", some)
        assert command(*words) == 130
    said = capsys.readouterr().err
    assert ("before the first frame" if frame == 0 else f"after {frame} of 40 frames") in said
    assert "add --resume" in said
    assert command(*words, "--resume", "--quiet") == 0
    assert len(tifffile.imread(tmp_path / "x.tif")) == 40


def test_other_commands_do_not_speak_of_recording(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoscope.acquisition.cli.commands.bundles.Shell.say", interrupt)
    assert command("bundles", "--no-measure") == 130
    assert capsys.readouterr().err.strip() == "denoscope: interrupted"


class Broken:
    """Passes on to a denoiser whose process is lost with its first frame."""

    def __init__(self, denoiser: Any) -> None:
        self.counters = denoiser.counters

    def push(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("lost")

    flush = restart = push


@pytest.mark.usefixtures("drawn_pictures")
def test_no_frame_was_denoised(bundle: Path, tmp_path: Path) -> None:
    run, frames = tmp_path / "run", frames_of(12)
    settings = make_settings(core="demo", output=run, bundle=str(bundle), denoiser="thread")
    report = live(settings, source=Listed(frames), wrap=Broken)
    assert report["frames"]["received"] == report["frames"]["written_raw"] == 12
    assert report["frames"]["denoised"] == 0
    assert report["outcome"]["exit_code"] == 1
    words = summary(report)
    assert f"denoscope denoise --fill {run}" in words
    assert "The denoised movie shows the raw frame for 12 frames." in words
    assert "Error:" not in words.replace("(RuntimeError: lost)", "")
    assert "report.png was not drawn: no frame was denoised" in words
    kinds = [line.partition(" ")[0] for line in words.splitlines()]
    assert kinds[1] == "Problem:", "what is wrong comes before everything but the result"
    assert "Note:" not in kinds or kinds.index("Note:") > kinds.index("To")
    shown = tifffile.imread(run / "denoised.ome.tif")
    np.testing.assert_array_equal(shown, np.stack([frame.pixels for frame in frames]))
    result = fill_run(run)
    assert (result["kept"], result["computed"]) == (0, 12)


def test_the_command_is_named_where_the_skipped_frames_are_not_known(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_run: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("denoscope.acquisition.session.ending.finish.show_skipped", full)
    run = tmp_path / "run"
    settings = make_settings(core="demo", output=run, bundle=str(bundle), denoiser="thread", picture=False)
    report = live(settings, source=Listed(frames_of(12)), wrap=Broken)
    assert f"The denoised movie is not complete. To fill: denoscope denoise --fill {run}" in summary(report)
    assert json.loads((run / "report.json").read_text())["fill_command"].endswith(str(run))


def test_a_full_disk_while_skipped_frames_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, skipped, count = frames_of(40), [20, 21, 30, 31, 32], 0
    write = live_movies._write_at

    def full(*values: Any) -> None:
        nonlocal count
        count += 1
        if count > 2:
            raise OSError(28, "No space left on device")
        write(*values)

    monkeypatch.setattr(live_movies, "_write_at", full)
    run = tmp_path / "run"
    report = record(run, frames, skipped, fill=True)
    assert report["outcome"]["exit_code"] == 1
    assert report["outcome"]["degraded"]
    words = summary(report)
    assert "could not be computed now (No space left on device)" in words.replace("[Errno 28] ", "")
    assert f"denoscope denoise --fill {run}" in words
    assert [f.tolist() for f in read_raw(run).frames()] == [f.pixels.tolist() for f in frames]
    monkeypatch.undo()
    result = fill_run(run)  # what it says to type
    assert result["kept"] + result["computed"] == 40


# -- nothing is named


def _shown(camera: str = "", **facts: Any) -> dict[str, str]:
    """Return what the screen shows of a session that has just begun."""
    status = SessionStatus(
        state=SessionState.RECORDING,
        reason=None,
        elapsed_s=1.0,
        received=1,
        written_raw=1,
        emitted=0,
        dropped={},
        in_flight=1,
        missing=0,
        fps_in=1.0,
        fps_out=0.0,
        latency_s={},
        problems=(),
    )
    source = SourceInfo("watch", "x", camera, (64, 48), np.dtype(np.uint16))
    return dict(_rows(replace(status, **facts), source, SessionProvenance(backend="b", backend_reason="r")))


@pytest.mark.parametrize("camera", ["", "Cam"])
def test_a_source_without_a_camera_name(camera: str) -> None:
    assert _shown(camera)["source"] == ("x: Cam, 64x48 uint16" if camera else "x, 64x48 uint16")


def test_the_delay_is_not_said_to_wait_for_the_brightness_once_frames_were_denoised() -> None:
    """A movie that is there already keeps the denoiser busy to its end, so that no delay is ever measured."""
    assert _shown()["delay"] == "measuring the noise first"
    assert _shown(emitted=343)["delay"] == "catching up with the camera"
    assert _shown(emitted=343, latency_s={"p50": 0.117, "p99": 0.12})["delay"].startswith("117 ms")


# -- something is in the way


def test_a_file_where_a_folder_is_needed(
    bundle: Path, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "good.tif"
    good.write_bytes(b"x")
    for output in (good / "x.tif", good / "a" / "x.tif"):
        said = _exit(capsys, "denoise", movie, "--output", output, "--bundle", bundle)
        assert f"{good} is a file, and a folder is needed there" in said
        assert "make it first" not in said
        std = ("--output", tmp_path / "y.tif", "--std", output)
        assert "is a file" in _exit(capsys, "denoise", movie, *std, "--bundle", bundle)
    for output in (good, good / "run"):
        said = _exit(capsys, "live", "--core", "demo", "--output", output, "--bundle", bundle)
        assert f"{good} is a file, and a folder is needed there" in said
    assert good.read_bytes() == b"x"


@posix
def test_links_that_lead_in_a_circle(
    bundle: Path, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one.tif", tmp_path / "other.tif"
    one.symlink_to(other)
    other.symlink_to(one)
    thread = ("--denoiser", "thread", "--bundle", bundle, "--output", tmp_path / "run")
    for words in (
        ("denoise", movie, "--output", one, "--bundle", bundle),
        ("denoise", movie, "--output", one / "x.tif", "--bundle", bundle),
        ("live", "--core", "demo", "--output", one, "--bundle", bundle),
        ("denoise", one, "--output", tmp_path / "x.tif", "--bundle", bundle),
        ("live", "--core", f"replay:{one}", *thread),
        ("live", "--core", f"watch:{one}", *thread),
        ("denoise", "--fill", one),
        ("doctor", "--output", one),
    ):
        said = _exit(capsys, *words)
        assert "circle" in said, words
        assert "does not exist" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tif", "other.tif"]


@posix
def test_links_that_are_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert bad_link(tmp_path / "link") is None
    assert in_the_way(tmp_path / "link" / "new") is None
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert "does not exist" in str(in_the_way(tmp_path / "gone" / "new"))


def cut(run: Path, name: str) -> None:
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[: len(data) // 2])


def empty(run: Path, name: str) -> None:
    (run / name).write_bytes(b"")


def gone(run: Path, name: str) -> None:
    (run / name).unlink()


def pipe(run: Path, name: str) -> None:
    gone(run, name)
    os.mkfifo(run / name)


@posix
@pytest.mark.parametrize(
    ("damage", "name", "fill", "code", "words"),
    [
        (pipe, "report.json", True, 2, "is a pipe and no file; move it away to fill without it"),
        (cut, "raw.tif", False, 1, "Missing: raw.jsonl lists 20 frames, of which raw.tif lacks 10."),
        (cut, "raw.tif", False, 1, "is damaged or was cut short after 10 frames"),
        (gone, "raw.tif", False, 2, "is the folder of a recording, and its raw.tif is missing"),
        (pipe, "raw.tif", False, 2, "is the folder of a recording, and its raw.tif is missing"),
        (
            empty,
            "raw.jsonl",
            False,
            0,
            "Note: raw.jsonl does not start with the header of a denoscope recording: times and",
        ),
    ],
)
def test_a_damaged_run_is_named(
    denoscope: Run, bundle: Path, tmp_path: Path, damage: Any, name: str, fill: bool, code: int, words: str
) -> None:
    movie, run = tmp_path / "movie.tif", tmp_path / "run"
    tifffile.imwrite(movie, np.random.default_rng(3).poisson(150, (20, 24, 32)).astype(np.uint16))
    live(core=f"replay:{movie}", output=run, bundle=str(bundle), fps=500, picture=False, denoiser="thread")
    damage(run, name)
    out = tmp_path / "out.ome.tif"
    rest = ("--fill", run) if fill else (run, "--output", out)
    done = denoscope("denoise", *rest, "--bundle", bundle)
    assert done.returncode == code, done.stderr
    assert words in " ".join((done.stdout + done.stderr).split())
    assert "tifffile" not in done.stderr


def test_nothing_is_added_to_a_bundle(bundle: Path, movie: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.denoscope"
    shutil.copytree(bundle, copy)
    with pytest.raises(InvalidInput, match="is a bundle, to which nothing may be added"):
        denoise_movie(movie, copy / "out.tif", bundle=str(copy))
    for output in (copy, copy / "run"):
        with pytest.raises(OutputExists, match="is a bundle, to which nothing may be added"):
            live(core=f"replay:{movie}", output=output, bundle=str(copy))
    assert sorted(p.name for p in copy.iterdir()) == sorted(p.name for p in bundle.iterdir())


def test_a_folder_that_takes_no_files_is_not_called_locked(
    bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise Timeout(self.lock_file)  # as filelock does in /proc

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(DiskUnwritable, match=r"no file can be made in .*; name another `output`"):
        denoise_movie(movie, tmp_path / "out.tif", bundle=str(bundle))


@pytest.mark.usefixtures("drawn_pictures")
@pytest.mark.filterwarnings("error")
def test_any_name_can_stand_above_the_picture(bundle: Path, movie: Path, tmp_path: Path) -> None:
    odd = tmp_path / "細胞 $x$ {0} %d.tif"
    shutil.copyfile(movie, odd)
    report = live(
        core=f"replay:{odd}",
        output=tmp_path / "run",
        bundle=str(bundle),
        fps=500,
        denoiser="thread",
        fill=False,
    )
    assert (tmp_path / "run" / "report.png").exists(), report["outcome"]["notes"]


def test_a_late_ctrl_c_does_not_hide_what_became_of_the_recording(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from denoscope.acquisition.session.ending import summary as summary_module

    told = summary_module.summary

    def late(report: Any) -> str:
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # type: ignore[operator, misc]
        return told(report)

    monkeypatch.setattr(summary_module, "summary", late)
    words = ("--bundle", bundle, "--fps", "500", "--denoiser", "thread", "--no-picture")
    done = denoscope("live", "--core", f"replay:{movie}", "--output", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    assert "Raw 40/40 saved" in done.stdout
    assert "before anything was recorded" not in done.stderr


def replay_in_process(monkeypatch: pytest.MonkeyPatch, movie: Path) -> None:
    """Let a demo replay a movie without Micro-Manager's core and without the denoiser's process, to be quick."""
    monkeypatch.setattr(opening, "_source_of", lambda _: open_source(f"replay:{movie}", fps=50))
    monkeypatch.setattr(opening, "RemoteDenoiser", lambda request, **_: LocalDenoiser(request))


@pytest.mark.parametrize("where", ["open_files", "Routes", "Session.start"])
def test_a_demo_that_is_interrupted_before_its_camera_runs_leaves_nothing(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    replay_in_process(monkeypatch, movie)
    monkeypatch.setattr(f"denoscope.acquisition.session.opening.open_run.{where}", interrupt)
    done = denoscope("demo", "--output", tmp_path / "run", "--bundle", bundle)
    assert done.returncode == 130
    assert done.stderr == "denoscope: interrupted before anything was recorded\n"
    assert not (tmp_path / "run").exists()


def test_a_demo_that_is_interrupted_keeps_what_was_recorded(
    denoscope: Run, bundle: Path, movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = supervisor.Supervisor._turn

    def turn(self: Any) -> None:
        if self._run.session.status().received >= 5 and not self._caught.count:
            assert isinstance(signal.getsignal(signal.SIGINT), Interrupts)  # else it would end the tests
            raise_signal(signal.SIGINT)
        show(self)

    replay_in_process(monkeypatch, movie)
    monkeypatch.setattr(supervisor.Supervisor, "_turn", turn)
    monkeypatch.setattr("denoscope.acquisition.session.live._draw_if_it_can", lambda *_: None)
    done = denoscope("demo", "--output", tmp_path / "run", "--bundle", bundle, "--seconds", 60)
    assert (done.returncode, done.stderr) == (130, "")
    assert "Interrupted by you." in done.stdout
    recording = read_raw(tmp_path / "run")
    assert 5 <= len(recording) < 40
    assert not recording.notes
    np.testing.assert_array_equal(recording.read(), tifffile.imread(movie)[: len(recording)])


def test_interrupted_while_a_command_is_being_loaded(
    denoscope: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "import_module", interrupt)
    done = denoscope("live", "--core", "demo", "--output", tmp_path / "run")
    assert (done.returncode, done.stderr) == (130, "denoscope: interrupted\n")
