"""A small server that speaks Micro-Manager's bridge protocol and plays a camera, for tests.

It does what Micro-Manager 2's server (PyJavaZ 5.1.0) was seen to do: one thread answers all clients, one
request after the other; what a method raises comes as class, message and stack, and an error of Java's
virtual machine as an object; tags are texts, about 200 a frame; texts are ISO-8859-1; methods are overloaded;
anybody may start and stop sequences beside us.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections import deque
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

__all__ = ["EMPTY", "RUNNING", "Camera", "Peer"]

_CORE = "mmcorej.CMMCore"
_IMAGE = "mmcorej.TaggedImage"
_STATE = "mmcorej.Configuration"
# Every object has them.
_OBJECT: list[tuple[str, list[str], str]] = [
    ("wait", ["long", "int"], "void"),
    ("wait", [], "void"),
    ("toString", [], "java.lang.String"),
    ("hashCode", [], "int"),
]
_METHODS: list[tuple[str, list[str], str]] = [
    ("getCameraDevice", [], "java.lang.String"),
    ("getPixelSizeUm", ["boolean"], "double"),
    ("getPixelSizeUm", [], "double"),
    ("getExposure", ["java.lang.String"], "double"),
    ("getExposure", [], "double"),
    ("getNumberOfComponents", [], "long"),
    ("getNumberOfCameraChannels", [], "long"),
    ("getImageHeight", [], "long"),
    ("getImageWidth", [], "long"),
    ("getBytesPerPixel", [], "long"),
    ("getVersionInfo", [], "java.lang.String"),
    ("getCircularBufferMemoryFootprint", [], "long"),
    ("initializeCircularBuffer", [], "void"),
    ("clearCircularBuffer", [], "void"),
    ("startSequenceAcquisition", ["java.lang.String", "int", "double", "boolean"], "void"),
    ("startSequenceAcquisition", ["int", "double", "boolean"], "void"),
    ("stopSequenceAcquisition", ["java.lang.String"], "void"),
    ("stopSequenceAcquisition", [], "void"),
    ("isSequenceRunning", ["java.lang.String"], "boolean"),
    ("isSequenceRunning", [], "boolean"),
    ("isBufferOverflowed", [], "boolean"),
    ("getRemainingImageCount", [], "int"),
    ("popNextTaggedImage", ["int"], _IMAGE),
    ("popNextTaggedImage", [], _IMAGE),
    ("getLastTaggedImage", ["int"], _IMAGE),
    ("getLastTaggedImage", [], _IMAGE),
    ("getTaggedImage", ["int"], _IMAGE),
    ("getTaggedImage", [], _IMAGE),
    ("getSystemStateCache", [], _STATE),
    ("sleep", ["double"], "void"),
]
_STATE_METHODS: list[tuple[str, list[str], str]] = [
    ("getVerbose", [], "java.lang.String"),
    ("size", [], "long"),
]
EMPTY = "Circular buffer is empty."
RUNNING = "This operation can not be executed while sequence acquisition is running."


class JavaError(Exception):
    """Exception that Java raises in a method."""


class VirtualMachineError(Exception):
    """Error of Java's virtual machine, which the server sends as an object, not as an exception."""


