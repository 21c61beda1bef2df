"""One recording with a fault inside, in this process: what `fault_matrix.py` starts and then attacks.

    python benchmarks/fault_session.py NAME FOLDER BUNDLE

FOLDER holds ``movie.tif``; the run folder is ``FOLDER/run``. On standard output: one line of JSON when the
recording has begun (with the id of the denoiser's process), then the session's summary.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from denoscope.acquisition import Frame, SourceInfo, Trigger, live, make_settings
from denoscope.acquisition.adaptation.adaptation import Adaptation
from denoscope.acquisition.processes.signals import ended_by_interruption
from denoscope.acquisition.session.ending.summary import summary
from denoscope.acquisition.session.recording.session import Session
from denoscope.acquisition.sources import Source
from denoscope.runtime import DenoscopeError

__all__ = ["FPS", "SESSIONS", "Spec", "sent"]

FPS = 60.0
_SCRIPTED = 180


@dataclass(frozen=True)
class Spec:
    """Recording, and the fault that is done to it.

    Attributes
    ----------
    script
        Changes the frames of a scripted source, which takes the place of the replay camera.
    inside
        Called in the process before the recording.
    settings
        Of the session.
    silent_s
        Seconds without a frame in the middle of a scripted source.
    viewed
        Whether a process looks at the session as the live view's window does, without a screen.
    regions
        Whether traces of two regions are written.
    skips
        Whether every other frame is skipped while recording, and computed slowly afterwards.
    """

    script: Callable[[int, Frame], Frame] | None = None
    inside: Callable[[], None] | None = None
    settings: Mapping[str, Any] | None = None
    silent_s: float = 0.0
    viewed: bool = False
    regions: bool = False
    skips: bool = False
    looking: Callable[[], dict[str, Any]] | None = None
    """Makes what looks at denoised frames, as `live` takes it."""


def sent(movie: np.ndarray[Any, Any], name: str, index: int) -> np.ndarray[Any, Any]:
    """Return the pixels of the frame that was sent as number `index` in the session `name`."""
    pixels = movie[index % len(movie)]
    script = SESSIONS[name].script
    return pixels if script is None else script(index, Frame(pixels, index, 0.0, "", {})).pixels


class Scripted(Source):
    """Frames of a movie at `FPS`, changed as a script says, silent for a while in the middle."""

    def __init__(self, movie: np.ndarray[Any, Any], spec: Spec) -> None:
        self._movie = movie
        self._spec = spec
        self._next = 0
        self._stopped = False
        self._due_s = 0.0

    def open(self) -> SourceInfo:
        """Describe the movie."""
        return SourceInfo(
            "scripted", "scripted", "Cam", self._movie.shape[1:], self._movie.dtype, frame_rate_hz=FPS
        )

    def start(self) -> None:
        """Start the clock."""
        self._due_s = time.perf_counter()

    def pop(self) -> Frame | None:
        """Return the next frame once its time has come."""
        if self._next == _SCRIPTED or self._stopped or time.perf_counter() < self._due_s:
            return None
        index, self._next = self._next, self._next + 1
        self._due_s += 1 / FPS + (self._spec.silent_s if self._next == _SCRIPTED // 2 else 0.0)
        pixels = self._movie[index % len(self._movie)].copy()
        frame = Frame(pixels, index, time.perf_counter(), "Cam", {}, core_unix_s=time.time())
        return frame if self._spec.script is None else self._spec.script(index, frame)

    def finished(self) -> bool:
        """Say whether every frame was handed on."""
        return self._stopped or self._next == _SCRIPTED

    def overflowed(self) -> bool:
        """Say no."""
        return False

    def stop(self) -> None:
        """Stop."""
        self._stopped = True

    def close(self) -> None:
        """Stop."""
        self._stopped = True


def _gap(index: int, frame: Frame) -> Frame:
    return replace(frame, number=index if index < 90 else index + 10)


def _again_from_zero(index: int, frame: Frame) -> Frame:
    return replace(frame, number=index % 90)


def _one_wrong_shape(index: int, frame: Frame) -> Frame:
    if index == 60:  # binning changed between the frame and its tags
        return replace(frame, pixels=frame.pixels[::2, ::2].copy(), agrees=False)
    if index >= 120:  # a smaller region from here on
        return replace(frame, pixels=frame.pixels[:48, :40].copy())
    return frame


class _Mute:
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")

    __repr__ = __str__


def _odd_tags(_index: int, frame: Frame) -> Frame:
    circle: dict[str, Any] = {}
    circle["itself"] = circle
    odd = {"Circle": circle, "Mute": _Mute(), "Values": np.arange(3), "Large": 10**5000}
    return replace(frame, tags={**frame.tags, **odd})


def _no_pictures_at_the_end(index: int, frame: Frame) -> Frame:
    if index == _SCRIPTED - 2:
        return replace(frame, pixels=np.zeros((0, 64), np.uint16))
    return replace(frame, pixels=np.zeros((64, 64, 3), np.uint8)) if index == _SCRIPTED - 1 else frame


def _jumping_stamps(index: int, frame: Frame) -> Frame:
    hours = 1 if 60 <= index < 120 else -1 if index >= 120 else 0
    return replace(frame, core_unix_s=(frame.core_unix_s or 0.0) + 3600 * hours)


def _jumping_clock() -> None:
    """Set this process's calendar an hour forward after a second and two hours back after two."""
    real, began_s = time.time, time.perf_counter()

    def jumping() -> float:
        elapsed_s = time.perf_counter() - began_s
        return real() + (0 if elapsed_s < 1 else 3600 if elapsed_s < 2 else -3600)

    time.time = jumping  # type: ignore[assignment]


