"""Ranges of frames as people type them."""

from __future__ import annotations

from denoscope.runtime import InvalidInput

__all__ = ["frame_range"]


def frame_range(text: str | None) -> slice:
    """Turn ``A:B`` (either may be left out; B is exclusive) into a slice of frames.

    Raises
    ------
    InvalidInput
        If the text is not such a range, or it holds no frame.
    """
    if text is None:
        return slice(None)
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 0), int(last) if last else None
    except ValueError:
        colon = ""
        start, stop = 0, None
    if not colon or start < 0 or (stop is not None and stop <= start):
        raise InvalidInput(f"--frames {text} is no range: write A:B with 0 <= A < B, for example 0:500.")
    return slice(start, stop)
