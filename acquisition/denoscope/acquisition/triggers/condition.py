"""Conditions of triggers in plain words, like ``region 3 dff > 0.5 for 2 frames``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.runtime import InvalidInput, StreamKey, counted

__all__ = ["Condition", "parse_condition"]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_WORDS = re.compile(
    r"(?:(?P<any>any\s+region)|region\s+(?P<region>[^<>=]+?)|(?P<frame>frame))\s+(?P<kind>raw|denoised|dff)\s*"
    r"(?P<operator>>=|<=|>|<)\s*(?P<limit>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"(?:\s+for\s+(?P<frames>\d+)\s+frames?)?"
)
_EXAMPLE = (
    "write it like: region 3 dff > 0.5 for 2 frames, any region denoised > 300, or frame raw < 120; what is compared "
    "is raw, denoised or dff"
)


@dataclass
class Condition:
    """A comparison that must hold for some frames in a row.

    Attributes
    ----------
    text
        As the user wrote it.
    region
        Name of a region; None for any region, or for the whole frame.
    whole_frame
        Whether the mean of the whole frame is compared.
    kind
        ``raw``, ``denoised`` or ``dff``.
    frames
        Denoised frames in a row.
    seen, unknown
        Frames that were compared, and those of them whose value was no number, as dF/F without light is.
    """

    text: str
    region: str | None
    whole_frame: bool
    kind: str
    sign: str
    limit: float
    frames: int
    seen: int = 0
    unknown: int = 0
    _held: dict[StreamKey, int] = field(default_factory=dict)

    @property
    def needs_regions(self) -> bool:
        """True where only a session with regions can tell."""
        return not self.whole_frame

    def check(self, names: Sequence[str]) -> None:
        """Refuse a region that is not there.

        Raises
        ------
        InvalidInput
            When no region has that name.
        """
        if self.region is not None and self.region not in names:
            known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise InvalidInput(
                f"the trigger {self.text!r} waits for region {self.region}: the regions are {known}."
            )

    def met(self, frame: LiveFrame) -> tuple[float, str] | None:
        """Return the value and the region that met the condition with this frame, None where none did."""
        found = self._compared(frame)
        held = self._held.get(frame.stream, 0) + 1 if found is not None else 0
        self._held[frame.stream] = held
        return found if held >= self.frames else None

    def _compared(self, frame: LiveFrame) -> tuple[float, str] | None:
        compare = _OPERATORS[self.sign]
        if self.whole_frame:
            value = float(np.mean(frame.raw if self.kind == "raw" else frame.denoised))
            self._count(math.isnan(value))
            return (value, "") if compare(value, self.limit) else None
        if frame.traces is None:
            return None
        if self.region is not None:
            # It stays the same region where regions were found again.
            traces = next((t for t in (frame.traces, *frame.earlier) if self.region in t.names), None)
            if traces is None:
                return None
            value = float(getattr(traces, self.kind)[traces.names.index(self.region)])
            self._count(math.isnan(value))
            return (value, self.region) if compare(value, self.limit) else None
        values = getattr(frame.traces, self.kind)
        self._count(bool(np.isnan(values).all()))
        with np.errstate(invalid="ignore"):
            met = np.flatnonzero(compare(values, self.limit))
        if not len(met):
            return None
        most = met[np.argmax(np.abs(values[met] - self.limit))]
        return float(values[most]), frame.traces.names[most]

    def _count(self, unknown: bool) -> None:
        self.seen += 1
        self.unknown += unknown

    def problem(self) -> str | None:
        """Say that the condition could never be met; None where it could."""
        if not self.seen or self.unknown < self.seen:
            return None
        if self.kind == "dff":
            which = "every region" if self.region is None else f"region {self.region}"
            return (
                f"dF/F of {which} is no number, because its baseline was never above `dark`: compare denoised, or give "
                "a smaller `dark`"
            )
        return f"{self.kind} was no number in any frame"


def parse_condition(text: str) -> Condition:
    """Return the condition that a text describes.

    Raises
    ------
    InvalidInput
        When it describes none.

    Examples
    --------
    >>> condition = parse_condition("region 3 dff > 0.5 for 2 frames")
    >>> condition.region, condition.kind, condition.limit, condition.frames
    ('3', 'dff', 0.5, 2)
    """
    match = _WORDS.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"the trigger {text!r} is not understood: {_EXAMPLE}.")
    if match["frame"] and match["kind"] == "dff":
        raise InvalidInput(
            f"the trigger {text!r}: a whole frame has no dff; compare raw or denoised, or a region."
        )
    frames = int(match["frames"] or 1)
    if not 1 <= frames <= 10_000:
        raise InvalidInput(f"the trigger {text!r} waits for {counted(frames, 'frame')}; give 1 to 10000.")
    return Condition(
        text.strip(),
        match["region"],
        bool(match["frame"]),
        match["kind"],
        match["operator"],
        float(match["limit"]),
        frames,
    )
