"""Source ``HOST:PORT``: a running Micro-Manager, over its Java server.

denoscope is a guest there. It starts a sequence only where none runs, stops only the one that it started, and
changes no setting.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from denoscope.acquisition.contracts import Frame, SourceInfo
from denoscope.acquisition.errors import SourceFailed, SourceUnavailable
from denoscope.runtime import counted

from .bridge_line import BridgeLine
from .bridge_sequence import Sequence
from .core import CoreSource, frame_from
from .java import JavaException, JavaObject, pixels_of
from .link import Link

__all__ = ["BridgeSource"]

_SERVER_VERSION = "5.1.0"
_CORE = "mmcorej.CMMCore"
_TURN_ON = "start Micro-Manager and tick Tools > Options > Run server on port"
# Calls to Micro-Manager wait for each other: a script of the user's may hold it for as long as this.
_PATIENCE_S = 120.0
# How long the end of a recording waits for it.
_STOP_S = 30.0
_POP_WAIT_S = 0.05
# Frames that one round of requests may fetch.
_BATCH = 16
_BATCH_BYTES = 64 * 2**20
# A buffer whose content shrinks within this time is being emptied by somebody.
_WATCH_S = 0.5
_ENDLESS_EMPTY = 200
# Before a sequence is stopped, its next frame is waited for so long, to see whose it is.
_LOOK_S = 0.1
_LOOK_MOST_S = 1.0
# While no frame waits: how often it is asked whether the sequence runs, and the longest pause between questions.
_LOOK_EVERY_S = 0.05
_REST_S = 0.005
_UNKNOWN_MB = 1_000_000
# How the connection is measured; without an image there, from the time of calls and what others carried.
_TRIES = 3
_MEASURE_S = 1.5
_MARGIN = 1.5
_TOGETHER = 4
_CALLS = 25
_CALLS_PER_FRAME = 4
_USUAL_BYTES_S = 150e6


class _Core:
    """The running Micro-Manager's core, its methods in the names of pycromanager's Python core."""

    def __init__(self, line: BridgeLine, core: JavaObject) -> None:
        self._line = line
        self.java = core

    def __getattr__(self, name: str) -> Callable[..., Any]:
        first, *rest = name.split("_")
        method = first + "".join(word.capitalize() for word in rest)

        def call(*arguments: Any) -> Any:
            return self._line.values([self.java.call(method, *arguments)])[0]

        return call


class BridgeSource(CoreSource):
    """The core of a running Micro-Manager.

    Requests are answered one after the other, those of all programs by one thread, so that a script of the
    user's can make the server busy: `busy_s` says for how long, and frames wait in Micro-Manager's buffer.

    Parameters
    ----------
    host, port
        Where the server listens; Micro-Manager's own is on port 4827 of the same computer.
    patience_s
        Seconds for which a busy server is waited for before it counts as hung.
    """

    buffer_remedy = "enlarge the sequence buffer in Micro-Manager's Tools > Options"

    def __init__(self, host: str, port: int, *, patience_s: float = _PATIENCE_S) -> None:
        super().__init__(buffer_mb=0)
        self._host, self._port = host, port
        self._name = f"{host}:{port}"
        self._patience_s = patience_s
        self._opened: BridgeLine | None = None
        self._sequence = Sequence()
        self._ready: deque[Frame | JavaException] = deque()
        self._waiting = 0
        self._empty_pops = 0
        self._looked_s = 0.0
        self._most_waiting = 0
        self._left_over = 0

    @property
    def busy_s(self) -> float:
        """Seconds for which Micro-Manager has not answered; 0 while it answers as usual."""
        return 0.0 if self._opened is None else self._opened.busy_s

    @property
    def _line(self) -> BridgeLine:
        if self._opened is None:
            raise SourceFailed(f"Micro-Manager at {self._name} does not answer any more.")
        return self._opened

    def _arm(self, *, runs: bool) -> None:
        """Note whether a sequence that was started here runs."""
        self._armed = runs
        if self._opened is not None:
            self._opened.camera_runs = runs

    # -- opening

    def open(self) -> SourceInfo:
        """Connect to the running Micro-Manager, describe its camera, and measure the connection."""
        try:
            import zmq  # noqa: F401
        except ImportError as error:
            raise SourceUnavailable(
                f"the connection to Micro-Manager needs pyzmq ({error}); install it with: "
                'python -m pip install ".[micromanager]" in a copy of the denoscope repository.'
            ) from error
        self._opened = BridgeLine(self._host, self._port, patience_s=self._patience_s)
        try:
            return self._line.run(self._open)  # type: ignore[no-any-return]
        except OSError as error:
            if isinstance(error, SourceUnavailable):
                raise
            raise SourceUnavailable(
                f"nothing listens at {self._name} ({error}); {self._remedy()}."
            ) from error
        except JavaException as error:
            raise _unavailable(str(error), error) from error
        except SourceFailed as error:
            raise SourceUnavailable(
                f"what listens at {self._name} did not answer as a Micro-Manager server: "
                f"{_lower(str(error))[:-1]}; {self._remedy()}."
            ) from error

    def _remedy(self) -> str:
        if self._host in ("localhost", "::1") or self._host.startswith("127."):
            return f"{_TURN_ON} {self._port}"
        return (
            f"Micro-Manager's server listens to its own computer only, so on this one run: ssh -N -L "
            f"{self._port}:127.0.0.1:{self._port} {self._host} (and `core` 127.0.0.1:{self._port}), and on "
            f"{self._host} {_TURN_ON} {self._port}"
        )

    def _open(self) -> SourceInfo:
        line = self._line
        line.server.connect(self._patience_s)
        self._core = _Core(line, line.server.construct(_CORE, line.go_on))
        self._buffer_mb = self._footprint()
        info = self._describe(
            "bridge",
            self._name,
            cameras=max(1, self._maybe("getNumberOfCameraChannels", 1)),
            versions={
                "mmcore": str(self._core.get_version_info()),
                "server": line.server.version,
                "server_expected": _SERVER_VERSION,
            },
        )
        info = replace(info, details=self._measure(info).as_json())
        self._batch = max(1, min(_BATCH, _BATCH_BYTES // info.frame_bytes))
        return info

    def _maybe(self, method: str, default: int) -> int:
        """Return a number that the core tells, or `default` where it does not."""
        try:
            return int(self._line.values([self._core.java.call(method)])[0])
        except (SourceUnavailable, JavaException, TypeError, ValueError):
            return default

    def _footprint(self) -> int:
        """Return the size of Micro-Manager's buffer in MB; it is set there, not by `buffer_mb`."""
        return self._maybe("getCircularBufferMemoryFootprint", 0) or _UNKNOWN_MB

    def _measure(self, info: SourceInfo) -> Link:
        """Return what the connection carries, from calls that change nothing and expose nothing."""
        buffer = self._buffer_mb * 2**20 if self._buffer_mb < _UNKNOWN_MB else None
        enough_s = (info.exposure_s or 0.0) / info.cameras / _MARGIN
        for method in ("getLastTaggedImage", "getTaggedImage"):
            frame_s = self._shortest(partial(self._time_images, method, info.frame_bytes), enough_s)
            if frame_s is not None:
                return Link(frame_s, True, buffer)
        # Without an image: the state of all devices is an object with a text about as long as a frame's tags.
        frame_s = self._shortest(self._time_state, enough_s) or _CALLS_PER_FRAME * self._time_calls()
        return Link(frame_s + info.frame_bytes / _USUAL_BYTES_S, False, buffer)

    def _shortest(self, attempt: Callable[[], float | None], enough_s: float) -> float | None:
        """Return the shortest of a few times, None where there is none.

        A server that has only started is slow, so it is measured for longer where it seems too slow for the camera.
        """
        times: list[float] = []
        end_s = time.perf_counter() + _MEASURE_S
        with suppress(SourceUnavailable, JavaException):
            while len(times) < _TRIES or (min(times) > enough_s and time.perf_counter() < end_s):
                took_s = attempt()
                if took_s is None:
                    break
                times.append(took_s)
        return min(times, default=None)

    def _time_images(self, method: str, frame_bytes: int) -> float | None:
        """Return the seconds that fetching an image takes; None where it has another size, being an older one."""
        line, began_s = self._line, time.perf_counter()
        images = line.values([self._core.java.call(method)] * _TOGETHER)
        answers = line.values(
            [each for one in images for each in (one.get("pix"), one.get("tags"), one.let_go())]
        )
        took_s = (time.perf_counter() - began_s) / _TOGETHER
        return took_s if pixels_of(answers[0]).nbytes == frame_bytes else None

    def _time_state(self) -> float:
        """Return the seconds that the calls for one frame take, with a text in place of its tags and no pixels."""
        line, began_s = self._line, time.perf_counter()
        states = line.values([self._core.java.call("getSystemStateCache")] * _TOGETHER)
        # The last stands for the request for the pixels, which come as an answer of few words.
        line.values([r for one in states for r in (one.call("getVerbose"), one.let_go(), one.let_go())])
        return (time.perf_counter() - began_s) / _TOGETHER

    def _time_calls(self) -> float:
        """Return the seconds that a small call takes."""
        cheap = [self._core.java.call("getRemainingImageCount")] * _CALLS
        times = []
        for _ in range(_TRIES):
            began_s = time.perf_counter()
            self._line.values(cheap)
            times.append((time.perf_counter() - began_s) / _CALLS)
        return min(times)

    # -- recording

    def start(self) -> None:
        """Start a sequence that stops on overflow, unless the camera or its buffer is in use.

        Raises
        ------
        SourceUnavailable
            When a sequence runs, or somebody is still fetching the frames of one; nothing was changed then.
        """
        try:
            self._line.run(self._start)
        except JavaException as error:
            raise _unavailable(f"{_full(error)}; nothing was recorded", error) from error
        except SourceFailed as error:
            raise SourceUnavailable(str(error)) from error

    def _start(self) -> None:
        if bool(self._core.is_sequence_running()):
            raise SourceUnavailable(
                f"a sequence runs in the Micro-Manager at {self._name} (live view or an acquisition), and denoscope "
                "would take its frames; it was left as it is: stop it there, or record there and follow the file "
                "with `core` watch:FOLDER."
            )
        count = int(self._core.get_remaining_image_count())
        end_s = time.perf_counter() + _WATCH_S
        while count and time.perf_counter() < end_s:
            time.sleep(_WATCH_S / 10)
            now = int(self._core.get_remaining_image_count())
            if now < count:
                raise SourceUnavailable(
                    f"somebody is still fetching {counted(now, 'frame')} from the Micro-Manager at {self._name}, and "
                    "a new "
                    "sequence would erase them; nothing was changed: start again when that acquisition is saved."
                )
            count = now
        self._left_over = count
        # MMCore sizes and clears its buffer itself when a sequence starts.
        self._core.start_sequence_acquisition(2**31 - 1, 0.0, True)
        self._arm(runs=True)
        self._sequence.stands_still = False
        self._waiting = 0

    def pop(self) -> Frame | None:
        """Return the oldest buffered frame, or None when there is none yet or Micro-Manager is busy."""
        if not self._ready and not self._sequence.foreign:
            self._fetch_some()
        if self._ready:
            first = self._ready.popleft()
            if isinstance(first, JavaException):
                raise first
            self._popped += 1
            return first
        if self._sequence.foreign:
            raise SourceFailed(
                f"another program started a sequence in the Micro-Manager at {self._name} after denoscope's was "
                "stopped; it was left running, and denoscope's frames are complete up to there."
            )
        return None

    def _fetch_some(self) -> None:
        line = self._line
        line.check()
        if not line.pending:
            if self._sequence.stands_still:
                return
            line.begin(self._fetch)
        line.collect(_POP_WAIT_S)

    def _fetch(self) -> None:
        """Fetch what is buffered, a few frames at a time, in two rounds of requests."""
        line, core = self._line, self._core.java
        count = self._waiting or int(self._core.get_remaining_image_count())
        self._waiting = 0
        self._most_waiting = max(self._most_waiting, count)
        if count == 0:
            if time.perf_counter() - self._looked_s > _LOOK_EVERY_S:
                self._looked_s = time.perf_counter()
                self._look_whether_it_runs()
            # Leaves the server's one thread to others while the next frame is exposed.
            time.sleep(min(_REST_S, self._sequence.interval_s / 4))
            return
        pop = core.call("popNextTaggedImage")
        popped = line.server.answers([pop] * min(count, self._batch), line.go_on)
        images = [each for each in popped if isinstance(each, JavaObject)]
        # The count may be ahead of what can be popped by one.
        failed = [each for each in popped if isinstance(each, JavaException) and not _is_empty(each)]
        requests = [
            request for image in images for request in (image.get("pix"), image.get("tags"), image.let_go())
        ]
        ask_exposure = self._exposure_is_due()
        requests += [core.call("getExposure")] if ask_exposure else []
        answers = line.server.answers([*requests, core.call("getRemainingImageCount")], line.go_on)
        if ask_exposure:
            self._set_exposure(answers[-2])
        for place in range(len(images)):
            pixels, tags, _ = answers[3 * place : 3 * place + 3]
            for each in (pixels, tags):
                if isinstance(each, JavaException):
                    failed.append(each)
                    break
            else:
                self._accept(pixels_of(pixels), tags if isinstance(tags, dict) else {})
        self._waiting = int(answers[-1]) if isinstance(answers[-1], int) else 0
        self._ready.extend(failed[:1])
        self._empty_pops = 0 if images else self._empty_pops + 1
        if not images:
            # Nothing could be popped though a frame was counted: it comes, or the count is wrong for good.
            self._waiting = 0
            time.sleep(min(_REST_S, self._sequence.interval_s / 4))
            if self._empty_pops > _ENDLESS_EMPTY and not bool(self._core.is_sequence_running()):
                self._end()

    def _look_whether_it_runs(self) -> None:
        if bool(self._core.is_sequence_running()):
            return
        self._waiting = int(self._core.get_remaining_image_count())
        if self._waiting == 0:
            self._end()

    def _end(self) -> None:
        """Note that the sequence is over: a sequence that runs from now on was started by another program."""
        self._sequence.stands_still = True
        by_itself = self._armed and not self._sequence.asked
        self._sequence.ended_by_itself = by_itself and not bool(self._core.is_buffer_overflowed())
        self._arm(runs=False)

    def _accept(self, pixels: Any, tags: Mapping[str, Any]) -> None:
        frame = frame_from(pixels, self._tagged(tags), self._camera, self._popped + len(self._ready))
        if self._sequence.owns(frame):
            self._ready.append(frame)
        else:
            self._arm(runs=False)

    def finished(self) -> bool:
        """Say whether the camera stands still and its buffer is empty."""
        if self._opened is None or self._opened.dead:
            return True
        return self._sequence.stands_still and not self._opened.pending and not self._ready

    def overflowed(self) -> bool:
        """Say whether the core stopped because its buffer was full."""
        if self._sequence.foreign:
            return False
        return bool(self._line.run(lambda: self._core.is_buffer_overflowed()))

    @property
    def overflow_remedy(self) -> str:
        """Return the remedy for an overflow."""
        size = f" ({self._buffer_mb} MB now)" if self._buffer_mb < _UNKNOWN_MB else ""
        return (
            "the connection to Micro-Manager carries less than the camera sends, or Micro-Manager was busy for too "
            "long: lower the frame rate or the region, use `core` FILE.cfg, or enlarge the sequence buffer in "
            f"Micro-Manager's Tools > Options{size}"
        )

    def stop(self) -> None:
        """Stop the sequence that was started here; what is buffered can still be popped."""
        self._sequence.asked = True
        if self._armed:
            self._line.run(self._stop, _STOP_S)

    def _stop(self) -> None:
        if not self._armed:
            return
        if bool(self._core.is_sequence_running()):
            if self._is_somebody_elses():
                self._sequence.foreign = True
            else:
                self._core.stop_sequence_acquisition()
        self._arm(runs=False)

    def _is_somebody_elses(self) -> bool:
        """Look at the newest frame, without taking it, and say whether it belongs to another sequence."""
        if not self._sequence.begun():
            return False
        # Frames that were popped cannot be looked at any more, so wait for the next one of a fast camera.
        end_s = time.perf_counter() + min(3 * self._sequence.interval_s + _LOOK_S, _LOOK_MOST_S)
        while not int(self._core.get_remaining_image_count()) and time.perf_counter() < end_s:
            time.sleep(_LOOK_S / 10)
        try:
            (image,) = self._line.values([self._core.java.call("getLastTaggedImage")])
            tags, _ = self._line.values([image.get("tags"), image.let_go()])
        except (SourceUnavailable, JavaException, AttributeError):
            return False  # none is there to be looked at
        if not isinstance(tags, dict):
            return False
        newest = frame_from(np.zeros((1, 1), np.uint8), self._tagged(tags), self._camera, -1)
        return newest.number >= 0 and self._sequence.is_foreign(newest)

    def notes(self) -> list[str]:
        """Return what the user should know about Micro-Manager in the end."""
        notes = []
        if self._left_over:
            notes.append(
                f"{counted(self._left_over, 'frame')} of an earlier sequence lay in Micro-Manager's buffer, and "
                "nobody fetched "
                "them; starting the camera cleared them"
            )
        line = self._opened
        if line is not None and line.busy_times:
            notes.append(
                f"Micro-Manager was busy {counted(line.busy_times, 'time')}, {line.busy_total_s:.1f} s in all; up to "
                f"{counted(self._most_waiting, 'frame')} waited in its buffer at once, recorded afterwards"
            )
        if self._sequence.ended_by_itself:
            notes.append(
                "the sequence ended before denoscope stopped it: the camera stopped by itself, or somebody stopped "
                "it in Micro-Manager"
            )
        if line is not None and line.server.lossy:
            notes.append(
                "some of Micro-Manager's tags hold a question mark: its server replaces characters outside of "
                "Latin-1, such as the Greek mu"
            )
        if line is not None and not line.dead:
            with suppress(SourceFailed):
                notes += line.run(super().notes, _STOP_S)
        return notes

    def close(self) -> None:
        """Let go of the connection; Micro-Manager itself runs on."""
        line = self._opened
        if line is None or line.closed:
            return
        try:
            if not line.dead:
                self.stop()
                if self._core is not None:
                    core = self._core.java
                    with suppress(SourceFailed):
                        line.run(lambda: line.values([core.let_go()]), _STOP_S)
        finally:
            self._core = None
            line.close()


def _is_empty(error: JavaException) -> bool:
    return "buffer is empty" in error.text.lower() or error.name.endswith("IndexOutOfBoundsException")


def _lower(text: str) -> str:
    return text if text.startswith("Micro-Manager") else text[:1].lower() + text[1:]


def _full(error: BaseException) -> str:
    return str(error).rstrip(".")


def _unavailable(text: str, error: JavaException) -> SourceUnavailable:
    unavailable = SourceUnavailable(f"{text.rstrip('.')}.")
    unavailable.add_note(error.stack)
    return unavailable
