"""Search for cells while a recording goes on: in a thread, so that no frame waits for it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from .finding import RegionFinder
from .regions import Regions

__all__ = ["RegionSearch"]

T = TypeVar("T")


class RegionSearch(Generic[T]):
    """Collect frames as they come, then find the cells in a thread.

    Parameters
    ----------
    finder
        Collects the frames and finds the cells.
    prepare
        Called in the thread with the regions; what it returns is the search's result.
    """

    def __init__(self, finder: RegionFinder, prepare: Callable[[Regions], T]) -> None:
        self._finder = finder
        self._prepare = prepare
        self._result: list[T] = []
        self._error: Exception | None = None
        self._thread: Thread | None = None
        self._given_up = Event()

    def add(self, denoised: npt.NDArray[Any]) -> None:
        """Take a frame ``(H, W)``, which is not kept; after the last one that is needed this does nothing."""
        if self._thread is None and self._finder.collect(denoised):
            self._thread = Thread(target=self._run, name="denoscope-find", daemon=True)
            self._thread.start()

    def result(self) -> T | None:
        """Return what was prepared once it is ready, None before.

        Raises
        ------
        InvalidInput
            When there is no cell in the frames.
        Exception
            What else went wrong in the thread, such as a `MemoryError`.
        """
        if self._error is not None:
            raise self._error
        return self._result[0] if self._result else None

    def close(self, patience_s: float) -> None:
        """Let a search that is under way end, for so many seconds; after that it prepares nothing any more."""
        if self._thread is not None:
            self._thread.join(patience_s)
        self._given_up.set()

    def _run(self) -> None:
        try:
            regions = self._finder.found()
            if not self._given_up.is_set():
                self._result.append(self._prepare(regions))
        except Exception as error:  # noqa: BLE001  told by `result`, to the thread that asks
            self._error = error
