"""A bundle's graphs bound to fixed buffers for one kind of frame: every rotation of the ring, once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends.raw_count_graphs import RAW
from denoscope.runtime.backends.registry import Backend, Buffer, Graph
from denoscope.runtime.bundle.bundle import BundleManifest
from denoscope.runtime.errors import BackendUnavailable, DeviceFailed
from denoscope.runtime.motion.field import Extent
from denoscope.runtime.motion.placement import Region
from denoscope.runtime.noise.noise import Intensity

from .both_sides import BothSides
from .flows import Flows
from .memory import LongMemory
from .picture import UNIT, CameraNumbers, Picture
from .ports import Array, Call, Port, wanted
from .scene import Scene, StillScene, TrackedScene

__all__ = ["BoundWindow"]


class BoundWindow:
    """The buffers of one stream and the calls on them; nothing is allocated after construction.

    Parameters
    ----------
    backend
        Owns the buffers.
    graphs
        Compiled graphs of the bundle; `encode` and `fuse` with raw frames or with normalised ones
        (`denoscope.runtime.backends.raw_count_graphs`).
    manifest
        Of the bundle.
    look_ahead
        Of the stream; the window's later places are bound to an empty frame.
    shape
        (H, W) of what the graphs see; padded up to the bundle's stride.
    dtype
        Of the frames.
    scene
        (H', W') of a scene whose parts are followed, the frame in its middle; None where none is. The long memory
        covers it. `align` then comes before `fuse` for every frame but the centre, `recall` before it for the long
        memory, and `lay` before `remember`. Their displacements are (2, KNOTS, KNOTS) over the scene, in pixels.
    """

    def __init__(
        self,
        backend: Backend,
        graphs: Mapping[str, Graph],
        manifest: BundleManifest,
        look_ahead: int,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        *,
        scene: tuple[int, int] | None = None,
    ) -> None:
        self.follows, self.scene = scene is not None, scene or shape
        canvas, whole = (
            (size[0] + -size[0] % manifest.stride, size[1] + -size[1] % manifest.stride)
            for size in (shape, self.scene)
        )
        cells, remembered = (
            (size[0] // manifest.scale, size[1] // manifest.scale) for size in (canvas, whole)
        )
        raw, std = RAW in graphs["encode"].inputs, "std" in graphs["fuse"].outputs
        self._backend, self._scale = backend, manifest.scale
        self._numbers = CameraNumbers(backend)
        self._picture = Picture(backend, self._numbers, canvas, dtype, raw=raw, std=std)
        size = manifest.window // 2 + look_ahead + 1
        features = (1, manifest.feature_channels, *cells)
        self._slots = [Port(backend, features) for _ in range(size)]
        self._blank = backend.buffer(features)
        self._encode = [self._bind_encode(graphs["encode"], slot) for slot in self._slots]
        self._valid = Port(backend, (manifest.window,))
        self._presence: int | None = None  # as it was last handed over
        self._whole = (1 << size) - 1
        self._empty: set[int] = set()  # slots whose features, as `fuse` reads them, are zero
        self._memory = LongMemory(backend, manifest, remembered)
        self._scene: Scene
        if not self.follows:
            self._scene = StillScene(self._slots, self._memory, graphs)
        else:
            top, left = ((long - short) // 2 for long, short in zip(self.scene, shape, strict=True))
            frame = Extent(canvas, (top, left))
            self._scene = TrackedScene(
                backend, self.scene, frame, Extent(whole), self._slots, self._memory, graphs
            )
        noise, seen = self._numbers.noise, self._scene.neighbours
        self._flows = Flows(backend, manifest, canvas, self._slots, seen, noise, graphs)
        self._fuse = [
            [self._bind_fuse(graphs["fuse"], manifest.window, rotation, now) for rotation in range(size)]
            for now in self._memory.phases
        ]
        self._warm()

    def close(self) -> None:
        """Wait for what the backend still does with the buffers; they may be let go afterwards."""
        with contextlib.suppress(Exception):  # a lost device does nothing any more
            self._backend.finish()

    def set_intensity(self, intensity: Intensity) -> None:
        """Take the transform of the frames to come, and give the graphs the camera's noise model."""
        self._numbers.set(intensity)

    def write(self, frame: Array, place: Region) -> None:
        """Put a frame (H, W) of the window's dtype where the graphs see it, its edges repeated around it."""
        self._picture.write(frame, place)

    def cells(self, displacement: Array | None) -> npt.NDArray[np.float32]:
        """Return the cells (scale * scale, h, w) of the written frame as they lie on the scene; see `lay`."""
        frame, edge = self._picture.normalised(), self._scale
        height, width = frame.shape[0] // edge, frame.shape[1] // edge
        cells = frame.reshape(height, edge, width, edge).transpose(1, 3, 0, 2)
        return self._scene.cells(cells.reshape(edge * edge, height, width), displacement)

    def put_memory(self, both_sides: BothSides) -> None:
        """Let the long memory be what is remembered of both sides of the window."""
        self._memory.put(both_sides)

    def encode(self, slot: int) -> None:
        """Compute the features of the written frame into a slot."""
        self._picture.send()
        self._encode[slot]()
        self._empty.discard(slot)

    def align(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto another frame: ``frame(p + displacement(p)) = other(p)``.

        `fuse`, and for the frame before a slot `relate`, read what this has made last.
        """
        self._scene.align(slot, displacement)
        self._empty.discard(slot)

    def lay(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto the scene: ``frame(p + displacement(p)) = scene(p)``; `remember` reads it."""
        self._scene.lay(slot, displacement)

    def recall(self, displacement: Array) -> None:
        """Put the long memory onto the centre: ``scene(p + displacement(p)) = centre(p)``; `fuse` reads it."""
        self._scene.recall(displacement)

    def relate(self, slot: int) -> None:
        """Compute the flow from the frame in the slot before to the one in `slot`."""
        self._flows.relate(slot)

    def unrelate(self, slot: int) -> None:
        """Take back the flow to a slot whose frame, or the one before it, is missing."""
        self._flows.remove(slot)

    def fuse(self, rotation: int, presence: int, place: Region | None = None) -> None:
        """Denoise the centre, at a place of the canvas, of the window whose oldest slot is `rotation`.

        The bits of `presence` say which of its frames are there, the oldest one's first.
        """
        if presence != self._presence:
            self._valid.fill(*(presence >> i & 1 for i in range(self._valid.host.size)))
            self._presence = presence
        if presence != self._whole:
            self._clear_missing(rotation, presence)
        self._picture.make(self._fuse[self._memory.now][rotation], place)

    def read(self, place: Region) -> Array:
        """Return an array of the caller's own with what `fuse` made at that place, in the frame's dtype and scale."""
        return self._picture.read(place)

    def read_std(self, place: Region) -> npt.NDArray[np.float32]:
        """Return a new array with the standard deviation there, in raw counts, rounding included."""
        return self._picture.read_std(place)

    def remember(self, slot: int) -> None:
        """Absorb a slot's frame into the long memory."""
        self._scene.remember(slot)

    def forget(self) -> None:
        """Empty the long memory and forget all flows."""
        self._memory.forget()
        self._flows.forget()

    def _clear_missing(self, rotation: int, presence: int) -> None:
        """Make the features of missing frames zero, as `fuse` expects them."""
        size = len(self._slots)
        for i in range(size):
            slot = (rotation + i) % size
            if not presence >> i & 1 and slot not in self._empty:
                self._scene.neighbours[slot].buffer.clear()
                self._empty.add(slot)

    def _bind_encode(self, graph: Graph, slot: Port) -> Call:
        inputs = self._picture.inputs() | {"noise": self._numbers.noise.buffer} | self._numbers.from_counts()
        return graph.bind(wanted(graph, inputs), {"features": slot.buffer})

    def _bind_fuse(self, graph: Graph, window: int, rotation: int, now: int) -> Call:
        size, centre = len(self._slots), window // 2
        inputs: dict[str, Buffer] = {
            f"features_{i}": (self._slots if i == centre else self._scene.neighbours)[
                (rotation + i) % size
            ].buffer
            if i < size
            else self._blank
            for i in range(window)
        }
        inputs |= self._flows.inputs(window, rotation)
        inputs |= {"valid": self._valid.buffer, "noise": self._numbers.noise.buffer}
        inputs |= self._numbers.to_counts()
        if self._memory:
            inputs |= {"memory": self._scene.memory(now).buffer, "weight": self._memory.weight(now)}
        return graph.bind(wanted(graph, inputs), self._picture.outputs())

    def _calls(self) -> Iterator[Call]:
        """Return every bound call, in the order in which a frame needs them."""
        return chain(self._encode, self._scene.calls(), self._flows.calls, *self._fuse, self._memory.calls())

    def _warm(self) -> None:
        """Run each graph once, so that the first frame does not pay for the library's preparations."""
        self.set_intensity(UNIT)
        try:
            self.encode(0)
            self._scene.warm()  # nothing that is read later may be undefined
            self.relate(0)
            self.fuse(0, 0)
            self.remember(0)
            for _ in range(self._backend.warm_runs):
                for call in self._calls():
                    call()
            self._picture.fetch()
        except BackendUnavailable:
            self.close()
            raise
        except DeviceFailed as error:  # before any frame came, so that another backend may still be chosen
            raise BackendUnavailable(str(error)) from error
        except Exception as error:  # what a library raises for a graph that cannot run has no common base
            self.close()
            raise BackendUnavailable(
                f"{self._backend.name} cannot run the bundle's graphs ({str(error).splitlines()[0][:200]}): "
                "choose another backend, or export the bundle again."
            ) from error
        self._empty.clear()  # all calls have been run, on whatever their buffers held
        self.forget()
