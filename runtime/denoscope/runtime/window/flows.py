"""Flows between neighbouring frames of a window, for bundles that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from denoscope.runtime.backends.registry import Backend, Buffer, Graph
from denoscope.runtime.bundle.bundle import BundleManifest

from .ports import Call, Port, wanted

__all__ = ["Flows"]


class Flows:
    """One flow for each slot of the ring, from the frame before to the slot's; none where the bundle reads none.

    Parameters
    ----------
    backend
        Owns the buffers.
    manifest
        Of the bundle.
    shape
        (H, W) of the canvas.
    slots, seen
        Features of the slots' frames, and of the frames before them as they lie on these.
    noise
        The camera's noise.
    graphs
        Compiled graphs of the bundle.
    """

    def __init__(
        self,
        backend: Backend,
        manifest: BundleManifest,
        shape: tuple[int, int],
        slots: Sequence[Port],
        seen: Sequence[Port],
        noise: Port,
        graphs: Mapping[str, Graph],
    ) -> None:
        self._flows: list[Port] = []
        self.calls: list[Call] = []
        if not manifest.flow_scale:
            return
        size = (1, 2, shape[0] // manifest.flow_scale, shape[1] // manifest.flow_scale)
        self._flows = [Port(backend, size) for _ in slots]
        self._still = backend.buffer(size)
        graph = graphs["motion"]
        for place, slot in enumerate(slots):
            inputs = {"features_a": seen[place - 1].buffer, "features_b": slot.buffer, "noise": noise.buffer}
            self.calls.append(graph.bind(wanted(graph, inputs), {"flow": self._flows[place].buffer}))

    def inputs(self, window: int, rotation: int) -> dict[str, Buffer]:
        """Return the flows of a window of so many frames whose oldest slot is `rotation`, as `fuse` reads them."""
        if not self._flows:
            return {}
        size = len(self._flows)  # a flow lies in the slot of its later frame; the oldest frame's is not read
        return {
            f"flow_{i}": self._flows[(rotation + i + 1) % size].buffer if i + 1 < size else self._still
            for i in range(window - 1)
        }

    def relate(self, slot: int) -> None:
        """Compute the flow from the frame in the slot before to the one in `slot`."""
        if self.calls:
            self.calls[slot]()

    def remove(self, slot: int) -> None:
        """Take back the flow to a slot whose frame, or the one before it, is missing."""
        if self._flows:
            self._flows[slot].fill(0)

    def forget(self) -> None:
        """Take back all flows."""
        for port in self._flows:
            port.fill(0)
