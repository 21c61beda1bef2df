"""Tests of what has to be in time: a busy computer may be late once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["tried_again"]

TRIALS = 4


def tried_again(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test up to four times, until it passes once.

    Only for assertions about times of threads, which another program on the computer can delay. A promise that is
    broken fails each time. The test takes nothing that an earlier trial changes.
    """

    @functools.wraps(test)
    def trials(**given: Any) -> None:
        for _ in range(TRIALS - 1):
            try:
                return test(**given)
            except AssertionError:
                continue
        return test(**given)

    return trials
