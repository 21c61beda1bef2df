"""The process that denoises beside somebody else's acquisition: settings and frames in, lines of JSON out.

It is started by `denoscope.acquisition.hook` and `denoscope.acquisition.attach`, so that whatever
happens here cannot reach the process that drives the microscope.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from denoscope.runtime import DenoscopeError

if TYPE_CHECKING:
    from denoscope.acquisition.frames.live_frame import LiveFrame

__all__ = ["main"]


_talking = threading.Lock()


def _tell(event: str, **values: Any) -> None:
    with _talking:
        print(json.dumps({"event": event, **values}, default=str), file=sys.__stdout__, flush=True)


def _frame_sender() -> Callable[[LiveFrame], None]:
    """Return what sends denoised frames to the user's process, in a thread that nothing waits for."""
    from denoscope.acquisition.frames.pipe import FrameWriter

    assert sys.__stdout__ is not None
    writer, pipe = FrameWriter(), cast("BinaryIO", sys.__stdout__.buffer)

    def send(frame: LiveFrame) -> None:
        parts = writer.pack(frame)
        with _talking:
            for part in parts:
                pipe.write(part)
            pipe.flush()

    return send


def _run() -> None:
    from denoscope.acquisition.results import HookCounts
    from denoscope.acquisition.session.live import live
    from denoscope.acquisition.session.report import write_report
    from denoscope.acquisition.session.settings import make_settings
    from denoscope.acquisition.sources.pipe import PipeSource

    request = json.loads(sys.stdin.buffer.readline())
    on_denoised = _frame_sender() if request.pop("send_frames", False) else None
    settings = make_settings(core="pipe", **request)
    source = PipeSource(sys.stdin.buffer, on_open=lambda: _tell("ready"))
    report = live(settings, source=source, on_denoised=on_denoised)
    if source.closing:
        report.hook = HookCounts.model_validate(source.closing)
    write_report(report, Path(settings.output))
    _tell("finished", report=report.as_json())


def main() -> None:
    """Serve one acquisition and leave."""
    # Words that a library prints must not be taken for ours.
    sys.stdout = sys.stderr
    if hasattr(os, "nice"):
        os.nice(5)  # the acquisition comes first; Windows is told when the process is started
    try:
        _run()
    except DenoscopeError as error:
        _tell("failed", message=str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
