"""Nothing but the user ends a recording: no terminal, reader, callback, file, signal or error of a disk."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.acquisition import Frame, OutputExists, RawWriter, SourceInfo, make_settings, read_raw
from denoscope.acquisition.control.control import RequestFiles
from denoscope.acquisition.denoisers.local import DenoiserRequest
from denoscope.acquisition.denoisers.remote import RemoteDenoiser, _Asked
from denoscope.acquisition.processes import console, signals
from denoscope.acquisition.processes.looks import Looks
from denoscope.acquisition.processes.signals import CommandEnd, Interrupts, interrupts
from denoscope.acquisition.processes.words import Words, never_wait
from denoscope.acquisition.raw.confirm import confirm
from denoscope.acquisition.session import live as live_module
from denoscope.acquisition.session.opening import run_files
from denoscope.acquisition.session.recording.log import EventLog
from denoscope.acquisition.session.recording.session import Session
from denoscope.acquisition.session.supervisor import Supervisor
from denoscope.acquisition.sources.micromanager.core import frame_from
from denoscope.runtime import Bundle
from support.plain_results import live
from support.signals import raise_signal

from .conftest import environment
from .test_control import Steady, command, frames_of, wait_for

INFO = SourceInfo("test", "test", "Cam", (6, 8), np.dtype(np.uint16))
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and pipes")


def record(tmp_path: Path, bundle: Path, count: int = 40, **more: Any) -> dict[str, Any]:
    values = {"core": "demo", "picture": False, "denoiser": "thread", "lag_s": 60, "finish_s": 60} | more.pop(
        "settings", {}
    )
    settings = make_settings(output=tmp_path / "run", bundle=str(bundle), **values)
    source = Steady(frames_of(count), more.pop("before", {}))
    report = live(settings, source=source, **more)
    on_disk: dict[str, Any] = json.loads((tmp_path / "run" / "report.json").read_text())
    assert on_disk["outcome"] == report["outcome"]
    recording = read_raw(tmp_path / "run")
    assert len(recording) == len(recording.records) == report["frames"]["received"]
    return report


# -- 1: the main loop, its words and its terminal


def test_a_callback_that_raises_ends_nothing(tmp_path: Path, bundle: Path) -> None:
    def on_status(*_: Any) -> None:
        raise RuntimeError("no screen")

    report = record(tmp_path, bundle, on_status=on_status)
    assert report["frames"]["received"] == 40
    assert report["outcome"]["exit_code"] == 1
    assert "no screen" in report["outcome"]["problems"][0]


def test_a_callback_that_hangs_holds_up_nothing(tmp_path: Path, bundle: Path) -> None:
    free = threading.Event()
    slow: dict[int, Any] = {n: lambda: time.sleep(0.05) for n in range(400)}
    # The limit of time is kept though the status cannot be shown.
    try:
        report = record(
            tmp_path,
            bundle,
            400,
            before=slow,
            on_status=lambda *_: free.wait(250),
            settings={"core": "127.0.0.1:4827", "seconds": 1.0},
        )
    finally:
        free.set()
    assert report["outcome"]["reason"] == "time_reached"
    assert report["timing"]["duration_s"] < 100


@pytest.mark.parametrize("name", ["obey", "_show", "_check_disk"])
def test_an_exception_in_the_main_loop(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    failed = threading.Event()

    def fail(_self: Any) -> None:
        failed.set()
        raise ValueError("the loop broke")

    monkeypatch.setattr(Supervisor, name, fail)
    if name == "_check_disk":
        monkeypatch.setattr("denoscope.acquisition.control.folder._DISK_EVERY_S", 0.1)
    report = record(tmp_path, bundle, before={20: lambda: failed.wait(250)})
    assert report["frames"]["received"] == 40
    assert report["outcome"]["exit_code"] == 1
    assert "the loop broke" in str(report["outcome"]["problems"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_program_that_ends_has_its_recording(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    wait, ended = Session.wait, threading.Event()
    count = [0]

    def once(self: Any, timeout_s: float) -> bool:
        count[0] += 1
        if count[0] == 3:
            ended.set()
            raise error
        return wait(self, timeout_s)

    monkeypatch.setattr(Session, "wait", once)
    slow: dict[int, Any] = {20: lambda: ended.wait(250)}
    slow |= {n: lambda: time.sleep(0.05) for n in range(21, 1000)}  # not to the last one
    if error is SystemExit:
        with pytest.raises(SystemExit):
            record(tmp_path, bundle, 1000, before=slow)
    else:
        assert record(tmp_path, bundle, 1000, before=slow)["outcome"]["exit_code"] == 130
    assert json.loads((tmp_path / "run" / "report.json").read_text())["outcome"]["reason"] == "interrupted"


class Stuck(io.StringIO):
    """A pipe that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.free.wait(250)
        return super().write(text)


