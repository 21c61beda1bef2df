"""Meets the microscope, the disk, the screen and the shell.

Nothing is imported before it is asked for: ``from denoscope.acquisition import live`` loads what a
live session needs, and no more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contracts import Frame, SourceInfo
    from .errors import NoDiskSpace, OutputExists, SourceFailed, SourceUnavailable
    from .integrations.hook import Follower, FollowerStatus, hook
    from .integrations.pymmcore_plus import attach
    from .raw.writer import RawRecording, RawWriter, read_raw
    from .session.control import SessionControl
    from .session.live import live
    from .session.settings import SessionSettings, make_settings
    from .session.states import FinishReason, SessionState, SessionStatus
    from .sources import Source, open_source
    from .sources.movies import Movie, demo_movie, read_movie

__all__ = [
    "FinishReason",
    "Follower",
    "FollowerStatus",
    "Frame",
    "Movie",
    "NoDiskSpace",
    "OutputExists",
    "RawRecording",
    "RawWriter",
    "SessionControl",
    "SessionSettings",
    "SessionState",
    "SessionStatus",
    "Source",
    "SourceFailed",
    "SourceInfo",
    "SourceUnavailable",
    "attach",
    "demo_movie",
    "hook",
    "live",
    "make_settings",
    "open_source",
    "read_movie",
    "read_raw",
]

_MODULES = {
    "session.control": ("SessionControl",),
    "errors": ("NoDiskSpace", "OutputExists", "SourceFailed", "SourceUnavailable"),
    "integrations.pymmcore_plus": ("attach",),
    "contracts": ("Frame", "SourceInfo"),
    "integrations.hook": ("Follower", "FollowerStatus", "hook"),
    "session.live": ("live",),
    "sources.movies": ("Movie", "demo_movie", "read_movie"),
    "raw.writer": ("RawRecording", "RawWriter", "read_raw"),
    "session.settings": ("SessionSettings", "make_settings"),
    "sources": ("Source", "open_source"),
    "session.states": ("FinishReason", "SessionState", "SessionStatus"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
