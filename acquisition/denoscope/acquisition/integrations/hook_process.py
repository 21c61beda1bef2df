"""The process that denoises beside somebody else's acquisition: settings and frames in, lines of JSON out.

It is started by `denoscope.acquisition.hook` and `denoscope.acquisition.attach`, so that whatever
happens here cannot reach the process that drives the microscope.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from denoscope.runtime import DenoscopeError

__all__ = ["main"]


def _tell(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}, default=str), file=sys.__stdout__, flush=True)


def _run() -> None:
    from denoscope.acquisition.results import HookCounts
    from denoscope.acquisition.session.live import live
    from denoscope.acquisition.session.report import write_report
    from denoscope.acquisition.session.settings import make_settings
    from denoscope.acquisition.sources.pipe import PipeSource

    request = json.loads(sys.stdin.buffer.readline())
    settings = make_settings(core="pipe", **request)
    source = PipeSource(sys.stdin.buffer, on_open=lambda: _tell("ready"))
    report = live(settings, source=source)
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
