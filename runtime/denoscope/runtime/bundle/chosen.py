"""The backend that a stream runs on, with the bundle's graphs; `auto` goes on to the next where one refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from denoscope.runtime.backends.registry import Backend, Choice, choose_backend
from denoscope.runtime.errors import BackendUnavailable, InvalidInput

from .bundle import Bundle
from .compiled import CompiledGraphs

__all__ = ["ChosenBackend"]

T = TypeVar("T")


class ChosenBackend:
    """An open backend and a bundle's graphs compiled by it.

    Parameters
    ----------
    bundle
        Whose graphs.
    backend
        A backend's name, `auto`, or an open backend, which is then not closed.
    threads
        Threads for one graph; None for the default.
    std
        Whether the standard deviation will be read.

    Attributes
    ----------
    backend, choice, graphs
        What is in use now.

    Raises
    ------
    InvalidInput
        If the backend is unknown, or threads are given with an open one.
    BackendUnavailable
        If the backend cannot run here or refuses the graphs; with `auto`, if all do.
    """

    def __init__(
        self, bundle: Bundle, backend: str | Backend, threads: int | None, *, std: bool = True
    ) -> None:
        self._bundle, self._threads, self._std = bundle, threads, std
        self._owned, self._auto = not isinstance(backend, Backend), backend == "auto"
        self.backend: Backend
        self.choice: Choice
        if isinstance(backend, Backend):
            if threads is not None:
                raise InvalidInput(
                    f"{threads} threads were asked for with an open backend: set them where it is opened."
                )
            self.backend, self.choice = backend, Choice(backend.name, "it was given by the caller")
        else:
            self.backend, self.choice = choose_backend(backend, threads=threads, bundle=bundle)
        self.graphs = CompiledGraphs(self.backend, bundle, std=std)
        try:
            # What the backend refuses is better known now.
            self.attempt(lambda: self.graphs.of(np.dtype(np.uint16)))
        except BaseException:
            self.close()
            raise

    def attempt(self, action: Callable[[], T]) -> T:
        """Do what the backend may refuse; if it was `auto`'s choice, again with the next that can run here."""
        while True:
            try:
                return action()
            except BackendUnavailable as error:
                if not self._auto:
                    raise
                self._go_on(error)

    def close(self) -> None:
        """Release the graphs, and the backend unless it was given. Safe to call twice."""
        self.graphs.close()
        if self._owned:
            self.backend.close()

    def _go_on(self, error: BackendUnavailable) -> None:
        rejected = {**self.choice.rejected, self.choice.name: str(error).rstrip(".")}
        self.close()
        self.backend, self.choice = choose_backend(
            "auto", threads=self._threads, bundle=self._bundle, rejected=rejected
        )
        self.graphs = CompiledGraphs(self.backend, self._bundle, std=self._std)
