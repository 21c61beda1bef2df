"""Meets the microscope, the disk, the screen and the shell.

Nothing is imported before it is asked for: ``from denoscope.acquisition import live`` loads what a
live session needs, and no more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._control import SessionControl
    from ._errors import NoDiskSpace, OutputExists, SourceFailed, SourceUnavailable
    from ._follow import follow
    from ._frames import Frame, SourceInfo
    from ._hook import Follower, FollowerStatus, hook
    from ._live import live
    from ._movie import Movie, demo_movie, read_movie
    from ._raw import RawRecording, RawWriter, read_raw
    from ._settings import LiveSettings, make_settings
    from ._sources import Source, open_source
    from ._states import FinishReason, SessionState, SessionStatus

__all__ = [
    "FinishReason",
    "Follower",
    "FollowerStatus",
    "Frame",
    "LiveSettings",
    "Movie",
    "NoDiskSpace",
    "OutputExists",
    "RawRecording",
    "RawWriter",
    "SessionControl",
    "SessionState",
    "SessionStatus",
    "Source",
    "SourceFailed",
    "SourceInfo",
    "SourceUnavailable",
    "demo_movie",
    "follow",
    "hook",
    "live",
    "make_settings",
    "open_source",
    "read_movie",
    "read_raw",
]

_MODULES = {
    "_control": ("SessionControl",),
    "_errors": ("NoDiskSpace", "OutputExists", "SourceFailed", "SourceUnavailable"),
    "_follow": ("follow",),
    "_frames": ("Frame", "SourceInfo"),
    "_hook": ("Follower", "FollowerStatus", "hook"),
    "_live": ("live",),
    "_movie": ("Movie", "demo_movie", "read_movie"),
    "_raw": ("RawRecording", "RawWriter", "read_raw"),
    "_settings": ("LiveSettings", "make_settings"),
    "_sources": ("Source", "open_source"),
    "_states": ("FinishReason", "SessionState", "SessionStatus"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
