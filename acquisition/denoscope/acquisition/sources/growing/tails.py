"""Read files while other software is still writing them: one frame at a time, each only when complete.

A frame counts as complete when something that is written after it is there, or when nothing has changed
for a moment (`settled`): a writer may have made room in the file for pixels that it has not written yet.
"""

from __future__ import annotations

import json
import logging
import os
import re
import struct
from abc import ABC, abstractmethod
from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Tags
from denoscope.runtime import InvalidInput, counted
from denoscope.runtime.movies import (
    CYCLE,
    Cycles,
    PngImage,
    check_regular,
    cycles_beside,
    is_beside,
    page_axes,
    stream_of_name,
)

__all__ = ["FolderTail", "Grown", "Tail", "TiffTail", "natural", "open_tail"]

_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
# What is not there yet and has such a name need not be waited for.
_NEVER_WATCHED = (
    ".npy", ".npz", ".h5", ".hdf5", ".nwb", ".mat", ".mmap", ".ims", ".nd2", ".czi", ".lif", ".oib", ".oif", ".sbx",
    ".avi", ".mkv", ".mp4", ".mov",
)  # fmt: skip
# A numbered file of these is a frame. One of another kind may be of a trial or a second camera, beside a recording
# that begins later.
_FRAMES_OF_OTHERS = (".npy", ".npz")
_NUMBERED = 3  # that are a movie, and nothing that lies beside one
_PNG = (".png",)
_PNG_END = b"IEND\xaeB`\x82"
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_ENDLESS = 1 << 62
_LARGEST_IMAGE = 2**31  # bytes
_ENTRIES = 4096  # more tags than this in one page is no page yet


@dataclass(frozen=True, slots=True)
class Grown:
    """One complete frame of a growing file.

    Attributes
    ----------
    pixels
        ``(H, W)``.
    tags
        What the file says about it.
    lost
        Frames before it that were left out because they were never written.
    """

    pixels: npt.NDArray[Any]
    tags: Mapping[str, Any] = field(default_factory=dict)
    lost: int = 0


