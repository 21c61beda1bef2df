"""Formats of whole denoised movies, chosen by the name of the output."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from denoscope.runtime import InvalidInput

from .base import FrameIndex, Layout, MovieSink

__all__ = ["FrameIndex", "Layout", "MovieSink", "format_of", "open_sink"]

_FORMATS = {
    "OME-TIFF": ((".tif", ".tiff"), "tiff", "TiffSink"),
    "OME-Zarr": ((".zarr",), "zarr", "ZarrSink"),
    "NDTiff": ((".ndtiff",), "ndtiff", "NDTiffSink"),
}


def format_of(output: Path) -> str:
    """Return the format that an output's name stands for.

    Raises
    ------
    InvalidInput
        When it stands for none.
    """
    for name, (suffixes, _, _) in _FORMATS.items():
        if output.suffix.lower() in suffixes:
            return name
    known = ", ".join(f"{suffixes[0]} ({name})" for name, (suffixes, _, _) in _FORMATS.items())
    raise InvalidInput(f"{output.name} does not say which format to write: end the name with one of {known}.")


def open_sink(output: Path, partial: Path, layout: Layout, *, keep: int | None = None) -> MovieSink:
    """Open what writes an output.

    Parameters
    ----------
    output
        Its name says the format.
    partial
        Where to write until it is complete.
    layout
        What will come.
    keep
        Go on with `partial`, of which at least so many frames are on the disk; None for a new one.

    Raises
    ------
    InvalidInput
        When the format cannot hold the movie, cannot be continued, or is not installed.
    OSError
        When the disk refuses.
    """
    _, module, name = _FORMATS[format_of(output)]
    sink: Any = getattr(import_module(f"{__name__}.{module}"), name)
    opened: MovieSink = sink(partial, layout, keep=keep)
    return opened
