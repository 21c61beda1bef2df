"""Print from a separate thread, so that nothing waits for a terminal, a pipe or a window that was closed.

::

    print, rich, libraries -> sys.stdout, sys.stderr -> bounded queue -> thread -> the terminal, file or pipe

A terminal that was stopped with Ctrl-S, or a pipe that nobody reads, holds up this thread and nothing else.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = ["Words", "never_wait", "open_standard_streams"]

_MOST_CHARACTERS = 1 << 18
_PATIENCE_S = 3.0
_AGAIN_S = 0.05


def open_standard_streams() -> None:
    """Open the null device in place of each standard stream that was closed before this program began.

    Without it the next file that is opened gets the number of standard output or error, and what a library
    prints would be written into a recording.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one, because those below it are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  until the end


class _Posted(io.TextIOBase):
    """Stands where a standard stream was and hands on what is written."""

    def __init__(self, words: Words, stream: TextIO) -> None:
        self._words = words
        self._stream = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # as any text stream: by this some libraries tell text from bytes
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._words.post(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes at once."""

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors


class Words:
    """Takes the places of ``sys.stdout`` and ``sys.stderr`` inside its block.

    By default a writer waits for room, as it does at a terminal; inside `never_wait` what finds no room is
    dropped. A stream that cannot be written any more, because its reader is gone, is passed over in silence.
    """

    _current: Words | None = None

    def __init__(self) -> None:
        self.dropped = 0
        """Characters that were not printed."""
        self.waits = True
        self._room = threading.Condition()
        self._queue: deque[tuple[TextIO, str]] = deque()
        self._characters = 0
        self._busy = self._ended = False
        self._written = 0
        self._gone: set[int] = set()
        self._before: tuple[Any, Any, Words | None] | None = None
        self._thread = threading.Thread(target=self._run, name="denoscope-words", daemon=True)

    def post(self, stream: TextIO, text: str) -> None:
        """Print text soon."""
        if not text or id(stream) in self._gone:
            return
        with self._room:
            while self._characters > _MOST_CHARACTERS:
                if not self.waits:
                    self.dropped += len(text)
                    return
                self._room.wait(1.0)
            self._queue.append((stream, text))
            self._characters += len(text)
            self._room.notify_all()

    def drain(self, patience_s: float | None) -> bool:
        """Wait until all is printed, but not longer than so many seconds without progress; return whether it is."""
        since_s, written = time.monotonic(), -1
        with self._room:
            while self._queue or self._busy:
                if written != self._written:
                    since_s, written = time.monotonic(), self._written
                elif patience_s is not None and time.monotonic() - since_s > patience_s:
                    return False
                self._room.wait(0.1)
        return True

    def _run(self) -> None:
        while True:
            with self._room:
                while not self._queue:
                    if self._ended:
                        return
                    self._room.wait()
                stream, text = self._queue.popleft()
                self._busy = True
            try:
                if id(stream) not in self._gone:
                    self._write(stream, text)
            except Exception:  # noqa: BLE001  its reader or its terminal is gone, or it is no such stream
                self._gone.add(id(stream))
            with self._room:
                self._busy = False
                self._characters -= len(text)
                self._room.notify_all()

    def _write(self, stream: TextIO, text: str) -> None:
        """Write below the stream's buffer: the interpreter waits at its end for a buffer that is being written."""
        buffer = getattr(stream, "buffer", None)
        # There is no buffer where the interpreter was told to use none (PYTHONUNBUFFERED).
        raw = buffer if isinstance(buffer, io.RawIOBase) else getattr(buffer, "raw", None)
        if raw is None:
            stream.write(text)
            stream.flush()
            self._written += 1
            return
        if os.linesep != "\n":
            text = text.replace("\n", os.linesep)
        left = memoryview(_encoded(text, stream))
        while left.nbytes:
            taken = raw.write(left)
            if not taken:  # a pipe that does not block, and is full
                time.sleep(_AGAIN_S)
                continue
            left = left[taken:]
            self._written += 1

    def __enter__(self) -> Self:
        self._before = sys.stdout, sys.stderr, Words._current
        Words._current = self
        sys.stdout, sys.stderr = _Posted(self, sys.stdout), _Posted(self, sys.stderr)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.drain(None if self.waits else _PATIENCE_S)
        finally:
            assert self._before is not None
            sys.stdout, sys.stderr, Words._current = self._before
            with self._room:
                self._ended = True
                self._room.notify_all()


def _encoded(text: str, stream: TextIO) -> bytes:
    """Return the bytes of a text, with question marks for letters that the stream's encoding does not have."""
    encoding = stream.encoding or "utf-8"
    try:
        return text.encode(encoding, stream.errors or "strict")
    except UnicodeError:
        return text.encode(encoding, "replace")


def never_wait() -> None:
    """Drop what finds no room rather than wait for it, from here to the end of the program."""
    if Words._current is not None:
        Words._current.waits = False
