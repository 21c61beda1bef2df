"""The network itself as a backend: what every exported graph is measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import onnx
import torch
from torch import Tensor, nn

from denoscope.export.bundle import load_bundle_flow, load_network
from denoscope.export.split import needs_flow, split
from denoscope.runtime import Backend, Buffer, Bundle, Graph, InvalidInput
from denoscope.runtime.backends import HostBuffer

__all__ = ["TorchReference"]


class TorchReference(Backend):
    """Runs a bundle's stored weights with torch in float32, not its graphs; for one bundle.

    Parameters
    ----------
    bundle
        Whose weights. Only its own graphs can be compiled.
    threads
        Not used: torch keeps its own number of threads.
    """

    as_exported = True
    name: ClassVar[str] = "torch"

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        super().__init__(threads=threads)
        network = load_network(bundle)
        flow = load_bundle_flow(bundle) if needs_flow(network) else None
        parts = split(network, flow)
        self._parts: dict[bytes, nn.Module] = {}
        for name in bundle.manifest.graphs:
            module = getattr(parts, name)
            assert isinstance(module, nn.Module)
            self._parts[bundle.graph_bytes(name)] = module.eval()

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    def describe(self) -> dict[str, str]:
        return {
            "library": f"torch {torch.__version__}",
            "device": "CPU",
            "precision": "float32",
            "threads": str(torch.get_num_threads()),
        }

    def compile(self, onnx: bytes) -> Graph:
        if onnx not in self._parts:
            raise InvalidInput("This graph is not of the bundle that torch runs: give it the same bundle.")
        return _Module(self._parts[onnx], onnx)

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        if dtype != "float32":
            raise InvalidInput(f"Buffers of {self.name} hold float32, not {dtype}: choose it.")
        return HostBuffer(shape)

    def close(self) -> None:
        """Do nothing: the modules go with the object."""


class _Module(Graph):
    """A part of the network. The exporter gave the graph's inputs the order of the module's arguments."""

    def __init__(self, module: nn.Module, data: bytes) -> None:
        graph = onnx.load_model_from_string(data).graph
        self.inputs = tuple(i.name for i in graph.input)
        self.outputs = tuple(o.name for o in graph.output)
        self._module = module

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[[], None]:
        arguments: list[Any] = []
        groups: dict[str, list[Tensor]] = {}
        for name in self.inputs:
            group, _, number = name.rpartition("_")
            tensor = _tensor(inputs[name])
            if not number.isdecimal():
                arguments.append(tensor)
                continue
            if group not in groups:
                arguments.append(groups.setdefault(group, []))
            groups[group].append(tensor)
        targets = [_tensor(outputs[name]) for name in self.outputs]

        def run() -> None:
            with torch.inference_mode():
                found = self._module(*arguments)
                for target, value in zip(
                    targets, found if isinstance(found, tuple) else (found,), strict=True
                ):
                    target.copy_(value)

        return run

    def close(self) -> None:
        """Do nothing: the module belongs to the backend."""


def _tensor(buffer: Buffer) -> Tensor:
    assert buffer.array is not None
    return torch.from_numpy(buffer.array)
