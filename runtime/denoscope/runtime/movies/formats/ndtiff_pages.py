"""Pages of NDTiff files that ``NDTiff.index`` does not list: the index was lost, or its writer was killed."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.words import counted

__all__ = ["Page", "Unlisted", "recording_of", "unlisted_pages"]

_STACK = "NDTiffStack"

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_PIXELS, _SAMPLES, _BYTES, _ABOUT = 273, 277, 279, 51123
_ENTRIES = range(8, 40)
_ENTRY = 12
_SHORT = 3
_LARGEST_TAGS = 2**20
_MOST_PAGES = 10_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a file: its axes, where its pixels and metadata are, and its size and bits.

    Attributes
    ----------
    axes
        Of the frame, as its own metadata give them.
    file
        Name.
    offset, height, width
        Of the pixels.
    bits, samples, compression
        As TIFF counts them.
    about_offset, about_length
        Of the metadata.
    """

    axes: dict[str, int | str]
    file: str
    offset: int
    height: int
    width: int
    bits: int
    samples: int
    compression: int
    about_offset: int
    about_length: int


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Pages that were found, and how many say nothing about their axes."""

    pages: list[Page]
    unnamed: int


def recording_of(name: str) -> str:
    """Return what the names of all files of one recording begin with."""
    return name.partition(_STACK)[0]


def unlisted_pages(folder: Path, ends: dict[str, int], recordings: set[str]) -> Unlisted:
    """Find the pages of the files of a data set that lie behind those that the index lists.

    Parameters
    ----------
    folder
        Of the files.
    ends
        For the files that the index lists, the byte behind the last frame that is listed.
    recordings
        Those whose files are looked at, see `recording_of`; empty for the only one of the folder.

    Returns
    -------
    Unlisted
        In the order of the files; pages whose pixels are not all there are left out.

    Raises
    ------
    InvalidInput
        If the folder holds files of several recordings, and nothing says which one is wanted.
    """
    files = sorted(
        (each for each in folder.iterdir() if _STACK in each.name and each.is_file()),
        key=lambda each: (len(each.stem), each.name),
    )
    several = {recording_of(each.name): each.name for each in reversed(files)}
    if not recordings and len(several) > 1:
        raise InvalidInput(
            f"{folder} holds files of {counted(len(several), 'recording')} and no NDTiff.index: open a file of one, "
            f"such as {files[0].name}."
        )
    files = [each for each in files if not recordings or recording_of(each.name) in recordings]
    last = max((i for i, each in enumerate(files) if each.name in ends), default=0)
    pages: list[Page] = []
    unnamed = 0
    for each in files[last:]:  # earlier files were complete when the writer went on to the next
        with each.open("rb") as file:
            for page in _pages(file, each.name, ends.get(each.name)):
                if page.axes:
                    pages.append(page)
                else:
                    unnamed += 1
    return Unlisted(pages, unnamed)


def _pages(file: IO[bytes], name: str, begin: int | None) -> Iterator[Page]:
    """Read page after page until there is none."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return
    at = begin if begin is not None else struct.unpack(f"{order}I", head[4:])[0]
    for _ in range(_MOST_PAGES):
        page = None
        for start in (at, at + 1):  # writers begin a page at an even byte, or where the last one ends
            page = page or _page(file, name, start, order, size)
        if page is None:
            return
        yield page
        at = max(
            page.about_offset + page.about_length, page.offset + page.height * page.width * page.bits // 8
        )


def _page(file: IO[bytes], name: str, at: int, order: str, size: int) -> Page | None:
    """Return the page whose tags begin at a byte, or None where there is none or it is not complete."""
    file.seek(at)
    begin = file.read(2)
    if len(begin) < 2 or (count := struct.unpack(f"{order}H", begin)[0]) not in _ENTRIES:
        return None
    data = file.read(count * _ENTRY)
    if len(data) < count * _ENTRY:
        return None
    tags: dict[int, tuple[int, int]] = {}
    for i in range(count):
        tag, kind, number, value = struct.unpack_from(f"{order}HHII", data, i * _ENTRY)
        if kind == _SHORT and number == 1:
            value = struct.unpack_from(f"{order}H", data, i * _ENTRY + 8)[0]
        tags[tag] = number, value
    if not {_WIDTH, _HEIGHT, _PIXELS, _ABOUT} <= set(tags):
        return None
    width, height, offset = (tags[tag][1] for tag in (_WIDTH, _HEIGHT, _PIXELS))
    samples = tags.get(_SAMPLES, (1, 1))[1]
    bits = 8 if samples > 1 else tags.get(_BITS, (1, 16))[1]
    compression = tags.get(_COMPRESSION, (1, 1))[1]
    if compression == 1 and tags.get(_BYTES, (1, 0))[1] == height * width:
        bits = 8  # the library of NDTiff for Python says 16 of these too
    length, about = tags[_ABOUT]
    pixels_end = offset + height * width * samples * bits // 8
    if not (
        at < offset < pixels_end <= size and at < about and about + length <= size and length <= _LARGEST_TAGS
    ):
        return None
    return Page(
        _axes(file, about, length), name, offset, height, width, bits, samples, compression,
        about, length,
    )  # fmt: skip


def _axes(file: IO[bytes], about: int, length: int) -> dict[str, int | str]:
    """Return the axes in a page's metadata, empty where it gives none."""
    file.seek(about)
    try:
        found: Any = json.loads(file.read(length).rstrip(b"\0"))["Axes"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    good = isinstance(found, dict) and all(isinstance(value, int | str) for value in found.values())
    return dict(found) if good else {}