def test_words_never_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoscope.acquisition.processes.words._PATIENCE_S", 0.2)
    stuck = Stuck()
    monkeypatch.setattr(sys, "stdout", stuck)
    began_s = time.monotonic()
    with Words() as words:
        never_wait()
        for _ in range(3000):
            print("x" * 1000)
    assert words.dropped > 1_000_000
    assert time.monotonic() - began_s < 100
    assert sys.stdout is stuck
    stuck.free.set()


def test_words_are_printed_in_order_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    with Words() as words:
        for number in range(2000):
            print(number, "x" * 300, file=sys.stderr if number % 2 else sys.stdout)
    assert [int(line.split()[0]) for line in out.getvalue().splitlines()] == list(range(2000))
    assert words.dropped == 0


def test_a_reader_that_is_gone_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    with Words():
        print("one")
        print("two")


@pytest.mark.parametrize("fills", [False, True], ids=["full", "nearly full"])
def test_a_disk_with_no_room_ends_the_recording(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, fills: bool
) -> None:
    """As the slow rows of `test_raw_safety` do in a separate process."""
    reached, seen = threading.Event(), threading.Event()

    def free_bytes(_folder: Any) -> int:
        if not (fills and reached.is_set()):
            return 10**12
        seen.set()
        return 10**6

    monkeypatch.setattr("denoscope.acquisition.control.folder._DISK_EVERY_S", 0.01)
    monkeypatch.setattr("denoscope.acquisition.session.supervisor.free_bytes", free_bytes)
    append = RawWriter.append

    def refused(self: Any, frame: Any) -> Any:
        if self.written >= 20 and not fills:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(self, frame)

    monkeypatch.setattr(RawWriter, "append", refused)
    slow: dict[int, Any] = {}
    if fills:
        slow = {n: lambda: time.sleep(0.01) for n in range(21, 400)}
        slow |= {20: reached.set, 30: lambda: seen.wait(250)}
    values = {"core": "demo", "picture": False, "denoiser": "thread", "lag_s": 60, "finish_s": 60}
    settings = make_settings(output=tmp_path / "run", bundle=str(bundle), **values)
    frames = frames_of(400)
    report = live(settings, source=Steady(frames, slow))
    recording = read_raw(tmp_path / "run")
    counts = report["frames"]
    assert counts["written_raw"] == len(recording) == len(recording.records) < len(frames)
    np.testing.assert_array_equal(recording.read(), [f.pixels for f in frames[: len(recording)]])
    problem = "; ".join(report["outcome"]["problems"])
    assert report["outcome"]["exit_code"] == 2
    if fills:
        assert report["outcome"]["reason"] == "disk_low"
        assert counts["received"] == counts["written_raw"]
        assert "MB are free" in problem
    else:
        assert report["outcome"]["reason"] == "raw_write_failed"
        assert counts["written_raw"] == 20
        assert "20 frames before it are complete" in problem


def test_the_help_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from denoscope.acquisition.cli.app import main

    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "bundles" in out.getvalue()
    with Words(), pytest.raises(TypeError, match="must be str"):
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("buffered", [True, False])
def test_words_that_an_encoding_does_not_have_hide_none_after_them(
    monkeypatch: pytest.MonkeyPatch, errors: str, buffered: bool
) -> None:
    raw = Kept()
    below: Any = io.BufferedWriter(raw) if buffered else raw  # as with PYTHONUNBUFFERED
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(below, encoding="ascii", errors=errors))
    with Words():
        print("into \u540d: 2 \N{GREEK SMALL LETTER MU}m")
        print("Done.")
    assert raw.kept.replace(b"\r", b"") == b"into ?: 2 ?m\nDone.\n"


