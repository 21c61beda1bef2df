"""The sentence that says how to install an extra."""

from __future__ import annotations

__all__ = ["how_to_install"]


def how_to_install(extra: str) -> str:
    """Return what to type for an extra; the package is not on an index, so it is installed from its repository."""
    return f'run `python -m pip install ".[{extra}]"` in a copy of the denoscope repository'
