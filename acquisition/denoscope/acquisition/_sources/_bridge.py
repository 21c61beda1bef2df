"""Source ``HOST:PORT``: a running Micro-Manager, over pycromanager's Java bridge."""

from __future__ import annotations

import queue
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from denoscope.acquisition._errors import SourceFailed, SourceUnavailable
from denoscope.acquisition._frames import Frame, SourceInfo

from ._config import import_pycromanager
from ._core import CoreSource

__all__ = ["BridgeSource"]

_T = TypeVar("_T")
_SERVER_VERSION = "5.1.0"
_TURN_ON = "start Micro-Manager and tick Tools > Options > Run server on port"
_CONNECT_S = 3.0
# What the bridge was measured to carry; a faster camera needs the Python backend.
_CEILING_MB_S = 100.0


class _Guard:
    """Run calls in a thread of its own, so that a dead server cannot hold the caller for ever."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._calls: queue.Queue[Callable[[], Any] | None] = queue.Queue(1)
        self._answers: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(1)
        self.dead = False
        threading.Thread(target=self._run, name="denoscope-bridge", daemon=True).start()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._answers.put((call(), None))
            except Exception as error:  # noqa: BLE001  handed to the caller
                self._answers.put((None, error))

    def __call__(self, call: Callable[[], _T]) -> _T:
        """Return what `call` returns, or raise `SourceFailed` after the timeout."""
        if self.dead:
            raise SourceFailed(f"Micro-Manager at {self._name} does not answer any more.")
        self._calls.put(call)
        try:
            value, error = self._answers.get(timeout=self._timeout_s)
        except queue.Empty:
            self.dead = True
            raise SourceFailed(
                f"Micro-Manager at {self._name} did not answer for {self._timeout_s:g} s; it was closed or "
                "hangs."
            ) from None
        if error is not None:
            raise error
        answer: _T = value
        return answer

    def close(self) -> None:
        """End the thread, unless it hangs in a call that will never return."""
        if not self.dead:
            self.dead = True
            self._calls.put(None)


def _probe(host: str, port: int) -> str:
    """Shake hands as the bridge would, and return the server's version.

    The bridge itself reports a missing server from a thread, as a traceback; so ask first.
    """
    name = f"{host}:{port}"
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise SourceUnavailable(f"nothing listens at {name} ({error}); {_TURN_ON}.") from error
    import zmq

    context: zmq.Context[Any] = zmq.Context.instance()
    with context.socket(zmq.REQ) as probe:
        probe.setsockopt(zmq.LINGER, 0)
        probe.connect(f"tcp://{name}")
        probe.send_json({"command": "connect", "debug": False})
        if not probe.poll(int(_CONNECT_S * 1000)):
            raise SourceUnavailable(
                f"what listens at {name} did not answer as a Micro-Manager server within {_CONNECT_S:g} s; "
                f"{_TURN_ON}."
            )
        reply = probe.recv_json()
    if not isinstance(reply, dict):
        raise SourceUnavailable(f"what listens at {name} is not a Micro-Manager server; {_TURN_ON}.")
    return str(reply.get("version", "2.0.0"))


class BridgeSource(CoreSource):
    """The core of a running Micro-Manager.

    Request and reply over a local socket carry about 100 MB/s; faster cameras need the Python
    backend (``FILE.cfg``). Arrays arrive flat and are given the shape of their tags.

    Parameters
    ----------
    host, port
        Where the server listens; Micro-Manager's own is on port 4827 of the same computer.
    timeout_s
        How long one call may take in seconds before the server counts as dead.
    buffer_mb
        Not changed here: the buffer belongs to the running Micro-Manager.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 5.0, buffer_mb: int = 512) -> None:
        super().__init__(buffer_mb=buffer_mb)
        self._host = host
        self._port = port
        self._name = f"{host}:{port}"
        self._guard = _Guard(self._name, timeout_s)

    def open(self) -> SourceInfo:
        """Connect to the running Micro-Manager and describe its camera."""
        import_pycromanager()
        version = _probe(self._host, self._port)
        from pycromanager import Core
        from pyjavaz.bridge import Bridge

        def connect() -> Any:
            with warnings.catch_warnings():
                # Said once, below, in our words.
                warnings.simplefilter("ignore")
                # The bridge is cached by port, so Core() finds the one made for this host.
                self._bridge = Bridge.create_or_get_existing_bridge(
                    port=self._port, ip_address=self._host, timeout=3000
                )
                return Core(port=self._port)

        try:
            self._core = self._guard(connect)
            info = self._guard(
                lambda: self._describe(
                    "bridge",
                    self._name,
                    versions={
                        "mmcore": str(self._core.get_version_info()),
                        "server": version,
                        "server_expected": _SERVER_VERSION,
                    },
                    details={"ceiling_bytes_s": _CEILING_MB_S * 1e6},
                )
            )
        except SourceFailed as error:
            raise SourceUnavailable(str(error)) from error
        rate = info.frame_bytes / info.exposure_s if info.exposure_s else 0.0
        if rate > _CEILING_MB_S * 1e6:
            raise SourceUnavailable(
                f"the camera sends up to {rate / 1e6:.0f} MB/s, and the bridge to {self._name} carries about "
                f"{_CEILING_MB_S:.0f} MB/s; use --core FILE.cfg (the Python backend), a longer exposure or "
                "a smaller ROI."
            )
        return info

    def start(self) -> None:
        """Arm the camera with stop-on-overflow."""
        self._guard(super().start)

    def pop(self) -> Frame | None:
        """Return the oldest buffered frame, or None when there is none at this moment."""
        return self._guard(super().pop)

    def finished(self) -> bool:
        """Say whether the camera stands still and its buffer is empty."""
        return self._guard(super().finished)

    def overflowed(self) -> bool:
        """Say whether the core stopped because its buffer was full."""
        return self._guard(super().overflowed)

    def stop(self) -> None:
        """Stop the camera; what is buffered can still be popped."""
        self._guard(super().stop)

    def notes(self) -> list[str]:
        """Say when a change of region or binning has stopped the camera; nothing where nobody answers."""
        if self._guard.dead:
            return []
        try:
            return self._guard(super().notes)
        except SourceFailed:
            return []

    def close(self) -> None:
        """Let go of the connection; Micro-Manager itself runs on."""
        core, self._core = self._core, None
        if core is None:
            self._guard.close()
            return
        if not self._guard.dead:
            self._core = core
            self.stop()
            self._core = None
            self._guard(core._close)
            self._guard.close()
            return
        # The server is dead: a shadow that says goodbye to it would block the interpreter's exit.
        from pyjavaz import server_terminated

        server_terminated(self._port)
        self._bridge._closed = True
        core._closed = True
