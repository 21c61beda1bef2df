"""Messages between two processes of denoscope, through a pipe: the one protocol that all of them speak.

::

    | magic, 4 bytes | length of the words, 4 | length of the body, 8 | words: JSON | body: bytes |

The words are an object of plain values, or nothing; the body is a record of fixed layout, the pixels of a frame,
or nothing. There is no pickle. A message is also what wakes the other side up: a blocking read of a pipe costs less
than any wait in shared memory that works on Windows and Linux, and it ends when the other process does.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Message", "Wire", "Words", "pack"]

_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"DSW1"
_MOST_WORDS = 1 << 24
_MOST_BODY = 1 << 32
_AT_ONCE = 1 << 12  # a longer body is written from where it lies

Buffer = bytes | bytearray | memoryview

Words = dict[str, Any]
"""Plain values of a message that arrived, by name; each pair of processes has its own."""


class Message(NamedTuple):
    """One message.

    Attributes
    ----------
    words
        Plain values by name; empty where there are none.
    body
        Bytes, empty where there are none.
    """

    words: Words
    body: bytes | bytearray


def pack(words: Mapping[str, Any] | None = None, *body: Buffer) -> bytes:
    """Return the bytes of one message up to its body; what JSON has no word for becomes text.

    Raises
    ------
    ValueError
        When the words are longer than the other side takes.
    """
    return _head(words, sum(map(len, body)))


def _head(words: Mapping[str, Any] | None, size: int) -> bytes:
    """Return the bytes of one message up to its body of so many bytes."""
    if not words:
        return _HEAD.pack(_MAGIC, 0, size)
    text = json.dumps(words, separators=(",", ":"), default=str).encode()
    if len(text) > _MOST_WORDS:
        raise ValueError(
            f"{len(text) / 1e6:.0f} MB are more than the {_MOST_WORDS / 1e6:.0f} MB of a message"
        )
    return _HEAD.pack(_MAGIC, len(text), size) + text


class Wire:
    """Send messages from any thread, receive them in one.

    Parameters
    ----------
    incoming, outgoing
        Pipes open for reading and for writing in binary; None where nothing is sent.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO | None = None) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = threading.Lock()

    def send(self, words: Mapping[str, Any] | None = None, *body: Buffer) -> None:
        """Send one message.

        Parameters
        ----------
        words
            Plain values.
        body
            Its parts, each C-contiguous bytes.

        Raises
        ------
        OSError
            When nobody listens any more.
        ValueError
            When the words are too long; nothing is sent.
        """
        assert self._outgoing is not None
        size = sum(map(len, body))
        head = _head(words, size)
        with self._sending:
            if size <= _AT_ONCE:
                self._outgoing.write(b"".join((head, *body)))
            else:
                self._outgoing.write(head)
                for part in body:
                    self._outgoing.write(part)
            self._outgoing.flush()

    def hang_up(self) -> None:
        """Send nothing more: the other side's end of the pipe ends."""
        if self._outgoing is not None:
            self._outgoing.close()

    def receive(self) -> Message | None:
        """Wait for a message; None when the other side has ended.

        Raises
        ------
        ValueError
            When what arrives is no message, or ends in the middle of one.
        """
        head = self._incoming.read(_HEAD.size)
        if not head:
            return None
        if len(head) < _HEAD.size:
            raise ValueError(f"it ended {_HEAD.size - len(head)} bytes early")
        magic, words, body = _HEAD.unpack(head)
        if magic != _MAGIC or words > _MOST_WORDS or body > _MOST_BODY:
            raise ValueError("what arrives are no messages of denoscope")
        found = json.loads(self._exactly(words)) if words else {}
        if not isinstance(found, dict):
            raise ValueError("a message's words are no object")  # noqa: TRY004  as any other damage
        return Message(found, self._exactly(body) if body else b"")

    def _exactly(self, count: int) -> bytes | bytearray:
        if count > _AT_ONCE:
            return self._large(count)
        data = self._incoming.read(count)
        if len(data) < count:
            raise ValueError(f"it ended {count - len(data)} bytes early")
        return data

    def _large(self, count: int) -> bytearray:
        """Read into memory that the receiver may write to, without a copy between."""
        data = bytearray(count)
        view = memoryview(data)
        while view:
            read = self._incoming.readinto(view)  # type: ignore[attr-defined]
            if not read:
                raise ValueError(f"it ended {len(view)} bytes early")
            view = view[read:]
        return data
