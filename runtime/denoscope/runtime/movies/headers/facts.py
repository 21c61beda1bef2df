"""Facts that a file tells about its movie beside the pixels: pixel size, times, names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

__all__ = ["Facts", "Metadata", "facts_of", "increment_of", "joined_facts", "told"]

_LARGEST_PIXEL_UM = 1e5
_LONGEST_STEP_S = 1e7
_IN_ORDER = 0.5  # of the times, so that their steps tell the interval

Metadata = dict[str, Any]
"""Values of a vendor's file by its own names; anything may be missing or of another type."""


@dataclass(frozen=True)
class Facts:
    """Facts about a movie; None where the file does not give them or gives nonsense.

    Attributes
    ----------
    pixel_size_um
        Edge of a pixel.
    increment_s
        Seconds from one frame to the next.
    times_s
        Seconds of each frame since the first one.
    exposure_s
        Exposure of a frame.
    channel
        Name of the channel that is read.
    objective
        Name of the objective.
    """

    pixel_size_um: float | None = None
    increment_s: float | None = None
    times_s: tuple[float, ...] | None = None
    exposure_s: float | None = None
    channel: str | None = None
    objective: str | None = None

    def __post_init__(self) -> None:
        for name, most in (
            ("pixel_size_um", _LARGEST_PIXEL_UM),
            ("increment_s", _LONGEST_STEP_S),
            ("exposure_s", _LONGEST_STEP_S),
        ):
            object.__setattr__(self, name, _sensible(getattr(self, name), most))
        for name in ("channel", "objective"):
            text = getattr(self, name)
            kept = "".join(c for c in text if c.isprintable()).strip()[:200] if isinstance(text, str) else ""
            object.__setattr__(self, name, kept or None)
        if self.times_s is not None:
            times = np.asarray(self.times_s, float).ravel()
            good = len(times) > 0 and bool(np.isfinite(times).all()) and bool((np.diff(times) > 0).all())
            object.__setattr__(self, "times_s", tuple((times - times[0]).tolist()) if good else None)
            known = times[np.isfinite(times)]
            # A single time that is missing, 0 or there twice does not change the middle one of the steps.
            if self.increment_s is None and (np.diff(known) > 0).sum() >= _IN_ORDER * len(times):
                object.__setattr__(self, "increment_s", increment_of(known.tolist()))

    def of_frames(self, frames: Sequence[int]) -> Facts:
        """Return the facts of some of the frames, by their numbers."""
        times = self.times_s
        if times is None or (len(frames) and max(frames) >= len(times)):
            return replace(self, times_s=None)
        return replace(self, times_s=tuple(times[i] for i in frames) or None)


def joined_facts(first: Facts, second: Facts) -> Facts:
    """Return the first facts, with those of the second where the first has none."""
    return replace(
        first, **{f.name: getattr(second, f.name) for f in fields(first) if getattr(first, f.name) is None}
    )


def increment_of(times: Sequence[float]) -> float | None:
    """Return the middle one of the times from frame to frame."""
    if len(times) < 2:
        return None
    middle = float(np.median(np.diff(np.asarray(times, float))))
    return middle if middle > 0 else None


def _sensible(value: object, most: float) -> float | None:
    """Return a positive number below a limit, or None for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 < number < most else None


def told(value: Callable[[], Any]) -> Any:
    """Return a fact that a file may tell, or None: metadata that nobody understands are no reason to stop."""
    with suppress(Exception):  # metadata of any program, read by any library
        return value()
    return None


def facts_of(reader: object) -> Facts:
    """Return the facts that a reader gives, without any where it gives none."""
    found = getattr(reader, "facts", None)
    return found if isinstance(found, Facts) else Facts()
