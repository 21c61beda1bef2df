"""The sentence about frames that show nothing of the scene."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["unusual_note"]


def unusual_note(unusual: Mapping[str, int]) -> str | None:
    """Return one sentence for the user about frames that were shown as measured, None where there were none.

    Parameters
    ----------
    unusual
        How many there were of each kind (`denoscope.runtime.StreamCounters`).
    """
    if not unusual:
        return None
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(unusual.items()))
    return f"unusual frames: {kinds}; they are shown as measured, and their neighbours were denoised without them"
