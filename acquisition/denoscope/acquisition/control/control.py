"""Pause, resume and stop a running session, and find regions again: from its own program, its terminal, or another one.

::

    SessionControl   <- a program that runs `live` in a separate thread
      ^       ^
      |       `-- TerminalKeys: p, r, f, q typed where `denoscope live` runs
      `-- request-ID.json in the run folder <- `ask`: `denoscope pause|resume|find|stop RUN`

A file is the one channel that works alike on every system and on a shared disk, needs no port, and is
out of reach for whoever may not write to the recording anyway.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from denoscope.acquisition.errors import SourceFailed
from denoscope.acquisition.results import RequestAnswer
from denoscope.runtime import InvalidInput

__all__ = [
    "KEYS",
    "Action",
    "Request",
    "RequestFiles",
    "SessionControl",
    "TerminalKeys",
    "ask",
    "find_regions",
    "pause",
    "resume",
    "stop",
]

_PREFIX = "request-"
_LOG = "log.jsonl"
_REPORT = "report.json"
_MOST_BYTES = 1000
_MOST_WAITING = 64
_POLL_S = 0.05
_KEY_POLL_S = 0.1


class Action(Enum):
    """Requests to a session."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    FIND = "find"


KEYS = {"p": Action.PAUSE, "r": Action.RESUME, "q": Action.STOP, "f": Action.FIND}
"""Requests by keys in the terminal of a session."""


@dataclass(frozen=True, slots=True)
class Request:
    """One wish, and where it came from.

    Attributes
    ----------
    action
        What is asked for.
    origin
        ``program``, ``terminal`` or ``file``, for the log.
    name
        By which the log answers it; None where nobody waits for an answer.
    radius_px
        Radius of the cells to find; None for that of the search before.
    """

    action: Action
    origin: str
    name: str | None = None
    radius_px: float | None = None


class SessionControl:
    """Asks the session it was given to (``live(settings, control=...)``) to pause, resume, find or stop.

    Any thread may call it, before the session runs too. A pause concerns the denoising alone: the camera
    goes on, and every frame is still written raw.
    """

    def __init__(self) -> None:
        # Wishes beyond this many were not obeyed for so long that only the last ones matter.
        self._waiting: deque[Request] = deque(maxlen=_MOST_WAITING)

    def pause(self, origin: str = "program") -> None:
        """Denoise nothing until `resume`; raw frames are still written."""
        self._waiting.append(Request(Action.PAUSE, origin))

    def resume(self, origin: str = "program") -> None:
        """Denoise again, from the next frame."""
        self._waiting.append(Request(Action.RESUME, origin))

    def stop(self, origin: str = "program") -> None:
        """End the recording; what is buffered is still written and denoised."""
        self._waiting.append(Request(Action.STOP, origin))

    def find(self, radius_px: float | None = None, origin: str = "program") -> None:
        """Find regions again, in the next denoised frames, with cells of this radius in pixels or as before.

        Raises
        ------
        InvalidInput
            When the radius is no number from 1 to 200.
        """
        if radius_px is not None:
            _check_radius(radius_px)
        self._waiting.append(Request(Action.FIND, origin, radius_px=radius_px))

    def add(self, request: Request) -> None:
        """Ask for what came from elsewhere."""
        self._waiting.append(request)

    def take(self) -> Iterator[Request]:
        """Yield what was asked for since the last call, oldest first."""
        with suppress(IndexError):
            while True:
                yield self._waiting.popleft()


