"""Between raw counts and normalised units, in fixed memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import FrameMismatch, InvalidInput

from .noise import Intensity

__all__ = [
    "DTYPES",
    "SMALLEST",
    "Region",
    "check_frame",
    "check_kind",
    "cut_out",
    "is_plainly",
    "native",
    "normalise_into",
    "place_into",
    "restore",
    "restore_std",
]

Float32 = npt.NDArray[np.float32]

DTYPES = ("uint8", "uint16", "int16", "float32")
SMALLEST = 16

# The property `name` of a dtype is Python code that takes as long as copying a small frame.
_NATIVE = {np.dtype(name): np.dtype(name) for name in DTYPES}
_TAKEN = _NATIVE | {dtype.newbyteorder(): dtype for dtype in _NATIVE}

Region = tuple[slice, slice]


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return one of `DTYPES` in the machine's byte order."""
    return _TAKEN[dtype]


def is_plainly(frame: npt.NDArray[Any], shape: tuple[int, int], dtype: np.dtype[Any]) -> bool:
    """Say whether a frame's shape and dtype are so plain that nothing more needs to be checked."""
    return type(frame) is np.ndarray and frame.dtype is dtype and frame.shape == shape and dtype.kind != "f"


def check_kind(shape: tuple[int, int], dtype: np.dtype[Any]) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Return the shape (H, W) and the native dtype of frames; raise InvalidInput where they cannot be denoised."""
    height, width = (int(n) for n in shape)
    if dtype.name not in DTYPES:
        raise InvalidInput(
            f"Frames of the dtype {dtype.name} cannot be denoised: convert them to one of {', '.join(DTYPES)}."
        )
    if min(height, width) < SMALLEST:
        raise InvalidInput(
            f"Frames of {height} x {width} pixels cannot be denoised: "
            f"at least {SMALLEST} x {SMALLEST} are needed, choose a larger region of interest."
        )
    return (height, width), native(dtype)


def check_frame(frame: npt.NDArray[Any], number: int) -> None:
    """Raise FrameMismatch unless a stream can take the frame: (H, W), known dtype, not tiny."""
    if not isinstance(frame, np.ndarray) or frame.ndim != 2:
        shape = getattr(frame, "shape", type(frame).__name__)
        raise FrameMismatch(
            f"Frame {number} is {shape}, not a two-dimensional array (H, W): push one frame at a time."
        )
    if frame.dtype not in _TAKEN:
        raise FrameMismatch(
            f"Frame {number} has the dtype {frame.dtype.name}; streams take {', '.join(DTYPES)}: "
            "convert the movie to one of them."
        )
    if min(frame.shape) < SMALLEST:
        raise FrameMismatch(
            f"Frame {number} has {frame.shape[0]} x {frame.shape[1]} pixels; "
            f"at least {SMALLEST} x {SMALLEST} are needed: choose a larger region of interest."
        )


def place_into(frame: npt.NDArray[Any], out: npt.NDArray[Any], place: Region) -> None:
    """Copy `frame` into `out` (>= frame's size) and replicate its edges around it.

    Parameters
    ----------
    frame
        (H, W).
    out
        (H', W') of the same dtype; overwritten whole.
    place
        Rows and columns of `out` that the frame takes.
    """
    np.copyto(out[place], frame)
    _replicate(out, place)


def normalise_into(frame: npt.NDArray[Any], intensity: Intensity, out: Float32, place: Region) -> None:
    """Write `(frame - offset) / scale` into `out` (>= frame's size) and replicate the edges around it.

    Parameters
    ----------
    frame
        (H, W) raw counts.
    intensity
        The session's transform.
    out
        (H', W') float32; overwritten whole.
    place
        Rows and columns of `out` that the frame takes.
    """
    view = out[place]
    np.subtract(frame, np.float32(intensity.offset), out=view, dtype=np.float32)
    np.multiply(view, np.float32(1 / intensity.scale), out=view)
    _replicate(out, place)


def _replicate(out: npt.NDArray[Any], place: Region) -> None:
    rows, columns = place
    height, width = out.shape
    if columns.start > 0:
        out[rows, : columns.start] = out[rows, columns.start, None]
    if columns.stop < width:
        out[rows, columns.stop :] = out[rows, columns.stop - 1, None]
    if rows.start > 0:
        out[: rows.start] = out[rows.start]
    if rows.stop < height:
        out[rows.stop :] = out[rows.stop - 1]


def cut_out(canvas: npt.NDArray[Any], place: Region) -> npt.NDArray[Any]:
    """Return a new array with what lies at a place of the canvas (H', W')."""
    view = canvas[place]
    out = np.empty(view.shape, canvas.dtype)
    np.copyto(out, view)
    return out


def restore(z: Float32, intensity: Intensity, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return `z * scale + offset` as a new array of `dtype`; integers rounded half to even and clipped.

    Parameters
    ----------
    z
        (H, W) float32, normalised; used as scratch memory.
    intensity
        The session's transform.
    dtype
        Of the raw frames.
    """
    out = np.empty(z.shape, dtype)
    np.multiply(z, np.float32(intensity.scale), out=z)
    if dtype.kind == "f":
        return np.add(z, np.float32(intensity.offset), out=out)
    limits = np.iinfo(dtype)
    np.add(z, np.float32(intensity.offset), out=z)
    np.clip(z, np.float32(limits.min), np.float32(limits.max), out=z)
    np.rint(z, out=z)
    with np.errstate(invalid="ignore"):  # NaN becomes 0 or a limit, which the guard refuses
        np.copyto(out, z, casting="unsafe")
    return out


def restore_std(z: Float32, intensity: Intensity, dtype: np.dtype[Any]) -> Float32:
    """Return the standard deviation (H, W) float32 in raw counts of a frame delivered as `dtype`, as a new array.

    The mean is rounded to whole counts in an integer `dtype`, which adds the variance 1/12 of a uniform
    distribution of width one: most of the error of a dim movie.
    """
    out = np.multiply(z, np.float32(intensity.scale))
    if dtype.kind != "f":
        np.multiply(out, out, out=out)
        np.add(out, np.float32(1 / 12), out=out)
        np.sqrt(out, out=out)
    return out