class Tail(ABC):
    """Reads on where it stopped."""

    @abstractmethod
    def read(self, *, settled: bool) -> Grown | None:
        """Return the next frame if it is complete, else None.

        Parameters
        ----------
        settled
            Nothing has been written for a moment, so that what is there counts as complete.
        """

    @abstractmethod
    def mark(self) -> object:
        """Return something that differs after every write."""

    @abstractmethod
    def unfinished(self) -> bool:
        """Say whether part of a further frame is there."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def check_rest(self) -> None:
        """Refuse a frame that still cannot be read at the end though later ones are there.

        Raises
        ------
        InvalidInput
            One sentence that names the frame.
        """
        return

    def replaced(self) -> bool:
        """Say whether the file was removed, made again or cut short since it was opened, so that its rest is lost."""
        return False

    def found(self) -> bool:
        """Say whether there is anything yet that may become a frame; else the path may become another format."""
        return True


def open_tail(path: Path) -> Tail | None:
    """Return the reader for what lies at `path`, or None while nothing does.

    Raises
    ------
    InvalidInput
        When it is a file of a kind that cannot be read while it grows.
    """
    if path.is_dir():
        if path.suffix.lower() == ".zarr" or any((path / name).exists() for name in _ZARR_MARKS):
            from .zarr_tail import ZarrFolderTail

            return ZarrFolderTail(path)
        whole = path / "Full resolution"  # of an NDTiff with smaller copies
        return FolderTail(whole if (whole / "NDTiff.index").exists() else path)
    check_regular(path)
    if not path.is_file() and path.suffix.lower() not in _NEVER_WATCHED:  # or a folder that was made just now
        return None
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidInput(
            f"{path} cannot be watched while it grows: name a TIFF, a folder of TIFF or NDTiff files, or an "
            "OME-Zarr."
        )
    return TiffTail(path)


class TiffTail(Tail):
    """Follow a TIFF or BigTIFF from page to page, or an ImageJ file of one page from frame to frame.

    Only pointers are followed here; tifffile decodes the pages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Unbuffered: what was read ahead may have been written since.
        self._raw = path.open("rb", buffering=0)
        status = os.fstat(self._raw.fileno())
        self.identity = status.st_dev, status.st_ino
        self._file: Any = None
        self._order = "<"
        self._big = False
        self._pointer_at = 0  # where the place of the next page is written
        self._pages_at = self._page_at = 0  # pointer to the last page that was read, and where it led
        self._index = 0
        self._says = False  # whether pages have metadata of their own
        self._described: _Contiguous | None = None
        self._plain: _Contiguous | None = None
        self._turns: Callable[[int, str], Mapping[str, Any]] | None = None

    def mark(self) -> object:
        """Return the file's size and time of change."""
        stat = os.fstat(self._raw.fileno())
        return stat.st_size, stat.st_mtime_ns

    def replaced(self) -> bool:
        """Say whether another file or none lies at the path, or the pages that were read are gone from it."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return True
        if self.identity[1] and (status.st_dev, status.st_ino) != self.identity:
            return True
        if self._plain is not None:
            return self._size() < self._plain.offset + self._index * self._plain.frame_bytes
        return self._index > 0 and self._number(self._pages_at, "I", "Q") != self._page_at

    def read(self, *, settled: bool) -> Grown | None:
        """Return the next page, or the next frame of an ImageJ file, if it is complete."""
        if self._plain is not None:
            return self._read_plain(self._plain, settled=settled)
        if not self._pointer_at and not self._read_header(settled=settled):
            return None
        found = self._find(self._pointer_at)
        if found is None:
            return None
        offset, pointer_at = found
        sure = self._find(pointer_at) is not None
        if not (sure or settled or self._index == 0):
            return None
        page = self._parse(offset)
        if page is None:
            return None
        if self._index == 0:
            self._described = _Contiguous.of(page)
            if self._described is not None and not sure:
                self._plain = self._described
                return self._read_plain(self._plain, settled=settled)
        if not (sure or settled) or not _has_pixels(page, self._size()):
            return None
        pixels = page.asarray()
        if pixels.ndim != 2:
            raise InvalidInput(
                f"{self._path} has pages of the shape {pixels.shape}, and denoscope takes pages (H, W) of one "
                "channel; save channels as pages."
            )
        tags = _tags_of(page)
        if self._index and self._says and not tags and not sure:
            return None  # metadata lie behind the pixels, which are not all there then
        self._says = bool(tags)
        axes = self._axes_of(page)
        self._pages_at, self._page_at = self._pointer_at, offset
        self._index, self._pointer_at = self._index + 1, pointer_at
        return Grown(pixels, {**({"Axes": axes} if axes else {}), **tags})

    def _axes_of(self, page: Any) -> Mapping[str, Any]:
        """Return channel, slice and time of a page as the first page tells them; empty where time is all there is."""
        if self._index == 0:
            self._turns = page_axes(self._path, page.software, page.description)
        if self._described is not None:
            return self._described.axes(self._index)
        return {} if self._turns is None else self._turns(self._index, page.description)

    def unfinished(self) -> bool:
        """Say whether part of a further frame is there."""
        if self._plain is not None:
            begin = self._plain.offset + self._index * self._plain.frame_bytes
            return self._index < self._plain.frames and self._size() > begin
        return self._size() > 0 if not self._pointer_at else self._find(self._pointer_at) is not None

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._raw.close()

    def _size(self) -> int:
        return os.fstat(self._raw.fileno()).st_size

    def _bytes(self, offset: int, count: int) -> bytes:
        self._raw.seek(offset)
        return self._raw.read(count) or b""

    def _read_header(self, *, settled: bool) -> bool:
        head = self._bytes(0, 16)
        if len(head) < 16:
            return False
        self._order = "<" if head[:2] == b"II" else ">"
        version = struct.unpack_from(self._order + "H", head, 2)[0]
        if head[:2] not in (b"II", b"MM") or version not in (42, 43):
            if head == bytes(16) or not settled:
                return False  # room was made, nothing or half of it is written yet
            raise InvalidInput(f"{self._path} is no TIFF: check that it opens in Fiji.")
        self._big = version == 43
        self._pointer_at = 8 if self._big else 4
        return True

    def _number(self, offset: int, small: str, big: str) -> int:
        kind = struct.Struct(self._order + (big if self._big else small))
        data = self._bytes(offset, kind.size)
        return int(kind.unpack(data)[0]) if len(data) == kind.size else 0

    def _find(self, pointer_at: int) -> tuple[int, int] | None:
        """Return where the page lies to which a pointer leads, and where its own pointer is; None without one."""
        offset = self._number(pointer_at, "I", "Q")
        entries = self._number(offset, "H", "Q") if offset else 0
        if not 0 < entries <= _ENTRIES:
            return None
        following = offset + (8 + 20 * entries if self._big else 2 + 12 * entries)
        return (offset, following) if following + (8 if self._big else 4) <= self._size() else None

    def _parse(self, offset: int) -> Any:
        """Return the page at an offset as tifffile sees it, or None while it cannot."""
        import tifffile

        broken = (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, struct.error)
        log = logging.getLogger("tifffile")  # of tags that are half written
        disabled, log.disabled = log.disabled, True
        try:
            if self._file is None:
                # tifffile would keep to the size that the file has now, and of ScanImage list pages up to the end.
                self._file = tifffile.TiffFile(self._raw, offset=0, size=_ENDLESS, is_scanimage=False)
            self._file.filehandle.seek(offset)
            return tifffile.TiffPage(self._file, index=self._index)
        except broken:
            return None
        finally:
            log.disabled = disabled

    def _read_plain(self, plain: _Contiguous, *, settled: bool) -> Grown | None:
        end = plain.offset + (self._index + 1) * plain.frame_bytes
        last = self._index + 1 >= plain.frames
        size = self._size()
        if self._index >= plain.frames or size < end or not (size > end or settled or last):
            return None
        data = self._bytes(end - plain.frame_bytes, plain.frame_bytes)
        pixels = np.frombuffer(data, plain.dtype).reshape(plain.shape)
        axes = plain.axes(self._index)
        self._index += 1
        return Grown(pixels.astype(plain.dtype.newbyteorder("=")), {"Axes": axes} if axes else {})


@dataclass(frozen=True, slots=True)
class _Contiguous:
    """An ImageJ file that describes all its frames in the first page and has them one behind the other."""

    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    frames: int
    channels: int
    slices: int

    @classmethod
    def of(cls, page: Any) -> _Contiguous | None:
        """Return what the first page says, or None where it stands for itself alone."""
        words = dict(re.findall(r"^(\w+)=(\d{1,18})\s*$", page.description, flags=re.MULTILINE))
        frames = int(words.get("images", 1))
        if not page.is_imagej or frames < 2 or page.compression != 1 or len(page.shape) != 2 or page.is_tiled:
            return None
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        channels, slices = int(words.get("channels", 1)), int(words.get("slices", 1))
        # ImageJ calls the time axis of a plain stack slices.
        slices = slices if "frames" in words else 1
        if channels < 1 or slices < 1:
            raise InvalidInput(
                f"The first page says that it has {channels} x {slices} channels and slices: it is damaged; save the "
                "movie again in Fiji."
            )
        return cls(page.dataoffsets[0], page.shape, dtype, frames, channels, slices)

    @property
    def frame_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def axes(self, index: int) -> dict[str, int]:
        """Return channel, slice and time of one frame; empty where time is all there is."""
        if self.channels * self.slices == 1:
            return {}
        rest, channel = divmod(index, self.channels)
        time, z = divmod(rest, self.slices)
        return {"time": time, "z": z, "channel": channel}


def _has_pixels(page: Any, size: int) -> bool:
    """Say whether every strip or tile of a page lies inside the file."""
    ends = [
        at + count for at, count in zip(page.dataoffsets, page.databytecounts, strict=False) if at and count
    ]
    return len(ends) == len(page.dataoffsets) > 0 and max(ends) <= size


def _tags_of(page: Any) -> Tags:
    """Return Micro-Manager's metadata of a page, where it has any."""
    tag = page.tags.get("MicroManagerMetadata")
    value = None if tag is None else tag.value
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    return dict(value) if isinstance(value, Mapping) else {}


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts names as people do: ``img2`` before ``img10``."""
    parts = re.split(r"(\d+)", Path(name).stem.lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]


class PngTail(Tail):
    """Follow one PNG image: it is complete when its last block is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given = False

    def mark(self) -> object:
        """Return the file's size and time of change."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        return stat.st_size, stat.st_mtime_ns

    def read(self, *, settled: bool) -> Grown | None:  # noqa: ARG002  its end says that it is complete
        """Return the image if it is complete."""
        if self._given or not self._is_complete():
            return None
        try:
            image = PngImage(self._path, _LARGEST_IMAGE)
            height, width = image.shape[1:]
            pixels = image.read(0, 1, slice(0, height), slice(0, width))[0]
        except FileNotFoundError:  # renamed in this moment
            return None
        self._given = True
        return Grown(pixels)

    def _is_complete(self) -> bool:
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(size - len(_PNG_END), 0))
                return file.read() == _PNG_END
        except (FileNotFoundError, PermissionError):  # renamed, or locked by the program that writes it
            return False

    def unfinished(self) -> bool:
        """Say whether part of the image is there."""
        try:
            return not self._given and self._path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""


class FolderTail(Tail):
    """Follow a folder of TIFF or PNG files, numbered images or the files of one NDTiff, in the order of their names.

    Files whose names tell channels, planes or positions apart are followed side by side, one of each at a time.

    Attributes
    ----------
    late, other_kind
        Files that were left out: those that came after later ones, and PNG among TIFF images or TIFF among PNG ones.
    locked
        Name of a file that another program does not let be opened; empty where there is none.
    made_again
        Names of files that were made again after they had been read.
    unclear
        True where nothing says whether cycles of Prairie View are stacks or time series.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: set[str] = set()
        self._last: dict[_Stream, _Key] = {}
        self._open: dict[_Stream, tuple[str, TiffTail | PngTail, int]] = {}
        self._waiting: dict[_Stream, list[tuple[_Key, str]]] = {}
        # Files that were being read under another name.
        self._renamed: dict[str, tuple[TiffTail | PngTail, int]] = {}
        self._listed: tuple[str, ...] = ()
        self._words = ""
        self._lost = 0
        self._suffixes: tuple[str, ...] = ()
        self._prairie: Cycles | None = None
        self.late = 0
        self.locked = ""
        self.made_again: set[str] = set()
        self.other_kind = 0
        self.unclear = False

    def mark(self) -> object:
        """Return which files there are, and the marks of those that are being read."""
        self._drop_what_was_replaced()
        return self._names(), tuple(tail.mark() for _, tail, _ in self._open.values())

    def _names(self) -> tuple[str, ...]:
        """Return the files in the order of their names, and count those that came too late."""
        # What is there and no regular file, such as a pipe, would block whoever opens it.
        found = [
            each
            for each in self._path.iterdir()
            if each.suffix.lower() in (*_SUFFIXES, *_PNG)
            and not is_beside(each.name)  # what file managers and copying programs put beside the images
            and (each.name in self._done or each.is_file() or not each.exists())
        ]
        if found and not self._suffixes:  # some programs put a picture beside each image
            self._suffixes = _SUFFIXES if any(each.suffix.lower() in _SUFFIXES for each in found) else _PNG
        names = {each.name for each in found if each.suffix.lower() in self._suffixes}
        self.other_kind = len(found) - len(names)
        new = [name for name in names if name not in self._done]
        for name in new:
            if CYCLE.search(name) and not self._knows_cycles(name):
                continue  # which planes there are is asked again when the image is complete
            self._done.add(name)
            stream, key = self._placed(name)
            self._take_over(name, stream)
            if key < self._last.get(stream, ()):
                self.late += 1  # a file that came after a later one was read
                continue
            insort(self._waiting.setdefault(stream, []), (key, name))
        return tuple(sorted(names, key=natural)) if new else self._listed

    def _take_over(self, name: str, stream: _Stream) -> None:
        """Go on with a file that is being read when it gets another name, instead of reading it again."""
        if not any(isinstance(tail, TiffTail) for _, tail, _ in self._open.values()):
            return
        try:
            status = (self._path / name).stat()
        except OSError:
            return
        for was, (old, tail, count) in list(self._open.items()):
            same = isinstance(tail, TiffTail) and tail.identity == (status.st_dev, status.st_ino)
            if same and status.st_ino and old != name and tail.replaced():
                del self._open[was]
                self._renamed[name] = tail, count
                if self._words == was[3]:
                    self._words = stream[3]

    def _drop_what_was_replaced(self) -> None:
        """Let go of files of which nothing was read and that were removed or made again: they are read anew."""
        for stream, (name, tail, count) in list(self._open.items()):
            if not tail.replaced():
                continue
            if not count:
                tail.close()
                del self._open[stream]
                self._done.discard(name)
            elif (self._path / name).exists():
                self.made_again.add(name)

    def found(self) -> bool:
        """Say whether there is an image, or part of one."""
        return bool(self._listed)

    def never_watched(self) -> str:
        """Return which numbered arrays are in a folder without images; empty where they are few."""
        if self._listed:
            return ""
        try:
            numbered = [each.suffix.lower() for each in self._path.iterdir() if each.stem[-1:].isdecimal()]
        except OSError:  # the folder is being made again
            return ""
        kinds = Counter(numbered)
        alike = (kind for kind in _FRAMES_OF_OTHERS if kinds[kind] >= _NUMBERED)
        return next((counted(kinds[kind], f"{kind} file") for kind in alike), "")

    def read(self, *, settled: bool) -> Grown | None:
        """Return the next complete frame of the files that are being read, or of the next ones."""
        # Listing a folder of thousands of files takes longer than reading one of them.
        if not self._open or not all(self._waiting.get(stream) for stream in self._open):
            self._listed = self._names()
        self._take_up()
        while self._open:
            moved = False
            for stream, (name, tail, count) in sorted(
                self._open.items(), key=lambda item: self._placed(item[1][0])[1]
            ):
                grown = tail.read(settled=settled)
                if grown is None and self._follows(stream):
                    # The writer has gone on to another file, so this one is complete.
                    grown = tail.read(settled=True)
                    if grown is None:
                        if tail.unfinished():
                            if not settled:
                                continue  # files may be closed later than the next is begun
                            self._lost += 1
                        tail.close()
                        del self._open[stream]
                        moved = True
                        continue
                if grown is not None:
                    self._open[stream] = name, tail, count + 1
                    lost, self._lost = self._lost, 0
                    tags = _tagged(grown.tags, self._known(stream))
                    return Grown(grown.pixels, self._cycled(tags, name, count), lost)
            if not moved:
                return None
            self._take_up()
        return None

    def _known(self, stream: _Stream) -> _Stream:
        """Return the stream, named by the words of its files where they are not those of the first."""
        self._words = self._words or stream[3]
        if stream[3] in (self._words, ""):
            return stream
        return (" ".join(filter(None, (stream[3].strip("-_. #"), stream[0]))), *stream[1:])

    def _placed(self, name: str) -> tuple[_Stream, _Key]:
        """Return the stream of a file, and what sorts the files: planes of Prairie View's volumes are streams."""
        stream, key = _placed(name)
        cycle = CYCLE.search(name)
        if cycle is None:
            return stream, key
        assert self._prairie is not None
        numbers = re.findall(r"\d+", _stem(name))
        if self._prairie.kind != "plane" or not numbers:
            several = bool(numbers) and int(cycle[1]) > 1 and int(numbers[-1]) > 1
            self.unclear |= several and self._prairie.kind is None
            return stream, key
        plane = self._plane(int(cycle[1]), int(numbers[-1]) - 1)
        return (stream[0], f"z{plane}", *stream[2:]), (natural(name[: cycle.end()]),)

    def _knows_cycles(self, name: str) -> bool:
        """Say whether it is known what the cycles of Prairie View are, after a look at an image of them."""
        if self._prairie is None:
            self._prairie = cycles_beside(self._path / name)
        return self._prairie is not None

    def _plane(self, cycle: int, index: int) -> int:
        """Return which plane the image with this index in its cycle shows."""
        assert self._prairie is not None
        if self._prairie.zigzag and index >= self._prairie.planes:
            raise InvalidInput(
                f"{self._path} holds volumes that Prairie View recorded up and down, and its XML does not say how many "
                "planes they have: denoise them when the recording has ended."
            )
        backwards = self._prairie.zigzag and cycle % 2 == 0
        return self._prairie.planes - 1 - index if backwards else index

    def _cycled(self, tags: Mapping[str, Any], name: str, page: int) -> Mapping[str, Any]:
        """Return the tags of a page with the plane that it shows, where a file holds a volume of Prairie View."""
        cycle = CYCLE.search(name)
        if cycle is None or self._prairie is None or self._prairie.kind != "plane":
            return tags
        first = int(re.findall(r"\d+", _stem(name))[-1]) - 1
        axes = {
            **tags.get("Axes", {}),
            "time": int(cycle[1]) - 1,
            "z": self._plane(int(cycle[1]), first + page),
        }
        return {**tags, "Axes": axes}

    def _follows(self, stream: _Stream) -> bool:
        return bool(self._waiting.get(stream))

    def _take_up(self) -> None:
        """Open the next file of each stream that has none open."""
        for stream, files in self._waiting.items():
            if files and stream not in self._open and len(self._open) < _MOST_OPEN:
                key, name = files[0]
                kind = PngTail if name.lower().endswith(_PNG) else TiffTail
                try:
                    known = self._renamed.pop(name) if name in self._renamed else None
                    tail, count = known or (kind(self._path / name), 0)
                except FileNotFoundError:  # it was removed, or has another name now; it may come again
                    self._done.discard(name)
                    files.pop(0)
                    continue
                except PermissionError:
                    # On Windows, while the program that writes it lets nobody else read it.
                    self.locked = name
                    continue
                self.locked = ""
                files.pop(0)
                self._open[stream] = name, tail, count
                self._last[stream] = key

    def unfinished(self) -> bool:
        """Say whether part of a further frame is there."""
        return any(tail.unfinished() for _, tail, _ in self._open.values())

    def close(self) -> None:
        """Let go of the files that are being read."""
        for tail in [
            *(tail for _, tail, _ in self._open.values()),
            *(tail for tail, _ in self._renamed.values()),
        ]:
            tail.close()
        self._open.clear()
        self._renamed.clear()


