"""The long memory of a window: exponential averages of the features of frames that have left it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from denoscope.runtime.backends.registry import Backend, Buffer, Graph
from denoscope.runtime.bundle.bundle import BundleManifest

from .both_sides import BothSides
from .ports import Call, Port, wanted

__all__ = ["LongMemory"]


class LongMemory:
    """Two states that are written in turn, because a graph must not read what it writes; none without memory.

    Parameters
    ----------
    backend
        Owns the buffers.
    manifest
        Of the bundle.
    cells
        (h, w) that the memory covers, at the features' resolution.

    Attributes
    ----------
    states
        Averages (1, m * C, h, w).
    now
        Index of the state that holds the memory now.
    """

    def __init__(self, backend: Backend, manifest: BundleManifest, cells: tuple[int, int]) -> None:
        # The memory of both sides is written by the host.
        pairs = range((1 if manifest.two_sided else 2) if manifest.memory_decay else 0)
        self.states = [Port(backend, (1, manifest.memory_channels, *cells)) for _ in pairs]
        self._weights = [Port(backend, (manifest.memories,)) for _ in pairs]
        self.now = 0
        self._absorb: list[list[Call]] = []

    def __bool__(self) -> bool:
        return bool(self.states)

    @property
    def phases(self) -> range:
        """Each value that `now` takes."""
        return range(max(1, len(self.states)))

    def bind(self, graph: Graph, frames: Sequence[Port]) -> None:
        """Bind the graph that absorbs one of some features (1, C, h, w)."""
        self._absorb = [[self._bound(graph, frame, now) for frame in frames] for now in self.phases]

    def weight(self, now: int) -> Buffer:
        """Return how many frames each average of a state stands for, as graphs read it."""
        return self._weights[now].buffer

    def put(self, both_sides: BothSides) -> None:
        """Write what is remembered of both sides of the window."""
        state, weight = self.states[0], self._weights[0]
        both_sides.join(state.ready(), weight.ready())
        state.send()
        weight.send()

    def absorb(self, frame: int) -> None:
        """Take in one of the features that `bind` was given, by its number."""
        if self._absorb:
            self._absorb[self.now][frame]()
            self.absorbed()

    def absorbed(self) -> None:
        """Note that features were taken in by a call of `absorbs`."""
        self.now = 1 - self.now

    def absorbs(self, now: int, frame: int) -> list[Call]:
        """Return the call that takes in features by their number while the memory is in a state; none without it."""
        return [self._absorb[now][frame]] if self._absorb else []

    def forget(self) -> None:
        """Empty the memory."""
        self.now = 0
        for port in (*self.states[:1], *self._weights[:1]):
            port.fill(0)

    def calls(self) -> Iterator[Call]:
        """Return every bound call."""
        return chain(*self._absorb)

    def _bound(self, graph: Graph, frame: Port, now: int) -> Call:
        inputs = {
            "features": frame.buffer,
            "memory": self.states[now].buffer,
            "weight": self._weights[now].buffer,
        }
        written = {"memory_out": self.states[1 - now].buffer, "weight_out": self._weights[1 - now].buffer}
        return graph.bind(wanted(graph, inputs), written)
