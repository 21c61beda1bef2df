"""Stack files as Micro-Manager writes them: room made ahead, pointers set ahead, an index at the end."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .races import cut, put

__all__ = ["stack_steps"]

_HEADERS = 54773648, 483765892, 99384722, 2355492
_INDEX = 3453623


def _ifd(frame: npt.NDArray[np.uint16], at: int, about: bytes, text: bytes) -> bytes:
    """Return a page that lies at a byte: its directory with the place of the next page, pixels, and metadata."""
    rows, columns = frame.shape
    entries = 12 + bool(text)
    pixels_at = at + 2 + 12 * entries + 4 + 16
    about_at = pixels_at + frame.nbytes
    text_at = about_at + len(about)
    tags: list[tuple[int, int, int, int]] = [
        (256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        *([(270, 2, len(text), text_at)] if text else []),
        (273, 4, 1, pixels_at), (277, 3, 1, 1), (278, 3, 1, rows), (279, 4, 1, frame.nbytes),
        (282, 5, 1, pixels_at - 16), (283, 5, 1, pixels_at - 8), (51123, 2, len(about), about_at),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    end = text_at + len(text)
    return b"".join(
        (struct.pack("<H", len(tags)), body, struct.pack("<I", end + end % 2), struct.pack("<IIII", 1, 1, 1, 1),
         frame.astype("<u2").tobytes(), about, text, bytes(end % 2))
    )  # fmt: skip


def stack_steps(
    path: Path,
    frames: Sequence[tuple[dict[str, int], npt.NDArray[np.uint16]]],
    summary: dict[str, Any],
    *,
    ended: bool = True,
    room: int = 20_000,
) -> list[Callable[[], None]]:
    """Return the writes of one stack file, each in two pieces.

    Parameters
    ----------
    path
        Of the file.
    frames
        ``channel``, ``slice``, ``frame`` and ``position`` of each image, and the image.
    summary
        Metadata of the recording.
    ended
        Whether the recording was ended, so that the file has an index and no room behind it.
    room
        Bytes that are made ahead.
    """
    said = json.dumps(summary).encode()
    said += bytes(len(said) % 2)
    begin = 40 + len(said)
    head = b"II*\0" + struct.pack("<I", begin)
    head += b"".join(struct.pack("<II", number, 0) for number in _HEADERS[:3])
    head += struct.pack("<II", _HEADERS[3], len(said)) + said
    writes: list[tuple[int, bytes]] = [(0, head)]
    at, index, pointer = begin, b"", 0
    for place, frame in frames:
        words = {
            "ChannelIndex": "channel",
            "SliceIndex": "slice",
            "FrameIndex": "frame",
            "PositionIndex": "position",
        }
        about = json.dumps({name: place[word] for name, word in words.items()}).encode() + b"\0"
        text = b""
        page = _ifd(frame, at, about, text)
        index += struct.pack("<5I", *(place[w] for w in words.values()), at)
        pointer = at + 2 + 12 * (12 + bool(text))
        writes.append((at, page))
        at += len(page)
    steps: list[Callable[[], None]] = [lambda: put(path, 0, b""), lambda: cut(path, room)]
    if ended:
        writes += [
            (pointer, bytes(4)),
            (at, struct.pack("<II", _INDEX, len(frames)) + index),
            (12, struct.pack("<I", at)),
        ]
    for start, data in writes:
        half = len(data) // 2
        for offset, piece in ((start, data[:half]), (start + half, data[half:])):
            steps.append(lambda offset=offset, piece=piece: put(path, offset, piece))  # type: ignore[misc]
    if ended:
        steps.append(lambda: cut(path, at + 8 + len(index)))
    return steps