class Kept(io.RawIOBase):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.kept = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.kept += bytes(data)
        return len(data)


def session(movie: Path, bundle: Path, run: Path, frames: int, **more: Any) -> subprocess.Popen[bytes]:
    words = command(movie, bundle, run)
    words[words.index("--frames") + 1] = str(frames)
    return subprocess.Popen(words, env=environment(), **more)


@posix
@pytest.mark.parametrize(
    "how",
    [
        *(
            pytest.param(how, marks=pytest.mark.slow) for how in ("closed reader", "no reader")
        ),  # as `Words` has them
        "closed streams",
        "hangup",
    ],
)
def test_what_happens_to_the_terminal_ends_nothing(
    bundle: Path, movie: Path, tmp_path: Path, how: str
) -> None:
    run = tmp_path / "run"
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    more: dict[str, Any] = {"stdout": write, "stderr": write, "stdin": null}
    if how == "closed streams":
        words = " ".join(f"'{word}'" for word in command(movie, bundle, run)).replace("'4000'", "'100'")
        process = subprocess.Popen(f"exec {words} <&- >&- 2>&-", shell=True, env=environment())
    else:
        if how == "no reader":
            os.set_blocking(write, False)
            with suppress(BlockingIOError):
                while os.write(write, b"x" * 4096):
                    pass
            os.set_blocking(write, True)
        process = session(movie, bundle, run, 100, **more)
    try:
        os.close(write)
        if how == "closed reader":
            os.close(read)
        wait_for(run / "log.jsonl", '"recording"', process)
        if how == "hangup":
            time.sleep(0.3)
            process.send_signal(signal.SIGHUP)
            threading.Thread(target=lambda: os.read(read, 1 << 20), daemon=True).start()
        assert process.wait(250) == 0
    finally:
        process.kill()
    report = json.loads((run / "report.json").read_text())
    assert report["frames"]["received"] == report["frames"]["written_raw"] == 100 == len(read_raw(run))
    assert ("SIGHUP" in str(report["outcome"]["notes"])) == (how == "hangup")


# -- 2: requests


@pytest.mark.parametrize(
    "content", [b"[" * 900, b"[" * 200_000, b"\xff\x00" * 400, b'{"action": 1e999}', b"9" * 900]
)
def test_any_content_of_a_request_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "request-a.json").write_bytes(content)
    (tmp_path / "request-b.json").write_text('{"action": "stop", "name": "b"}')
    assert [request.name for request in RequestFiles(tmp_path).take()] == ["b"]