class Camera:
    """MMCore's camera and circular buffer; the peer's methods call it, and a test may call it as the GUI does.

    Parameters
    ----------
    frames
        ``(T, H, W)`` uint16: what a sequence of ours delivers before the camera stands still.
    rate_hz
        Frames per second; None for all at once.
    capacity
        Frames that the buffer holds.
    """

    def __init__(
        self, frames: npt.NDArray[np.uint16], *, rate_hz: float | None = None, capacity: int = 10**9
    ) -> None:
        self.frames = frames
        self.rate_hz = rate_hz
        self.capacity = capacity
        self.lock = threading.RLock()
        self.buffer: deque[tuple[npt.NDArray[np.uint16], int, float]] = deque()
        self.owner = ""
        self.began_s = self.began_unix_s = 0.0
        self.made = 0
        self.overflowed = False
        self.events: list[str] = []

    def start(self, owner: str) -> None:
        """Begin a sequence, which clears the buffer first as MMCore does."""
        with self.lock:
            if self.running():
                raise JavaError(RUNNING)
            self.buffer.clear()
            self.made, self.overflowed = 0, False
            self.owner, self.began_s, self.began_unix_s = owner, time.perf_counter(), time.time()
            self.events.append(f"start {owner}")

    def stop(self, by: str) -> None:
        """End whatever sequence runs."""
        with self.lock:
            self._advance()
            self.events.append(f"stop {self.owner or 'nothing'} by {by}")
            self.owner = ""

    def initialize(self) -> None:
        """Size and empty the buffer, whoever's frames lie there."""
        with self.lock:
            self.events.append("initialize")
            self.buffer.clear()

    def running(self) -> bool:
        """Say whether a sequence runs."""
        with self.lock:
            self._advance()
            return bool(self.owner)

    def count(self) -> int:
        """Return how many frames are buffered."""
        with self.lock:
            self._advance()
            return len(self.buffer)

    def pop(self) -> tuple[npt.NDArray[np.uint16], int, float]:
        """Take the oldest frame: pixels, number, when it was made."""
        with self.lock:
            self._advance()
            if not self.buffer:
                raise JavaError(EMPTY)
            return self.buffer.popleft()

    def _advance(self) -> None:
        if not self.owner:
            return
        ours = self.owner == "us"
        due = len(self.frames)
        if self.rate_hz is not None:
            due = int((time.perf_counter() - self.began_s) * self.rate_hz)
        if ours:
            due = min(due, len(self.frames))
        while self.made < due:
            if len(self.buffer) >= self.capacity:
                self.overflowed, self.owner = True, ""
                return
            pixels = self.frames[self.made] if ours else np.full(self.frames.shape[1:], 9999, np.uint16)
            now_s = time.perf_counter()
            at_s = now_s if self.rate_hz is None else self.began_s + (self.made + 1) / self.rate_hz
            self.buffer.append((pixels, self.made, at_s))
            self.made += 1
        if ours and self.made == len(self.frames) and not self.buffer:
            self.owner = ""  # it stands still once everything was taken