def _slow_disk(pause_s: float, after: int) -> Callable[[], None]:
    def slow() -> None:
        from denoscope.acquisition import RawWriter

        append = RawWriter.append

        def throttled(self: Any, frame: Frame) -> int:
            if self.written >= after:
                time.sleep(pause_s)
            return append(self, frame)

        RawWriter.append = throttled  # type: ignore[method-assign]

    return slow


def _no_confirmation() -> None:
    def refuse(_number: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    os.fsync = refuse  # type: ignore[assignment]


def _torn_sidecar() -> None:
    """Make every tenth write of a line fail half way."""
    from denoscope.acquisition import RawWriter

    class Torn:
        def __init__(self, file: Any) -> None:
            self._file, self._count = file, 0

        def write(self, data: Any) -> Any:
            self._count += 1
            if self._count % 10:
                return self._file.write(data)
            self._file.write(bytes(data)[:20])
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    opened = RawWriter.__init__

    def tearing(self: Any, *values: Any) -> None:
        opened(self, *values)
        self._lines = Torn(self._lines)

    RawWriter.__init__ = tearing  # type: ignore[method-assign]


def _read_only_disk() -> None:
    """Let every write of a page fail after a hundred, as where a stick is pulled out or a share turns read-only."""
    from denoscope.acquisition.raw import pages

    write, count = pages.write_at, 0

    def refuse(*values: Any) -> None:
        nonlocal count
        count += 1
        if count > 200 and "elsewhere" not in str(values[0].name):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        write(*values)

    pages.write_at = refuse


def _pulled_disk() -> None:
    """Let the disk go after a hundred frames, with all that it has not confirmed, as a drive that is pulled out."""
    from denoscope.acquisition.raw import pages

    write, sync, count, confirmed = pages.write_at, os.fsync, 0, 0

    def name_of(number: int) -> str:
        return str(Path(f"/proc/self/fd/{number}").readlink())

    def away() -> OSError:
        return OSError(errno.EIO, os.strerror(errno.EIO))

    def written(file: Any, *values: Any) -> None:
        nonlocal count
        ours = str(file.name).endswith("run/raw.tif")
        count += ours
        if ours and count > 200:
            os.truncate(file.fileno(), confirmed)
            raise away()
        write(file, *values)

    def synced(number: int) -> None:
        nonlocal confirmed
        if count > 200 and "elsewhere" not in name_of(number):
            raise away()
        size = os.fstat(number).st_size
        sync(number)
        if name_of(number).endswith("run/raw.tif"):
            confirmed = size

    pages.write_at, os.fsync = written, synced  # type: ignore[assignment]


def _hung_disk(seconds: float | None) -> Callable[[], None]:
    """Let one write of a page take so long, or never return, as on a network share whose server is away."""

    def begin() -> None:
        from denoscope.acquisition.raw import pages

        write, count = pages.write_at, 0

        def hang(file: Any, *values: Any) -> None:
            nonlocal count
            ours = str(file.name).endswith("run/raw.tif")
            count += ours
            if ours and count == 200:
                threading.Event().wait(seconds)
            write(file, *values)

        pages.write_at = hang

    return begin


def _hung_confirmation() -> None:
    """Let the disk never confirm what was written, from the second second of the recording on."""
    real, start, begun = os.fsync, Session.start, list[float]()

    def hang(number: int) -> None:
        if begun and time.perf_counter() - begun[0] > 1:
            threading.Event().wait()
        real(number)

    def started(self: Any) -> None:
        start(self)
        begun.append(time.perf_counter())

    os.fsync = hang  # type: ignore[assignment]
    Session.start = started  # type: ignore[method-assign]


def _broken_loop() -> None:
    from denoscope.acquisition.session.supervisor import Supervisor

    def fail(_self: Any) -> None:
        raise RuntimeError("the loop broke")

    Supervisor.obey = Supervisor._show = fail  # type: ignore[method-assign]


def _full_for_denoised(module: str, after: int) -> Callable[[], None]:
    """Let the disk have no room for denoised frames once so many were written, as where a quota is on their file."""

    def begin() -> None:
        writes = import_module(module)
        name = "_write_at" if hasattr(writes, "_write_at") else "write_at"
        write, count = getattr(writes, name), 0

        def refuse(file: Any, *values: Any) -> None:
            nonlocal count
            count += "denoised" in str(file.name)
            if count > after and "denoised" in str(file.name):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(file, *values)

        setattr(writes, name, refuse)

    return begin


def _training(how: str, **plan: Any) -> Callable[[], None]:
    """Let a training process that behaves as told train beside the recording."""

    def begin() -> None:
        from denoscope.acquisition.adaptation import adaptation, trainer

        os.environ["STUB_TRAINER"] = how
        numbers = {"idle": False, "least_frames": 30, "settle_s": 0.5, "warm_frames": 20} | plan
        adaptation.PLAN = replace(adaptation.PLAN, module="support.stub_trainer", **numbers)
        trainer._START_S = 5.0

    return begin


def _dying_after_taking_over() -> None:
    """Let a bundle take over, and end its process half a second later."""
    from denoscope.acquisition.adaptation.adaptation import Adaptation

    _training("good", checked_frames=10, pause_s=0.0)()
    swapped = Adaptation._swapped

    def then_killed(self: Any, *values: Any) -> None:
        swapped(self, *values)
        threading.Timer(0.5, os.kill, (self._denoiser.pid, signal.SIGKILL)).start()

    Adaptation._swapped = then_killed  # type: ignore[method-assign]


def _hanging_callback() -> dict[str, Any]:
    return {"on_denoised": lambda _frame: threading.Event().wait()}


def _hanging_triggers() -> dict[str, Any]:
    """Return triggers that hang, that wait for a peer that reads nothing, and that raise."""
    deaf = socket.create_server(("127.0.0.1", 0))
    _KEPT.append(deaf)
    port = deaf.getsockname()[1]
    flood = "x" * 1_000_000
    changing = {"hold_off_s": 0.0}
    return {
        "triggers": [
            Trigger(lambda frame: frame.number % 2, lambda _firing: threading.Event().wait(), **changing),
            Trigger(lambda frame: frame.number % 2, f"socket {port} {flood}", **changing),
            Trigger(lambda frame: frame.number % 2, lambda _firing: 1 / 0, **changing),
            Trigger(lambda _frame: threading.Event().wait()),
        ]
    }


_KEPT: list[Any] = []


class _Skipping:
    """Passes on to a denoiser and skips every other frame."""

    def __init__(self, denoiser: Any) -> None:
        self._denoiser, self._count = denoiser, 0

    def push(self, frame: Any, meta: Any, **more: Any) -> Any:
        self._count += 1
        if self._count % 2 and self._count > 20:
            more["skip"] = "keep-up"
        return self._denoiser.push(frame, meta, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)


SESSIONS: Mapping[str, Spec] = {
    "filling": Spec(skips=True, settings={"frames": 240}),
    "filling-full": Spec(
        skips=True,
        inside=_full_for_denoised("denoscope.acquisition.sinks.live_movies", 5),
        settings={"frames": 240},
    ),
    "denoised-full": Spec(
        inside=_full_for_denoised("denoscope.acquisition.raw.pages", 40),
        settings={"frames": 240, "fill": False},
    ),
    "callback-hangs": Spec(looking=_hanging_callback, settings={"frames": 240}),
    "trigger-hangs": Spec(looking=_hanging_triggers, settings={"frames": 240}),
    "adapting": Spec(inside=_training("level"), settings={"adapt": True, "frames": 420}),
    "adapting-still": Spec(
        inside=_training("level", patience_s=3.0), settings={"adapt": True, "frames": 1200}
    ),
    "adapting-nan": Spec(inside=_training("nan"), settings={"adapt": True, "frames": 1800}),
    "adapting-full": Spec(inside=_training("full"), settings={"adapt": True, "frames": 1200}),
    "adapting-dies": Spec(inside=_dying_after_taking_over, settings={"adapt": True, "frames": 3000}),
    "replay": Spec(),
    "viewed": Spec(viewed=True, settings={"frames": 360}),
    "viewed-traces": Spec(viewed=True, regions=True, settings={"frames": 840}),
    "viewed-long": Spec(viewed=True, settings={"frames": 840}),
    "hang": Spec(settings={"patience_s": 2.0, "frames": 420}),
    "six-seconds": Spec(settings={"frames": 360}),
    "sixteen-seconds": Spec(settings={"frames": 960}),
    "odd-tags": Spec(script=_odd_tags),
    "odd-frames": Spec(script=_no_pictures_at_the_end),
    "read-only-disk": Spec(inside=_read_only_disk, settings={"frames": 960}),
    "pulled-disk": Spec(inside=_pulled_disk, settings={"frames": 960}),
    "hung-disk": Spec(inside=_hung_disk(None), settings={"frames": 3600}),
    "hung-disk-5s": Spec(inside=_hung_disk(5.0), settings={"frames": 600}),
    "hung-confirmation": Spec(inside=_hung_confirmation, settings={"frames": 3600}),
    "bounded": Spec(settings={"frames": 240}),
    # 60 frames a second come, 40 are taken, as long as they fit into memory.
    "slow-disk": Spec(inside=_slow_disk(0.025, 10), settings={"frames": 240, "raw_queue_mb": 1}),
    "full-disk": Spec(settings={"reserve_mb": 0.0}),
    "fsync": Spec(inside=_no_confirmation, settings={"frames": 240}),
    "sidecar": Spec(inside=_torn_sidecar, settings={"frames": 240}),
    "loop": Spec(inside=_broken_loop, settings={"frames": 240}),
    "silent": Spec(script=lambda _index, frame: frame, silent_s=4.0),
    "gap": Spec(script=_gap),
    "restarted": Spec(script=_again_from_zero),
    "shape": Spec(script=_one_wrong_shape),
    "clock": Spec(script=_jumping_stamps, inside=_jumping_clock),
}


def _look_on() -> Any:
    """Start what looks at the board of the live view, in place of napari."""
    from denoscope.acquisition.view.window import live_window as _window

    _window.require = lambda *_, **__: None  # type: ignore[assignment]
    return _window.LiveWindow(stay=False, module="acquisition.view_double")


def main() -> None:
    """Record."""
    name, folder, bundle = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    spec = SESSIONS[name.partition("@")[0]]
    values: dict[str, Any] = {"core": "demo", "movie": folder / "movie.tif", "fps": FPS}
    if name.startswith("replay@"):  # a Micro-Manager somewhere else
        values = {"core": name.partition("@")[2]}
    source = None
    if spec.script is not None:
        values = {"core": "scripted"}
        source = Scripted(tifffile.imread(folder / "movie.tif"), spec)
    if spec.regions:
        labels = np.zeros(tifffile.imread(folder / "movie.tif", key=0).shape, np.uint8)
        labels[4:12, 4:12], labels[16:24, 16:24] = 1, 2
        tifffile.imwrite(folder / "cells.tif", labels)
        values["regions"] = str(folder / "cells.tif")
    output = Path(os.environ.get("FAULT_OUTPUT", str(folder / "run")))
    settings = make_settings(
        output=output,
        bundle=bundle,
        threads=1,
        picture=False,
        finish_s=2.0,
        force=True,  # a busy disk must not keep a row from what it is about
        rescue=folder / "elsewhere",
        **{**values, **(spec.settings or {})},
    )
    if spec.inside is not None:
        spec.inside()
    pids: dict[str, int] = {}
    view = _look_on() if spec.viewed else None
    if view is not None:
        pids["viewer"] = view.pid

    def look(denoiser: Any) -> Any:
        pids["denoiser"] = getattr(denoiser, "pid", 0)
        return _Skipping(denoiser) if spec.skips else denoiser

    def on_fill(done: int, _total: int) -> None:
        if spec.skips and done == 1:
            print(json.dumps({"filling": True}), flush=True)
        time.sleep(0.02 if spec.skips else 0)

    begun: type[Session] | type[Adaptation] = Adaptation if settings.adapt else Session
    start = begun.start

    def started(self: Any, *values: Any) -> None:
        start(self, *values)
        if settings.adapt:
            pids["trainer"] = self._trainer.pid
        print(json.dumps({"recording": True, **pids}), flush=True)

    begun.start = started  # type: ignore[method-assign, assignment]
    try:
        looking = {} if spec.looking is None else spec.looking()
        report = live(settings, source=source, wrap=look, view=view, on_fill=on_fill, **looking)
    except DenoscopeError as error:  # as the shell does
        print(f"denoscope: {error}", flush=True)
        sys.exit(2)
    print(summary(report), flush=True)
    code = report.outcome.exit_code
    left = [
        thread.name for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"
    ]
    if left:
        print(f"threads left: {left}")
    sys.exit(code)


if __name__ == "__main__":
    with ended_by_interruption():  # as the shell does: what interrupts later interrupts nobody
        main()
