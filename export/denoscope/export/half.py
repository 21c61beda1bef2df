"""Put a graph's convolutions, and what lies between them, into 16-bit floats; all else stays float32.

Inputs and outputs keep float32. What is sensitive to rounding (noise levels, square roots, exponentials, the
posterior) is left as it is: only convolutions and the operators of `_CARRIED` that follow them change. What
leads from a convolution to a flow, or to the grid of a warp, stays float32 too: 11 bits place a pixel of a
frame of 1024 to half a pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["BF16", "FP16", "Format", "half_precision", "rounded_like_half"]


@dataclass(frozen=True)
class Format:
    """A 16-bit floating-point format.

    Attributes
    ----------
    element
        ONNX element type.
    bits
        Of the significand, the hidden one included.
    largest
        Largest value.
    opset
        The first opset whose convolution takes it.
    """

    element: int
    bits: int
    largest: float
    opset: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The format's numpy type."""
        return helper.tensor_dtype_to_np_dtype(self.element)


FP16 = Format(TensorProto.FLOAT16, bits=11, largest=65504.0, opset=11)
BF16 = Format(TensorProto.BFLOAT16, bits=8, largest=float.fromhex("0x1.fep127"), opset=22)

# Operators that only move values, pick among them or average a few, and which of their inputs are data.
_CARRIED: dict[str, tuple[int, ...] | None] = {
    "Add": None,
    "AveragePool": (0,),
    "Concat": None,
    "DepthToSpace": (0,),
    "LeakyRelu": (0,),
    "MaxPool": (0,),
    "Pad": (0,),
    "Relu": (0,),
    "Reshape": (0,),
    "Resize": (0,),
    "Slice": (0,),
    "SpaceToDepth": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
}


def half_precision(data: bytes, form: Format = FP16) -> bytes:
    """Return a serialised model that computes its convolutions in 16 bits, with explicit casts."""
    return _Rewriter(data, form, emulate=False).result()


def rounded_like_half(data: bytes, form: Format = FP16) -> bytes:
    """Return the same model in float32 with every 16-bit value rounded to 11 (8) bits by arithmetic.

    ONNX Runtime's CPU provider has no half-precision convolution: it computes in float32 and removes the
    casts in between, also with all optimisations off, so that a float16 graph seems better there than it
    is; and no bfloat16 convolution at all. Here nothing can be removed. Rounding is Veltkamp's splitting
    (Dekker 1971): with c = (2^13 + 1) x, c - (c - x) is x to 11 bits, and with 2^16 + 1 to 8. Values beyond
    the largest of the format become NaN (bfloat16: those beyond 5e33 already); values below the smallest
    normal half (6e-5) keep more bits than a half has. Sums are accumulated in float32.
    """
    return _Rewriter(data, form, emulate=True).result()


def _places(graph: onnx.GraphProto) -> set[str]:
    """Return the values that say where in a frame something is: grids, flows, and what they are made of."""
    found = {o.name for o in graph.output if o.name == "flow"}
    for node in reversed(graph.node):
        if node.op_type == "GridSample":
            found.add(node.input[1])
        if node.op_type != "Conv" and found.intersection(node.output):
            found.update(node.input)
    return found


class _Rewriter:
    def __init__(self, data: bytes, form: Format, *, emulate: bool) -> None:
        self.model = onnx.load_model_from_string(data)
        self.form = form
        self.emulate = emulate
        graph = self.model.graph
        self.constants = {t.name: t for t in graph.initializer}
        self.added: dict[str, onnx.TensorProto] = {}
        self.outputs = {o.name for o in graph.output}
        self.nodes: list[onnx.NodeProto] = []
        self.native: set[str] = set()  # values that are computed in half precision
        self.halves: set[str] = set()  # values of which a half exists, computed or cast
        self.fulls: set[str] = set()  # native values of which a float32 exists too
        self.places = _places(graph)

    def result(self) -> bytes:
        graph = self.model.graph
        for node in list(graph.node):
            self._visit(node)
        for name in self.outputs & self.native:
            self._full(name)
        used = {name for node in self.nodes for name in node.input}
        kept = [t for t in (*self.constants.values(), *self.added.values()) if t.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(kept)
        for opset in self.model.opset_import:
            # What a bundle's graphs hold only gained types from opset 20 to 22; the check below agrees.
            if opset.domain == "" and not self.emulate:
                opset.version = max(opset.version, self.form.opset)
        onnx.checker.check_model(self.model, full_check=True)
        return bytes(self.model.SerializeToString())

    def _visit(self, node: onnx.NodeProto) -> None:
        places = self._data_places(node)
        if places is None:
            for name in node.input:
                if name in self.native:
                    self._full(name)
            self.nodes.append(node)
            return
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for place in places:
            if new.input[place]:
                new.input[place] = self._half(new.input[place])
        name = node.output[0]
        self.native.add(name)
        self.halves.add(name)
        # The emulated operator computes in float32, and its result is rounded.
        new.output[0] = f"{name}::raw" if self.emulate else f"{name}::half"
        self.nodes.append(new)
        if self.emulate:
            self._round(new.output[0], f"{name}::half")

    def _data_places(self, node: onnx.NodeProto) -> Iterable[int] | None:
        """Return the inputs to be halved if the node shall compute in half precision."""
        if node.domain or len(node.output) != 1:
            return None
        if node.op_type == "Conv":
            return range(len(node.input))
        if node.op_type not in _CARRIED or node.output[0] in self.places:
            return None
        if node.op_type == "Pad" and len(node.input) > 2 and node.input[2]:
            return None  # the value that it fills in would have to be a half too
        places = _CARRIED[node.op_type]
        data = range(len(node.input)) if places is None else places
        native = [node.input[place] in self.native for place in data]
        enough = any(native) if node.op_type == "Add" else all(native)
        return data if enough else None

    def _half(self, name: str) -> str:
        half = f"{name}::half"
        if name in self.halves:
            return half
        self.halves.add(name)
        if name in self.constants:
            values = numpy_helper.to_array(self.constants[name])
            with np.errstate(over="ignore"):
                rounded = values.astype(self.form.dtype)
            stored = rounded.astype(np.float32) if self.emulate else rounded
            self.added[half] = numpy_helper.from_array(stored, half)
        elif self.emulate:
            self._round(name, half)
        else:
            self.nodes.append(helper.make_node("Cast", [name], [half], to=self.form.element))
        return half

    def _full(self, name: str) -> None:
        if name in self.fulls:
            return
        self.fulls.add(name)
        half = f"{name}::half"
        if self.emulate:
            self.nodes.append(helper.make_node("Identity", [half], [name]))
        else:
            self.nodes.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))

    def _round(self, name: str, half: str) -> None:
        splitter = 2.0 ** (24 - self.form.bits) + 1
        for constant, value in (("splitter", splitter), ("largest", self.form.largest), ("nothing", np.nan)):
            key = f"half::{constant}"
            self.added.setdefault(key, numpy_helper.from_array(np.array(value, np.float32), key))
        self.nodes += [
            helper.make_node("Mul", [name, "half::splitter"], [f"{half}::c"]),
            helper.make_node("Sub", [f"{half}::c", name], [f"{half}::d"]),
            helper.make_node("Sub", [f"{half}::c", f"{half}::d"], [f"{half}::r"]),
            helper.make_node("Abs", [f"{half}::r"], [f"{half}::a"]),
            helper.make_node("LessOrEqual", [f"{half}::a", "half::largest"], [f"{half}::fits"]),
            helper.make_node("Where", [f"{half}::fits", f"{half}::r", "half::nothing"], [half]),
        ]
