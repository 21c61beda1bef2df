"""Text of files as a terminal may show it: what would steer the terminal is written out."""

from __future__ import annotations

import re

__all__ = ["visible"]

# Control characters but line ends and tabs; marks that turn the direction of writing; halves of a character.
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Return text with characters that steer a terminal, or that it cannot show, as escapes like ``\x1b``.

    Names of files, tags of frames and words of a bundle are anybody's: they could clear the screen, change the
    window's title or hide what follows.

    Examples
    --------
    >>> print(visible("red\x1b[31m.tif"))
    red\x1b[31m.tif
    """
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
