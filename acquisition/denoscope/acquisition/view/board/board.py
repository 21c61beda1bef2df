"""Shared memory for a session's newest frames, which a viewer reads; neither waits for the other.

There are three slots: raw frame, denoised frame, status. Each has one writer and two buffers. The writer
says which frame it begins, fills the buffer that readers are not looking at, and says that it is done. A
reader copies the buffer that was done last, and takes the copy back if the writer has come round to the
same buffer in the meantime. So the writer's cost is one copy of a frame, whatever the reader does, and a
reader that is slow skips frames. Beside them is a table of where the newest frames lie on the disk. This relies
on stores becoming visible in order, which holds on x86-64.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.sinks.base import PixelsAt

from .words import ViewStatus

__all__ = ["Board", "Picture", "Place", "Slot", "Wish"]

_FRAME_BYTES = 1 << 23
_STATUS_BYTES = 1 << 16
_HEADER_BYTES = 512
_HEAD_WORDS = 8
_HEAD_BYTES = 8 * _HEAD_WORDS
_RETRIES = 3
_LAYOUT = 0x64656E6F00000003  # "deno" and the version of the layout
_DTYPES: tuple[np.dtype[Any], ...] = tuple(map(np.dtype, (np.uint8, np.uint16, np.float32, np.int16)))

_PLACES = 1 << 18  # frames of which it is known where they lie on the disk: the newest ones
_FILE_WORDS = 6  # of a path from the run folder: denoised_12.ome.zarr/0/c/1234567/0/12/0/0 has 40 bytes
_PLACE_WORDS = 5 + _FILE_WORDS  # page + 1, byte, dtype and stream, height and width, number, file

# Words of the header. The first three are written once; the viewer writes the next four.
_W_LAYOUT, _W_FRAME_BYTES, _W_WANTED, _W_WISH, _W_WISHES, _W_BEATS = range(6)
_W_SLOTS = 16


class Slot(IntEnum):
    """Contents of a slot."""

    RAW = 0
    DENOISED = 1
    STATUS = 2


class Wish(IntEnum):
    """Request of a viewer to the session."""

    STOP = 1
    PAUSE = 2
    RESUME = 3
    RECORD = 4
    FIND = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a frame's pixels in its file, and their kind.

    Parameters
    ----------
    file, at
        Path of the file from the run folder, and byte where they begin; one strip, little-endian.
    shape, dtype
        Of the pixels.
    stream
        Place of its stream in the status' ``streams``.
    number
        The frame's number in its stream.
    """

    file: str
    at: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    stream: int
    number: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame as a viewer sees it.

    Parameters
    ----------
    pixels
        ``(H, W)``, a copy.
    number
        The frame's number.
    step
        1, or k where only every k-th row and column fitted into the slot.
    order
        How many frames the slot had taken with this one.
    """

    pixels: npt.NDArray[Any]
    number: int
    step: int
    order: int


class Board:
    """The shared memory, as its owner or its visitor sees it; use `create` or `follow`.

    Parameters
    ----------
    slab
        Large enough already.
    """

    def __init__(self, slab: Slab) -> None:
        self._slab = slab
        self._words = slab.view(0, (_HEADER_BYTES // 8,), np.uint64)
        if int(self._words[_W_LAYOUT]) != _LAYOUT:
            raise ValueError("the shared memory holds no frames of this version of denoscope")
        self._capacity = (int(self._words[_W_FRAME_BYTES]),) * 2 + (_STATUS_BYTES,)
        self.places: npt.NDArray[np.uint64] = slab.view(
            _slots_bytes(self._capacity[0]), (2, _PLACES, _PLACE_WORDS), np.uint64
        )
        """Places of the newest frames on the disk, raw and denoised, for `place_of`."""

    @classmethod
    def create(cls, slab: Slab, frame_bytes: int) -> tuple[Board, str]:
        """Lay out a slab for frames of so many bytes; return the board and the slab's name for `follow`.

        Frames beyond 8 MB are shown at every k-th pixel, so that the cost of showing them stays bounded.
        """
        capacity = -(-min(frame_bytes, _FRAME_BYTES) // 64) * 64
        name = slab.grow(_slots_bytes(capacity) + 2 * _PLACES * 8 * _PLACE_WORDS)
        words = slab.view(0, (_HEADER_BYTES // 8,), np.uint64)
        words[:] = 0
        words[_W_LAYOUT], words[_W_FRAME_BYTES] = _LAYOUT, capacity
        return cls(slab), name

    @classmethod
    def follow(cls, slab: Slab, name: str, nbytes: int) -> Board:
        """Open the board that the other process has made."""
        slab.follow(name, nbytes)
        return cls(slab)

    @property
    def nbytes(self) -> int:
        """Size of the shared memory in bytes."""
        return self._slab.nbytes

    def close(self) -> None:
        """Let go of the memory."""
        self._words = np.zeros(_HEADER_BYTES // 8, np.uint64)
        self._capacity = (0, 0, 0)
        self.places = np.zeros((2, _PLACES, _PLACE_WORDS), np.uint64)
        self._slab.close()

    # -- the session's side; one thread for each slot

    def put(self, slot: Slot, pixels: npt.NDArray[Any], number: int) -> None:
        """Show a frame; never waits.

        Parameters
        ----------
        slot
            Where.
        pixels
            ``(H, W)``, uint8, uint16 or float32.
        number
            The frame's number, from 0.
        """
        step = max(1, math.ceil(math.sqrt(pixels.nbytes / self._capacity[slot])))
        while (shown := pixels[::step, ::step]).nbytes > self._capacity[slot]:
            step += 1
        head, at, order = self._begin(slot)
        height, width = shown.shape
        head[:5] = (height, width, _DTYPES.index(pixels.dtype), step, number)
        np.copyto(self._slab.view(at, (height, width), pixels.dtype), shown)
        self._done(slot, order)

    def note(
        self, slot: Slot, page: int, at: PixelsAt, pixels: npt.NDArray[Any], *, stream: int, number: int
    ) -> None:
        """Say where a frame lies that is complete on the disk; never waits.

        A path of more than 48 bytes is left out: what the sinks write is shorter.

        Parameters
        ----------
        slot
            Raw or denoised.
        page
            Page of ``raw.tif``.
        at
            File and byte where the pixels begin.
        pixels
            ``(H, W)``.
        stream, number
            Place of the stream, and number of the frame in it.
        """
        entry = self.places[slot, page % _PLACES]
        entry[0] = 0  # nobody may read it while it changes
        height, width = pixels.shape
        file = at.file.encode()
        if len(file) > 8 * _FILE_WORDS:
            return
        entry[1:5] = (at.byte, stream << 8 | _DTYPES.index(pixels.dtype), height << 32 | width, number)
        entry[5:] = np.frombuffer(file.ljust(8 * _FILE_WORDS, b"\0"), np.uint64)
        entry[0] = page + 1

    def put_status(self, status: Mapping[str, Any]) -> None:
        """Show plain values; never waits.

        Raises
        ------
        ValueError
            When they take more than 64 KiB as JSON.
        """
        text = json.dumps(status, separators=(",", ":")).encode()
        if len(text) > _STATUS_BYTES:
            raise ValueError(f"a status of {len(text)} bytes exceeds {_STATUS_BYTES}")
        head, at, order = self._begin(Slot.STATUS)
        head[0] = len(text)
        self._slab.view(at, (len(text),), np.uint8)[:] = np.frombuffer(text, np.uint8)
        self._done(Slot.STATUS, order)

    @property
    def wanted(self) -> int:
        """The stream that the viewer shows, as its place in the status' ``streams``."""
        return int(self._words[_W_WANTED])

    @property
    def wishes(self) -> tuple[int, Wish | None]:
        """How often the viewer has asked for something, and for what last."""
        count, last = int(self._words[_W_WISHES]), int(self._words[_W_WISH])
        return count, Wish(last) if last in Wish.__members__.values() else None

    @property
    def beats(self) -> int:
        """Grows as long as the viewer is alive."""
        return int(self._words[_W_BEATS])

    # -- the viewer's side; one thread

    def get(self, slot: Slot, after: int = 0) -> Picture | None:
        """Return a copy of the newest frame, or None where there is none newer than the one of order `after`."""
        for _ in range(_RETRIES):
            begun, done, at = self._newest(slot)
            if done <= after:
                return None
            head = self._slab.view(at, (_HEAD_WORDS,), np.uint64).copy()
            height, width, code, step, number = (int(word) for word in head[:5])
            # Torn words may be anything; what does not fit cannot be looked at.
            if code < len(_DTYPES) and height * width * _DTYPES[code].itemsize <= self._capacity[slot]:
                pixels = self._slab.view(at + _HEAD_BYTES, (height, width), _DTYPES[code]).copy()
                if int(self._words[begun]) <= done + 1:
                    return Picture(pixels, number, step, done)
        return None

    def get_status(self) -> ViewStatus | None:
        """Return the newest status, or None before the first."""
        for _ in range(_RETRIES):
            begun, done, at = self._newest(Slot.STATUS)
            if done == 0:
                return None
            length = int(self._slab.view(at, (_HEAD_WORDS,), np.uint64)[0])
            if length <= _STATUS_BYTES:
                text = self._slab.view(at + _HEAD_BYTES, (length,), np.uint8).tobytes()
                if int(self._words[begun]) <= done + 1:
                    status: ViewStatus = json.loads(text)
                    return status
        return None

    @staticmethod
    def place_of(places: npt.NDArray[np.uint64], slot: Slot, page: int) -> Place | None:
        """Return where the frame of a page lies, None where that is not known.

        Parameters
        ----------
        places
            Of a board, which may be closed.
        slot
            Raw or denoised.
        page
            Page of ``raw.tif``.
        """
        entry = places[slot, page % _PLACES]
        found = entry.copy()
        _, at, kind, shape, number = (int(word) for word in found[:5])
        if int(entry[0]) != page + 1 or kind & 0xFF >= len(_DTYPES):
            return None
        file = found[5:].tobytes().rstrip(b"\0").decode(errors="replace")
        return Place(file, at, (shape >> 32, shape & 0xFFFFFFFF), _DTYPES[kind & 0xFF], kind >> 8, number)

    def want(self, stream: int) -> None:
        """Show another stream from now on."""
        self._words[_W_WANTED] = stream

    def ask(self, wish: Wish) -> None:
        """Ask the session for something; it obeys within a fraction of a second."""
        self._words[_W_WISH] = wish
        self._words[_W_WISHES] += np.uint64(1)

    def beat(self) -> None:
        """Say that the viewer is alive."""
        self._words[_W_BEATS] += np.uint64(1)

    # -- slots

    def _begin(self, slot: Slot) -> tuple[npt.NDArray[np.uint64], int, int]:
        """Return the head of the buffer to fill, where its content begins, and the order of what it takes."""
        begun, done = self._counters(slot)
        order = int(self._words[done]) + 1
        self._words[begun] = order
        at = self._at(slot, order)
        return self._slab.view(at, (_HEAD_WORDS,), np.uint64), at + _HEAD_BYTES, order

    def _done(self, slot: Slot, order: int) -> None:
        self._words[self._counters(slot)[1]] = order

    def _newest(self, slot: Slot) -> tuple[int, int, int]:
        """Return the word that says what is begun, the order of the newest content, and its buffer."""
        begun, done = self._counters(slot)
        order = int(self._words[done])
        return begun, order, self._at(slot, order)

    @staticmethod
    def _counters(slot: Slot) -> tuple[int, int]:
        # Each pair on its own cache line, because each has its own thread.
        return _W_SLOTS + 8 * slot, _W_SLOTS + 8 * slot + 1

    def _at(self, slot: Slot, order: int) -> int:
        before = sum(2 * (_HEAD_BYTES + self._capacity[earlier]) for earlier in range(slot))
        return _HEADER_BYTES + before + order % 2 * (_HEAD_BYTES + self._capacity[slot])


def _slots_bytes(capacity: int) -> int:
    """Return the size of header and slots, for frames of so many bytes."""
    return _HEADER_BYTES + 2 * (2 * (_HEAD_BYTES + capacity) + _HEAD_BYTES + _STATUS_BYTES)
