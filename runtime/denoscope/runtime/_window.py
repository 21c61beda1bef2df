"""A bundle's graphs bound to fixed buffers for one frame size: every rotation of the ring, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from ._backends import Backend, Buffer, Graph
from ._bundle import BundleManifest
from ._noise import Intensity

__all__ = ["BoundWindow"]

Float32 = npt.NDArray[np.float32]
Call = Callable[[], None]


class _Port:
    """A buffer with the host array that is written or read for it; one and the same on a processor."""

    def __init__(self, backend: Backend, shape: tuple[int, ...]) -> None:
        self.buffer = backend.buffer(shape)
        direct = self.buffer.array
        self.direct = direct is not None
        self.host: Float32 = np.zeros(shape, np.float32) if direct is None else direct

    def send(self) -> None:
        if not self.direct:
            self.buffer.upload(self.host)

    def fetch(self) -> None:
        if not self.direct:
            self.buffer.download(self.host)

    def clear(self) -> None:
        self.host[...] = 0
        self.send()


class BoundWindow:
    """The buffers of one stream and the calls on them; nothing is allocated after construction.

    Parameters
    ----------
    backend
        Owns the buffers.
    graphs
        Compiled `encode`, `fuse` and, with a long memory, `remember`.
    manifest
        Of the bundle.
    look_ahead
        Of the stream; the window's later places are bound to an empty frame.
    shape
        (H, W) of the raw frames; padded up to the bundle's stride.

    Attributes
    ----------
    frame
        (H', W') float32 where the next frame is written, normalised.
    valid
        (N,) float32, 1 for each frame of the window that is there.
    mean, std
        (H, W) float32 views of the last result, normalised.
    """

    def __init__(
        self,
        backend: Backend,
        graphs: Mapping[str, Graph],
        manifest: BundleManifest,
        look_ahead: int,
        shape: tuple[int, int],
    ) -> None:
        height, width = (n + -n % manifest.stride for n in shape)
        cells = (height // manifest.scale, width // manifest.scale)
        channels, state = manifest.feature_channels, manifest.memory_channels
        self._frame = _Port(backend, (1, 1, height, width))
        self._noise = _Port(backend, (2,))
        self._valid = _Port(backend, (manifest.window,))
        self._mean, self._std = _Port(backend, (1, 1, height, width)), _Port(backend, (1, 1, height, width))
        self._slots = [
            _Port(backend, (1, channels, *cells)) for _ in range(manifest.window // 2 + look_ahead + 1)
        ]
        self._blank = backend.buffer((1, channels, *cells))
        # Two of each, written in turn: a graph must not read what it writes.
        pairs = 2 if manifest.memory_decay else 0
        self._memory = [_Port(backend, (1, state, *cells)) for _ in range(pairs)]
        self._weight = [_Port(backend, (len(manifest.memory_decay),)) for _ in range(pairs)]
        self._now = 0

        self.frame = self._frame.host[0, 0]
        self.valid = self._valid.host
        self.mean, self.std = (p.host[0, 0, : shape[0], : shape[1]] for p in (self._mean, self._std))
        self._encode = [self._bind_encode(graphs["encode"], slot) for slot in self._slots]
        phases = range(max(1, pairs))
        self._fuse = [
            [self._bind_fuse(graphs["fuse"], manifest.window, r, now) for r in range(len(self._slots))]
            for now in phases
        ]
        self._remember = [
            [self._bind_remember(graphs["remember"], slot, now) for slot in self._slots]
            for now in phases
            if pairs
        ]
        self._warm()

    def set_noise(self, intensity: Intensity) -> None:
        """Give the graphs the camera's noise model."""
        self._noise.host[:] = intensity.noise_slope, intensity.noise_floor
        self._noise.send()

    def encode(self, slot: int) -> None:
        """Compute the features of `frame` into a slot."""
        self._frame.send()
        self._encode[slot]()

    def fuse(self, rotation: int) -> None:
        """Compute mean and standard deviation of the centre of the window whose oldest slot is `rotation`."""
        self._valid.send()
        self._fuse[self._now][rotation]()
        self._mean.fetch()

    def fetch_std(self) -> None:
        """Bring the last standard deviation to the host."""
        self._std.fetch()

    def remember(self, slot: int) -> None:
        """Absorb a slot's frame into the long memory."""
        if self._remember:
            self._remember[self._now][slot]()
            self._now = 1 - self._now

    def forget(self) -> None:
        """Empty the long memory."""
        self._now = 0
        for port in (*self._memory[:1], *self._weight[:1]):
            port.clear()

    def _bind_encode(self, graph: Graph, slot: _Port) -> Call:
        return graph.bind(
            {"frame": self._frame.buffer, "noise": self._noise.buffer}, {"features": slot.buffer}
        )

    def _bind_fuse(self, graph: Graph, window: int, rotation: int, now: int) -> Call:
        size = len(self._slots)
        inputs: dict[str, Buffer] = {
            f"features_{i}": self._slots[(rotation + i) % size].buffer if i < size else self._blank
            for i in range(window)
        }
        inputs |= {"valid": self._valid.buffer, "noise": self._noise.buffer}
        if self._memory:
            inputs |= {"memory": self._memory[now].buffer, "weight": self._weight[now].buffer}
        return graph.bind(inputs, {"mean": self._mean.buffer, "std": self._std.buffer})

    def _bind_remember(self, graph: Graph, slot: _Port, now: int) -> Call:
        return graph.bind(
            {
                "features": slot.buffer,
                "memory": self._memory[now].buffer,
                "weight": self._weight[now].buffer,
            },
            {"memory_out": self._memory[1 - now].buffer, "weight_out": self._weight[1 - now].buffer},
        )

    def _warm(self) -> None:
        """Run each graph once, so that the first frame does not pay for the library's preparations."""
        self._noise.host[:] = 0, 1
        self._noise.send()
        self._valid.clear()
        self.encode(0)
        self.fuse(0)
        self.remember(0)
        self.forget()
