"""TIFF of every kind: plain, BigTIFF, OME-TIFF of one and several files, ImageJ, tiled, compressed."""

from __future__ import annotations

import json
import logging
import math
import re
import struct
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import tifffile

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_dtype, check_regular, one_line
from denoscope.runtime.movies.headers.ome import (
    OmeImage,
    check_names,
    companion_of,
    listed_images,
    read_companion,
)
from denoscope.runtime.movies.headers.pages_of import Turns, choose_pages, scanimage_turns
from denoscope.runtime.movies.headers.untrusted import check_xml
from denoscope.runtime.movies.install import how_to_install
from denoscope.runtime.movies.joined import Chosen, Joined
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick, pick_index
from denoscope.runtime.words import counted, rounded

__all__ = ["DenseReader", "Head", "count_pages", "head_of", "open_flat", "open_tiff"]

# Letters that tifffile gives axes.
_KINDS = {"T": "time", "C": "channel", "Z": "plane", "R": "position", "P": "position"}
# Files of these kinds say how their pages are arranged; pages of others follow each other in time.
_ARRANGED = {
    "bif", "dng", "epics", "eer", "fluoview", "gdal", "geotiff", "imagej", "indica", "lsm", "mmstack",
    "micromanager", "mrc", "ndpi", "nih", "ome", "philips", "qpi", "scanimage", "scn", "shaped", "sis",
    "stk", "svs", "vista",
}  # fmt: skip
_TIFF = (".tif", ".tiff", ".btf", ".tf8")
_LEAST_IFD_BYTES = 18  # one entry in the shortest directory; a file cannot list more pages than that allows
_SMALLER, _MASK = 1, 4  # of the tag NewSubfileType
_LARGEST_ABOUT = 2**22  # bytes of metadata of one page
_MICRO_MANAGER = 51123  # tag of each page with its metadata
_LOOKED_AT = 64
_MANY_PLANES = 1_000_000
_MOST_POSITIONS = 8  # more images than this are rather points in time


def open_tiff(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open a TIFF file as a reader of one channel, plane and position over time.

    Raises
    ------
    InvalidInput
        If it is no TIFF, damaged, claims more than it can hold, or the choice is ambiguous.
    """
    return _open_with(path, lambda tif: _open_arranged(tif, path, wanted, limit_bytes))


def open_companion(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open the TIFF files that a file of OME-XML lists as one movie.

    Raises
    ------
    InvalidInput
        If it lists no files, or the choice is ambiguous.
    """
    check_regular(path)
    return _open_described(path, read_companion(path), wanted, limit_bytes)


def _open_described(path: Path, xml: str, wanted: Wanted, limit_bytes: int) -> Reader:
    images = (
        _by_file(listed_images(xml) or [], xml, path) if path.suffix.lower() in _TIFF else listed_images(xml)
    )
    images = [image for image in images or () if image.pages]
    if not images or any(not file for image in images for pages in image.pages.values() for file, _ in pages):
        raise InvalidInput(
            f"{path} does not say which TIFF file holds which frame: open the recording in Fiji (File > Import > "
            "Bio-Formats) and save it as OME-TIFF."
        )
    return _open_listed(images, path, wanted, limit_bytes)


def open_flat(path: Path, limit_bytes: int) -> Reader:
    """Open all pages of a TIFF file in the order in which they are stored, whatever they show."""

    def every_page(tif: tifffile.TiffFile) -> Reader:
        reader = _open_plain(tif, path, Wanted(), limit_bytes)
        if reader is None:
            raise InvalidInput(
                f"{path} has pages of several sizes: save those of the movie as a separate file."
            )
        return reader

    return _open_with(path, every_page)


def _open_with(path: Path, arrange: Callable[[tifffile.TiffFile], Reader]) -> Reader:
    with _one_sentence(path):
        tif = _parsed(path)
    try:
        with _one_sentence(path):
            _check_ome(tif, path)
            _check_plane_count(tif, path)
            reader = arrange(tif)
            if tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
                said = f"{path.name} shows small values as bright; they are kept as they are stored"
                reader.note = "; ".join(filter(None, (reader.note, said)))
    except BaseException:
        tif.close()
        raise
    base = reader
    while isinstance(base, Chosen):
        base = base.base
    if isinstance(base, _PageReader):
        weakref.finalize(base, _close, tif, base.files)
    else:
        tif.close()
    return reader


def _parsed(path: Path) -> tifffile.TiffFile:
    """Return the file as tifffile sees it, with every page where its link leads."""
    check_regular(path)
    if path.stat().st_size == 0:
        raise InvalidInput(
            f"{path} is empty (0 bytes): it was never written; copy it again, or move it elsewhere."
        )
    # Of a file of ScanImage 3 to 5 tifffile guesses where pages lie, and misses the last or takes wrong bytes.
    try:
        tif = tifffile.TiffFile(path, is_scanimage=False)
    except struct.error:
        raise _without_pages(path) from None
    try:
        _ = tif.pages.first
    except IndexError:
        tif.close()
        raise _without_pages(path) from None
    return tif


def _without_pages(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path} has {counted(path.stat().st_size, 'byte')}, and its header leads to no image: its writing was "
        "interrupted; copy it again, or move it elsewhere."
    )


@dataclass(frozen=True, slots=True)
class Head:
    """Facts from the first page of a TIFF file.

    Attributes
    ----------
    turns
        How its pages take turns where it is ScanImage's, else None.
    ome
        OME-XML, empty where it has none.
    """

    turns: Turns | None
    ome: str


