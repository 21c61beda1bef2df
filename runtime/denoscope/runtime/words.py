"""Numbers, times, rates and choices as they stand in messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "delay_words", "either", "first_line", "rate_words", "time_words"]


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, such as ``1 frame`` or ``200 frames``, as messages of denoscope word it.

    Parameters
    ----------
    number
        How many.
    one
        The noun for one of them, with its verb where the sentence has one (``frame was``).
    many
        For every other number; None for `one` with an ``s``.

    Returns
    -------
    str
        Number and noun.

    Examples
    --------
    >>> counted(1, "frame"), counted(0, "frame"), counted(2, "frame is", "frames are")
    ('1 frame', '0 frames', '2 frames are')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def delay_words(seconds: float) -> str:
    """Return a delay with its unit: milliseconds below ten seconds.

    Examples
    --------
    >>> delay_words(0.0212), delay_words(12.34)
    ('21 ms', '12.3 s')
    """
    return f"{seconds * 1e3:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def either(choices: Iterable[str]) -> str:
    """Return what there is to choose from as words.

    Examples
    --------
    >>> either(["fp32", "fp16", "int8"]), either(["fp32", "fp16"]), either(["fp32"])
    ('fp32, fp16 or int8', 'fp32 or fp16', 'fp32')
    """
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, 300 characters at most; the name of its class if it says nothing.

    Examples
    --------
    >>> first_line(OSError(f"no driver{chr(10)}at line 3")), first_line(MemoryError())
    ('no driver', 'MemoryError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def rate_words(per_s: float) -> str:
    """Return frames a second without the unit, such that a slow recording does not read 0.0.

    Examples
    --------
    >>> rate_words(29.97), rate_words(0.0333), rate_words(0)
    ('30.0', '0.033', '0.0')
    """
    return f"{per_s:.1f}" if per_s >= 0.95 or not per_s else f"{per_s:.2g}"


def rounded(value: float, digits: int = 3) -> str:
    """Return a number with so many digits; large ones whole, and none as a power of ten as ``:.3g`` writes 1480.

    Examples
    --------
    >>> rounded(1483.2), rounded(999.7), rounded(29.974), rounded(32768, 4)
    ('1483', '1000', '30', '32768')
    """
    short = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in short else short


def time_words(seconds: float) -> str:
    """Return how long something has lasted, in the two units that matter.

    Examples
    --------
    >>> time_words(119.4), time_words(125), time_words(7260)
    ('119 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
