"""A client of Micro-Manager's Java server (PyJavaZ 5.1): calls by name, several at a time, each with an end.

pyjavaz itself is not used for this: it keeps an exit callback for every object that it was ever sent (one
a frame), finds a connection by its port for as long as the process lives, waits for ever, and raises
every Java exception as a plain `Exception`.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.errors import SourceFailed, SourceUnavailable
from denoscope.acquisition.processes.looks import Looks
from denoscope.runtime import counted

__all__ = ["JavaException", "JavaObject", "JavaServer", "exception_from"]

_POLL_MS = 50
_CONNECT_S = 3.0
_ARRAYS: dict[str, np.dtype[Any]] = {
    "byte-array": np.dtype(np.uint8),
    "short-array": np.dtype(np.uint16),
    "int-array": np.dtype(np.uint32),
    "float-array": np.dtype(np.float32),
    "double-array": np.dtype(np.float64),
}
_ACCEPTED: dict[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("int", "long", "short", "double", "float"),
    float: ("double", "float"),
    str: ("java.lang.String",),
}
_CAUSE = re.compile(r"^(?:Caused by: )?(?P<name>(?:[\w$]+\.)+[\w$]+)(?:: (?P<text>.*))?$")
_STACK_LINE = re.compile(r"^\s*(?:at |\.\.\. )|^[\w$.<>/@]+\([^()]*\)$")
_WRAPPERS = ("java.lang.reflect.InvocationTargetException", "java.lang.RuntimeException")


class JavaException(SourceFailed):
    """Micro-Manager raised an exception in a call of this program.

    Attributes
    ----------
    name, text
        Class and message of the exception that was raised first; what only passed it on is left out.
    stack
        The stack as the server sent it; `traceback` shows it below the sentence.
    """

    def __init__(self, where: str, call: str, name: str, text: str, stack: str) -> None:
        kind = name.rpartition(".")[2]
        what = f"{text} ({kind})" if text else kind
        super().__init__(f"Micro-Manager at {where} refused {call}: {what}.")
        self.name, self.text, self.stack = name, text, stack
        self.add_note(stack)


def exception_from(where: str, call: str, stack: str) -> JavaException:
    """Return the exception for a stack as Java prints it.

    Parameters
    ----------
    where
        HOST:PORT of the server.
    call
        What was asked for.
    stack
        Begins with ``CLASS: MESSAGE``. For what a method raised, lines ``CLASS.METHOD(FILE:LINE)`` follow; for
        what the server itself raised, lines ``at ...`` and a block ``Caused by: ...`` for each cause.
    """
    # A message may have several lines itself.
    blocks: list[list[str]] = []
    for line in stack.splitlines():
        found = _CAUSE.match(line)
        if found is not None and (not blocks or line.startswith("Caused by: ")):
            blocks.append([found["name"], found["text"] or ""])
        elif blocks and not _STACK_LINE.search(line):
            blocks[-1][1] += f" {line.strip()}"
    if not blocks:
        return JavaException(where, call, "java.lang.Exception", " ".join(stack.split())[:500], stack)
    telling = [block for block in blocks if block[0] not in _WRAPPERS] or blocks
    name, text = telling[-1]
    # "java.lang.Exception: java.lang.Exception: text" where a cause was repeated as the message.
    while (found := _CAUSE.match(text)) is not None:
        name, text = found["name"], found["text"] or ""
    return JavaException(where, call, name, " ".join(text.split()).rstrip(".")[:500], stack)


@dataclass(frozen=True, slots=True)
class JavaObject:
    """A Java object that the server keeps for this program until it is told to let it go.

    Attributes
    ----------
    code
        The name that the server gave it.
    kind
        Its Java class.
    methods
        Argument types of every overload, by the method's name.
    """

    code: str
    kind: str
    methods: Mapping[str, tuple[tuple[str, ...], ...]] = field(repr=False)

    def call(self, method: str, *arguments: Any) -> dict[str, object]:
        """Return the request that runs `method` with these arguments.

        Raises
        ------
        SourceUnavailable
            When this Micro-Manager has no such method.
        """
        for types in self.methods.get(method, ()):
            if len(types) == len(arguments) and all(map(_fits, types, arguments)):
                return {
                    "command": "run-method",
                    "static": False,
                    "hash-code": self.code,
                    "java_class_name": self.kind,
                    "name": method,
                    "argument-types": list(types),
                    "argument-deserialization-types": list(types),
                    "arguments": [_cast(kind, value) for kind, value in zip(types, arguments, strict=True)],
                }
        raise SourceUnavailable(
            f"this Micro-Manager has no {method} with {counted(len(arguments), 'argument')}; install a newer "
            "Micro-Manager 2."
        )

    def get(self, name: str) -> dict[str, object]:
        """Return the request for a field."""
        return {"command": "get-field", "hash-code": self.code, "name": name}

    def let_go(self) -> dict[str, object]:
        """Return the request that ends the server's hold on it."""
        return {"command": "destructor", "hash-code": self.code, "java_class_name": self.kind}


