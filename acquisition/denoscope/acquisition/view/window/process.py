"""The process of the window that `LiveWindow` opens: events in, ``ready`` out."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from typing import Any

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.processes.child import speak
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.processes.wire import Wire, Words

__all__ = ["main"]

_LISTEN_MS = 50
_SIZE = (1280, 860)


def _listen(wire: Wire, said: queue.SimpleQueue[Words | None]) -> None:
    """Pass on what the session says; None when it is gone."""
    while (message := wire.receive()) is not None:
        said.put(message.words)
    said.put(None)


def _make_room(viewer: Any) -> None:
    """Hide napari's docks; the Window menu brings them back."""
    from qtpy.QtWidgets import QDockWidget

    window = viewer.window._qt_window
    for dock in window.findChildren(QDockWidget):
        if dock.objectName() in ("layer list", "layer controls"):
            dock.hide()
    window.resize(*_SIZE)


def _run(slab: Slab, wire: Wire) -> None:
    import napari
    from qtpy.QtCore import QTimer

    from .display import Display, add_docks
    from .line import Level

    lines: queue.SimpleQueue[Words | None] = queue.SimpleQueue()
    viewer = napari.Viewer(title="denoscope live", show=True)
    display = Display(viewer)
    add_docks(viewer, display)
    _make_room(viewer)
    ended = False

    def hear() -> None:
        nonlocal ended
        while not lines.empty() and not ended:
            words = lines.get()
            if words is None:
                ended = True
                kept = "what it had received is on disk" if display.recording else "nothing was saved"
                display.close(f"the session ended without a word; {kept}")
                if display.status is None:
                    viewer.close()
            elif words["event"] == "opened":
                viewer.title = f"denoscope live: {words['output'] or 'preview'}"
                display.follow(slab, words)
            else:
                ended = True
                display.close()
                if words["stay"]:
                    _let_go(wire)
                else:
                    viewer.close()
        if not ended:
            QTimer.singleShot(_LISTEN_MS, hear)

    def begin() -> None:
        display.panels.open((16, 16))  # fails here where there is no OpenGL
        threading.Thread(target=_listen, args=(wire, lines), name="denoscope-session", daemon=True).start()
        display.bar.say("waiting for the session", Level.CALM)
        if hasattr(os, "nice"):
            os.nice(10)  # the acquisition comes first; Windows is told when the process is started
        wire.send({"event": "ready"})
        hear()

    begin()
    napari.run()


def _let_go(wire: Wire) -> None:
    """Speak to nobody from now on: the session's ends of the pipes close."""
    wire.hang_up()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def main() -> None:
    """Show one session and leave when the user closes the window."""
    wire = speak()
    # Without a graphics card Mesa draws on every processor core unless told otherwise.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        _run(Slab(int(sys.argv[1]) if len(sys.argv) > 1 else None), wire)
    except Exception as error:  # noqa: BLE001  its last line is what the session tells the user
        traceback.print_exc()
        print(f"{type(error).__name__}: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