_MOST_OPEN = 256
_Stream = tuple[str, str, str, str]
_Key = tuple[Any, ...]


def _stem(name: str) -> str:
    return re.sub(r"(\.ome)?\.\w+$", "", name, flags=re.IGNORECASE)


def _placed(name: str) -> tuple[_Stream, _Key]:
    """Return the stream that a file's name tells, and what sorts the files."""
    stream, rest = stream_of_name(name)
    # Names of other words are other recordings or channels; ``movie.tif`` and ``movie_1.tif`` are one.
    words = re.sub(r"(?:[-_. ]?[A-Za-z]?|[-_. ](?:file|part)|@)#$", "", re.sub(r"\d+", "#", rest))
    if name.lower().endswith((".ome.tif", ".ome.tiff")):  # beside ``movie.tif``, another movie
        words += " ome"
    return (*stream, words), (natural(rest), natural(stream[2]), natural(stream[1]), natural(stream[0]))


def _tagged(tags: Mapping[str, Any], stream: _Stream) -> Mapping[str, Any]:
    """Add what the name says to what the file says of a frame."""
    channel, plane, position, _ = stream
    said = {"channel": channel, "z": _digits(plane), "position": _digits(position)}
    said = {axis: value for axis, value in said.items() if value != ""}
    if not said:
        return tags
    axes = tags.get("Axes")
    return {**tags, "Axes": {**said, **(axes if isinstance(axes, Mapping) else {})}}


def _digits(label: str) -> int | str:
    numbers = re.findall(r"\d+", label)
    return int(numbers[0]) if numbers else label
