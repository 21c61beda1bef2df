"""Actions of triggers: a line on a socket or a serial port, a property or the shutter of Micro-Manager."""

from __future__ import annotations

import ipaddress
import shlex
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.extras import require
from denoscope.runtime import InvalidInput

__all__ = ["Action", "Firing", "open_action"]

_CONNECT_S = 2.0
_SEND_S = 2.0
_BAUD = 115_200
_EXAMPLE = "write it like: shutter close, set Camera Gain 2, socket 5005 FIRE, serial COM3 FIRE, or log to do nothing"


@dataclass(frozen=True, slots=True)
class Firing:
    """One time that a trigger's condition was met.

    Attributes
    ----------
    trigger
        The condition.
    number, index
        Number of the frame in its stream, and its page in ``raw.tif``.
    region, value
        Region that met the condition, and its value; empty and NaN where a program decided.
    t_received_s, core_lag_s
        As of the frame.
    """

    trigger: str
    number: int
    index: int
    region: str
    value: float
    t_received_s: float
    core_lag_s: float


class Action(Protocol):
    """Something that is done when a trigger fires; called by a thread of the trigger."""

    def __call__(self, firing: Firing) -> None:
        """Do it."""

    def close(self) -> None:
        """Let go of what it holds."""


class _Call:
    def __init__(self, call: Callable[[Firing], object]) -> None:
        self._call = call

    def __call__(self, firing: Firing) -> None:
        self._call(firing)

    def close(self) -> None:
        """Nothing to let go of."""


class _Socket:
    """Send a line over TCP to a program on this computer, on one connection."""

    def __init__(self, host: str, port: int, line: str) -> None:
        self._address = host, port
        self._line = line
        try:
            self._socket = self._connected()
        except OSError as error:
            raise InvalidInput(
                f"the action of the trigger cannot reach port {port} ({one_line(error)}): start the program that "
                "listens there first."
            ) from error

    def _connected(self) -> socket.socket:
        connected = socket.create_connection(self._address, timeout=_CONNECT_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(_SEND_S)
        return connected

    def __call__(self, firing: Firing) -> None:
        line = _filled(self._line, firing)
        if self._is_closed():  # a line that is sent now would be lost without an error
            self._renew()
        try:
            self._socket.sendall(line)
        except OSError:
            self._renew()
            self._socket.sendall(line)

    def _renew(self) -> None:
        """Connect again, to a program that was started anew."""
        self._socket.close()
        self._socket = self._connected()

    def _is_closed(self) -> bool:
        """Return whether the other program has closed the connection; what it says is passed over."""
        self._socket.settimeout(0)
        try:
            while said := self._socket.recv(1 << 16):
                del said
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(_SEND_S)
        return True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class _Serial:
    """Send a line over a serial port."""

    def __init__(self, port: str, baud: int, line: str) -> None:
        require("serial", extra="serial", purpose="a trigger over a serial port")
        import serial

        self._line = line
        try:
            self._port: Any = serial.serial_for_url(port, baudrate=baud, write_timeout=_SEND_S)
        except (serial.SerialException, ValueError, OSError) as error:
            raise InvalidInput(
                f"the action of the trigger cannot open the serial port {port} ({one_line(error)}): name one that is "
                "there and that no other program holds."
            ) from error

    def __call__(self, firing: Firing) -> None:
        self._port.write(_filled(self._line, firing))
        self._port.flush()

    def close(self) -> None:
        """Close the port."""
        with suppress(Exception):  # it was pulled out
            self._port.close()


def _filled(line: str, firing: Firing) -> bytes:
    filled = line.replace("{frame}", str(firing.number)).replace("{region}", firing.region)
    return filled.replace("{value}", f"{firing.value:.6g}").encode() + b"\n"


def _core_of(core: Any, text: str) -> Any:
    if core is None:
        raise InvalidInput(
            f"the action {text!r} needs a camera that denoscope drives: record from `core` demo or a FILE.cfg, or send "
            "a line with socket or serial, or act in your own program."
        )
    return core


def _shutter(core: Any, text: str, word: str) -> Action:
    if word not in ("open", "close"):
        raise InvalidInput(f"the action {text!r}: a shutter can open or close; {_EXAMPLE}.")
    core = _core_of(core, text)
    if not str(core.get_shutter_device()):
        raise InvalidInput(
            f"the action {text!r}: the configuration of Micro-Manager names no shutter; set one there."
        )
    opens = word == "open"
    return _Call(lambda _firing: core.set_shutter_open(opens))


def _property(core: Any, text: str, device: str, name: str, value: str) -> Action:
    core = _core_of(core, text)
    try:
        fine = bool(core.has_property(device, name)) and not bool(core.is_property_read_only(device, name))
    except Exception as error:
        raise InvalidInput(
            f"the action {text!r}: {one_line(error)}; name a device and a property of it."
        ) from error
    if not fine:
        raise InvalidInput(
            f"the action {text!r}: {device} has no property {name} that can be set; Micro-Manager's Device Property "
            "Browser lists them."
        )
    allowed = [str(each) for each in _listed(core.get_allowed_property_values(device, name))]
    if allowed and value not in allowed:
        raise InvalidInput(f"the action {text!r}: {device} {name} is one of {', '.join(allowed[:10])}.")
    return _Call(lambda _firing: core.set_property(device, name, value))


def _listed(values: Any) -> list[Any]:
    if hasattr(values, "size") and hasattr(values, "get"):  # a vector of the Java core
        return [values.get(place) for place in range(values.size())]
    return list(values)


def _address(text: str, word: str) -> tuple[str, int]:
    host, _, port = word.rpartition(":")
    host = "127.0.0.1" if host in ("", "localhost") else host
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InvalidInput(
            f"the action {text!r}: give a port of this computer, 1 to 65535, as in socket 5005 FIRE."
        )
    return host.strip("[]"), int(port)


def open_action(then: str | Callable[[Firing], object], core: Any = None) -> Action:
    """Return an action that is ready, and refuse one that could not be done.

    Parameters
    ----------
    then
        A function, or words: ``log``, ``shutter open``, ``shutter close``, ``set DEVICE PROPERTY VALUE``,
        ``socket PORT LINE`` or ``serial PORT LINE``. In a line ``{frame}``, ``{region}`` and ``{value}`` are filled in.
    core
        Core of Micro-Manager, where denoscope drives it.

    Raises
    ------
    InvalidInput
        When the words are not understood, or what they name is not there.
    """
    if callable(then):
        return _Call(then)
    try:
        words = shlex.split(then)
    except ValueError as error:
        raise InvalidInput(
            f"the action {then!r} is not understood ({one_line(error)}): {_EXAMPLE}."
        ) from error
    match words:
        case ["log"]:
            return _Call(lambda _firing: None)
        case ["shutter", word]:
            return _shutter(core, then, word)
        case ["set", device, name, value]:
            return _property(core, then, device, name, value)
        case ["socket", address, *line] if line:
            host, port = _address(then, address)
            return _Socket(host, port, " ".join(line))
        case ["serial", port, *line] if line:
            name, _, baud = port.partition("@")
            if baud and not baud.isdecimal():
                raise InvalidInput(
                    f"the action {then!r}: the speed after @ is a number, as in serial COM3@9600 FIRE."
                )
            return _Serial(name, int(baud or _BAUD), " ".join(line))
        case _:
            raise InvalidInput(f"the action {then!r} is not understood: {_EXAMPLE}.")
