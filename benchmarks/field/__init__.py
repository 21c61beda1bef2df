"""The parts of `field_cases.py`: each module makes its inputs, runs the product on them and judges what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Case", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """Result of a case: a sentence for the table, and the verdict."""

    got: str
    passed: bool


@dataclass(frozen=True)
class Case:
    """One input, what is right for it, and the function that runs it in an empty folder of its own.

    `group` is the module's name; `slow` cases (over about a minute) run only with ``--slow`` or by name.
    """

    group: str
    name: str
    right: str
    run: Callable[[Path], Outcome]
    slow: bool = False
