"""Find what is in the way of an output: a file where a folder is needed, or a link to nowhere or in a circle."""

from __future__ import annotations

import os
from pathlib import Path

from denoscope.runtime import bad_link

__all__ = ["in_the_way"]


def in_the_way(folder: Path) -> str | None:
    """Return why a folder cannot be made or used: the first part of its path that is no folder; else None."""
    for part in [*reversed(folder.parents), folder]:
        if not os.path.lexists(part):
            return None
        if (why := bad_link(part)) is not None:
            return why
        if not part.is_dir():
            return f"{part} is a file, and a folder is needed there"
    return None