def _fits(kind: str, value: Any) -> bool:
    return kind in _ACCEPTED.get(type(value), ())


def _cast(kind: str, value: Any) -> Any:
    return float(value) if kind in ("double", "float") else value


class JavaServer:
    """One connection to the server. One thread at a time may use it.

    Parameters
    ----------
    host, port
        Where it listens.
    name
        What messages call it.
    """

    def __init__(self, host: str, port: int, *, name: str) -> None:
        self.host, self.port, self.name = host, port, name
        self.version = ""
        self.lossy = False
        """True once the server replaced a character of a text by a question mark."""
        self._socket: Any = None
        self._monitor: Any = None
        self._greeted = False

    def connect(self, patience_s: float) -> None:
        """Open the connection and shake hands.

        Raises
        ------
        SourceUnavailable
            When nothing listens there, or something else does.
        SourceFailed
            When a server is there, and busy for longer than `patience_s`.
        """
        import zmq
        from zmq.utils.monitor import recv_monitor_message  # noqa: F401  fail here where it is missing

        # The port is asked first: ZeroMQ itself would wait for a server to appear.
        with socket.create_connection((self.host, self.port), timeout=_CONNECT_S):
            pass
        host = f"[{self.host}]" if ":" in self.host else self.host
        # Not REQ: several requests may be on their way, and one that is never answered blocks no other.
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        if ":" in self.host:
            self._socket.setsockopt(zmq.IPV6, 1)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        )
        self._socket.connect(f"tcp://{host}:{self.port}")
        (reply,) = self.ask(
            [{"command": "connect", "debug": False}],
            lambda waited_s: waited_s < (patience_s if self._greeted else _CONNECT_S),
        )
        if not isinstance(reply, dict):
            raise SourceUnavailable(f"what listens at {self.name} is not a Micro-Manager server.")
        self.version = str(reply.get("version", "2.0.0"))

    def construct(self, kind: str, go_on: Callable[[float], bool]) -> JavaObject:
        """Return the server's object of this class (its one core, for ``mmcorej.CMMCore``)."""
        request: dict[str, object] = {
            "command": "constructor",
            "classpath": kind,
            "argument-types": [],
            "argument-deserialization-types": [],
            "arguments": [],
        }
        (reply,) = self.values([request], go_on)
        if not isinstance(reply, JavaObject):
            raise SourceUnavailable(f"what listens at {self.name} has no {kind}.")
        return reply

    def values(self, requests: list[dict[str, object]], go_on: Callable[[float], bool]) -> list[Any]:
        """Return the answers as Python values; the first exception among them is raised after all came."""
        answers = self.answers(requests, go_on)
        for answer in answers:
            if isinstance(answer, JavaException):
                raise answer
        return answers

    def answers(self, requests: list[dict[str, object]], go_on: Callable[[float], bool]) -> list[Any]:
        """Return the answers as Python values, exceptions among them as `JavaException`, not raised."""
        replies = self.ask(requests, go_on)
        return [self._value(request, reply) for request, reply in zip(requests, replies, strict=True)]

    def ask(self, requests: Iterable[dict[str, object]], go_on: Callable[[float], bool]) -> list[Any]:
        """Send every request at once and return the replies in order.

        Parameters
        ----------
        requests
            The server takes one after the other.
        go_on
            Called while nothing comes, with the seconds since the last reply, without those for which this computer or
            program stood still; says whether to wait on.

        Raises
        ------
        SourceFailed
            When the server closed the connection, or `go_on` said no.
        """
        import zmq

        requests = list(requests)
        for request in requests:
            # Only ASCII is sent: the server reads ISO-8859-1, and ends its thread over a text that is not JSON.
            self._socket.send_multipart([b"", json.dumps(request).encode("ascii")])
        replies: list[Any] = []
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        looks = Looks(_POLL_MS / 1000)
        while len(replies) < len(requests):
            ready = dict(poller.poll(_POLL_MS))
            if self._socket in ready:
                _, text, *parts = self._socket.recv_multipart()
                replies.append(_parsed(text, parts))
                self._greeted = True
                looks.begin()
                continue
            if self._monitor in ready:
                self._look(self._monitor)
            waited_s = looks.look()
            if not go_on(waited_s):
                raise SourceFailed(f"Micro-Manager at {self.name} did not answer for {waited_s:.0f} s.")
        return replies

    def _look(self, monitor: Any) -> None:
        import zmq
        from zmq.utils.monitor import recv_monitor_message

        event = recv_monitor_message(monitor)["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._greeted = True
        elif event == zmq.EVENT_DISCONNECTED and self._greeted:
            raise SourceFailed(f"Micro-Manager at {self.name} was closed, or it crashed.")

    def _value(self, request: Mapping[str, Any], reply: Any) -> Any:
        kind = reply.get("type") if isinstance(reply, dict) else None
        value = reply.get("value") if isinstance(reply, dict) else None
        if kind == "exception":
            what = str(request.get("name") or request.get("classpath") or request["command"])
            return exception_from(self.name, what, str(value if value is not None else reply.get("message")))
        if kind in ("none", "null", None):
            return None
        if kind in _ARRAYS:
            return np.frombuffer(value if isinstance(value, bytes) else b"", _ARRAYS[kind])
        if kind == "unserialized-object":
            if "java.lang.Throwable" in reply.get("interfaces", ()):
                # Errors of the virtual machine are not sent as exceptions are.
                what = str(request.get("name") or request["command"])
                return exception_from(self.name, what, str(reply["class"]))
            return _object(reply)
        if kind == "object" and isinstance(value, str):
            self.lossy = self.lossy or "?" in value
            return json.loads(value)
        return value

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._socket is None:
            return
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._socket = self._monitor = None


def _parsed(text: bytes, parts: list[bytes]) -> Any:
    try:
        # A server sends ISO-8859-1; one that sent UTF-8 would be understood too, and ASCII is both.
        reply = json.loads(text.decode())
    except UnicodeDecodeError:
        reply = json.loads(text.decode("iso-8859-1"))
    if len(parts) >= 2 and isinstance(reply, dict):
        reply["value"] = parts[1]
    return reply


def _object(reply: Mapping[str, Any]) -> JavaObject:
    methods: dict[str, tuple[tuple[str, ...], ...]] = {}
    for each in reply.get("api", ()):
        name = str(each["name"])
        methods[name] = (*methods.get(name, ()), tuple(each["arguments"]))
    return JavaObject(reply["hash-code"], reply["class"], methods)


def pixels_of(answer: Any) -> npt.NDArray[Any]:
    """Return the pixels of an image, flat."""
    if not isinstance(answer, np.ndarray):
        raise SourceFailed(f"Micro-Manager sent {type(answer).__name__} where the pixels of a frame belong.")
    return answer
