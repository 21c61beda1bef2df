"""Process that denoises beside the acquisition of another program: settings and frames in, events out.

It is started by `denoscope.acquisition.hook` and `denoscope.acquisition.attach`, so that whatever
happens here cannot reach the process that drives the microscope.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from denoscope.acquisition.processes.child import speak
from denoscope.acquisition.processes.wire import Wire
from denoscope.runtime import DenoscopeError

if TYPE_CHECKING:
    from denoscope.acquisition.frames.live_frame import LiveFrame

__all__ = ["main"]


def _frame_sender(wire: Wire) -> Callable[[LiveFrame], None]:
    """Return what sends denoised frames to the user's process, in a thread that nothing waits for."""
    from denoscope.acquisition.frames.pipe import FrameWriter

    writer = FrameWriter()

    def send(frame: LiveFrame) -> None:
        words, body = writer.pack(frame)
        wire.send(words, *body)

    return send


def _run(wire: Wire) -> None:
    from denoscope.acquisition.results import HookCounts
    from denoscope.acquisition.session.ending.report import write_report
    from denoscope.acquisition.session.live import live
    from denoscope.acquisition.session.settings import make_settings
    from denoscope.acquisition.sources.pipe import PipeSource

    request = wire.receive()
    if request is None:
        return
    on_denoised = _frame_sender(wire) if request.words.pop("send_frames", False) else None
    settings = make_settings(core="pipe", **request.words)
    source = PipeSource(cast("Any", sys.stdin.buffer), on_open=lambda: wire.send({"event": "ready"}))
    report = live(settings, source=source, on_denoised=on_denoised)
    if source.closing:
        report.hook = HookCounts.model_validate(source.closing)
    write_report(report, Path(settings.output))
    wire.send({"event": "finished", "report": report.as_json()})


def main() -> None:
    """Serve one acquisition and leave."""
    wire = speak()
    if hasattr(os, "nice"):
        os.nice(5)  # the acquisition comes first; Windows is told when the process is started
    try:
        _run(wire)
    except DenoscopeError as error:
        wire.send({"event": "failed", "message": str(error)})
        sys.exit(2)


if __name__ == "__main__":
    main()
