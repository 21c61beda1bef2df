"""A bundle's graphs bound to fixed buffers for one kind of frame: every rotation of the ring, once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends.base import FrameCall
from denoscope.runtime.backends.raw_count_graphs import RAW
from denoscope.runtime.backends.registry import Backend, Buffer, Graph
from denoscope.runtime.bundle.bundle import BundleManifest
from denoscope.runtime.errors import BackendUnavailable, DeviceFailed
from denoscope.runtime.motion.field import Extent
from denoscope.runtime.motion.placement import Region
from denoscope.runtime.noise.noise import Intensity
from denoscope.runtime.words import first_line

from .both_sides import BothSides
from .flows import Flows
from .memory import LongMemory
from .picture import UNIT, CameraNumbers, Made, Picture
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
        raw, made = RAW in graphs["encode"].inputs, graphs["fuse"].outputs
        keeps_mean = raw and "mean" in made
        self._backend, self._scale = backend, manifest.scale
        self._numbers = CameraNumbers(backend)
        self._memory = LongMemory(backend, manifest, remembered)
        # A frame's side is the state of the memory that it reads, so that it costs no more bindings.
        self._sides = len(self._memory.phases) if keeps_mean and backend.overlaps else 1
        self._picture = Picture(
            backend,
            self._numbers,
            canvas,
            dtype,
            raw=raw,
            std="std" in made,
            sides=self._sides,
            keeps_mean=keeps_mean,
        )
        size = manifest.window // 2 + look_ahead + 1
        features = (1, manifest.feature_channels, *cells)
        # Features of a scene that is tracked are sampled channel by channel.
        planes = (
            manifest.memory_channels // manifest.memories if manifest.memories and not self.follows else 0
        )
        self._slots = [Port(backend, features, planes=planes) for _ in range(size)]
        self._blank = Port(backend, features, planes=planes).buffer
        self._encode = [
            [self._bind_encode(graphs["encode"], slot, side) for slot in self._slots]
            for side in range(self._sides)
        ]
        self._written: int | None = None  # slot of the frame that is written and not yet encoded
        self._related = False  # whether its flow is to be computed too
        self._absorbed: int | None = None  # slot that a call for a whole frame has absorbed
        self._valid = Port(backend, (manifest.window,))
        self._presence: int | None = None  # as it was last handed over
        self._whole = (1 << size) - 1
        self._empty: set[int] = set()  # slots whose features, as `fuse` reads them, are zero
        if self.follows:
            top, left = ((long - short) // 2 for long, short in zip(self.scene, shape, strict=True))
            self._scene: Scene = self._tracked_scene(graphs, Extent(canvas, (top, left)), Extent(whole))
        else:
            self._scene = StillScene(self._slots, self._memory, graphs)
        noise, seen = self._numbers.noise, self._scene.neighbours
        self._flows = Flows(backend, manifest, canvas, self._slots, seen, noise, graphs)
        self._fuse = [
            [self._bind_fuse(graphs["fuse"], manifest.window, rotation, now) for rotation in range(size)]
            for now in self._memory.phases
        ]
        self.made = self.whole = 0
        """Count of pictures, and of those that were made by one call."""
        self._together: dict[tuple[int, int], FrameCall] = {}
        self._warm()
        self.made = self.whole = 0

    def _tracked_scene(self, graphs: Mapping[str, Graph], frame: Extent, whole: Extent) -> TrackedScene:
        return TrackedScene(self._backend, self.scene, frame, whole, self._slots, self._memory, graphs)

    @property
    def overlaps(self) -> bool:
        """True where a frame can be begun while the picture of the one before is on its way."""
        return self._sides > 1

    @property
    def side(self) -> int:
        """Number of the output that the next picture comes in; that output must have been read before."""
        return self._memory.now if self._sides > 1 else 0

    def close(self) -> None:
        """Wait for what the backend still does with the buffers; they may be let go afterwards."""
        with contextlib.suppress(Exception):  # a lost device does nothing any more
            self._backend.finish()

    def set_intensity(self, intensity: Intensity) -> None:
        """Take the transform of the frames to come, and give the graphs the camera's noise model."""
        if self._written is not None and not self._numbers.knows(intensity):
            self._encode_written()
        self._numbers.set(intensity)

    def write(self, frame: Array, place: Region) -> None:
        """Put a frame (H, W) of the window's dtype where the graphs see it, its edges repeated around it."""
        self._encode_written()
        self._picture.write(frame, place, self.side)

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
        """Compute the features of the written frame into a slot; `fuse` may do it where it is one call with that."""
        self._written = slot
        if not self._together:
            self._encode_written()

    def align(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto another frame: ``frame(p + displacement(p)) = other(p)``.

        `fuse`, and for the frame before a slot `relate`, read what this has made last.
        """
        self._encode_written()
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
        if self._written == slot:
            self._related = True
        else:
            self._flows.relate(slot)

    def unrelate(self, slot: int) -> None:
        """Take back the flow to a slot whose frame, or the one before it, is missing."""
        self._encode_written()
        self._flows.remove(slot)

    def fuse(self, rotation: int, presence: int, place: Region | None = None) -> Made:
        """Denoise the centre, at a place of the canvas, of the window whose oldest slot is `rotation`.

        The bits of `presence` say which of its frames are there, the oldest one's first. The picture may still be on
        its way: `arrive` waits for it. Where all frames are there, `rotation` may have been absorbed too.
        """
        side = self.side
        whole = self._together.get((side, rotation))
        if whole is not None and self._is_whole(rotation, presence):
            self._empty.discard((rotation - 1) % len(self._slots))
            self._written, self._related, self._absorbed = None, False, rotation
            self.made += 1
            self.whole += 1
            return self._picture.make_together(whole, place, side)
        self._encode_written()
        if presence != self._presence:
            self._valid.fill(*(presence >> i & 1 for i in range(self._valid.host.size)))
            self._presence = presence
        if presence != self._whole:
            self._clear_missing(rotation, presence)
        self.made += 1
        return self._picture.make(self._fuse[self._memory.now][rotation], place, side)

    def arrive(self, made: Made) -> None:
        """Return when a picture that `fuse` made has come to the host."""
        self._picture.arrive(made)

    def read(self, made: Made) -> Array:
        """Return an array of the caller's own with a picture that has arrived, in the frame's dtype and scale."""
        return self._picture.read(made)

    def read_std(self, made: Made) -> npt.NDArray[np.float32]:
        """Return a new array with its standard deviation, in raw counts, rounding included."""
        return self._picture.read_std(made)

    def convert_again(self, made: Made, intensity: Intensity) -> Array | None:
        """Return a picture in the counts of another transform, rounded once; None where `fuse` must be run for it."""
        return self._picture.convert_again(made, intensity) if self._picture.keeps_mean else None

    def remember(self, slot: int) -> None:
        """Absorb a slot's frame into the long memory."""
        self._encode_written()
        if self._absorbed == slot:
            self._absorbed = None
            self._memory.absorbed()
        else:
            self._scene.remember(slot)

    def forget(self) -> None:
        """Empty the long memory and forget all flows."""
        self._encode_written()
        self._memory.forget()
        self._flows.forget()

    def _encode_written(self) -> None:
        """Encode the frame that was written, where that is still to be done."""
        slot, related = self._written, self._related
        if slot is None:
            return
        self._written, self._related = None, False
        self._picture.send(self.side)
        self._encode[self.side][slot]()
        self._empty.discard(slot)
        if related:
            self._flows.relate(slot)

    def _is_whole(self, rotation: int, presence: int) -> bool:
        """Say whether what is to be done is what a call for a whole frame does."""
        return (
            presence == self._whole == self._presence
            and self._written == (rotation - 1) % len(self._slots)
            and self._related == bool(self._flows.calls)
        )

    def _clear_missing(self, rotation: int, presence: int) -> None:
        """Make the features of missing frames zero, as `fuse` expects them."""
        size = len(self._slots)
        for i in range(size):
            slot = (rotation + i) % size
            if not presence >> i & 1 and slot not in self._empty:
                self._scene.neighbours[slot].buffer.clear()
                self._empty.add(slot)

    def _bind_encode(self, graph: Graph, slot: Port, side: int) -> Call:
        inputs = (
            self._picture.inputs(side) | {"noise": self._numbers.noise.buffer} | self._numbers.from_counts()
        )
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
        return graph.bind(wanted(graph, inputs), self._picture.outputs(now if self._sides > 1 else 0))

    def _bind_together(self) -> None:
        """Make one call of what a frame needs, for each slot and side, where the backend can."""
        if self._sides == 1 or self.follows:
            return
        size = len(self._slots)
        for side in range(self._sides):
            for rotation in range(size):
                slot = (rotation - 1) % size
                calls = [
                    self._encode[side][slot],
                    *self._flows.calls[slot : slot + 1],
                    self._fuse[side][rotation],
                ]
                absorbs = self._memory.absorbs(side, rotation)
                whole = self._backend.together(
                    self._picture.uploads(side), calls, self._picture.fetches(side), absorbs
                )
                if whole is None:
                    self._together.clear()
                    return
                self._together[side, rotation] = whole

    def _calls(self) -> Iterator[Call]:
        """Return every bound call, in the order in which a frame needs them."""
        return chain(*self._encode, self._scene.calls(), self._flows.calls, *self._fuse, self._memory.calls())

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
            self._bind_together()
            for whole in self._together.values():
                whole([None for _ in self._picture.fetches(0)])
            for side in range(self._sides):
                self._picture.arrive(Made(side, None, UNIT))
        except BackendUnavailable:
            self.close()
            raise
        except DeviceFailed as error:  # before any frame came, so that another backend may still be chosen
            raise BackendUnavailable(str(error)) from error
        except Exception as error:  # what a library raises for a graph that cannot run has no common base
            self.close()
            raise BackendUnavailable(
                f"{self._backend.name} cannot run the bundle's graphs ({first_line(error)}): "
                "choose another backend, or export the bundle again."
            ) from error
        self._empty.clear()  # all calls have been run, on whatever their buffers held
        self.forget()
