"""Find what is in the way of an output: a file where a folder is needed, a link to nowhere or in a circle, a bundle."""

from __future__ import annotations

import os
import re
from pathlib import Path

from denoscope.runtime import InvalidInput, bad_link

MANIFEST = "bundle.json"

__all__ = ["in_the_way", "no_name", "refuse_name"]

_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³]) *(\..*)?", re.IGNORECASE)
_NO_CHARACTER = re.compile(r'[<>:"|?*\x00-\x1f]')


def no_name(path: Path, *, windows: bool = os.name == "nt") -> str | None:
    """Return why Windows makes no file or folder of this name, or one of another name; None where it does.

    Parameters
    ----------
    path
        File or folder to be made.
    windows
        Whether this computer runs Windows; elsewhere every name will do.
    """
    if not windows:
        return None
    for part in path.parts[1 if path.anchor else 0 :]:
        if _DEVICE.fullmatch(part):
            return f"{part} is the name of a device on Windows"
        if (found := _NO_CHARACTER.search(part)) is not None:
            return f"{part} contains {found[0]!r}, which Windows allows in no name"
        if part not in (".", "..") and part[-1] in ". ":
            return f"{part!r} ends with a {'dot' if part[-1] == '.' else 'space'}, which Windows leaves out"
    return None


def refuse_name(path: Path, parameter: str = "output") -> None:
    """Refuse a file or folder whose name Windows cannot have.

    Parameters
    ----------
    path
        What was given.
    parameter
        For which parameter.

    Raises
    ------
    InvalidInput
        One sentence with the name and the remedy.
    """
    if (why := no_name(path)) is not None:
        raise InvalidInput(f"`{parameter}` {path} is no possible name: {why}; name another `{parameter}`.")


def in_the_way(folder: Path) -> str | None:
    """Return why a folder cannot be made or used: a part of its path is no folder, or a bundle. None where it can.

    A bundle holds the files that it lists and nothing else: one more, and it is refused as changed.
    """
    if (why := no_name(folder)) is not None:
        return why
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
