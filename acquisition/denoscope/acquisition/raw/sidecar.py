"""Lines of ``raw.jsonl``, read with checks: bounded in length, each value of the right type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import numpy as np

from denoscope.acquisition.contracts import Tags
from denoscope.acquisition.errors import one_line
from denoscope.runtime import InvalidInput

__all__ = ["LONGEST_LINE", "DamagedSidecar", "PageLine", "bounded_lines", "read_sidecar"]

# Tags may have 16 MB.
LONGEST_LINE = 64 * 2**20
_FORMAT = "denoscope-raw"
_LARGEST = 2**63
_LARGEST_SIDE = 2**31


class PageLine(TypedDict, total=False):
    """Line of ``raw.jsonl`` for one page, under its names; early versions wrote less.

    Attributes
    ----------
    page, at
        Number of the page, and the place of its pixels in the file, in bytes.
    number, received_s, core_unix_s
        Number and times of the frame; see `Frame`.
    shape, dtype, agrees, camera
        Of the frame; see `Frame`.
    tags, tags_changed
        Tags of the frame, or those that are not the camera's last; a record that was read has all as ``tags``.
    """

    page: int
    at: int
    number: int
    received_s: float
    core_unix_s: float | None
    shape: list[int]
    dtype: str
    agrees: bool
    camera: str
    tags: MutableMapping[str, Any]
    tags_changed: Tags


class DamagedSidecar(InvalidInput):
    """Refusal of a sidecar.

    Parameters
    ----------
    path
        The sidecar.
    why
        Reason, to follow its name in a sentence.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}; denoscope denoise {path.with_name('raw.tif')} needs no sidecar.")
        self.why = why


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of an open file with their ends, none longer than `LONGEST_LINE` bytes.

    Raises
    ------
    InvalidInput
        For a longer one, before more of it is read.
    """
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise InvalidInput(
                f"{file.name} has a line of more than {LONGEST_LINE} bytes: no recording writes one, so the file is "
                "damaged; copy it again."
            )
        yield line


def read_sidecar(path: Path) -> tuple[Mapping[str, Any], list[PageLine], bool]:
    """Read a sidecar.

    Returns
    -------
    tuple of dict, list of dict, bool
        Its header, the line of each page, and whether the last line was cut off and left out.

    Raises
    ------
    DamagedSidecar
        When it is no sidecar, or a line holds what no recording writes.
    InvalidInput
        When a line is longer than any that a recording writes.
    """
    parsed: list[Any] = []
    cut = False
    with path.open("rb") as file:
        for line in bounded_lines(file):
            if cut := not line.endswith(b"\n"):
                break
            try:
                parsed.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                why = f"is damaged in line {len(parsed) + 1}, which is not JSON ({one_line(error)})"
                raise DamagedSidecar(path, why) from error
            if len(parsed) == 1:
                _check_header(path, parsed[0])
            elif not isinstance(parsed[-1], dict):
                raise DamagedSidecar(path, f"is damaged in line {len(parsed)}, which is no record of a page")
            else:
                _check(path, len(parsed), parsed[-1])
    if not parsed:
        _check_header(path, None)
    return parsed[0], parsed[1:], cut


def _check_header(path: Path, header: object) -> None:
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise DamagedSidecar(path, "does not start with the header of a denoscope recording")


def _check(path: Path, number: int, line: Mapping[str, Any]) -> None:
    """Refuse a page's line with a value of another kind; one that is missing, as in early versions, is no fault."""
    for name, right, what in _KINDS:
        if name in line and not right(line[name]):
            raise DamagedSidecar(
                path, f'is damaged in line {number}: "{name}" is {repr(line[name])[:60]}, not {what}'
            )


def _whole(value: object) -> bool:
    return type(value) is int and -_LARGEST <= value < _LARGEST


def _place(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _time(value: object) -> bool:
    # Compared first: of an int with hundreds of digits no float can be made.
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST  # type: ignore[operator]


def _shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) is int and 0 <= side < _LARGEST_SIDE for side in value)
    )


def _dtype(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return np.dtype(value).kind in "uif"
    except (TypeError, ValueError):
        return False


_KINDS = (
    ("page", _place, "a page number"),
    ("at", _place, "a place in the file"),
    ("number", _whole, "a frame number"),
    ("received_s", _time, "a time in seconds"),
    ("core_unix_s", lambda value: value is None or _time(value), "a time in seconds"),
    ("shape", _shape, "height and width"),
    ("dtype", _dtype, "a number type"),
    ("camera", lambda value: isinstance(value, str), "a text"),
    ("tags", lambda value: isinstance(value, dict), "a list of tags"),
    ("tags_changed", lambda value: isinstance(value, dict), "a list of tags"),
)
