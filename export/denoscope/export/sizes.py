"""Frame sizes as people write them, and the ranges that an engine is made for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from denoscope.runtime import InvalidInput
from denoscope.runtime.engines import SizeRange
from denoscope.runtime.motion.placement import REACH

__all__ = ["canvas_ranges", "parse_range", "parse_size", "scene_ranges", "size_ranges"]

_SMALLEST, _LARGEST = 16, 8192
_TYPICAL = 512


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width in pixels, from `text` like ``512x640``.

    Parameters
    ----------
    text
        ``HEIGHTxWIDTH``.

    Returns
    -------
    tuple of int
        Height and width, in pixels.

    Raises
    ------
    InvalidInput
        If `text` is no size.

    Examples
    --------
    >>> parse_size("512x640")
    (512, 640)
    """
    match = re.fullmatch(r"\s*(\d+)\s*[xX]\s*(\d+)\s*", text)
    if match is None:
        raise InvalidInput(f"`size` {text} is no frame size: write HEIGHTxWIDTH, for example 512x640.")
    height, width = int(match[1]), int(match[2])
    _check(f"`size` {text}", height, width)
    return height, width


def parse_range(text: str) -> tuple[int, int]:
    """Return the shortest and the longest side of a frame in pixels, from `text` like ``64..2048``.

    Parameters
    ----------
    text
        ``SMALLEST..LARGEST``.

    Returns
    -------
    tuple of int
        Smallest and largest side, in pixels.

    Raises
    ------
    InvalidInput
        If `text` is no range, or runs backwards.

    Examples
    --------
    >>> parse_range("64..1024")
    (64, 1024)
    """
    match = re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", text)
    if match is None:
        raise InvalidInput(f"`dynamic` {text} is no range: write SMALLEST..LARGEST, for example 64..2048.")
    low, high = int(match[1]), int(match[2])
    _check(f"`dynamic` {text}", low, high)
    if low > high:
        raise InvalidInput(f"`dynamic` {text} runs backwards: write {high}..{low}.")
    return low, high


def size_ranges(
    sizes: Sequence[tuple[int, int]], dynamic: tuple[int, int] | None, stride: int
) -> tuple[SizeRange, ...]:
    """Return an engine's ranges: one for each size, each once, and the dynamic one at the end.

    Parameters
    ----------
    sizes
        (height, width) in pixels.
    dynamic
        Shortest and longest side in pixels, or None; made fastest for the first of `sizes` that lies
        inside, else for 512 x 512 or the end of the range that is nearest.
    stride
        Heights and widths are padded to a multiple of this, as the stream pads its frames.
    """

    def pad(pixels: int) -> int:
        return -(-pixels // stride) * stride

    fixed = list(dict.fromkeys((pad(h), pad(w)) for h, w in sizes))
    ranges = [SizeRange(minimum=size, typical=size, maximum=size) for size in fixed]
    if dynamic is not None:
        low, high = pad(dynamic[0]), pad(dynamic[1])
        middle = min(max(pad(_TYPICAL), low), high)
        inside = [size for size in fixed if low <= min(size) and max(size) <= high]
        typical = inside[0] if inside else (middle, middle)
        ranges.append(SizeRange(minimum=(low, low), typical=typical, maximum=(high, high)))
    if not ranges:
        raise InvalidInput(
            "No frame size is given: give `size` HEIGHTxWIDTH (one or more) or `dynamic` 64..2048."
        )
    return tuple(dict.fromkeys(ranges))


def scene_ranges(ranges: Sequence[SizeRange], stride: int) -> tuple[SizeRange, ...]:
    """Return the ranges of a graph that takes or makes the scene too, which reaches beyond the frame."""
    return tuple(
        SizeRange(minimum=r.minimum, typical=r.typical, maximum=_scene(r.maximum, stride)) for r in ranges
    )


def canvas_ranges(ranges: Sequence[SizeRange], stride: int) -> tuple[SizeRange, ...]:
    """Return the ranges of a graph that sees frames as they are, or on the canvas where a scene is followed."""
    more = []
    for r, further in zip(ranges, scene_ranges(ranges, stride), strict=True):
        if r.minimum == r.maximum:  # one size has one more; a range only reaches further
            canvas = further.maximum
            more += [r, SizeRange(minimum=canvas, typical=canvas, maximum=canvas)]
        else:
            more.append(further)
    return tuple(dict.fromkeys(more))


def _scene(size: tuple[int, int], stride: int) -> tuple[int, int]:
    height, width = (n + 2 * REACH + -(n + 2 * REACH) % stride for n in size)
    return height, width


def _check(what: str, *sides: int) -> None:
    for side in sides:
        if not _SMALLEST <= side <= _LARGEST:
            raise InvalidInput(f"{what} has a side of {side} pixels: {_SMALLEST} to {_LARGEST} are possible.")
