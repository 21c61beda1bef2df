"""Links that cannot be followed, in words."""

from __future__ import annotations

import errno
from pathlib import Path

__all__ = ["bad_link"]

_CANNOT_RESOLVE = 1921  # of Windows, for links that lead in a circle


def bad_link(path: Path, *, may_come: bool = False) -> str | None:
    """Return why a link cannot be followed, in words that end its sentence; None where it can, or is no link.

    Parameters
    ----------
    path
        Link, file, folder, or nothing at all.
    may_come
        Let a link pass whose target does not exist yet.

    Returns
    -------
    str or None
        Words without a full stop, or None.

    Examples
    --------
    >>> bad_link(Path("no-such-file")) is None  # is no link
    True
    """
    if not path.is_symlink():
        return None
    try:
        path.stat()
    except FileNotFoundError:
        return None if may_come else f"{path} is a link to {path.readlink()}, which does not exist"
    except OSError as error:
        if error.errno == errno.ELOOP or getattr(error, "winerror", None) == _CANNOT_RESOLVE:
            return f"{path} is a link that leads in a circle (to {path.readlink()})"
        return f"{path} is a link to {path.readlink()}, which cannot be followed ({error.strerror})"
    return None
