"""Small messages between a process of ours and another: JSON behind its length, through a pipe; no pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

__all__ = ["Wire"]

_LENGTH = struct.Struct("<I")
_MOST_BYTES = 1 << 24


class Wire:
    """Send and receive messages; used by one thread at a time.

    Parameters
    ----------
    incoming, outgoing
        Pipes open for reading and for writing in binary.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message of plain values.

        Raises
        ------
        OSError
            When nobody listens any more.
        """
        text = json.dumps(message, separators=(",", ":")).encode()
        self._outgoing.write(_LENGTH.pack(len(text)) + text)
        self._outgoing.flush()

    def receive(self) -> dict[str, Any] | None:
        """Wait for a message; None when the other side is gone.

        Raises
        ------
        ValueError
            When what arrives is no message.
        """
        head = self._incoming.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > _MOST_BYTES:
            raise ValueError(f"a message of {length} bytes is announced, and {_MOST_BYTES} is the limit")
        text = self._incoming.read(length)
        if len(text) < length:
            return None
        message: dict[str, Any] = json.loads(text)
        return message