@posix
def test_only_regular_files_are_requests(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request-a.json")
    (tmp_path / "request-b.json").symlink_to("/dev/zero")
    (tmp_path / "request-c.json").mkdir()
    (tmp_path / "request-d.json").write_text('{"action": "stop", "name": "d"}')
    files = RequestFiles(tmp_path)
    assert [request.name for request in files.take()] == ["d"]
    assert not list(files.take())
    assert (tmp_path / "request-a.json").exists(), "what is no request is left alone"


# -- 3: signals, clocks and disks


@posix
def test_a_signal_that_comes_while_the_lock_is_held() -> None:
    # Called, not sent: in this process faulthandler's small stack and AMX do not go together.
    session = Session.__new__(Session)
    session._lock = threading.Lock()
    with interrupts() as caught:
        caught.listener = live_module._is_counted
        assert signal.getsignal(signal.SIGTTIN) is signal.SIG_IGN
        with session._lock:
            handler = threading.Thread(target=caught, args=(signal.SIGINT, None), daemon=True)
            handler.start()
            handler.join(250)
            assert not handler.is_alive()
    assert caught.count == 1


@pytest.mark.parametrize("hangs", [False, True])
def test_a_console_window_that_is_closed_waits_for_the_recording(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    handlers: list[Any] = []  # as Windows has them
    answers: list[tuple[bool, bool]] = []
    go_on = threading.Event()

    def add_handler(handler: Any) -> Any:
        handlers.append(handler)
        return lambda: handlers.remove(handler)

    def windows() -> None:
        answers.append((handlers[-1](2), (tmp_path / "run" / "report.json").exists()))

    def close() -> None:
        threads.append(threading.Thread(target=windows, daemon=True))
        threads[-1].start()

    class Hanging:
        def __init__(self, denoiser: Any) -> None:
            self.denoiser = denoiser

        def push(self, frame: Any, meta: Any, *, skip: str | None = None) -> Any:
            if hangs and meta.number == 10:
                go_on.wait(250)
            return self.denoiser.push(frame, meta, skip=skip)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.denoiser, name)

    writers: list[Any] = []
    open_sink = run_files.open_live_sink
    monkeypatch.setattr(
        run_files, "open_live_sink", lambda *a, **k: writers.append(open_sink(*a, **k)) or writers[0]
    )
    monkeypatch.setattr(console, "add_handler", add_handler)
    threads: list[threading.Thread] = []
    began_s = time.perf_counter()
    try:
        report = record(
            tmp_path, bundle, 4000, before={20: close}, wrap=Hanging, settings={"finish_s": 280.0}
        )
    finally:
        go_on.set()
        for thread in threading.enumerate():
            if thread.name == "denoscope-denoise":
                thread.join(250)
        writers[0].close()  # where the denoiser was left behind
    assert not hangs or time.perf_counter() - began_s < 200  # `finish_s` is 280
    threads[0].join(250)
    assert answers == [(True, True)], "Windows was answered before the report was written"
    assert not handlers
    assert 20 <= report["frames"]["received"] < 4000
    assert report["outcome"]["exit_code"] == 130
    assert "the console window was closed while recording" in str(report["outcome"]["notes"])
    assert not hangs or "left behind" in str(report["outcome"]["problems"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_recording_and_nothing_else(name: str) -> None:
    seen: list[int] = []
    with interrupts() as caught:
        caught.listener = lambda: seen.append(caught.count)
        raise_signal(getattr(signal, name))
        raise_signal(getattr(signal, name))
    assert seen == [1, 2]
    assert not caught.hung_up


IMPATIENT = """
import atexit, sys, time
from denoscope.acquisition.cli import app
def run(words):
    try:
        print("begun", flush=True)
        time.sleep(250)
    except KeyboardInterrupt:
        time.sleep(0.1)  # closing files
        print("closed", flush=True)
        raise
app._run = run
atexit.register(time.sleep, 0.2)
app.main()
"""


@posix
def test_ctrl_c_pressed_again_disturbs_no_end() -> None:
    words = [sys.executable, "-c", IMPATIENT]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=environment(), **pipes) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "begun\n"
        while command.poll() is None:
            command.send_signal(signal.SIGINT)
            time.sleep(0.002)
        said, errors = command.communicate()
    assert (command.returncode, said, errors) == (130, "closed\n", "denoscope: interrupted\n")


IGNORED = """
import ctypes, gc, signal, sys, threading, weakref
from denoscope.acquisition.cli import app

def ctrl_c(*_):
    signal.raise_signal(signal.SIGINT)

class Dying:
    def __init__(self, inner=None):
        self.inner = inner
    def __del__(self):
        ctrl_c()

class Dead:
    pass

def run(words):
    kind = sys.argv[1]
    if kind == "finalizer":
        Dying()
    elif kind == "callback":
        dead = Dead()
        seen = weakref.ref(dead, ctrl_c)
        del dead
    elif kind == "collector":
        circle = Dying()
        circle.inner = circle
        del circle
        gc.collect()
    elif kind == "caught":
        try:
            ctrl_c()
        except BaseException:
            pass
    elif kind == "library":
        ctypes.CFUNCTYPE(None)(ctrl_c)()
    print("went on", flush=True)
    threading.Event().wait(20)
    print("was never interrupted", flush=True)

app._run = run
app.main()
"""


@pytest.mark.parametrize("kind", ["finalizer", "callback", "collector", "caught", "library"])
def test_ctrl_c_that_python_ignores_ends_the_command(kind: str) -> None:
    """Python ignores what a finalizer raises, and libraries catch what comes while they are loaded."""
    command = subprocess.run(
        [sys.executable, "-c", IGNORED, kind], env=environment(), capture_output=True, text=True, check=False
    )
    assert (command.returncode, command.stderr) == (130, "denoscope: interrupted\n")
    assert "was never interrupted" not in command.stdout


def test_ctrl_c_is_taken_where_no_thread_could_send_a_lost_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(signals._thread, "start_new_thread", no_thread)
    handler = CommandEnd()
    with pytest.raises(RuntimeError):  # Python ignores it where it calls this
        handler.was_dropped()
    monkeypatch.setattr(CommandEnd, "current", handler)
    with pytest.raises(KeyboardInterrupt) as held:
        handler(signal.SIGINT, None)
    CommandEnd.is_near()  # which answers it
    del held


def test_ctrl_c_that_is_lost_again_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = threading.Semaphore(0)
    monkeypatch.setattr(signals, "_send_to_main_thread", lambda number: sent.release())
    handler = CommandEnd()
    monkeypatch.setattr(CommandEnd, "current", handler)

    def interrupted() -> KeyboardInterrupt:
        try:
            handler(signal.SIGINT, None)
        except KeyboardInterrupt as error:
            return error.with_traceback(None)
        raise AssertionError("it was not raised")

    for _ in range(3):
        interrupted()  # and dropped at once
        assert sent.acquire(timeout=250)
    held: list[BaseException] = [ImportError("a library could not be loaded")]
    held[0].__cause__ = interrupted()
    handler(signal.SIGINT, None)  # one more disturbs no end
    assert handler._lost is False, "it is on its way, as the cause of another error"
    held.clear()
    assert sent.acquire(timeout=250)
    held.append(interrupted())
    CommandEnd.is_near()
    held.clear()
    assert handler._lost is False, "the command has answered"


def test_a_command_that_does_not_end_is_interrupted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now_s[0])
    handler = CommandEnd()
    monkeypatch.setattr(CommandEnd, "current", handler)

    under_way: list[BaseException] = []

    def interrupts_it(handler: CommandEnd | Interrupts) -> bool:
        try:
            handler(signal.SIGINT, None)
        except KeyboardInterrupt as error:
            under_way.append(error)
            return True
        return False

    for first in (handler, Interrupts()):  # while a command runs, and while a recording is being opened
        assert interrupts_it(first)
        assert not interrupts_it(handler)
        now_s[0] += 6
    left: list[int] = []
    monkeypatch.setattr(signals.os, "_exit", left.append)
    CommandEnd.is_near()
    assert not interrupts_it(handler)
    assert left == []
    now_s[0] += 6
    CommandEnd.is_near()  # said again: the time counts from the first
    assert not interrupts_it(handler)
    assert left == [130], "nothing is left to lose, and the terminal does not hang"


HANGS = """
import sys, threading
from denoscope.acquisition.processes import signals
signals._ENDS_WITHIN_S = float(sys.argv[1])
def say() -> None:
    threading.main_thread().join()  # Python waits for its threads now
    print("over", flush=True)
    threading.Event().wait()
threading.Thread(target=say).start()
with signals.ended_by_interruption():
    sys.exit(3)
"""


@posix
@pytest.mark.parametrize("within_s", [0, 600])
def test_a_command_whose_end_hangs_can_be_ended(within_s: int) -> None:
    """A thread of a library that never ends holds no terminal."""
    words = [sys.executable, "-c", HANGS, str(within_s)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(), text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "over\n"
            program.send_signal(signal.SIGINT)
            if within_s:
                with pytest.raises(subprocess.TimeoutExpired):
                    program.wait(0.1)
                return
            while program.poll() is None:  # Python misses a signal that comes just before it begins to wait
                time.sleep(0.05)
                program.send_signal(signal.SIGINT)
            assert program.returncode == 3
        finally:
            program.kill()


def test_a_console_that_goes_before_the_recording_or_a_ctrl_c_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers: list[Any] = []
    monkeypatch.setattr(console, "add_handler", lambda handler: handlers.append(handler) or (lambda: None))
    with interrupts() as caught:
        assert handlers[0](2) is False  # nothing to end yet: Windows may end the program
        caught.listener = lambda: None
        assert [handlers[0](kind) for kind in (0, 1)] == [False, False]
        assert (caught.count, caught.closed) == (0, None)


@posix
def test_a_session_that_stood_still_keeps_its_denoiser(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step_s = [0.0]  # that the clock goes on by from one look to the next
    looked = threading.Semaphore(0)

    class Clock:
        now_s = 0.0

        def perf_counter(self) -> float:
            return self.now_s

    class Counted(Looks):
        def look(self) -> float:
            clock.now_s += step_s[0]
            waited_s = super().look()
            looked.release()
            return waited_s

    clock = Clock()
    monkeypatch.setattr("denoscope.acquisition.processes.looks.time", clock)
    monkeypatch.setattr("denoscope.acquisition.denoisers.remote.Looks", Counted)
    denoiser = RemoteDenoiser(DenoiserRequest(str(bundle)), patience_s=1.0)
    try:
        denoiser._asked.append(_Asked(1.0))
        while looked.acquire(blocking=False):  # those of the start
            pass
        for step_s[0] in (0.0, 25.0, 0.0):  # once the whole program was stopped for so long
            assert looked.acquire(timeout=250)
        assert looked.acquire(timeout=250)
        assert denoiser._child.poll() is None
        step_s[0] = 0.5  # one that hangs is still ended
        denoiser._child.process.wait(250)
    finally:
        denoiser.close()


class Disk:
    """Makes a system call fail at some of its calls."""

    def __init__(self, real: Any, code: int, which: range) -> None:
        self._real, self._code, self._which, self.calls = real, code, which, 0

    def __call__(self, *values: Any) -> Any:
        self.calls += 1
        if self.calls - 1 in self._which:
            raise OSError(self._code, os.strerror(self._code))
        return self._real(*values)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.ENOTSUP])
def test_a_disk_that_does_not_confirm(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", Disk(os.fsync, code, range(10**6)))
    monkeypatch.setattr("denoscope.acquisition.raw.writer._SYNC_EVERY_S", 0.0)
    report = record(tmp_path, bundle)
    assert report["frames"]["received"] == report["frames"]["denoised"] == 40
    assert report["outcome"]["exit_code"] == 1
    problem, *more = sorted(report["outcome"]["problems"], key=lambda each: os.strerror(code) not in each)
    assert "did not confirm" in problem
    assert os.strerror(code) in problem
    # An error may have cost frames, where a share that cannot confirm has them.
    assert report["frames"]["rescued_raw"] == (40 if code == errno.EIO else 0)
    assert ["may be in both places" in each for each in more] == [True] * (code == errno.EIO)


def test_a_full_disk_is_not_got_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", Disk(os.fsync, errno.ENOSPC, range(1)))
    with pytest.raises(OSError, match="No space"):
        confirm(0)


class Failing:
    """A file that refuses some writes, half way through."""

    def __init__(self, file: Any, code: int, which: range) -> None:
        self._file, self._code, self._which, self.calls = file, code, which, 0

    def write(self, data: Any) -> Any:
        self.calls += 1
        if self.calls - 1 in self._which:
            self._file.write(bytes(data)[: len(data) // 2])
            raise OSError(self._code, os.strerror(self._code))
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("which", [range(3, 4), range(3, 9), range(8, 10**6)])
def test_a_sidecar_that_fails_for_a_while(tmp_path: Path, which: range) -> None:
    writer = RawWriter(tmp_path, INFO, "1.2.3")
    writer._lines = Failing(writer._lines, errno.EIO, which)  # type: ignore[assignment]
    for number in range(12):
        writer.append(Frame(np.full((6, 8), number, np.uint16), number, 0.0, "Cam", {}))
    writer.close()
    assert writer.written == 12
    assert "raw.jsonl" in writer.problems[0]
    recording = read_raw(tmp_path)
    assert [int(frame[0, 0]) for frame in recording.frames()] == list(range(12))
    last = 12 if which.stop < 100 else 8
    assert [record["number"] for record in recording.records] == list(range(last))


@posix
def test_a_recording_that_another_program_cuts_off_is_said(tmp_path: Path) -> None:
    writer = RawWriter(tmp_path, INFO, "1.2.3")
    for number in range(6):
        writer.append(Frame(np.full((6, 8), number, np.uint16), number, 0.0, "Cam", {}))
    assert writer.problems == []
    os.truncate(tmp_path / "raw.tif", 100)
    for number in range(6, 9):
        writer.append(Frame(np.full((6, 8), number, np.uint16), number, 0.0, "Cam", {}))
    assert "another program made raw.tif shorter while it was written, after 6 frames" in writer.problems[0]
    (tmp_path / "raw.tif").rename(tmp_path / "old.tif")
    (tmp_path / "raw.tif").write_bytes(b"II")
    writer.close()
    assert "another file took the place of" in writer.problems[1]
    assert len(writer.problems) == 2


def test_a_log_without_a_thread_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    log = EventLog(tmp_path / "log.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        log.write("first")
    assert "can't start new thread" in (log.problem or "")
    log.write("second")
    log.flush()
    events = [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert events == ["first", "second"]


def test_numbers_that_json_has_not_make_no_line_that_strict_programs_refuse(
    tmp_path: Path, bundle: Path
) -> None:
    frames = [
        replace(frame, core_unix_s=float("nan"), tags={"Gain": float("inf"), "Of": {"a": [float("nan")]}})
        for frame in frames_of(12)
    ]
    settings = make_settings(
        core="demo", output=tmp_path / "run", bundle=str(bundle), picture=False, denoiser="thread"
    )
    live(settings, source=Steady(frames, {}))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for name in ("raw.jsonl", "log.jsonl", "report.json"):
        text = (tmp_path / "run" / name).read_text()
        for each in [text] if name == "report.json" else text.splitlines():
            json.loads(each, parse_constant=refuse)
    assert read_raw(tmp_path / "run").records[3]["core_unix_s"] is None


@pytest.mark.parametrize("text", ["0001-01-01 00:00:00", "9999-12-31 23:59:59", "no time", "nan"])
def test_no_time_of_a_frame_ends_a_recording(text: str) -> None:
    found = frame_from(np.zeros((2, 2), np.uint16), {"TimeReceivedByCore": text}, "Cam", 0)
    assert found.core_unix_s is None or np.isfinite(found.core_unix_s)


def test_a_page_that_fails_once_is_written_again(tmp_path: Path) -> None:
    writer = RawWriter(tmp_path, INFO, "1.2.3")
    write, calls = writer._pages._write_at, iter(range(100))

    def failing(at: int, *parts: bytes | memoryview) -> None:
        if next(calls) in (4, 7):  # the pixels of a page, the link to one
            write(at, b"".join(parts)[: len(b"".join(parts)) // 2])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        write(at, *parts)

    writer._pages._write_at = failing  # type: ignore[method-assign]
    for number in range(6):
        writer.append(Frame(np.full((6, 8), number, np.uint16), number, 0.0, "Cam", {}))
    writer.close()
    assert "was repeated" in writer.problems[0]
    assert [int(frame[0, 0]) for frame in read_raw(tmp_path).frames()] == list(range(6))


# -- 4: folders


@posix
def test_restored_recordings_never_collide(tmp_path: Path) -> None:
    import shutil

    folders = []
    for count in range(3):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        writer = RawWriter(folder, INFO, "1.2.3")
        for number in range(3):
            writer.append(Frame(np.full((6, 8), 10 * count + number, np.uint16), number, 0.0, "Cam", {}))
        shutil.rmtree(folder)
        folder.mkdir()
        with RawWriter(folder, INFO, "1.2.3"):  # somebody else records there by now
            writer.close()
        shutil.rmtree(folder)
        folders.append(writer.restored)
    assert [path and path.name for path in folders] == ["run-restored", "run-restored-2", "run-restored-3"]
    for count, path in enumerate(folders):
        assert path is not None
        assert [int(frame[0, 0]) for frame in read_raw(path).frames()] == [10 * count + n for n in range(3)]


def test_the_second_session_on_a_folder_writes_nothing_there(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setattr(
        "denoscope.acquisition.session.opening.open_run.refuse_existing", lambda _: None
    )  # both looked before either began
    settings = make_settings(core="demo", output=folder, bundle=str(bundle), picture=False, denoiser="thread")
    folder.mkdir()
    with RawWriter(folder, INFO, "1.2.3"):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(OutputExists, match="never overwritten"):
            live(settings, source=Steady(frames_of(5), {}))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_session_without_raw_frames_claims_its_folder_too(tmp_path: Path, bundle: Path) -> None:
    assert Bundle.load(bundle)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text("another session\n")
    settings = make_settings(
        core="demo",
        output=tmp_path / "run",
        bundle=str(bundle),
        picture=False,
        denoiser="thread",
        keep_raw=False,
    )
    with pytest.raises(OutputExists, match="another session"):
        live(settings, source=Steady(frames_of(5), {}))
    assert [path.read_text() for path in (tmp_path / "run").iterdir()] == ["another session\n"]
