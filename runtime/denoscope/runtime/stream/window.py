"""A bundle's graphs bound to fixed buffers for one kind of frame: every rotation of the ring, once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends.raw_count_graphs import FACTOR, OFFSET, RAW
from denoscope.runtime.backends.registry import Backend, Buffer, Graph
from denoscope.runtime.bundle.bundle import BundleManifest
from denoscope.runtime.errors import BackendUnavailable, DeviceFailed
from denoscope.runtime.motion.field import KNOTS, Extent, places, spreading
from denoscope.runtime.motion.placement import Region
from denoscope.runtime.noise.counts import cut_out, normalise_into, place_into, restore, restore_std
from denoscope.runtime.noise.noise import Intensity

from .pool import Pool

__all__ = ["BoundWindow"]

Array = npt.NDArray[Any]
Call = Callable[..., None]

_UNIT = Intensity(offset=0, scale=1, noise_slope=0, noise_floor=1)


class _Port:
    """A buffer with the host array that is written or read for it; one and the same on a processor."""

    def __init__(self, backend: Backend, shape: tuple[int, ...], dtype: str = "float32") -> None:
        # Third-party backends that know nothing of raw frames need not know of the argument.
        self.buffer = backend.buffer(shape) if dtype == "float32" else backend.buffer(shape, dtype)
        self._shape, self._dtype = shape, dtype
        self.direct = self.buffer.array is not None

    @cached_property
    def host(self) -> Array:
        """Made when it is first asked for: features are never seen by the host."""
        for array in (self.buffer.array, self.buffer.staging):
            if array is not None:
                return array
        return np.zeros(self._shape, self._dtype)

    def ready(self) -> Array:
        """Return the host array once it may be written."""
        self.buffer.settle()
        return self.host

    def send(self) -> None:
        if not self.direct:
            self.buffer.upload(self.host)

    def fetch(self) -> None:
        if not self.direct:
            self.buffer.download(self.host)

    def fill(self, *values: float) -> None:
        self.ready()[...] = np.reshape(values, self._shape if len(values) > 1 else ())
        self.send()

    def put(self, values: Array) -> None:
        """Write an array of its shape."""
        self.ready()[...] = values
        self.send()


class _Sampler:
    """Where on the scene a picture is sampled to make another, and what spreads the knots over the pixels of that.

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
        self._rows = _Port(backend, (1, 1, made.size[0], KNOTS))
        self._columns = _Port(backend, (1, 1, KNOTS, made.size[1]))
        rows, columns = spreading(scene, made.size, made.corner)
        self._rows.put(rows)
        self._columns.put(columns)

    def put(self, at: _Port, displacement: Array) -> None:
        """Say by how much (2, KNOTS, KNOTS) pixels the places are displaced."""
        at.put(places(displacement, self._scene, self._given.size, self._given.corner))

    def bind(self, graph: Graph, source: str, given: _Port, at: _Port, result: str, made: _Port) -> Call:
        """Return the call that samples `given` at the places `at` into `made`."""
        inputs = {source: given.buffer, "places": at.buffer}
        inputs |= {"rows": self._rows.buffer, "columns": self._columns.buffer}
        return graph.bind(inputs, {result: made.buffer})


