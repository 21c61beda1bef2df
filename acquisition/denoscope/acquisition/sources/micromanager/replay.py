"""Source ``demo``: a movie replayed by a camera device inside a real Micro-Manager core."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import SourceInfo
from denoscope.acquisition.errors import SourceUnavailable
from denoscope.acquisition.sources.movies import Movie

from .config import import_mmpycorex
from .core import CoreSource

__all__ = ["ReplaySource"]

_LABEL = "ReplayCamera"
_SHUTTER = "ReplayShutter"


def _snake(name: str) -> str:
    # The rule of mmpycorex, so that pycromanager's users find the names they know.
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def _import_unicore() -> Any:
    """Import pymmcore-plus's Python-device core without letting the import rearrange logging."""
    os.environ.setdefault("PYMM_LOG_FILE", "0")
    root = logging.getLogger()
    level = root.level
    try:
        from pymmcore_plus.experimental import unicore
    except ImportError as error:
        raise SourceUnavailable(
            f"the replay camera needs pymmcore-plus ({error}); install it with: "
            'python -m pip install ".[micromanager]" in a copy of the denoscope repository.'
        ) from error
    finally:
        root.setLevel(level)
    return unicore


def _snake_case_core(base: type[Any]) -> Any:
    """Return an instance of `base` that also answers to pycromanager's snake-case names."""
    names = {
        _snake(name): getattr(base, name)
        for name in dir(base)
        if not name.startswith("_") and callable(getattr(base, name)) and _snake(name) not in dir(base)
    }
    return type(f"{base.__name__}SnakeCase", (base,), names)()


def _camera_class(unicore: Any) -> type[Any]:
    """Define the camera device; a function because its base class is imported late."""

    class ReplayCamera(unicore.CameraDevice):  # type: ignore[misc]
        """A camera whose frames are those of a movie, at a given rate, each exactly once."""

        def __init__(self, movie: npt.NDArray[Any], fps: float, frames: int | None) -> None:
            super().__init__()
            self._movie = movie
            self._fps = fps
            self._frames = frames
            self.halt = threading.Event()
            self.room: Callable[[], bool] = lambda: True

        def get_exposure(self) -> float:
            """Return the exposure in milliseconds: the whole frame interval."""
            return 1000 / self._fps

        def set_exposure(self, exposure: float) -> None:
            """Refuse: the exposure of a replayed movie is what it is."""
            raise RuntimeError(f"a replayed movie has its own exposure; {exposure} ms cannot be set.")

        def shape(self) -> tuple[int, int]:
            """Return ``(H, W)``."""
            return (int(self._movie.shape[1]), int(self._movie.shape[2]))

        def dtype(self) -> np.dtype[Any]:
            """Return the movie's dtype."""
            return self._movie.dtype

        def start_sequence(
            self, n: int | None, get_buffer: Callable[[Sequence[int], Any], npt.NDArray[Any]]
        ) -> Iterator[Mapping[str, Any]]:
            """Yield once for each frame, on a schedule that does not drift."""
            shape, dtype, length = self.shape(), self.dtype(), len(self._movie)
            limit = min(value for value in (n, self._frames, 2**62) if value is not None)
            start_s = time.perf_counter()
            for index in range(limit):
                wait_s = start_s + index / self._fps - time.perf_counter()
                if wait_s > 0:
                    self.halt.wait(wait_s)
                # A movie can wait for room where a camera could not.
                while not self.room() and not self.halt.wait(0.001):
                    pass
                if self.halt.is_set():
                    return
                get_buffer(shape, dtype)[:] = self._movie[index % length]
                yield {"Replayed": str(index % length)}

    return ReplayCamera


def _shutter_class(unicore: Any) -> type[Any]:
    """Define a shutter that remembers its state, for triggers to be tried with."""

    class ReplayShutter(unicore.ShutterDevice):  # type: ignore[misc]
        """A shutter of no light; the movie is the same when it is closed."""

        def __init__(self) -> None:
            super().__init__()
            self._open = False

        def get_open(self) -> bool:
            """Return whether it is open."""
            return self._open

        def set_open(self, open: bool) -> None:  # noqa: A002  pymmcore-plus names it so
            """Open or close it."""
            self._open = open

    return ReplayShutter


class ReplaySource(CoreSource):
    """Replay a movie through pycromanager's Core.

    The core is pymmcore-plus's `UniMMCore` (MMCore with devices written in Python), put where
    pycromanager's `Core()` looks for the running core.

    Parameters
    ----------
    movie
        What to replay; it starts again from its first frame when it is shorter than `frames`.
    fps
        Frames per second.
    frames
        How many frames to replay before the camera stops, or None to go on until stopped.
    buffer_mb
        Size of the core's circular buffer in MB.
    """

    def __init__(self, movie: Movie, *, fps: float, frames: int | None, buffer_mb: int = 512) -> None:
        super().__init__(buffer_mb=buffer_mb)
        self._movie = movie
        self._fps = fps
        self._frames = frames
        self._device: Any = None
        self._since_empty = 0
        self._package: Any = None

    def open(self) -> SourceInfo:
        """Start the core with the replay camera as its camera."""
        self._package = import_mmpycorex()
        unicore = _import_unicore()
        import pymmcore
        from mmpycorex import launcher

        core = _snake_case_core(unicore.UniMMCore)
        core.pop_next_tagged_image = types.MethodType(launcher.pop_next_tagged_image, core)
        self._device = _camera_class(unicore)(self._movie.frames, self._fps, self._frames)
        core.loadPyDevice(_LABEL, self._device)
        core.initializeDevice(_LABEL)
        core.setCameraDevice(_LABEL)
        core.loadPyDevice(_SHUTTER, _shutter_class(unicore)())
        core.initializeDevice(_SHUTTER)
        core.setShutterDevice(_SHUTTER)
        core.setCircularBufferMemoryFootprint(self._buffer_mb)
        launcher._PYMMCORES.append(core)
        self._core = self._package.Core()
        self._device.room = self._room
        length = len(self._movie.frames)
        return self._describe(
            "demo",
            "demo",
            frame_rate_hz=self._fps,
            frames=self._frames,
            versions={
                "mmcore": str(core.getVersionInfo()),
                "pymmcore": str(pymmcore.__version__),
            },
            details={
                "movie": self._movie.name,
                "movie_frames": length,
                "note": self._movie.note,
                "passes": None if self._frames is None else self._frames / length,
            },
        )

    @property
    def core(self) -> Any:
        """Core of Micro-Manager, for triggers."""
        return self._core

    def _describe(self, kind: str, name: str, **more: Any) -> SourceInfo:
        info = super()._describe(kind, name, **more)
        return replace(info, pixel_size_um=self._movie.pixel_size_um)

    def _room(self) -> bool:
        # The buffer of pymmcore-plus 0.18.1 has to be empty to start again at its beginning, else it
        # reports an overflow with most of its space free: count frames since it was last empty.
        total = self._core.getBufferTotalCapacity()
        if self._core.getBufferFreeCapacity() == total:
            self._since_empty = 0
        if self._since_empty >= total:
            return False
        self._since_empty += 1
        return True

    def stop(self) -> None:
        """Stop the camera; what is buffered can still be popped."""
        if self._device is not None:
            self._device.halt.set()
        super().stop()

    def close(self) -> None:
        """Stop the camera and unload it."""
        if self._core is not None:
            self.stop()
            # The core's own thread must not call into an interpreter that is ending.
            # pymmcore-plus takes its callback away only in a destructor that may never run.
            import pymmcore

            pymmcore.CMMCore.registerCallback(self._core, None)
            self._core = None
            self._package.terminate_core_instances()
