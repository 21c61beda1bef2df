"""A number and its noun, in the singular where the number is one."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, such as ``1 frame`` or ``200 frames``; every message counts with this.

    Parameters
    ----------
    number
        How many.
    one
        The noun for one of them, with its verb where the sentence has one (``frame was``).
    many
        For every other number; None for `one` with an ``s``.

    Examples
    --------
    >>> counted(1, "frame"), counted(0, "frame"), counted(2, "frame is", "frames are")
    ('1 frame', '0 frames', '2 frames are')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
