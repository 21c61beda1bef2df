"""Errors of the export part: each says the value, the limit and the remedy in one sentence."""

from __future__ import annotations

from denoscope.runtime import DenoscopeError

__all__ = ["BuilderUnavailable", "EngineBuildFailed", "PrecisionRefused"]


class BuilderUnavailable(DenoscopeError, RuntimeError):
    """No TensorRT that could build the wanted engine is there."""


class EngineBuildFailed(DenoscopeError, RuntimeError):
    """TensorRT refused a graph, or ended while it was building."""


class PrecisionRefused(DenoscopeError, ValueError):
    """A bundle loses more in a lower precision than is allowed."""