class BoundWindow:
    """The buffers of one stream and the calls on them; nothing is allocated after construction.

    Parameters
    ----------
    backend
        Owns the buffers.
    graphs
        Compiled graphs of the bundle; `encode` and `fuse` with raw frames or with normalised ones
        (see `_raw`).
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
        (height, width), whole = (
            (size[0] + -size[0] % manifest.stride, size[1] + -size[1] % manifest.stride)
            for size in (shape, self.scene)
        )
        cells, remembered = (
            (size[0] // manifest.scale, size[1] // manifest.scale) for size in ((height, width), whole)
        )
        channels, state = manifest.feature_channels, manifest.memory_channels
        self._raw = RAW in graphs["encode"].inputs
        self._dtype = dtype
        self._finish = backend.finish
        self._backend_name, self._warm_runs = backend.name, backend.warm_runs
        kind = dtype.name if self._raw else "float32"
        self._intensity: Intensity = _UNIT
        self._told: Intensity | None = None  # what the graphs were given last
        self._frame = _Port(backend, (1, 1, height, width), kind)
        self._mean = _Port(backend, (1, 1, height, width), kind)
        # Where frames fill the canvas, the graph writes into the very frame that is handed out.
        redirects = self._raw and backend.redirects
        self._pool = Pool(lambda: backend.buffer((1, 1, height, width), kind)) if redirects else None
        self._canvas = (slice(0, height), slice(0, width))
        self._made: Array | None = None
        self._std = _Port(backend, (1, 1, height, width)) if "std" in graphs["fuse"].outputs else None
        self._noise = _Port(backend, (2,))
        self._offset, self._factor, self._scale = (_Port(backend, (1,)) for _ in range(3))
        self._valid = _Port(backend, (manifest.window,))
        size = manifest.window // 2 + look_ahead + 1
        self._slots = [_Port(backend, (1, channels, *cells)) for _ in range(size)]
        self._blank = backend.buffer((1, channels, *cells))
        # A flow lies in the slot of its later frame; that of the window's oldest frame is not read.
        self._flows: list[_Port] = []
        if manifest.flow_scale:
            flow = (1, 2, height // manifest.flow_scale, width // manifest.flow_scale)
            self._flows = [_Port(backend, flow) for _ in range(size)]
            self._still = backend.buffer(flow)
        # Two of each, written in turn: a graph must not read what it writes.
        pairs = 2 if manifest.memory_decay else 0
        self._memory = [_Port(backend, (1, state, *remembered)) for _ in range(pairs)]
        self._weight = [_Port(backend, (len(manifest.memory_decay),)) for _ in range(pairs)]
        self._now = 0
        # Where the frames of the slots lie on the centre, or one of them on the next frame.
        count = size if self.follows else 0
        self._placed = [_Port(backend, (1, channels, *cells)) for _ in range(count)]
        self._places = [_Port(backend, (1, 2, KNOTS, KNOTS)) for _ in range(count)]
        kept = self._slots  # what `remember` reads
        if self.follows:
            top, left = ((long - short) // 2 for long, short in zip(self.scene, shape, strict=True))
            frame, all_of_it = Extent((height, width), (top, left)), Extent(whole)
            self._onto_frame = _Sampler(backend, self.scene, frame, frame)
            self._onto_scene = _Sampler(backend, self.scene, frame, all_of_it)
            self._from_scene = _Sampler(backend, self.scene, all_of_it, frame)
        if self.follows and pairs:
            self._laid = _Port(backend, (1, channels, *remembered))
            self._recalled = _Port(backend, (1, state, *cells))
            self._scene_places, self._recall_places = (_Port(backend, (1, 2, KNOTS, KNOTS)) for _ in range(2))
            kept = [self._laid]

        self._presence: int | None = None  # as it was last handed over
        self._encode = [self._bind_encode(graphs["encode"], slot) for slot in self._slots]
        seen = self._placed or self._slots
        self._align: list[Call] = []
        self._lay: list[Call] = []
        self._recall: list[Call] = []
        if self.follows:
            self._align = [
                self._onto_frame.bind(graphs["align"], "features", slot, at, "aligned", placed)
                for slot, at, placed in zip(self._slots, self._places, self._placed, strict=True)
            ]
            self._lay = [
                self._onto_scene.bind(
                    graphs["align"], "features", slot, self._scene_places, "aligned", self._laid
                )
                for slot in self._slots
                if pairs
            ]
            self._recall = [
                self._from_scene.bind(
                    graphs["recall"], "memory", memory, self._recall_places, "recalled", self._recalled
                )
                for memory in self._memory
            ]
        self._relate = [
            self._bind_motion(graphs["motion"], seen[place - 1], slot, self._flows[place])
            for place, slot in enumerate(self._slots)
            if self._flows
        ]
        phases = range(max(1, pairs))
        self._fuse = [
            [self._bind_fuse(graphs["fuse"], manifest.window, r, now) for r in range(size)] for now in phases
        ]
        self._remember = [
            [self._bind_remember(graphs["remember"], frame, now) for frame in kept] for now in phases if pairs
        ]
        self._warm()

    def close(self) -> None:
        """Wait for what the backend still does with the buffers; they may be let go afterwards."""
        with contextlib.suppress(Exception):  # a lost device does nothing any more
            self._finish()

    def set_intensity(self, intensity: Intensity) -> None:
        """Take the transform of the frames to come, and give the graphs the camera's noise model."""
        if intensity is self._told:
            return
        self._told = intensity
        self._intensity = intensity
        self._noise.fill(intensity.noise_slope, intensity.noise_floor)
        self._offset.fill(intensity.offset)
        self._factor.fill(float(np.float32(1 / intensity.scale)))
        self._scale.fill(intensity.scale)

    def write(self, frame: Array, place: Region) -> None:
        """Put a frame (H, W) of the window's dtype where the graphs see it, its edges repeated around it."""
        canvas = self._frame.ready()[0, 0]
        if self._raw:
            place_into(frame, canvas, place)
        else:
            normalise_into(frame, self._intensity, canvas, place)

    def encode(self, slot: int) -> None:
        """Compute the features of the written frame into a slot."""
        self._frame.send()
        self._encode[slot]()

    def align(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto another frame: ``frame(p + displacement(p)) = other(p)``.

        `fuse`, and for the frame before a slot `relate`, read what this has made last.
        """
        self._onto_frame.put(self._places[slot], displacement)
        self._align[slot]()

    def lay(self, slot: int, displacement: Array) -> None:
        """Put a slot's frame onto the scene: ``frame(p + displacement(p)) = scene(p)``; `remember` reads it."""
        if self._lay:
            self._onto_scene.put(self._scene_places, displacement)
            self._lay[slot]()

    def recall(self, displacement: Array) -> None:
        """Put the long memory onto the centre: ``scene(p + displacement(p)) = centre(p)``; `fuse` reads it."""
        if self._recall:
            self._from_scene.put(self._recall_places, displacement)
            self._recall[self._now]()

    def relate(self, slot: int) -> None:
        """Compute the flow from the frame in the slot before to the one in `slot`."""
        if self._relate:
            self._relate[slot]()

    def unrelate(self, slot: int) -> None:
        """Take back the flow to a slot whose frame, or the one before it, is missing."""
        if self._flows:
            self._flows[slot].fill(0)

    def fuse(self, rotation: int, presence: int, place: Region | None = None) -> None:
        """Denoise the centre, at a place of the canvas, of the window whose oldest slot is `rotation`.

        The bits of `presence` say which of its frames are there, the oldest one's first.
        """
        if presence != self._presence:
            self._valid.fill(*(presence >> i & 1 for i in range(self._valid.host.size)))
            self._presence = presence
        call = self._fuse[self._now][rotation]
        if self._pool is not None and place == self._canvas:
            self._made, buffer = self._pool.take()
            call({RAW: buffer})
            return
        call()
        self._mean.fetch()

    def read(self, place: Region) -> Array:
        """Return an array of the caller's own with what `fuse` made at that place, in the frame's dtype and scale."""
        if self._made is not None:
            made, self._made = self._made, None
            return made
        mean = self._mean.host[0, 0]
        if self._raw:
            return cut_out(mean, place)
        return restore(mean[place], self._intensity, self._dtype)

    def read_std(self, place: Region) -> npt.NDArray[np.float32]:
        """Return a new array with the standard deviation there, in raw counts, rounding included."""
        assert self._std is not None
        self._std.fetch()
        return restore_std(self._std.host[0, 0][place], self._intensity, self._dtype)

    def remember(self, slot: int) -> None:
        """Absorb a slot's frame into the long memory."""
        if self._remember:
            self._remember[self._now][0 if self.follows else slot]()
            self._now = 1 - self._now

    def forget(self) -> None:
        """Empty the long memory and forget all flows."""
        self._now = 0
        for port in (*self._memory[:1], *self._weight[:1], *self._flows):
            port.fill(0)

    def _bind_encode(self, graph: Graph, slot: _Port) -> Call:
        frame = {RAW if self._raw else "frame": self._frame.buffer}
        inputs = {**frame, "noise": self._noise.buffer, **self._numbers(self._factor)}
        return graph.bind(_wanted(graph, inputs), {"features": slot.buffer})

    def _bind_motion(self, graph: Graph, before: _Port, after: _Port, flow: _Port) -> Call:
        inputs = {"features_a": before.buffer, "features_b": after.buffer, "noise": self._noise.buffer}
        return graph.bind(_wanted(graph, inputs), {"flow": flow.buffer})

    def _bind_fuse(self, graph: Graph, window: int, rotation: int, now: int) -> Call:
        size, centre = len(self._slots), window // 2
        others = self._placed or self._slots
        inputs: dict[str, Buffer] = {
            f"features_{i}": (self._slots if i == centre else others)[(rotation + i) % size].buffer
            if i < size
            else self._blank
            for i in range(window)
        }
        if self._flows:
            inputs |= {
                f"flow_{i}": self._flows[(rotation + i + 1) % size].buffer if i + 1 < size else self._still
                for i in range(window - 1)
            }
        inputs |= {
            "valid": self._valid.buffer,
            "noise": self._noise.buffer,
            **self._numbers(self._scale),
        }
        if self._memory:
            memory = self._recalled if self.follows else self._memory[now]
            inputs |= {"memory": memory.buffer, "weight": self._weight[now].buffer}
        outputs = {RAW if self._raw else "mean": self._mean.buffer}
        if self._std is not None:
            outputs["std"] = self._std.buffer
        return graph.bind(_wanted(graph, inputs), outputs)

    def _bind_remember(self, graph: Graph, slot: _Port, now: int) -> Call:
        inputs = {
            "features": slot.buffer,
            "memory": self._memory[now].buffer,
            "weight": self._weight[now].buffer,
        }
        return graph.bind(
            _wanted(graph, inputs),
            {"memory_out": self._memory[1 - now].buffer, "weight_out": self._weight[1 - now].buffer},
        )

    def _numbers(self, factor: _Port) -> dict[str, Buffer]:
        return {OFFSET: self._offset.buffer, FACTOR: factor.buffer}

    def _warm(self) -> None:
        """Run each graph once, so that the first frame does not pay for the library's preparations."""
        self.set_intensity(_UNIT)
        calls = (*self._encode, *self._align, *self._lay, *self._recall, *self._relate)
        calls += (*chain(*self._fuse), *chain(*self._remember))
        try:
            self.encode(0)
            if self.follows:
                still = np.zeros((2, KNOTS, KNOTS))
                for slot in range(len(self._align)):  # nothing that is read later may be undefined
                    self.align(slot, still)
                self.lay(0, still)
                self.recall(still)
            self.relate(0)
            self.fuse(0, 0)
            self.remember(0)
            for _ in range(self._warm_runs):
                for call in calls:
                    call()
            self._mean.fetch()
        except BackendUnavailable:
            self.close()
            raise
        except DeviceFailed as error:  # before any frame came, so that another backend may still be chosen
            raise BackendUnavailable(str(error)) from error
        except Exception as error:  # what a library raises for a graph that cannot run has no common base
            self.close()
            raise BackendUnavailable(
                f"{self._backend_name} cannot run the bundle's graphs ({str(error).splitlines()[0][:200]}): "
                "choose another backend, or export the bundle again."
            ) from error
        self.forget()


def _wanted(graph: Graph, buffers: Mapping[str, Buffer]) -> dict[str, Buffer]:
    """Return the buffers of the inputs that a graph has; a method may do without some."""
    return {name: buffer for name, buffer in buffers.items() if name in graph.inputs}
