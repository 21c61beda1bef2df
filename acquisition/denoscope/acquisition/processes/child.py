"""Processes of ours: how one is started, and how it ends with the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from denoscope.runtime.children import child_command, child_environment

__all__ = ["end_with", "exit_words", "overhear", "start_child"]

_LOOK_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1
_SYNCHRONIZE = 0x00100000


def start_child(
    module: str, *words: str, descriptors: tuple[int, ...] = (), polite: bool = False
) -> subprocess.Popen[bytes]:
    """Start ``python -m module words`` with three pipes, out of reach of the terminal's Ctrl-C.

    Parameters
    ----------
    module, words
        What to run.
    descriptors
        Open files that it inherits; POSIX only.
    polite
        Whether Windows is told that others come first; elsewhere the process says so itself.
    """
    options: dict[str, Any] = {"start_new_session": True, "pass_fds": descriptors}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        if polite:
            flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS
        options = {"creationflags": flags}
    return subprocess.Popen(  # noqa: S603  fixed words
        child_command(module, *words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        **options,
    )


def overhear(process: subprocess.Popen[bytes], words: list[str], keep: int = 21) -> None:
    """Read a process's standard error to its end, for a thread; `words` holds its last `keep` lines."""
    assert process.stderr is not None
    for line in process.stderr:
        word = line.decode(errors="replace").strip()
        if word:
            words[:] = [*words[1 - keep :], word]


def exit_words(code: int | None) -> str:
    """Return how a process ended, as the end of a sentence that began with its name."""
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with code {code}" if code < 1 << 16 else f"crashed with code {code:#x}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"was ended by signal {-code} ({name})"


def end_with(parent: int) -> None:
    """End this process when the process `parent`, which started it, is gone; call it once, at the start.

    A pipe that ends says the same, but only to a process that reads from it, not to one that hangs.
    """
    if sys.platform == "linux":
        # The kernel's word reaches a stopped process too, and one that holds the interpreter's lock.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), name="denoscope-parent", daemon=True).start()


def _watch(parent: int) -> None:
    if sys.platform == "win32":
        import _winapi

        try:
            handle = _winapi.OpenProcess(_SYNCHRONIZE, False, parent)
        except OSError:  # gone already
            os._exit(1)
        _winapi.WaitForSingleObject(handle, _winapi.INFINITE)
    else:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
    os._exit(1)
