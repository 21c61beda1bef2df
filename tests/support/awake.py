"""A process that does nothing to frames and always looks for the next one, as if each were due."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from denoscope.acquisition.denoisers import process
from denoscope.acquisition.processes import expected
from support.nothing import Nothing


class _Awake(expected.Rhythm):
    def nears(self, wait: Callable[[float], bool]) -> bool:
        self._wait = wait
        return True

    def look(self, holds: Callable[[], bool]) -> bool:
        """Look until a frame is there, or another message, which no count follows."""
        until_s = math.inf
        while not holds() and time.perf_counter() < until_s:
            if until_s == math.inf and self._wait(0.0):
                until_s = time.perf_counter() + 1.0
        with Path(os.environ["SEEN"]).open("a") as file:
            file.write(f"{holds()}\n")
        return holds()


if __name__ == "__main__":
    process.Rhythm = _Awake  # type: ignore[misc]
    process.main(Nothing)