def head_of(path: Path) -> Head:
    """Read what the first page of a TIFF file says about the others."""
    with _one_sentence(path), _parsed(path) as tif:
        _check_ome(tif, path)
        xml = (tif.ome_metadata or "") if tif.is_ome else ""
        described = _described(path, xml)
        return Head(_turns_of(tif), xml if described is None else described[1])


def _described(path: Path, xml: str) -> tuple[Path, str] | None:
    """Return the file whose OME-XML describes this one, and that OME-XML; None where it describes itself."""
    found = companion_of(path, xml) if "BinaryOnly" in xml else None
    if found is None or found[1]:
        return found
    there = found[0]
    with _parsed(there) as tif:
        _check_ome(tif, there)
        other = (tif.ome_metadata or "") if tif.is_ome else ""
    if "BinaryOnly" in other or not other:
        raise InvalidInput(
            f"{path} is one part of a recording that {there.name} should describe, and it does not: copy the whole "
            "recording again."
        )
    return there, other


def count_pages(path: Path) -> int:
    """Return the number of pages of a TIFF file by following its links, without reading more than those.

    Raises
    ------
    InvalidInput
        If it is no TIFF or its links lead nowhere.
    """
    check_regular(path)
    with path.open("rb", buffering=0) as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise InvalidInput(f"{path} is no TIFF: check that it opens in Fiji.")
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        link, entries = (struct.Struct(order + k) for k in ("QQ" if big else "IH"))
        at = link.unpack_from(head.ljust(16, b"\0"), 8 if big else 4)[0]
        pages, end = 0, path.stat().st_size
        while at and pages * _LEAST_IFD_BYTES < end:
            file.seek(at)
            count = file.read(entries.size)
            if len(count) < entries.size or not any(count):
                break  # the recording ended before this page was written, in the room that was made for it or not
            file.seek(at + entries.size + entries.unpack(count)[0] * (20 if big else 12))
            following = file.read(link.size)
            if len(following) < link.size:
                break
            pages, at = pages + 1, link.unpack(following)[0]
    return pages


def _turns_of(tif: tifffile.TiffFile) -> Turns | None:
    """Return how the pages of a ScanImage file take turns, or None where it is none."""
    first = tif.pages.first

    def description(page: int) -> str:
        if page >= len(tif.pages):
            return ""
        return str(getattr(tif.pages.get(page, aspage=True), "description", ""))

    return scanimage_turns(first.software, first.description, description)


