"""Check the arguments of a stream, so that a wrong one is one sentence and not an error from deep inside."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.types import FrameMeta

__all__ = ["check_flag", "check_instance", "check_meta", "check_reason", "check_seconds", "whole_number"]


def whole_number(value: Any, what: str, remedy: str) -> int:
    """Return a whole number; raise InvalidInput for anything else."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidInput(f"{value!r} is not a {what}: {remedy}.")
    return number


def check_instance(value: Any, kind: type, name: str) -> None:
    """Raise InvalidInput unless an optional argument is None or of its kind."""
    if value is not None and not isinstance(value, kind):
        raise InvalidInput(
            f"{name} was given {value!r}: give an object of the class {kind.__name__}, or leave it out."
        )


def check_flag(value: Any, name: str, *, optional: bool = False) -> None:
    """Raise InvalidInput unless an argument is True or False, or None where it may be left out."""
    if not isinstance(value, bool | np.bool_) and not (optional and value is None):
        ways = "True, False or None" if optional else "True or False"
        raise InvalidInput(f"{name} was given {value!r}: give {ways}.")


def check_reason(skip: Any) -> None:
    """Raise InvalidInput unless frames are skipped for a reason in words, or not at all."""
    if skip is not None and not (isinstance(skip, str) and skip):
        raise InvalidInput(f"skip was given {skip!r}: give the reason in words, or None to skip nothing.")


def check_seconds(value: Any, name: str) -> None:
    """Raise InvalidInput unless an optional argument is None or a number of seconds, 0 or more."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if value is not None and not (number and value >= 0):
        raise InvalidInput(f"{name} was given {value!r}: give seconds, 0 or more, or None.")


def check_meta(meta: Any) -> None:
    """Raise InvalidInput unless a frame comes with a FrameMeta of a whole number and a finite time."""
    if type(meta) is FrameMeta and type(meta.number) is int and type(meta.t_received_s) is float:
        if math.isfinite(meta.t_received_s):
            return
    elif not isinstance(meta, FrameMeta):
        raise InvalidInput(f"A frame came with {meta!r}: push it with a FrameMeta(number, t_received_s).")
    whole_number(meta.number, "frame number", "number frames 0, 1, 2, ... in whole numbers")
    try:
        finite = math.isfinite(meta.t_received_s)
    except TypeError:
        finite = False
    if not finite:
        raise InvalidInput(
            f"Frame {meta.number} was received at {meta.t_received_s!r} s: give a time of time.perf_counter()."
        )