class Peer(threading.Thread):
    """Serve a camera; fall silent after `silent_after` popped frames, or go away after `gone_after`.

    Parameters
    ----------
    frames
        What the camera delivers, or the camera.
    ahead
        Let the count run ahead of what can be popped by one, until somebody has tried.
    raises
        Message of the Java exception that a method raises, by the method's name; an error of the virtual machine
        where it is one, such as ``OutOfMemoryError``.
    text_s
        Seconds that the server takes to write the texts of a frame or of the state of all devices.
    snapped
        Whether an image was snapped before, so that ``getTaggedImage`` has something to return.
    port
        0 for any.
    """

    def __init__(
        self,
        frames: npt.NDArray[np.uint16] | Camera,
        *,
        silent_after: int | None = None,
        gone_after: int | None = None,
        ahead: bool = False,
        raises: dict[str, str] | None = None,
        snapped: bool = False,
        tags: dict[str, str] | None = None,
        exposure_ms: float = 100.0,
        text_s: float = 0.0,
        port: int = 0,
    ) -> None:
        super().__init__(daemon=True, name="bridge-peer")
        self.camera = frames if isinstance(frames, Camera) else Camera(frames)
        self.silent_after = silent_after
        self.gone_after = gone_after
        self.ahead = ahead
        self.raises = raises or {}
        self.snapped = snapped
        self.exposure_ms = exposure_ms
        self.text_s = text_s
        self.armed_with: list[Any] = []
        self.popped = 0
        self.calls: dict[str, int] = {}
        self.objects: dict[str, Any] = {}
        self.more_tags = {f"Stage{i:03d}-Property {i}": f"value {i} of {i * i}" for i in range(180)}
        self.more_tags |= {"Objective-Label": "20x 0.8 \N{MICRO SIGN}m", **(tags or {})}
        self._raced = -1
        self.races = 0
        self.date_moved_s = 0.0  # by which the date was set ahead since the sequence began
        self._over = threading.Event()
        self._socket = zmq.Context.instance().socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        if port:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
            self.port = port
        else:
            self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    @property
    def frames(self) -> npt.NDArray[np.uint16]:
        """Frames that the camera delivers."""
        return self.camera.frames

    def stop(self) -> None:
        """End the server, as closing Micro-Manager does."""
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
            if self.gone_after is not None and self.popped > self.gone_after:
                break
            parts: list[bytes] = []
            try:
                reply, parts = self._answer(message)
            except JavaError as error:
                # As the server serializes what a method raised: no tabs, no "at".
                stack = [
                    "mmcorej.MMCoreJJNI.CMMCore_call__SWIG_0(Native Method)",
                    "mmcorej.CMMCore.call(CMMCore.java:1234)",
                    "java.base/jdk.internal.reflect.DirectMethodHandleAccessor.invoke(Unknown Source)",
                    "org.micromanager.pyjavaz.ZMQServer.runMethod(ZMQServer.java:493)",
                ]
                reply = {
                    "type": "exception",
                    "value": f"java.lang.Exception: {error}\n" + "\n".join(stack) + "\n",
                }
            except VirtualMachineError as error:
                kind = f"java.lang.{error}"
                reply = self._shadow(kind, error, [], [("getMessage", [], "java.lang.String")])
                reply["interfaces"] = [kind, "java.lang.Error", "java.lang.Throwable", "java.lang.Object"]
            except LookupError as error:
                # What the server itself raises, as Java prints it.
                reply = {
                    "type": "exception",
                    "value": f"{error.args[0]}\n"
                    "\tat org.micromanager.pyjavaz.ZMQServer.runMethod(ZMQServer.java:403)\n"
                    "\tat java.base/java.lang.Thread.run(Thread.java:840)\n",
                }
            text = json.dumps(reply, ensure_ascii=False).encode("iso-8859-1", "replace")
            self._socket.send_multipart([text, *parts])
        self._socket.close()

    def _answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        command = message["command"]
        if command == "connect":
            return {"type": "none", "version": "5.1.0"}, []
        if command == "get-constructors":
            return {"type": "none", "api": [{"name": _CORE, "arguments": [], "return-type": ""}]}, []
        if command == "constructor":
            if message["classpath"] != _CORE:
                raise LookupError("java.lang.RuntimeException: Class not found on any classloaders")
            return self._shadow(_CORE, self, [], _METHODS), []
        if command == "destructor":
            self.objects.pop(message["hash-code"], None)
            return {"type": "none"}, []
        if message["hash-code"] not in self.objects:
            raise LookupError(
                'java.lang.NullPointerException: Cannot invoke "Object.getClass()" because "<parameter1>" is null'
            )
        target = self.objects[message["hash-code"]]
        if command == "get-field":
            return self._field(target, message["name"])
        if target == _STATE:
            return {"type": "string", "value": self._state()}, []
        return self._call(message["name"], message["argument-types"], message["arguments"])

    def _state(self) -> str:
        time.sleep(self.text_s)
        lines = (f"{key.replace('-', ':', 1)}={value}<br>" for key, value in self.more_tags.items())
        return f"<html>{''.join(lines)}</html>"

    def _field(
        self, image: tuple[npt.NDArray[np.uint16], int, float], name: str
    ) -> tuple[dict[str, Any], list[bytes]]:
        pixels, number, made_s = image
        if name == "pix":
            return _array(pixels)
        height, width = pixels.shape
        time.sleep(self.text_s)
        tags = {
            **self.more_tags,
            "ImageNumber": str(number),
            "ElapsedTime-ms": str(int((made_s - self.camera.began_s) * 1000)),
            "TimeReceivedByCore": self._date(made_s).isoformat(" "),
            "Binning": "1",
            "ROI": f"0-0-{width}-{height}",
            "Height": height,
            "Width": width,
            "Camera": "Far",
            "PixelType": "GRAY16",
        }
        return {"type": "object", "class": "JSONObject", "value": json.dumps(tags, ensure_ascii=False)}, []

    def _date(self, made_s: float) -> datetime:
        """Return the date of a frame by the clock that somebody may set: MMCore reads it, but counts by another."""
        return datetime.fromtimestamp(
            self.camera.began_unix_s + self.date_moved_s + made_s - self.camera.began_s
        )

    def _call(self, name: str, types: list[str], arguments: list[Any]) -> tuple[dict[str, Any], list[bytes]]:
        if not any(name == each[0] and types == each[1] for each in _METHODS):
            raise LookupError(f"java.lang.NoSuchMethodException: {_CORE}.{name}()")
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.raises:
            message = self.raises[name]
            raise (VirtualMachineError if message.endswith("Error") else JavaError)(message)
        if name == "getSystemStateCache":
            return self._shadow(_STATE, _STATE, [], _STATE_METHODS), []
        camera = self.camera
        if name == "popNextTaggedImage":
            image = camera.pop()
            self.popped += 1
            return self._shadow(_IMAGE, image, ["pix", "tags"], []), []
        if name == "getLastTaggedImage":
            with camera.lock:
                camera.count()
                if not camera.buffer:  # frames that were popped cannot be looked at any more
                    raise JavaError(EMPTY)
                return self._shadow(_IMAGE, camera.buffer[-1], ["pix", "tags"], []), []
        if name == "getTaggedImage":
            if not self.snapped:
                raise JavaError("Camera image buffer read failed.")
            return self._shadow(_IMAGE, (camera.frames[0], 0, time.perf_counter()), ["pix", "tags"], []), []
        if name == "startSequenceAcquisition":
            self.armed_with = arguments
            camera.start("us")
        elif name == "stopSequenceAcquisition":
            camera.stop("us")
        elif name in ("initializeCircularBuffer", "clearCircularBuffer"):
            camera.initialize()
        elif name == "sleep":
            time.sleep(arguments[0] / 1000)
        values: dict[str, Any] = {
            "getCameraDevice": "Far",
            "getPixelSizeUm": 0.325,
            "getExposure": self.exposure_ms,
            "getNumberOfComponents": 1,
            "getNumberOfCameraChannels": 1,
            "getImageHeight": camera.frames.shape[1],
            "getImageWidth": camera.frames.shape[2],
            "getBytesPerPixel": 2,
            "getVersionInfo": "MMCore version of the peer",
            "getCircularBufferMemoryFootprint": 250,
            "isSequenceRunning": camera.running(),
            "isBufferOverflowed": camera.overflowed,
            "getRemainingImageCount": self._count(),
        }
        return ({"type": "primitive", "value": values[name]} if name in values else {"type": "none"}), []

    def _count(self) -> int:
        count = self.camera.count()
        if not self.ahead or not self.camera.running():
            return count
        # Each time that the buffer is empty, one frame too many is counted once.
        if count == 0 and self._raced != self.popped:
            self._raced = self.popped
            self.races += 1
            return 1
        return count

    def _shadow(
        self, name: str, target: Any, fields: list[str], methods: list[tuple[str, list[str], str]]
    ) -> dict[str, Any]:
        code = f"{id(target):x}{uuid.uuid4()}"
        self.objects[code] = target
        api = [{"name": key, "arguments": args, "return-type": kind} for key, args, kind in methods + _OBJECT]
        return {
            "type": "unserialized-object",
            "class": name,
            "hash-code": code,
            "port": self.port,
            "interfaces": [name, "java.lang.Object"],
            "fields": fields,
            "api": api,
        }


def _array(pixels: npt.NDArray[np.uint16]) -> tuple[dict[str, Any], list[bytes]]:
    identity = 77
    return {"type": "short-array", "value": f"@{identity:x}"}, [
        identity.to_bytes(4, sys.byteorder),
        pixels.tobytes(),
    ]