class RequestFiles:
    """Finds the requests that other programs put into a run folder.

    Parameters
    ----------
    folder
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[str] = set()

    def take(self) -> Iterator[Request]:
        """Yield each request once, oldest first; files that hold none are passed over."""
        try:
            with os.scandir(self._folder) as entries:
                names = {each.name for each in entries if _may_be_request(each)}
        except OSError:  # the folder is gone; the raw writer says so
            return
        self._seen &= names
        for name in sorted(names - self._seen)[:_MOST_WAITING]:
            self._seen.add(name)
            path = self._folder / name
            request = _read(path)
            with suppress(OSError):  # not ours to delete: it is known now, and not obeyed twice
                path.unlink()
            if request is not None:
                yield request


def _check_radius(radius_px: float) -> None:
    from denoscope.acquisition.regions.reading import check_radius  # a pause needs none of it

    check_radius(radius_px)


def _may_be_request(entry: os.DirEntry[str]) -> bool:
    """Return whether it is named like a request and is a regular file: opening anything else may wait for ever."""
    named = entry.name.startswith(_PREFIX) and entry.name.endswith(".json")
    return named and entry.is_file(follow_symlinks=False)


def _read(path: Path) -> Request | None:
    # It may have become something else since it was listed.
    flags = (
        os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    )
    try:
        number = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                return None
            data = os.read(number, _MOST_BYTES + 1)
        finally:
            os.close(number)
        if len(data) > _MOST_BYTES:
            return None
        words = json.loads(data)
        radius = words.get("radius_px")
        if radius is not None:
            _check_radius(float(radius))
        return Request(
            Action(words["action"]), "file", str(words["name"]), None if radius is None else float(radius)
        )
    except Exception:  # noqa: BLE001  whatever somebody wrote there, brackets without end too, is no request
        return None


def ask(
    folder: Path, action: Action, *, radius_px: float | None = None, timeout_s: float = 10.0
) -> RequestAnswer:
    """Ask the session that records into `folder`, and wait for its answer.

    Parameters
    ----------
    folder
        Its run folder.
    action
        What it should do.
    radius_px
        Radius of the cells to find; None for that of the search before.
    timeout_s
        How long to wait.

    Returns
    -------
    RequestAnswer
        The session's line in ``log.jsonl``.

    Raises
    ------
    InvalidInput
        When no session records into `folder`, or the radius is no number from 1 to 200.
    SourceFailed
        When it does not answer.
    """
    if radius_px is not None:
        _check_radius(radius_px)
    log = folder / _LOG
    if not log.is_file():
        raise InvalidInput(
            f"{folder} is no run folder of a live session: it holds no {_LOG}; name the folder that it records into."
        )
    _refuse_ended(folder)
    start = log.stat().st_size
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
    path = folder / f"{_PREFIX}{name}.json"
    draft = path.with_suffix(".new")
    words: dict[str, object] = {"action": action.value, "name": name}
    if radius_px is not None:
        words["radius_px"] = radius_px
    draft.write_text(json.dumps(words), encoding="utf-8")
    draft.replace(path)  # whole or not at all
    deadline_s = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline_s:
            answer = _answer(log, start, name)
            if answer is not None:
                return answer
            time.sleep(_POLL_S)
    finally:
        path.unlink(missing_ok=True)
    _refuse_ended(folder)
    raise SourceFailed(
        f"the session in {folder} did not answer within {timeout_s:g} s: it was killed, or it hangs; what it "
        "received until then is in raw.tif."
    )


def pause(run: Path | str) -> RequestAnswer:
    """Pause the denoising of the session that records into `run`; every raw frame is still written.

    Parameters
    ----------
    run
        Run folder of a session in this or another program.

    Returns
    -------
    RequestAnswer
        Its ``received`` is the first frame that is not denoised; ``done`` is False where it was paused already.

    Raises
    ------
    DenoscopeError
        Where no session records into `run`, or it does not answer within 10 s.

    Examples
    --------
    >>> pause("run")
    Traceback (most recent call last):
    denoscope.runtime.errors.InvalidInput: run is no run folder of a live session: it holds no log.jsonl; name ...
    """
    return ask(Path(run), Action.PAUSE)


def resume(run: Path | str) -> RequestAnswer:
    """Denoise again in a session that was paused.

    Parameters
    ----------
    run
        Run folder of the session.

    Returns
    -------
    RequestAnswer
        State of the session afterwards, and whether the request changed anything.

    Raises
    ------
    DenoscopeError
        As of `pause`.

    Examples
    --------
    >>> resume("run")
    Traceback (most recent call last):
    denoscope.runtime.errors.InvalidInput: run is no run folder of a live session: it holds no log.jsonl; name ...
    """
    return ask(Path(run), Action.RESUME)


def stop(run: Path | str) -> RequestAnswer:
    """End a session; what is buffered is still written and denoised.

    Parameters
    ----------
    run
        Run folder of the session.

    Returns
    -------
    RequestAnswer
        State of the session afterwards, and whether the request changed anything.

    Raises
    ------
    DenoscopeError
        As of `pause`.

    Examples
    --------
    >>> stop("run")
    Traceback (most recent call last):
    denoscope.runtime.errors.InvalidInput: run is no run folder of a live session: it holds no log.jsonl; name ...
    """
    return ask(Path(run), Action.STOP)


def find_regions(run: Path | str, radius_px: float | None = None) -> RequestAnswer:
    """Find cells again in the next 100 denoised frames of a session that measures regions.

    Their traces go to ``traces-2.csv`` and their picture to ``regions-2.tif`` (then 3, and so on). The regions before
    are measured until the end too.

    Parameters
    ----------
    run
        Run folder of the session.
    radius_px
        Radius of a cell in pixels; None for that of the search before.

    Returns
    -------
    RequestAnswer
        Its ``done`` is False where no search begins, and ``why`` says why.

    Raises
    ------
    DenoscopeError
        As of `pause`, or when the radius is no number from 1 to 200.

    Examples
    --------
    >>> find_regions("run")
    Traceback (most recent call last):
    denoscope.runtime.errors.InvalidInput: run is no run folder of a live session: it holds no log.jsonl; name ...
    """
    return ask(Path(run), Action.FIND, radius_px=radius_px)


def _refuse_ended(folder: Path) -> None:
    if (folder / _REPORT).exists():
        raise InvalidInput(f"the session in {folder} has ended; {_REPORT} there says how.")


def _answer(log: Path, start: int, name: str) -> RequestAnswer | None:
    with log.open("rb") as file:
        file.seek(start)
        for line in file:
            if name.encode() in line and line.endswith(b"\n"):
                return RequestAnswer.model_validate_json(line)
    return None


class TerminalKeys:
    """Turns keys typed in the session's terminal into requests, from a thread that ends with its block.

    On Windows a key counts at once; elsewhere with Enter, so that the terminal keeps its own settings,
    whatever happens to the session. The thread never blocks in a read: one that did could not be ended.

    Parameters
    ----------
    control
        Of the session.
    """

    def __init__(self, control: SessionControl) -> None:
        self._control = control
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="denoscope-keys", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            for key in _typed():
                action = KEYS.get(key.lower())
                if action is not None:
                    self._control.add(Request(action, "terminal"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()


if sys.platform == "win32":
    import msvcrt

    def _typed() -> str:
        """Return what was typed, after a moment."""
        time.sleep(_KEY_POLL_S)
        keys = ""
        while msvcrt.kbhit():
            keys += msvcrt.getwch()
        return keys

else:
    import select

    def _in_background(number: int) -> bool:
        """Return whether what is typed in this terminal is for another program."""
        try:
            return os.tcgetpgrp(number) != os.getpgrp()
        except OSError:  # no terminal, or not the one that this program was started in
            return False

    def _typed() -> str:
        """Return what was typed, after a moment at the latest."""
        try:
            number = sys.stdin.fileno()
            if not select.select([number], [], [], _KEY_POLL_S)[0]:
                return ""
            if _in_background(number):
                time.sleep(_KEY_POLL_S)
                return ""
            data = os.read(number, _MOST_BYTES)
        except (OSError, ValueError):  # the terminal went away; the session did not
            data = b""
        if not data:
            time.sleep(_KEY_POLL_S)
        return data.decode(errors="replace")
