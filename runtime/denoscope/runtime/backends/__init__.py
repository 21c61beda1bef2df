"""Backends: what they implement, which there are, and how to add one.

A third-party backend subclasses `Backend`, runs `denoscope.runtime.testing.BackendContract` in its
tests, and names itself in the entry-point group `denoscope.backends`.
"""

from __future__ import annotations

from .registry import (
    Backend,
    BackendEntry,
    Buffer,
    Choice,
    Graph,
    HostBuffer,
    choose_backend,
    default_threads,
    list_backends,
    register_backend,
)

__all__ = [
    "Backend",
    "BackendEntry",
    "Buffer",
    "Choice",
    "Graph",
    "HostBuffer",
    "choose_backend",
    "default_threads",
    "list_backends",
    "register_backend",
]