def _close(tif: tifffile.TiffFile, files: set[tifffile.FileHandle]) -> None:
    tif.close()
    for file in files:
        file.close()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep tifffile from printing what it finds: what matters is raised."""
    log = logging.getLogger("tifffile")
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turn whatever a parser makes of a damaged file into one sentence."""
    try:
        with _silent(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tags that a vendor writes with wrong types, and the like
            yield
    except InvalidInput:
        raise
    except Exception as error:
        if isinstance(error, tifffile.TiffFileError) and "not a TIFF file" in str(error):
            raise InvalidInput(
                f"{path} is neither a TIFF nor of another format that denoscope reads: save the movie as OME-TIFF, in "
                "the program that wrote it or in Fiji (File > Import > Bio-Formats)."
            ) from error
        raise InvalidInput(
            f"{path} cannot be read as a TIFF movie ({one_line(error)}): check that it opens in Fiji, and save "
            "it there as TIFF."
        ) from error


def _check_ome(tif: tifffile.TiffFile, path: Path) -> None:
    """Refuse OME-XML that is no description of a movie, before anything parses it."""
    if tif.is_ome and tif.ome_metadata:
        check_xml(path, tif.ome_metadata)
        check_names(path, tif.ome_metadata)


def _check_plane_count(tif: tifffile.TiffFile, path: Path) -> None:
    """Refuse OME-XML that lists more planes than the files of the folder have room for."""
    xml = tif.ome_metadata if tif.is_ome else None
    if not xml:
        return
    planes = 0
    for pixels in re.findall(r"<(?:\w+:)?Pixels\b[^<>]*>", xml):
        sizes = [int(n) for n in re.findall(r"\bSize[TCZ]\s*=\s*[\"'](\d{1,18})[\"']", pixels)]
        sides = [int(n) for n in re.findall(r"\bSize[XY]\s*=\s*[\"'](\d{1,18})[\"']", pixels)]
        # tifffile makes room for the pages that a plane of this size would take.
        planes += math.prod(sizes) * -(-math.prod(sides) // max(tif.pages.first.size, 1))
    if planes > _MANY_PLANES:
        room = sum(p.stat().st_size for p in path.parent.glob("*.tif*")) // _LEAST_IFD_BYTES
        if planes > room:
            raise InvalidInput(
                f"{path} lists {counted(planes, 'plane')}, and its files have room for {room}: its OME-XML is damaged; "
                "save the movie again."
            )


def _open_arranged(tif: tifffile.TiffFile, path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    turns = _turns_of(tif)
    if turns is not None and (flat := _open_plain(tif, path, Wanted(), limit_bytes)) is not None:
        places, note = choose_pages(str(path), turns, flat.shape[0], wanted)
        return flat if len(places) == flat.shape[0] and not note else Chosen(flat, places, note)
    if (unindexed := _micro_manager_images(tif, path)) is not None:
        return _open_listed(unindexed, path, wanted, limit_bytes)
    if not (tif.flags & _ARRANGED) and (reader := _open_plain(tif, path, wanted, limit_bytes)) is not None:
        return reader
    xml = (tif.ome_metadata or "") if tif.is_ome else ""
    if (described := _described(path, xml)) is not None:
        return _open_described(*described, wanted, limit_bytes)
    if xml and not tif.is_mmstack and (listed := _listed(xml, path)) is not None:
        return _open_listed(listed, path, wanted, limit_bytes)
    if (planned := _taken_out_of(tif, path)) and (alone := _open_plain(tif, path, wanted, limit_bytes)):
        alone.note = f"{path.name} is one image of a stack of {planned}"
        return alone
    series = list(tif.series)
    if not series:
        raise InvalidInput(f"{path} holds no images: give a movie of at least one frame.")
    if (as_pages := _imagej_pages(tif, path, series, wanted, limit_bytes)) is not None:
        return as_pages
    if wanted.position is None and (one_by_one := _written_one_by_one(path, series)) is not None:
        frames = _open_plain(tif, path, wanted, limit_bytes)
        if frames is not None and frames.shape[0] == sum(map(_length, series)):
            frames.note = "; ".join(filter(None, (frames.note, one_by_one)))
            return frames
    index = 0
    if len(series) > 1 or (wanted.position is not None and "R" not in series[0].axes):
        labels = tuple(s.name or str(s.shape) for s in series)
        index = pick_index(str(path), Axis("position", len(series), labels), wanted.position)
        wanted = Wanted(wanted.channel, wanted.plane, None)
    reader = _open_series(tif, series[index], index, path, wanted, limit_bytes)
    unlisted = len(tif.pages) - sum(math.prod(s.shape[:-2]) for s in series) if xml else 0
    if unlisted > 0:
        count = len(tif.pages)
        left = f"{path.name} has {counted(count, 'page')}, and its OME-XML lists {count - unlisted} of them"
        left += ": the others are left out"
        reader.note = "; ".join(filter(None, (reader.note, left)))
    return reader


def _micro_manager_images(tif: tifffile.TiffFile, path: Path) -> list[OmeImage] | None:
    """Return the images of a Micro-Manager file without an index, by what each page says of itself.

    The index and the OME-XML are written when a recording ends, so one that was interrupted has neither. None where
    there is an index, or time is all that differs between pages.
    """
    if tif.is_ome or tif.is_imagej or _MICRO_MANAGER not in tif.pages.first.tags:
        return None
    if tif.is_mmstack and set(tif.series[0].axes) & set("TCZR"):
        return None
    count = _count_written(tif)
    files = _parts_of(path)
    some = {*range(min(count, _LOOKED_AT)), count - 1}
    if len(files) < 2 and not any(any(_place_of(tif, page)[1:]) for page in some):
        return None
    names: dict[int | str, None] = {}
    images: dict[int | str, dict[tuple[int, int, int], list[tuple[str, int]]]] = {}
    pages_there = 0
    for file in files:
        with nullcontext(tif) if file == path else _parsed(file) as part:
            pages_there += _count_written(part)
            for page in range(_count_written(part)):
                time, channel, plane, position = _place_of(part, page)
                names[channel] = None
                key = (time, list(names).index(channel), plane)
                images.setdefault(position, {})[key] = [(file.name, page)]
    if sum(map(len, images.values())) < pages_there:
        return None  # they do not say all that differs between them
    begin = min(time for pages in images.values() for time, _, _ in pages)
    labels = tuple(map(str, names)) if any(isinstance(name, str) for name in names) else ()
    found = []
    for position, listed in images.items():
        pages = {(time - begin, channel, plane): places for (time, channel, plane), places in listed.items()}
        sizes = [max(key[axis] for key in pages) + 1 for axis in range(3)]
        found.append(OmeImage(str(position), dict(zip("TCZ", sizes, strict=True)), labels[: sizes[1]], pages))
    return found


def _parts_of(path: Path) -> list[Path]:
    """Return the files of which Micro-Manager made one recording, ``x.ome.tif``, ``x_1.ome.tif`` and so on."""
    stem, dot, ending = path.name.partition(".")
    if "MMStack" not in stem:
        return [path]
    begun = re.sub(r"_\d{1,6}$", "", stem)
    if (path.parent / (begun + dot + ending)).is_file():
        stem = begun
    part = re.compile(re.escape(stem) + r"_(\d{1,6})" + re.escape(dot + ending))
    found = [
        (int(match[1]), other) for other in path.parent.iterdir() if (match := part.fullmatch(other.name))
    ]
    return [path.parent / (stem + dot + ending), *(other for _, other in sorted(found))]


def _place_of(tif: tifffile.TiffFile, page: int) -> tuple[int, int | str, int, int | str]:
    """Return time, channel, plane and position of a page, zeros where it says nothing of them."""
    tag = tif.pages.get(page, aspage=True).tags.get(_MICRO_MANAGER)  # type: ignore[union-attr]
    said: Any = tag.value if tag is not None else None
    said = json.loads(said) if isinstance(said, str | bytes) else said
    if not isinstance(said, dict):
        return 0, 0, 0, 0
    given: Any = said.get("Axes")
    axes: dict[str, Any] = given if isinstance(given, dict) else {}
    numbers: list[Any] = [
        axes.get(axis, said.get(name, 0))
        for axis, name in (
            ("time", "FrameIndex"), ("channel", "ChannelIndex"), ("z", "SliceIndex"), ("position", "PositionIndex"),
        )
    ]  # fmt: skip
    time, channel, plane, position = (n if isinstance(n, str) else int(n) for n in numbers)
    return int(time), channel, int(plane), position


def _imagej_behind_one_page(
    tif: tifffile.TiffFile, path: Path, said: dict[str, Any], wanted: Wanted, limit_bytes: int
) -> Reader | None:
    """Open what is there of an ImageJ file of one page with all images behind it; None where it is another kind.

    Fiji writes movies above 4 GB so, and ImageJ's smaller ones.
    """
    page = tif.pages.first
    if len(tif.pages) > 1 or page.compression != 1 or len(page.shape) != 2 or len(page.dataoffsets) != 1:
        return None
    several = [axis for axis in ("channels", "slices", "frames") if said.get(axis, 1) != 1]
    if "channels" in several or len(several) > 1 or _MICRO_MANAGER in page.tags:
        return None
    stored = np.dtype(page.dtype).newbyteorder(tif.byteorder)
    height, width = page.shape
    frame = height * width * stored.itemsize
    begin = page.dataoffsets[0]
    whole = min((tif.filehandle.size - begin) // frame, said["images"])
    if whole < 1 or frame > limit_bytes:
        return None
    chosen = pick(str(path), [Axis("plane" if several == ["slices"] else "time", whole)], wanted)
    if wanted.plane is not None:
        return None
    reader = DenseReader(path, (whole, height, width), stored, begin, frame)
    ends = f"{path.name} was cut short: it ends after {whole} of {counted(said['images'], 'frame')}"
    reader.note = "; ".join(filter(None, (ends if whole < said["images"] else "", chosen.note)))
    return reader


def _imagej_pages(
    tif: tifffile.TiffFile,
    path: Path,
    series: list[tifffile.TiffPageSeries],
    wanted: Wanted,
    limit_bytes: int,
) -> Reader | None:
    """Open all pages of an ImageJ file whose description counts fewer; None where it fits or there is none.

    Raises
    ------
    InvalidInput
        If there are fewer pages than the description says, or it is unclear which channel they show.
    """
    said = tif.imagej_metadata or {}
    planned, count = said.get("images"), len(tif.pages)
    if count == 1:  # all images behind the first page
        count = sum(math.prod(s.shape) // max(math.prod(s.keyframe.shape), 1) for s in series)
    if not isinstance(planned, int):
        return None
    if count < planned:
        if (there := _imagej_behind_one_page(tif, path, said, wanted, limit_bytes)) is not None:
            return there
        raise InvalidInput(
            f"{path} was saved with {counted(planned, 'image')} and holds {count}: it was cut short or is "
            "damaged; copy it again."
        )
    sizes = [said.get(axis, 1) for axis in ("channels", "slices", "frames")]
    if len(tif.pages) == 1 or not all(isinstance(n, int) and n > 0 for n in sizes):
        return None
    several = sizes[0] * sizes[1] if "frames" in said else sizes[0]
    if count == planned == math.prod(sizes) or (several == 1 and count == planned):
        return None
    if several > 1 and wanted.interleaved is None:
        raise InvalidInput(
            f"{path} says that it holds {counted(planned, 'image')}, {counted(sizes[0], 'channel')} x "
            f"{counted(sizes[1], 'slice')} x {counted(sizes[2], 'frame')}, and has {counted(count, 'page')}: save it "
            "again in Fiji (Image > Properties), or say with `interleaved` how many channels alternate."
        )
    reader = _open_plain(tif, path, wanted, limit_bytes)
    if reader is not None and several == 1:
        reader.note = (
            f"{path.name} says that it holds {planned}, and has {counted(count, 'image')}: all are read"
        )
    return reader


def _taken_out_of(tif: tifffile.TiffFile, path: Path) -> int:
    """Return how many images an ImageJ stack had of which a file was written with one; 0 for any other file.

    ImageJ itself writes the directory first, then all images without compression. A stack that was cut short ends
    with more or less than one image.
    """
    planned = (tif.imagej_metadata or {}).get("images") if tif.is_imagej and len(tif.pages) == 1 else None
    if not isinstance(planned, int) or planned < 2:
        return 0
    page = tif.pages.first
    ends = [at + count for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if page.compression != 1 or 0 <= page.offset - max(ends) < sum(page.databytecounts):
        return planned
    ends += [tag.valueoffset + tag.valuebytecount for tag in page.tags]
    return planned if path.stat().st_size <= max(ends) + 1 and min(page.databytecounts) > 0 else 0


def _written_one_by_one(path: Path, series: list[tifffile.TiffPageSeries]) -> str | None:
    """Return a note, maybe empty, where the series are frames or pieces of one movie that a script wrote in a loop.

    tifffile gives each call its own series, or in OME-TIFF its own image, ``Image0``, ``Image1`` and so on.
    """
    first, last = series[0], series[-1]
    size, many = first.shape[-2:], len(series)
    if many < 2 or any(
        s.kind != first.kind or s.shape[-2:] != size or s.dtype != first.dtype or s.ndim not in (2, 3)
        for s in series
    ):
        return None
    lengths = [_length(s) for s in series]
    if first.kind == "ome":
        counted_up = all(s.name == f"Image{i}" for i, s in enumerate(series))
        if not counted_up or set(lengths) != {1} or many <= _MOST_POSITIONS:
            return None
        return (
            f"{path.name} holds {counted(many, 'image')} of one frame each: they are taken for points in time"
        )
    if first.kind != "shaped":
        return None
    if set(lengths) == {1}:
        return ""
    # Stacks of equal length may be channels; pieces of a recording end with a shorter one, or are many.
    even = len(set(lengths[:-1])) == 1 and lengths[-1] <= lengths[0] and last.ndim <= first.ndim
    if not even or first.ndim != 3 or (lengths[-1] == lengths[0] and many <= _MOST_POSITIONS):
        return None
    return (
        f"{path.name} holds {many} stacks, written one after the other: they are taken for one movie; choose one with "
        "`position`"
    )


def _length(series: tifffile.TiffPageSeries) -> int:
    return int(series.shape[0]) if series.ndim == 3 else 1


def _listed(xml: str, path: Path) -> list[OmeImage] | None:
    """Return the images of a set of files, or of OME-XML without a list of planes; None of others."""
    images = listed_images(xml)
    if images is None:
        return None
    named = {file for image in images for pages in image.pages.values() for file, _ in pages}
    if len(named) < 2 and all(image.repeats == 1 for image in images) and "TiffData" in xml:
        return None
    return _by_file(images, xml, path)


def _by_file(images: list[OmeImage], xml: str, path: Path) -> list[OmeImage] | None:
    """Return the images with the name of this file where its XML means it."""
    root = ET.fromstring(xml)  # noqa: S314 - `_check_ome` comes first
    own = {
        uuid.get("FileName", "")
        for uuid in root.iter()
        if uuid.tag.endswith("}UUID") and uuid.text and uuid.text == root.get("UUID")
    }
    for image in images:
        for pages in image.pages.values():
            # A file that was renamed is known by its identifier.
            pages[:] = [
                (path.name if not f or (f in own and not (path.parent / f).is_file()) else f, p)
                for f, p in pages
            ]
    return [image for image in images if image.pages] or None


def _open_listed(images: list[OmeImage], path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open a set of files by the list of planes in its OME-XML."""
    index = 0
    if len(images) > 1 or wanted.position is not None:
        labels = tuple(image.name or str(i) for i, image in enumerate(images))
        index = pick_index(str(path), Axis("position", len(images), labels), wanted.position)
    image, repeats = images[index], images[index].repeats
    sizes = image.sizes
    axes = [
        Axis("time", sizes["T"] * repeats),
        Axis("channel", sizes["C"], image.channels),
        Axis("plane", sizes["Z"]),
    ]
    chosen = pick(str(path), axes, Wanted(wanted.channel, wanted.plane, None))
    places = _listed_pages(image, chosen)
    lengths = _pages_of_files(path.parent, places)
    present = np.array([p is not None and p[1] < lengths[p[0]] for p in places])
    length = int(np.flatnonzero(present).max(initial=-1)) + 1
    if length == 0 or not present[:length].all():
        at = int(np.argmin(present))
        lost = places[at]
        which = f"{lost[0]} is missing or too short" if lost is not None else "its OME-XML does not list it"
        copy = "copy the missing file to the others, or " if lost is not None else ""
        raise InvalidInput(
            f"{path}: frame {at} of {len(places)} was never written ({which}): {copy}save the frames before it as a "
            "separate movie."
        )
    used = [f for f in lengths if lengths[f]]
    begins = dict(zip(used, np.cumsum([0, *(lengths[f] for f in used)]).tolist(), strict=False))
    order = np.array([begins[p[0]] + p[1] for p in places[:length] if p is not None], np.int64)
    paths = [path.parent / f for f in used]
    note = (
        chosen.note
        if length == len(places)
        else f"{path.name} ends at frame {length} of the {len(places)} planned"
    )
    if repeats > 1:
        note = f"{path.name} lists each plane {repeats} times: they are taken for {repeats} points in time"
    first = open_flat(paths[0], limit_bytes)
    joined = Joined(
        paths,
        [lengths[f] for f in used],
        partial(open_flat, limit_bytes=limit_bytes),
        first,
        note,
        at_least=True,
    )
    return joined if np.array_equal(order, np.arange(joined.shape[0])) else Chosen(joined, order)


def _listed_pages(image: OmeImage, chosen: Sequence[int | None]) -> list[tuple[str, int] | None]:
    """Return file and page of each frame of the movie that was chosen; None where the list leaves one out."""
    places: list[tuple[str, int] | None] = []
    for turn in range(image.repeats):
        for t, c, z in product(
            *(
                range(n) if i is None or (a == "T" and image.repeats > 1) else (i,)
                for a, n, i in zip("TCZ", image.sizes.values(), chosen, strict=True)
            )
        ):
            listed = image.pages.get((t, c, z), [])
            places.append(listed[turn] if turn < len(listed) else None)
    return places


def _pages_of_files(folder: Path, places: list[tuple[str, int] | None]) -> dict[str, int]:
    """Return how many pages each listed file has: 0 where it is missing, 1 unread where only its first is used."""
    highest: dict[str, int] = {}
    for place in places:
        if place is not None:
            highest[place[0]] = max(highest.get(place[0], 0), place[1])
    lengths = {}
    for file, last in highest.items():
        there = folder / file
        check_regular(there)
        exists = there.is_file()
        lengths[file] = (count_pages(there) if last else 1) if exists else 0
    return lengths


def _open_plain(tif: tifffile.TiffFile, path: Path, wanted: Wanted, limit_bytes: int) -> Reader | None:
    """Open pages that follow each other in time without building an object for each of them."""
    count = _count_written(tif)
    first = tif.pages.first
    if len(first.shape) != 2 or any(tif.pages[i].hash != first.hash for i in (count // 2, count - 1)):
        return None
    if count > 1 and not _is_copy(first) and _is_copy(tif.pages[1]):
        raise InvalidInput(
            f"{path} holds a smaller copy or a mask behind its frames, as its pages say: save the frames as a "
            "separate file."
        )
    _check_file(path, first.shape, first, path.stat().st_size, limit_bytes)  # each page again when it is read
    pick(str(path), [Axis("time", count)], wanted)
    tif.pages.cache = False
    # The light form of a page leaves out its size, which only an uncompressed page's bytes prove.
    tif.pages.useframes = first.compression == 1 and not _is_packed(first)
    if tif.pages.useframes:
        # Pages of a contiguous key take its size in bytes for their own, which would hide a page that differs.
        first.is_contiguous = False
        tif.pages.set_keyframe(0)
    listed, size = count * math.prod(first.shape) * first.bitspersample // 8, path.stat().st_size
    lost = first.compression == 1 and not first.subifds and size > 2 * listed + 2**14
    note = ""
    if _goes_on_after(tif, count - 1):
        note = (
            f"{path.name} is damaged or was cut short after {counted(count, 'frame')}: it says that more follow, where "
            "none are; copy it again if the original is whole"
        )
    elif lost:
        note = (
            f"{path.name} lists {counted(count, 'frame')} in {rounded(size / 1e6)} MB, which have room for more: it "
            "may have been cut short or still be written"
        )
    return _PageReader(path, first, count, lambda t: tif.pages[t], note)


def _is_copy(page: Any) -> bool:
    """Say whether a page calls itself a smaller copy of another, or a mask for it."""
    return bool(int(page.subfiletype) & (_SMALLER | _MASK))


def _count_written(tif: tifffile.TiffFile) -> int:
    """Return how many pages were written; Micro-Manager's last pointer leads to the room that it made for the next.

    Of a recording that was killed, the last page may have been begun only.
    """
    count = len(tif.pages)
    if count > 1:
        tif.filehandle.seek(tif.pages[count - 1].offset)
        count -= not any(tif.filehandle.read(tif.tiff.tagnosize))
    if count > 1 and _says_itself(tif, 0) and not _says_itself(tif, count - 1):
        count -= 1
    return count


def _says_itself(tif: tifffile.TiffFile, page: int) -> bool:
    """Say whether the metadata of a page, which Micro-Manager writes behind its pixels, are there to their end."""
    tag = tif.pages.get(page, aspage=True).tags.get(_MICRO_MANAGER)  # type: ignore[union-attr]
    if tag is None or not 0 < tag.count <= _LARGEST_ABOUT:
        return False
    tif.filehandle.seek(tag.valueoffset)
    return bytes(tif.filehandle.read(tag.count)).strip(b"\0 \r\n")[-1:] == b"}"


def _goes_on_after(tif: tifffile.TiffFile, last: int) -> bool:
    """Return whether the last page that was found names a page after it."""
    file, form, at = tif.filehandle, tif.tiff, tif.pages[last].offset
    file.seek(at)
    entries = struct.unpack(form.tagnoformat, file.read(form.tagnosize))[0]
    file.seek(at + form.tagnosize + entries * form.tagsize)
    link = file.read(form.offsetsize)
    return len(link) < form.offsetsize or struct.unpack(form.offsetformat, link)[0] != 0


def _open_series(
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    index: int,
    path: Path,
    wanted: Wanted,
    limit_bytes: int,
) -> Reader:
    shape, letters = tuple(int(n) for n in series.shape), series.axes
    if not letters:
        raise InvalidInput(
            f"{path} holds no complete frame: the recording ended before its first one; choose another file."
        )
    if "S" in letters and shape[letters.index("S")] > 1:
        raise InvalidInput(f"{path} holds colour pictures: give a movie of grey values, one channel a page.")
    squeezed = [(letter, n) for letter, n in zip(letters, shape, strict=True) if letter != "S"]
    if [letter for letter, _ in squeezed[-2:]] != ["Y", "X"]:
        raise InvalidInput(
            f"{path} has the axes {letters} of {shape}; denoscope takes frames of rows and columns, (T, H, W): "
            "save it again from Fiji."
        )
    leading, (height, width) = squeezed[:-2], [n for _, n in squeezed[-2:]]
    key = series.keyframe
    written = [p for p in (series.pages[i] for i in range(len(series.pages))) if p is not None]
    stored = sum(parent.filehandle.size for parent in {p.parent for p in written} | {tif})
    # A recording that ended early planned more pages than it wrote; frames in one block have one page.
    planes = math.prod(n for _, n in leading) if series.dataoffset is not None else len(written)
    _check_file(path, (planes, height, width), key, stored, limit_bytes)
    if math.prod(key.shape) != math.prod(shape[-len(key.shape) :] if key.shape else ()):
        raise InvalidInput(f"{path} lists frames of another size than its pages: save it again from Fiji.")
    names = {"C": _channel_names(tif, index), "R": _position_names(tif)}
    axes = []
    for letter, n in leading:
        labels = names.get(letter, ())
        axes.append(Axis(_KINDS.get(letter, "other"), n, labels if len(labels) == n else ()))
    chosen = pick(str(path), axes, wanted)
    numbered = np.arange(math.prod(a.size for a in axes)).reshape([a.size for a in axes])
    places = np.atleast_1d(numbered[tuple(slice(None) if i is None else i for i in chosen)])
    if series.dataoffset is not None and key.compression == 1:
        dense = _in_one_block(series, path, places, (height, width))
        dense.note = chosen.note
        return dense
    pages_per_frame = key.size // (height * width)
    if pages_per_frame != 1 or len(series.pages) != math.prod(a.size for a in axes):
        raise InvalidInput(f"{path} packs several frames into a compressed page: save it again from Fiji.")
    whole = {
        id(part): _count_written(part) for part in {page.parent for page in written} if part.is_micromanager
    }
    found = [series.pages[int(i)] for i in places]
    present = np.array([p is not None and p.index < whole.get(id(p.parent), p.index + 1) for p in found])
    length = int(np.flatnonzero(present).max(initial=-1)) + 1
    if not present[:length].all() or length == 0:
        raise InvalidInput(
            f"{path}: frame {int(np.argmin(present))} of {len(places)} was never written: "
            "a file of the recording is missing, or damaged."
        )
    note = (
        chosen.note
        if length == len(places)
        else f"{path.name} ends at frame {length} of the {len(places)} planned"
    )
    return _PageReader(path, key, length, lambda t: series.pages[int(places[t])], note)


def _in_one_block(
    series: tifffile.TiffPageSeries, path: Path, places: npt.NDArray[np.int64], shape: tuple[int, int]
) -> DenseReader:
    """Return the frames of a series whose pixels lie one after another, without compression."""
    assert series.dataoffset is not None
    assert series.dtype is not None
    stride = int(places[1] - places[0]) if len(places) > 1 else 1
    # The pixels of a set in several files may lie in another file than the one that was named.
    parent = series.keyframe.parent
    stored_dtype = series.dtype.newbyteorder(parent.byteorder)
    frame_bytes = math.prod(shape) * stored_dtype.itemsize
    begin = series.dataoffset + int(places[0]) * frame_bytes
    end = begin + ((len(places) - 1) * stride + 1) * frame_bytes
    if end > parent.filehandle.size:
        raise InvalidInput(
            f"{path} ends at byte {parent.filehandle.size}, and its pixels at byte {end}: it was cut short or is "
            "damaged; copy it again."
        )
    return DenseReader(
        Path(parent.filehandle.path), (len(places), *shape), stored_dtype, begin, stride * frame_bytes
    )


def _check_file(
    path: Path, shape: tuple[int, ...], key: tifffile.TiffPage, stored: int, limit_bytes: int
) -> None:
    """Check what the first page claims: dtype, size of it all, of one frame and of one strip or tile."""
    whole = key.dtype is not None and (key.bitspersample == 8 * key.dtype.itemsize or _is_packed(key))
    if key.dtype is None or key.samplesperpixel != 1 or not whole:
        raise InvalidInput(
            f"{path} holds {key.bitspersample}-bit pixels of {key.samplesperpixel} samples; save it as "
            "uint8, uint16, int16 or float32, one grey value a pixel."
        )
    check_dtype(str(path), key.dtype)
    compressed = key.compression != 1 or _is_packed(key)
    if compressed and key.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise InvalidInput(
            f"{path} is compressed with {tifffile.COMPRESSION(key.compression).name}, which needs imagecodecs: "
            f"{how_to_install('formats')}."
        )
    piece = (1, *key.chunks[-2:]) if compressed or key.is_tiled else (1, 1, 1)
    check_claim(
        str(path),
        shape,
        key.dtype.itemsize,
        piece=piece,
        stored_bytes=stored,
        compressed=compressed,
        limit_bytes=limit_bytes,
    )


def _is_packed(key: tifffile.TiffPage) -> bool:
    """Say whether pixels of 9 to 15 bits lie behind each other without gaps."""
    return key.dtype == np.uint16 and 8 < key.bitspersample < 16


def _channel_names(tif: tifffile.TiffFile, image: int) -> tuple[str, ...]:
    """Return the names that the file gives the channels of an image, empty where it gives none."""
    if tif.is_ome and tif.ome_metadata:
        images = ET.fromstring(tif.ome_metadata).findall("{*}Image")  # noqa: S314 - checked
        if image < len(images):
            channels = images[image].findall("{*}Pixels/{*}Channel")
            names = tuple(c.get("Name", "") for c in channels)
            return names if all(names) else ()
    if tif.is_micromanager:
        listed = (tif.micromanager_metadata or {}).get("Summary", {}).get("ChNames", ())
        return tuple(map(str, listed)) if isinstance(listed, list) else ()
    return ()


def _position_names(tif: tifffile.TiffFile) -> tuple[str, ...]:
    """Return the stage positions of a Micro-Manager file, empty where it lists none."""
    if not tif.is_micromanager:
        return ()
    listed = (tif.micromanager_metadata or {}).get("Summary", {}).get("InitialPositionList") or ()
    return tuple(str(p.get("Label", i)) for i, p in enumerate(listed))


class DenseReader:
    """Uncompressed frames at even distances in one file; nothing is kept open or mapped.

    Reading instead of mapping keeps the resident memory of a long training flat.

    Parameters
    ----------
    path
        The file.
    shape
        (T, H, W).
    stored
        dtype in the byte order of the file.
    offset, stride
        Byte where the first frame begins, and bytes from one frame to the next.
    """

    piece = (1, 1, 1)
    note = ""

    def __init__(
        self, path: Path, shape: tuple[int, int, int], stored: np.dtype[Any], offset: int, stride: int
    ) -> None:
        self.shape = shape
        self.dtype = check_dtype(str(path), stored)
        self.path, self.stored, self.offset, self.stride = path, stored, offset, stride

    @property
    def mappable(self) -> bool:
        """True if the file can be mapped as an array without change."""
        frame = self.shape[1] * self.shape[2] * self.stored.itemsize
        return self.stored.isnative and self.stride == frame

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        height, width = rows.stop - rows.start, self.shape[2]
        lines = np.empty((stop - start, height, width), self.stored)
        skip = rows.start * width * self.stored.itemsize
        with self.path.open("rb", buffering=0) as file:
            if height == self.shape[1] and self.mappable:
                file.seek(self.offset + start * self.stride)
                _read_into(file, lines)
            else:
                for i in range(stop - start):
                    file.seek(self.offset + (start + i) * self.stride + skip)
                    _read_into(file, lines[i])
        if columns == slice(0, width):
            return lines.astype(self.dtype, copy=False)
        return lines[:, :, columns].astype(self.dtype)


class _PageReader:
    """Frames of one page each, parsed when they are read."""

    def __init__(
        self, path: Path, key: tifffile.TiffPage, length: int, page: Callable[[int], Any], note: str = ""
    ) -> None:
        assert key.dtype is not None
        self._path, self._key, self._page, self.note = path, key, page, note
        self.shape = (length, int(key.shape[-2]), int(key.shape[-1]))
        self.dtype = check_dtype(str(path), key.dtype)
        self._plain = key.compression == 1 and key.predictor == 1 and key.fillorder == 1 and not key.is_tiled
        self._plain &= not _is_packed(key)
        self._stored = self.dtype.newbyteorder(key.parent.byteorder)
        self.piece = (1, 1, 1) if self._plain else (1, int(key.chunks[-2]), int(key.chunks[-1]))
        self.files: set[tifffile.FileHandle] = set()  # of the other files of a movie in several
        self._lock = threading.Lock()  # a file has one position

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        with self._lock, _silent():
            for i, t in enumerate(range(start, stop)):
                page = self._page(t)
                if page.hash != self._key.hash:
                    raise InvalidInput(
                        f"{self._path}: frame {t} is {page.shape} {page.dtype}, the first is "
                        f"{self._key.shape} {self._key.dtype}: split the movie where it changes."
                    )
                offsets, counts = tuple(page.dataoffsets), tuple(page.databytecounts)
                if page.parent.filehandle.closed:
                    page.parent.filehandle.open()
                    self.files.add(page.parent.filehandle)
                if self._plain and _follow(offsets, counts):
                    result[i] = self._rows(page, t, offsets[0], sum(counts), rows)[:, columns]
                else:
                    self._decode(page, t, offsets, counts, rows, columns, result[i])
        return result

    def _rows(self, page: Any, t: int, offset: int, stored: int, rows: slice) -> npt.NDArray[Any]:
        """Read rows of an uncompressed page."""
        _, height, width = self.shape
        line = width * self.dtype.itemsize
        if stored != height * line:
            raise InvalidInput(
                f"{self._path}: frame {t} has {stored} bytes, the first has {height * line}: "
                "split the movie where the size of its frames changes."
            )
        file = page.parent.filehandle
        wanted = (rows.stop - rows.start) * line
        if offset + rows.start * line + wanted > file.size:
            raise EOFError(f"the file ends at byte {file.size}")
        file.seek(offset + rows.start * line)
        return np.frombuffer(file.read(wanted), self._stored).reshape(-1, width)

    def _decode(
        self,
        page: Any,
        t: int,
        offsets: tuple[int, ...],
        counts: tuple[int, ...],
        rows: slice,
        columns: slice,
        out: npt.NDArray[Any],
    ) -> None:
        """Decode the strips or tiles that overlap the wanted area into `out`."""
        key = self._key
        across = -(-self.shape[2] // self.piece[2])
        deep, wide = self.piece[1:]
        if len(offsets) != len(counts) or len(offsets) != -(-self.shape[1] // deep) * across:
            raise EOFError(f"{len(offsets)} strips or tiles, and {len(counts)} lengths of them")
        file, decode = (
            page.parent.filehandle,
            key.decode,
        )  # the decoder of JPEG looks into the file when it is made
        for row in range(rows.start // deep, -(-rows.stop // deep)):
            for column in range(columns.start // wide, -(-columns.stop // wide)):
                index = row * across + column
                offset, count = offsets[index], counts[index]
                if count == 0 or offset + count > file.size:
                    raise EOFError(f"strip or tile {index} of frame {t} is not in the file")
                file.seek(offset)
                data, _, _ = decode(file.read(count), index, jpegtables=key.jpegtables)
                if data is None:
                    raise EOFError(f"strip or tile {index} of frame {t} is empty")
                top, left = row * deep, column * wide
                segment = data[0, :, :, 0]
                y0, y1 = max(top, rows.start), min(top + segment.shape[0], rows.stop)
                x0, x1 = max(left, columns.start), min(left + segment.shape[1], columns.stop)
                out[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start] = segment[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]


def _follow(offsets: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    """Say whether the strips lie behind each other."""
    return len(offsets) == len(counts) and all(
        offsets[i] + counts[i] == offsets[i + 1] for i in range(len(offsets) - 1)
    )


def _read_into(file: Any, array: npt.NDArray[Any]) -> None:
    """Fill `array` from the file."""
    view, done = array.reshape(-1).view(np.uint8).data, 0
    while done < view.nbytes:
        got = file.readinto(view[done:])
        if not got:
            raise EOFError(f"the file is {view.nbytes - done} bytes too short")
        done += got
