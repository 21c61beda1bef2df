"""Start Python in another process so that it runs this denoscope and nothing from the current folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import denoscope

__all__ = ["child_command", "child_environment"]


def child_command(module: str, *words: str) -> list[str]:
    """Return the words that run ``python -m module words`` without the current folder on the path."""
    return [sys.executable, "-P", "-m", module, *words]


def child_environment(*, as_here: bool = False) -> dict[str, str]:
    """Return the environment of a child process, in which it finds denoscope where this process found it.

    Parameters
    ----------
    as_here
        Whether it finds other packages where this process does too, except in the current folder.

    Notes
    -----
    An empty entry of ``PYTHONPATH`` means the current folder, where a data file may lie beside a ``json.py``
    that another user wrote; so empty entries are left out, the user's own too. A parent that ignores the
    environment (``python -I`` or ``-E``) has children that do.
    """
    paths = [str(Path(part).parent) for part in denoscope.__path__]
    if not sys.flags.ignore_environment:
        paths += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if as_here:
        here = Path.cwd()
        paths += [entry for entry in sys.path if entry and Path(entry).absolute() != here]
    # Processes that the child starts keep to it too. Looking for plugins of pydantic takes 20 ms.
    return {
        "PYDANTIC_DISABLE_PLUGINS": "__all__",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONSAFEPATH": "1",
    }
