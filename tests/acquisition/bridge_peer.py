"""A small server that speaks Micro-Manager's bridge protocol and plays a camera, for tests."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

__all__ = ["Peer"]

_CORE = "mmcorej.CMMCore"
_IMAGE = "mmcorej.TaggedImage"
_METHODS = {
    "getCameraDevice": ([], "java.lang.String"),
    "getPixelSizeUm": ([], "double"),
    "getExposure": ([], "double"),
    "getNumberOfComponents": ([], "long"),
    "getImageHeight": ([], "long"),
    "getImageWidth": ([], "long"),
    "getBytesPerPixel": ([], "long"),
    "getVersionInfo": ([], "java.lang.String"),
    "initializeCircularBuffer": ([], "void"),
    "startSequenceAcquisition": (["int", "double", "boolean"], "void"),
    "stopSequenceAcquisition": ([], "void"),
    "isSequenceRunning": ([], "boolean"),
    "isBufferOverflowed": ([], "boolean"),
    "getRemainingImageCount": ([], "int"),
    "popNextTaggedImage": ([], "mmcorej.TaggedImage"),
}


class Peer(threading.Thread):
    """Serve `frames` ``(T, H, W)`` uint16, then stand still; fall silent after `silent_after` of them."""

    def __init__(self, frames: npt.NDArray[np.uint16], *, silent_after: int | None = None) -> None:
        super().__init__(daemon=True, name="bridge-peer")
        self.frames = frames
        self.silent_after = silent_after
        self.armed_with: list[Any] = []
        self.popped = 0
        self._running = False
        self._over = threading.Event()
        self._socket = zmq.Context.instance().socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    def stop(self) -> None:
        self._over.set()
        self.join(5)

    def run(self) -> None:
        while not self._over.is_set():
            if not self._socket.poll(20):
                continue
            message = json.loads(self._socket.recv_multipart()[0].decode("iso-8859-1"))
            if self.silent_after is not None and self.popped > self.silent_after:
                self._over.wait()
                break
            reply, parts = self._answer(message)
            self._socket.send_multipart([json.dumps(reply).encode("iso-8859-1"), *parts])
        self._socket.close()

    def _answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        command = message["command"]
        if command == "connect":
            return {"type": "object", "version": "5.1.0"}, []
        if command == "get-constructors":
            return {"type": "none", "api": [{"name": _CORE, "arguments": [], "return-type": ""}]}, []
        if command == "constructor":
            return _shadow(_CORE, 1, [], _METHODS), []
        if command == "get-field":
            return self._field(message["name"])
        if command == "run-method":
            return self._call(message["name"], message["arguments"]), []
        return {"type": "null"}, []

    def _field(self, name: str) -> tuple[dict[str, Any], list[bytes]]:
        index = self.popped - 1
        if name == "pix":
            identity = 77
            data = self.frames[index].tobytes()
            return {"type": "short-array", "value": f"@{identity:x}"}, [
                identity.to_bytes(4, sys.byteorder),
                data,
            ]
        height, width = self.frames.shape[1:]
        tags = {
            "ImageNumber": index,
            "Height": height,
            "Width": width,
            "Camera": "Far",
            "PixelType": "GRAY16",
        }
        return {"type": "object", "class": "JSONObject", "value": json.dumps(tags)}, []

    def _call(self, name: str, arguments: list[Any]) -> dict[str, Any]:
        if name == "popNextTaggedImage":
            self.popped += 1
            return _shadow(_IMAGE, 1000 + self.popped, ["pix", "tags"], {})
        if name == "startSequenceAcquisition":
            self.armed_with, self._running = arguments, True
        if name == "stopSequenceAcquisition":
            self._running = False
        left = len(self.frames) - self.popped
        values: dict[str, Any] = {
            "getCameraDevice": "Far",
            "getPixelSizeUm": 0.325,
            "getExposure": 10.0,
            "getNumberOfComponents": 1,
            "getImageHeight": self.frames.shape[1],
            "getImageWidth": self.frames.shape[2],
            "getBytesPerPixel": 2,
            "getVersionInfo": "MMCore version of the peer",
            "isSequenceRunning": self._running and left > 0,
            "isBufferOverflowed": False,
            "getRemainingImageCount": left if self._running else 0,
        }
        return {"type": "primitive", "value": values[name]} if name in values else {"type": "null"}


def _shadow(name: str, code: int, fields: list[str], methods: dict[str, Any]) -> dict[str, Any]:
    api = [
        {"name": key, "arguments": list(args), "return-type": kind} for key, (args, kind) in methods.items()
    ]
    return {
        "type": "unserialized-object",
        "class": name,
        "hash-code": code,
        "interfaces": [name],
        "fields": fields,
        "api": api,
    }
