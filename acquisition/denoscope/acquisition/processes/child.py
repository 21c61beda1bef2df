"""Start child processes, talk to them, and end them with the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from denoscope.runtime.children import child_command, child_environment

from .shared_memory import Slab
from .wire import Message, Wire

__all__ = ["Child", "end_with", "exit_words", "overhear", "speak", "start_child", "with_large_pages"]

_LOOK_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1
_SYNCHRONIZE = 0x00100000
_LARGE_PAGES = "glibc.malloc.hugetlb"


def start_child(
    module: str,
    *words: str,
    descriptors: tuple[int, ...] = (),
    low_priority: bool = False,
    large_pages: bool = False,
) -> subprocess.Popen[bytes]:
    """Start ``python -m module words`` with three pipes, out of reach of the terminal's Ctrl-C.

    Parameters
    ----------
    module, words
        What to run.
    descriptors
        Open files that it inherits; POSIX only.
    low_priority
        Start it below normal priority on Windows; elsewhere the process lowers its priority itself.
    large_pages
        Ask for pages of 2 MB; see `with_large_pages`.
    """
    environment = child_environment()
    if large_pages:
        environment = with_large_pages(environment)
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        if low_priority:
            flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS
    return subprocess.Popen(  # noqa: S603  fixed words
        child_command(module, *words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        creationflags=flags,
        start_new_session=sys.platform != "win32",
        pass_fds=() if sys.platform == "win32" else descriptors,
    )


def with_large_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which glibc asks Linux for pages of 2 MB in place of 4 KB for what is allocated.

    A processor looks up fewer addresses then. Where Linux or the C library has no such pages, or the user has decided
    about them, nothing changes.
    """
    tunables = environment.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or _LARGE_PAGES in tunables:
        return dict(environment)
    return {**environment, "GLIBC_TUNABLES": ":".join(filter(None, (tunables, f"{_LARGE_PAGES}=1")))}


def overhear(process: subprocess.Popen[bytes], words: list[str], keep: int = 21) -> None:
    """Read a process's standard error to its end, for a thread; `words` holds its last `keep` lines."""
    assert process.stderr is not None
    for line in process.stderr:
        word = line.decode(errors="replace").strip()
        if word:
            words[:] = [*words[1 - keep :], word]


class Child:
    """A process that runs a module of denoscope and exchanges messages with this one.

    Parameters
    ----------
    module, words
        What to run.
    name
        Of its thread here.
    slab
        Memory that it shares; the first of its words then.
    low_priority, large_pages
        As for `start_child`.
    keep
        Lines of its standard error that are kept.
    """

    def __init__(
        self,
        module: str,
        *words: str,
        name: str,
        slab: Slab | None = None,
        low_priority: bool = False,
        large_pages: bool = False,
        keep: int = 21,
    ) -> None:
        descriptors = slab.descriptors if slab is not None else ()
        self.process = start_child(
            module,
            *words,
            *map(str, descriptors),
            descriptors=descriptors,
            low_priority=low_priority,
            large_pages=large_pages,
        )
        self.wire = Wire(cast("Any", self.process.stdout), cast("Any", self.process.stdin))
        self.said: list[str] = []
        """Last lines of its standard error."""
        self._hears = threading.Thread(
            target=overhear, args=(self.process, self.said, keep), name=f"{name}-words", daemon=True
        )
        self._hears.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self.process.poll()

    def tell(self, words: Mapping[str, Any]) -> bool:
        """Send a message; return False where the process is gone."""
        try:
            self.wire.send(words)
        except OSError:
            return False
        return True

    def receive(self) -> Message | None:
        """Wait for a message; None where the process is gone, in the middle of a message or not."""
        try:
            return self.wire.receive()
        except (OSError, ValueError):
            return None

    def last_words(self, patience_s: float = 5.0) -> list[str]:
        """Wait for the end of a process that is about to end; return the last lines of its standard error."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self._hears.join(1)
        return self.said

    def hang_up(self) -> None:
        """Close the pipe to the process: no message follows."""
        assert self.process.stdin is not None
        with suppress(OSError):  # what was still buffered for a process that is gone
            self.process.stdin.close()

    def end(self, *threads: threading.Thread) -> None:
        """End the process by force where it still runs, and let go of its pipes and of the threads that read them."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in (*threads, self._hears):
            if thread.ident is not None:
                thread.join(5)
        self.hang_up()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def speak() -> Wire:
    """Return this child's wire to the process that started it; what is printed goes to standard error from then on."""
    # What a library prints must not be taken for a message.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Wire(cast("Any", sys.stdin.buffer), cast("Any", outgoing))


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
