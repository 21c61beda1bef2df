"""Find what is in the way of an output: a file where a folder is needed, a link to nowhere or in a circle, a bundle."""

from __future__ import annotations

import os
from pathlib import Path

from denoscope.runtime import bad_link

MANIFEST = "bundle.json"

__all__ = ["in_the_way"]


def in_the_way(folder: Path) -> str | None:
    """Return why a folder cannot be made or used: a part of its path is no folder, or a bundle. None where it can.

    A bundle holds the files that it lists and nothing else: one more, and it is refused as changed.
    """
    for part in [*reversed(folder.parents), folder]:
        if not os.path.lexists(part):
            return None
        if (why := bad_link(part)) is not None:
            return why
        if not part.is_dir():
            return f"{part} is a file, and a folder is needed there"
        if (part / MANIFEST).is_file():
            return f"{part} is a bundle, to which nothing may be added"
    return None
