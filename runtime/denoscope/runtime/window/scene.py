"""Scenes under a window: one that holds still, and one whose motion is tracked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol

import numpy as np

from denoscope.runtime.backends.registry import Backend, Graph
from denoscope.runtime.motion.field import KNOTS, Extent, places, spreading

from .memory import LongMemory
from .ports import Array, Call, Port

__all__ = ["Scene", "StillScene", "TrackedScene"]


class Scene(Protocol):
    """How features lie on the frame that is denoised."""

    @property
    def neighbours(self) -> Sequence[Port]:
        """Features (1, C, h, w) of each slot as `fuse` reads them around the centre."""

    def align(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto another frame: ``frame(p + displacement(p)) = other(p)``."""

    def lay(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto the scene: ``frame(p + displacement(p)) = scene(p)``."""

    def recall(self, displacement: Array) -> None:
        """Put the long memory onto the centre: ``scene(p + displacement(p)) = centre(p)``."""

    def memory(self, now: int) -> Port:
        """Return the long memory's state `now` as `fuse` reads it."""

    def remember(self, slot: int) -> None:
        """Absorb a slot's frame into the long memory."""

    def cells(self, cells: Array, displacement: Array | None) -> Array:
        """Return the cells (C, h, w) of a frame as they lie on the scene; see `lay`."""

    def warm(self) -> None:
        """Make everything that is read later defined."""

    def calls(self) -> Iterator[Call]:
        """Return every bound call."""


class StillScene:
    """Features lie where their frames do; see `Scene`.

    Parameters
    ----------
    slots
        Features (1, C, h, w) of the frames of the ring.
    memory
        The long memory.
    graphs
        Compiled graphs of the bundle.
    """

    def __init__(self, slots: Sequence[Port], memory: LongMemory, graphs: Mapping[str, Graph]) -> None:
        self.neighbours: Sequence[Port] = slots
        self._memory = memory
        if "remember" in graphs:
            memory.bind(graphs["remember"], slots)

    def align(self, slot: int, displacement: Array) -> None:
        """Do nothing."""

    def lay(self, slot: int, displacement: Array) -> None:
        """Do nothing."""

    def recall(self, displacement: Array) -> None:
        """Do nothing."""

    def memory(self, now: int) -> Port:
        """Return the long memory's state `now`."""
        return self._memory.states[now]

    def remember(self, slot: int) -> None:
        """Absorb a slot's frame into the long memory."""
        self._memory.absorb(slot)

    def cells(self, cells: Array, displacement: Array | None) -> Array:  # noqa: ARG002  the scene holds still
        """Return them as they are."""
        return cells

    def warm(self) -> None:
        """Do nothing."""

    def calls(self) -> Iterator[Call]:
        """Return none."""
        return iter(())


class TrackedScene:
    """Features are sampled where the scene lies; see `Scene`.

    Parameters
    ----------
    backend
        Owns the buffers.
    scene
        (H', W') of the scene that displacements (2, KNOTS, KNOTS) lie over, in pixels.
    frame, whole
        What a slot's features cover, and what the long memory's do.
    slots
        Features (1, C, h, w) of the frames of the ring.
    memory
        The long memory; it covers the scene.
    graphs
        Compiled graphs of the bundle.
    """

    def __init__(
        self,
        backend: Backend,
        scene: tuple[int, int],
        frame: Extent,
        whole: Extent,
        slots: Sequence[Port],
        memory: LongMemory,
        graphs: Mapping[str, Graph],
    ) -> None:
        shape = slots[0].buffer.shape
        self._memory = memory
        # Where the frames of the slots lie on the centre, or one of them on the next frame.
        self.neighbours = [Port(backend, shape) for _ in slots]
        self._places = [Port(backend, (1, 2, KNOTS, KNOTS)) for _ in slots]
        self._onto_frame = _Sampler(backend, scene, frame, frame)
        align = graphs["align"]
        self._align = [
            self._onto_frame.bind(align, "features", slot, at, "aligned", placed)
            for slot, at, placed in zip(slots, self._places, self.neighbours, strict=True)
        ]
        self._lay: list[Call] = []
        self._recall: list[Call] = []
        if not memory:
            return
        self._onto_scene = _Sampler(backend, scene, frame, whole)
        self._from_scene = _Sampler(backend, scene, whole, frame)
        covered = memory.states[0].buffer.shape
        self._laid = laid = Port(backend, (1, shape[1], *covered[2:]))
        self._recalled = Port(backend, (1, covered[1], *shape[2:]))
        self._scene_places, self._recall_places = (Port(backend, (1, 2, KNOTS, KNOTS)) for _ in range(2))
        self._lay = [
            self._onto_scene.bind(align, "features", slot, self._scene_places, "aligned", laid)
            for slot in slots
        ]
        self._recall = [
            self._from_scene.bind(
                graphs["recall"], "memory", state, self._recall_places, "recalled", self._recalled
            )
            for state in memory.states
        ]
        if "remember" in graphs:
            memory.bind(graphs["remember"], [laid])
            return
        self._lay.clear()  # frames are laid as their cells
        self._cells = Port(backend, shape)
        self._cells.fill(0)
        self._lay_cells = self._onto_scene.bind(
            align, "features", self._cells, self._scene_places, "aligned", laid
        )

    def align(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto another frame: ``frame(p + displacement(p)) = other(p)``."""
        self._onto_frame.put(self._places[slot], displacement)
        self._align[slot]()

    def lay(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto the scene: ``frame(p + displacement(p)) = scene(p)``; `remember` reads it."""
        if self._lay:
            self._onto_scene.put(self._scene_places, displacement)
            self._lay[slot]()

    def recall(self, displacement: Array) -> None:
        """Put the long memory onto the centre: ``scene(p + displacement(p)) = centre(p)``."""
        if self._recall:
            self._from_scene.put(self._recall_places, displacement)
            self._recall[self._memory.now]()

    def memory(self, now: int) -> Port:  # noqa: ARG002  recalled from whichever state it is
        """Return the long memory as it was put onto the centre last."""
        return self._recalled

    def remember(self, slot: int) -> None:  # noqa: ARG002  what `lay` made of it is absorbed
        """Absorb the frame that was put onto the scene last."""
        self._memory.absorb(0)

    def cells(self, cells: Array, displacement: Array | None) -> Array:
        """Return the cells (C, h, w) of a frame as they lie on the scene, as a new array."""
        if displacement is None:
            raise RuntimeError("A frame of a scene that is tracked has no place.")
        self._onto_scene.put(self._scene_places, displacement)
        self._cells.ready()[0, : len(cells)] = cells
        self._cells.send()
        self._lay_cells()
        self._laid.fetch()
        return np.array(self._laid.host[0, : len(cells)])

    def warm(self) -> None:
        """Sample everything once, nothing displaced."""
        still = np.zeros((2, KNOTS, KNOTS))
        for slot in range(len(self._align)):
            self.align(slot, still)
        self.lay(0, still)
        self.recall(still)

    def calls(self) -> Iterator[Call]:
        """Return every bound call."""
        return chain(self._align, self._lay, self._recall)


class _Sampler:
    """Samples one picture to make another, where displacements at the knots of the scene say.

    Parameters
    ----------
    backend
        Owns the buffers.
    scene
        (H, W) that the knots lie over.
    given, made
        What is sampled, and what is made.
    """

    def __init__(self, backend: Backend, scene: tuple[int, int], given: Extent, made: Extent) -> None:
        self._scene, self._given = scene, given
        self._rows = Port(backend, (1, 1, made.size[0], KNOTS))
        self._columns = Port(backend, (1, 1, KNOTS, made.size[1]))
        rows, columns = spreading(scene, made.size, made.corner)
        self._rows.put(rows)
        self._columns.put(columns)

    def put(self, at: Port, displacement: Array) -> None:
        """Say by how much (2, KNOTS, KNOTS) pixels the places are displaced."""
        at.put(places(displacement, self._scene, self._given.size, self._given.corner))

    def bind(self, graph: Graph, source: str, given: Port, at: Port, result: str, made: Port) -> Call:
        """Return the call that samples `given` at the places `at` into `made`."""
        inputs = {source: given.buffer, "places": at.buffer}
        inputs |= {"rows": self._rows.buffer, "columns": self._columns.buffer}
        return graph.bind(inputs, {result: made.buffer})
