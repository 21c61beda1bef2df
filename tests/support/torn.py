"""A denoiser that does nothing, and whose process dies, hangs or takes long between an answer and its last pixels.

``TORN`` in the environment says what happens (``dies``, ``hangs``, ``waits``), ``TORN_AT`` at which output (it waits at
all of them), and ``TORN_GIVEN`` where the process writes number, smallest and largest value of each frame.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from denoscope.acquisition.denoisers import process
from denoscope.runtime import Denoised, FrameMeta

from .nothing import Nothing

WHAT = os.environ.get("TORN", "")
AT = int(os.environ.get("TORN_AT", "-1"))
GIVEN = os.environ.get("TORN_GIVEN")


class Given(Nothing):
    """Write down what it is given."""

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        if GIVEN:
            with Path(GIVEN).open("a", encoding="ascii") as file:
                file.write(f"{meta.number} {frame.min()} {frame.max()}\n")
        return super().push(frame, meta, skip=skip)


copy_last, answers = process.copy_last, 0


def torn(target: Any, source: Any) -> None:
    """Copy half, then die, hang or wait."""
    global answers
    answers += 1
    if WHAT == "waits" or answers == AT:
        half = len(source) // 2
        target[:half] = source[:half]
        if WHAT == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02 if WHAT == "waits" else 600)
    copy_last(target, source)


if __name__ == "__main__":
    process.copy_last = torn
    process.main(Given)
