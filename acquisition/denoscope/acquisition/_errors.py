"""Errors of the acquisition part: each says the value, the limit and the remedy in one sentence."""

from __future__ import annotations

from denoscope.runtime import DenoscopeError

__all__ = [
    "DenoiserFailed",
    "DenoiserLost",
    "DiskTooSlow",
    "DiskUnwritable",
    "NoDiskSpace",
    "OutputExists",
    "SourceFailed",
    "SourceUnavailable",
    "one_line",
]


class SourceUnavailable(DenoscopeError, ConnectionError):
    """A source of frames cannot be opened on this machine."""


class SourceFailed(DenoscopeError, RuntimeError):
    """A source that was delivering frames stopped answering."""


class DenoiserFailed(DenoscopeError, RuntimeError):
    """Something was raised in the denoiser's process, which goes on living."""


class DenoiserLost(DenoiserFailed):
    """The denoiser's process ended, or hung and was ended."""


class NoDiskSpace(DenoscopeError, OSError):
    """The disk that the run folder lies on has too little free space."""


class DiskTooSlow(DenoscopeError, OSError):
    """The disk that the run folder lies on takes less than the camera sends."""


class DiskUnwritable(DenoscopeError, OSError):
    """Nothing can be written where the run folder would lie."""


class OutputExists(DenoscopeError, FileExistsError):
    """The run folder already holds a recording, and recordings are never overwritten."""


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, without a full stop at its end."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
