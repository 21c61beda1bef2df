"""The errors a user can meet: each says the value, the limit and the remedy in one sentence."""

from __future__ import annotations

__all__ = [
    "BackendUnavailable",
    "BundleDamaged",
    "BundleNotFound",
    "DenoscopeError",
    "DeviceFailed",
    "FrameMismatch",
    "InvalidInput",
    "NotFinite",
]


class DenoscopeError(Exception):
    """Base of every error that denoscope raises for a reason the user can act on (exit code 2)."""


class InvalidInput(DenoscopeError, ValueError):
    """An argument, file or setting is outside what is accepted."""


class BundleNotFound(DenoscopeError, FileNotFoundError):
    """No bundle lies at the path, and no shipped bundle has that name."""


class BundleDamaged(DenoscopeError, ValueError):
    """A bundle's files disagree with its manifest, or are not what a bundle may contain."""


class BackendUnavailable(DenoscopeError, RuntimeError):
    """A backend that was asked for by name cannot run on this machine."""


class DeviceFailed(DenoscopeError, RuntimeError):
    """The GPU failed while frames were being denoised: lost, out of memory, or in error."""


class FrameMismatch(DenoscopeError, ValueError):
    """A frame's shape or dtype is not what its stream was bound to or can take."""


class NotFinite(DenoscopeError, ArithmeticError):
    """A bundle or backend gave NaN or infinite values in place of a denoised frame (exit code 1)."""
