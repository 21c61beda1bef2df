"""Errors of the acquisition part: each says the value, the limit and the remedy in one sentence."""

from __future__ import annotations

import errno
import re

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
    "explain",
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


def explain(error: BaseException) -> str | None:
    """Return one sentence for an error of the environment that nobody foresaw, or None for any other.

    Such errors end a command with exit code 2: the message names what is refused and what helps.
    """
    if isinstance(error, MemoryError):
        return (
            f"there is not enough memory ({one_line(error)}): the movie or the numbers in the bundle "
            "ask for more than this "
            "computer has; use a smaller part, or look at bundle.json."
        )
    if isinstance(error, RecursionError):
        return (
            "a file is nested too deeply to be read, as no bundle, report or settings file is: it is "
            "damaged, or was made "
            "to be."
        )
    if not isinstance(error, OSError) and _FULL.search(str(error)):
        return f"a file could not be written ({one_line(error)}): {_REMEDIES['ENOSPC']}."
    if not isinstance(error, OSError) or error.errno is None:
        return None
    code = errno.errorcode.get(error.errno, "")
    remedy = _REMEDIES.get(code)
    # Of a file: without one it is a connection to another program.
    if error.filename is not None and (code in _GONE or getattr(error, "winerror", None) in _GONE_WINDOWS):
        remedy = "the disk or network share does not answer any more, so connect it again or name another one"
    if remedy is None:
        return None
    name = error.filename2 if error.filename2 is not None else error.filename
    what = str(name) if name is not None else "a file"
    if len(what) > _LONGEST:
        what = f"{what[:40]}...{what[-20:]}"
    return f"{what}: {error.strerror or one_line(error)}; {remedy}."


_LONGEST = 200
# Libraries that are not written in Python say so in words only.
_FULL = re.compile(
    r"No space left on device|os error 28\)|os error 112\)|not enough space on the disk", re.IGNORECASE
)
_GONE = frozenset(
    {
        *("ENOTCONN", "ESTALE", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ETIMEDOUT"),
        *("ECONNABORTED", "ECONNRESET", "ENODEV", "ENXIO", "ESHUTDOWN", "EREMOTEIO"),
    }
)
# Not ready, no network path, no such device, network errors, no such network name, time-outs, device not connected.
_GONE_WINDOWS = frozenset({21, 53, 55, 59, 64, 67, 121, 433, 1167, 1231, 1236})
_PERMISSION = "it is read-only or another user's, so give its permissions or name another folder"
_REMEDIES = {
    "EACCES": _PERMISSION,
    "EPERM": _PERMISSION,
    "EIO": "the disk or network share reports an error, so look after it or name another one",
    "EROFS": "the disk is read-only, so name a folder on another one",
    "ENAMETOOLONG": "255 characters are the limit of a name, so choose a shorter one",
    "ENOENT": "make or name one that exists; a link may lead nowhere",
    "ENOTDIR": "a part of the path is a file, so name another folder",
    "EISDIR": "it is a folder, and a file is needed",
    "EEXIST": "it exists and is never overwritten, so name another one",
    "ELOOP": "the links lead in a circle, so name the file itself",
    "ENOSPC": "the disk is full, so free space or name a folder on another one",
    "EDQUOT": "your quota is used up, so free space or name a folder on another disk",
}


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, without a full stop at its end; its kind where it has none."""
    try:
        text = " ".join(str(error).split()).rstrip(".")
    except Exception:  # noqa: BLE001  an error of another program, which may be unable to say what it is
        text = ""
    return text or type(error).__name__
