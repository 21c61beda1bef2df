"""The process of the session that the plugin's dock starts: settings in, lines of JSON out.

It goes on when napari is gone, crashed or not: the frames come first, and the run folder has them.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.runtime import DenoscopeError

from .link import LiveView

__all__ = ["main"]


def _tell(event: str, **values: Any) -> None:
    with suppress(OSError):  # napari is gone
        print(json.dumps({"event": event, **values}, default=str), file=sys.__stdout__, flush=True)


class _ParentView(LiveView):
    """The view in the napari that started this process."""

    def opened(self, words: dict[str, Any]) -> None:
        """Tell the dock where to look."""
        _tell("opened", **words)


def _run(slab: Slab) -> None:
    from denoscope.acquisition.session.live import live
    from denoscope.acquisition.session.report import summary
    from denoscope.acquisition.session.settings import make_settings

    settings = make_settings(**json.loads(sys.stdin.buffer.readline()))
    report = live(settings, view=_ParentView(slab))
    _tell("finished", summary=summary(report), exit_code=report.outcome.exit_code)


def main() -> None:
    """Run one session and leave."""
    # Words that a library prints must not be taken for ours.
    sys.stdout = sys.stderr
    try:
        _run(Slab(int(sys.argv[1]) if len(sys.argv) > 1 else None))
    except DenoscopeError as error:
        _tell("failed", message=str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
