"""The process of the session that the plugin's dock starts: settings in, events out.

It goes on when napari is gone, crashed or not: the frames come first, and the run folder has them.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any

from denoscope.acquisition.processes.child import speak
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.processes.wire import Wire
from denoscope.acquisition.view.board.link import LiveView
from denoscope.acquisition.view.board.words import BoardWords
from denoscope.runtime import DenoscopeError

__all__ = ["main"]


class _Parent:
    """The napari that started this process, and may be gone."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def tell(self, event: str, **values: Any) -> None:
        """Tell it what happened."""
        with suppress(OSError):
            self._wire.send({"event": event, **values})


class _ParentView(LiveView):
    """The view in the napari that started this process."""

    def __init__(self, slab: Slab, parent: _Parent) -> None:
        super().__init__(slab)
        self._parent = parent
        self._left = False

    @property
    def gone(self) -> bool:
        """True once napari has left."""
        return self._left

    def listen(self, wire: Wire) -> None:
        """Wait until napari leaves."""
        with suppress(OSError, ValueError):
            while wire.receive() is not None:
                pass
        self._left = True

    def opened(self, words: BoardWords) -> None:
        """Tell the dock where to look."""
        self._parent.tell("opened", **words)


def _run(slab: Slab, wire: Wire, parent: _Parent) -> None:
    from denoscope.acquisition.session.ending.summary import summary
    from denoscope.acquisition.session.live import live
    from denoscope.acquisition.session.settings import make_settings

    request = wire.receive()
    if request is None:
        return
    settings = make_settings(**request.words)
    view = _ParentView(slab, parent)
    threading.Thread(target=view.listen, args=(wire,), name="denoscope-napari", daemon=True).start()
    report = live(settings, view=view)
    parent.tell("finished", summary=summary(report), exit_code=report.outcome.exit_code)


def main() -> None:
    """Run one session and leave."""
    wire = speak()
    parent = _Parent(wire)
    try:
        _run(Slab(int(sys.argv[1]) if len(sys.argv) > 1 else None), wire, parent)
    except DenoscopeError as error:
        parent.tell("failed", message=str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
