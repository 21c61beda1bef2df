"""C for what lies between convolutions: each thread computes all channels of one place of the frame.

Values are written as single assignments, each once a kernel, so that what several outputs need is computed once. A
value is named by its tensor, its index and its place: the last two indices of a tensor with pixels are the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .read import Node, Program, refused

__all__ = ["HERE", "SMALL", "Emitter", "Site", "Stored", "reduced", "sliced"]

Index = tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """Row ``scale * y + row`` and column ``scale * x + column`` of a tensor, for the thread of (y, x)."""

    scale: int = 1
    row: int = 0
    column: int = 0

    @property
    def y(self) -> str:
        """The row in C."""
        return "y" if self.scale == 1 else f"({self.scale} * y + {self.row})"

    @property
    def x(self) -> str:
        """The column in C."""
        return "x" if self.scale == 1 else f"({self.scale} * x + {self.column})"


HERE = Site()
SMALL = "small"  # the buffer of values without pixels


@dataclass(frozen=True)
class Stored:
    """A value in the GPU's memory.

    Attributes
    ----------
    buffer
        Its name among the kernels' arguments.
    ctype
        Of its elements.
    channels
        0 for planes, one channel behind the other; else pixels lie behind each other, with so many channels each,
        in half precision.
    """

    buffer: str
    ctype: str = "float"
    channels: int = 0


_UNARY: Mapping[str, str] = {
    "Abs": "fabsf({})",
    "Exp": "expf({})",
    "Identity": "{}",
    "Neg": "-{}",
    "Reciprocal": "1.0f / {}",
    "Relu": "fmaxf({}, 0.0f)",
    "Round": "rintf({})",
    "Sigmoid": "(1.0f / (1.0f + expf(-{})))",
    "Sqrt": "sqrtf({})",
}
_BINARY: Mapping[str, str] = {
    "Add": "{} + {}",
    "Div": "{} / {}",
    "LessOrEqual": "({} <= {}) ? 1.0f : 0.0f",
    "Max": "fmaxf({}, {})",
    "Min": "fminf({}, {})",
    "Mul": "{} * {}",
    "Sub": "{} - {}",
}


class Emitter:
    """Writes one kernel.

    Parameters
    ----------
    program
        The graph.
    find
        Returns where a value lies in memory, as far as this kernel may read it, else None.
    small
        Returns where in the buffer `SMALL` one element of a value without pixels lies; None in the kernel that
        computes those.
    """

    def __init__(
        self,
        program: Program,
        find: Callable[[str], Stored | None],
        small: Callable[[str, Index], int] | None = None,
    ) -> None:
        self.program = program
        self.lines: list[str] = []
        self.reads: dict[str, str] = {}  # buffers, and the type of their elements
        self.loads = 0  # numbers read from them
        self._find, self._small = find, small
        self._known: dict[tuple[str, Index, Site], str] = {}
        self._entries: dict[tuple[str, int, str, str], str] = {}
        self._taps: dict[tuple[str, bytes, Site, tuple[int, ...]], list[list[tuple[str, str]]]] = {}
        self._vectors: dict[tuple[str, int, str, str], str] = {}

    def value(self, name: str, index: Index, place: Site = HERE) -> str:
        """Return the C name of one number."""
        key = name, index, place
        if key not in self._known:
            self._known[key] = self._make(name, index, place)
        return self._known[key]

    def let(self, expression: str, ctype: str = "float") -> str:
        """Write an assignment and return the name of what it makes."""
        name = f"t{len(self.lines)}"
        self.lines.append(f"const {ctype} {name} = {expression};")
        return name

    def _make(self, name: str, index: Index, place: Site) -> str:
        program = self.program
        if name in program.constants:
            return _literal(program.constants[name][index])
        if name not in program.fields and self._small is not None:
            self.reads[SMALL] = "float"
            return self.let(f"{SMALL}[{self._small(name, index)}]")
        stored = self._find(name)
        if stored is not None:
            if name not in program.fields:
                self.reads[stored.buffer] = stored.ctype
                flat = int(np.ravel_multi_index(index, program.shapes[name])) if index else 0
                return self.let(f"{stored.buffer}[{flat}]")
            return self._load(stored, name, index, place.y, place.x)
        return self._compute(program.nodes[name], index, place)

    def _load(self, stored: Stored, name: str, index: Index, y: str, x: str) -> str:
        shape = self.program.shapes[name]
        channel = int(np.ravel_multi_index(index[:-2], shape[:-2]))
        height, width = shape[-2:]
        self.loads += 1
        if not stored.channels:
            self.reads[stored.buffer] = stored.ctype
            return self.let(f"(float){stored.buffer}[({channel * height} + {y}) * {width} + {x}]")
        self.reads[stored.buffer] = "uint4"
        part, within = divmod(channel, 8)
        key = stored.buffer, part, y, x
        if key not in self._vectors:
            at = f"({y} * {width} + {x}) * {stored.channels // 8} + {part}"
            self._vectors[key] = self.let(f"{stored.buffer}[{at}]", "uint4")
        return self.let(f"{'HIGH' if within % 2 else 'LOW'}({self._vectors[key]}.{'xyzw'[within // 2]})")

    def _compute(self, node: Node, index: Index, place: Site) -> str:
        op, attributes = node.op, node.attributes
        if op in _UNARY:
            return self.let(_UNARY[op].format(self._operand(node, 0, index, place)))
        if op in _BINARY:
            a, b = (self._operand(node, i, index, place) for i in (0, 1))
            for more in range(2, len(node.inputs)):
                a, b = self.let(_BINARY[op].format(a, b)), self._operand(node, more, index, place)
            return self.let(_BINARY[op].format(a, b))
        special = getattr(self, f"_{op.lower()}", None)
        if special is None:
            raise refused(f"{op} here")
        return str(special(node, index, place, attributes))

    def _operand(self, node: Node, i: int, index: Index, place: Site) -> str:
        """Return one input of an operator that broadcasts its inputs."""
        name = node.inputs[i]
        shape, out = self.program.shapes[name], self.program.shapes[node.output]
        if node.output in self.program.fields:
            known = name in self.program.fields
            if (known and shape[-2:] != out[-2:]) or (not known and any(n != 1 for n in shape[-2:])):
                raise refused(f"{node.op} of frames of unequal sizes")
        offset = len(index) - len(shape)
        taken = tuple(0 if n == 1 else index[offset + k] for k, n in enumerate(shape))
        return self.value(name, taken, place)

    def _cast(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        value = self._operand(node, 0, index, place)
        # Integers are kept as floats that hold whole numbers; types that a store needs are the store's business.
        return value if attributes["to"] in _WHOLE or attributes["to"] == _FLOAT else self._refuse("Cast")

    def _refuse(self, what: str) -> str:
        raise refused(f"{what} of this kind")

    def _clip(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        value = self._operand(node, 0, index, place)
        for key, function in (("min", "fmaxf"), ("max", "fminf")):
            if key in attributes:
                value = self.let(f"{function}({value}, {_literal(attributes[key])})")
        return value

    def _leakyrelu(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        value = self._operand(node, 0, index, place)
        return self.let(f"{value} > 0.0f ? {value} : {value} * {_literal(attributes.get('alpha', 0.01))}")

    def _pow(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        value, exponent = (
            self._operand(node, 0, index, place),
            float(np.asarray(attributes["exponent"]).item()),
        )
        return self.let(f"{value} * {value}" if exponent == 2 else f"powf({value}, {_literal(exponent)})")

    def _where(self, node: Node, index: Index, place: Site, _: Mapping[str, Any]) -> str:
        condition, yes, no = (self._operand(node, i, index, place) for i in range(3))
        return self.let(f"{condition} != 0.0f ? {yes} : {no}")

    def _expand(self, node: Node, index: Index, place: Site, _: Mapping[str, Any]) -> str:
        return self._operand(node, 0, index, place)

    def _reshape(self, node: Node, index: Index, place: Site, _: Mapping[str, Any]) -> str:
        name = node.inputs[0]
        shape, out = self.program.shapes[name], self.program.shapes[node.output]
        kept = 0
        if node.output in self.program.fields:
            kept = 2
            if shape[-2:] != out[-2:]:
                raise refused("a Reshape of rows and columns")
        cut, cut_out = len(shape) - kept, len(out) - kept
        flat = int(np.ravel_multi_index(index[:cut_out], out[:cut_out])) if cut_out else 0
        taken = tuple(int(i) for i in np.unravel_index(flat, shape[:cut])) if cut else ()
        return self.value(name, taken + (0,) * kept, place)

    _unsqueeze = _squeeze = _reshape

    def _axis(self, node: Node, axis: int) -> int:
        """Return an axis counted from the front; those of rows and columns are refused."""
        rank = len(self.program.shapes[node.inputs[0]])
        axis %= rank
        if node.output in self.program.fields and axis >= rank - 2:
            raise refused(f"{node.op} along rows or columns")
        return axis

    def _concat(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        axis, left = self._axis(node, attributes["axis"]), 0
        left = index[axis]
        for name in node.inputs:
            length = self.program.shapes[name][axis]
            if left < length:
                return self.value(name, (*index[:axis], left, *index[axis + 1 :]), place)
            left -= length
        raise IndexError(index)

    def _slice(self, node: Node, index: Index, place: Site, _: Mapping[str, Any]) -> str:
        taken = list(index)
        for axis, picked in sliced(node, self.program.shapes[node.inputs[0]]).items():
            whole = picked == range(self.program.shapes[node.inputs[0]][axis])
            if not whole:
                taken[self._axis(node, axis)] = picked[index[axis]]
        return self.value(node.inputs[0], tuple(taken), place)

    def _gather(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        axis, indices = self._axis(node, attributes.get("axis", 0)), np.asarray(attributes["indices"])
        picked = indices[index[axis : axis + indices.ndim]] if indices.ndim else indices
        length = self.program.shapes[node.inputs[0]][axis]
        taken = (*index[:axis], int(picked) % length, *index[axis + indices.ndim :])
        return self.value(node.inputs[0], taken, place)

    def _reducesum(self, node: Node, index: Index, place: Site, _: Mapping[str, Any]) -> str:
        terms = [
            self.value(node.inputs[0], taken, place)
            for taken in reduced(node, index, self.program.shapes[node.inputs[0]], self._axis)
        ]
        return self.let(" + ".join(terms))

    def _reducemean(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        count = len(reduced(node, index, self.program.shapes[node.inputs[0]], self._axis))
        return self.let(f"({self._reducesum(node, index, place, attributes)}) / {count}.0f")

    def _gemm(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        a, b = node.inputs[:2]
        if attributes.get("transA", 0):
            raise refused("a transposed Gemm")
        inner = self.program.shapes[a][-1]
        transposed = attributes.get("transB", 0)
        terms = []
        for k in range(inner):
            left = self.value(a, (*index[:-1], k), place)
            right = self.value(b, (index[-1], k) if transposed else (k, index[-1]), place)
            terms.append(f"{left} * {right}")
        product = self.let(" + ".join(terms))
        alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        product = product if alpha == 1 else self.let(f"{product} * {_literal(alpha)}")
        if len(node.inputs) < 3:
            return product
        added = self._operand(node, 2, index, place)
        return self.let(f"{product} + {added}" if beta == 1 else f"{product} + {added} * {_literal(beta)}")

    def _matmul(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        if node.output not in self.program.fields:
            return self._gemm(node, index, place, attributes)
        return self._entry(node.output, index[-3], place.y, place.x)

    def _entry(self, name: str, channel: int, row: str, column: str) -> str:
        """Return an element of a matrix, or of a product of matrices, at a row and column that are C expressions."""
        key = name, channel, row, column
        if key not in self._entries:
            self._entries[key] = self._make_entry(name, channel, row, column)
        return self._entries[key]

    def _make_entry(self, name: str, channel: int, row: str, column: str) -> str:
        shape, node = self.program.shapes[name], self.program.nodes.get(name)
        channel = min(channel, shape[-3] - 1)
        if node is None:
            stored = self._find(name)
            if stored is None or stored.channels:
                raise refused("a matrix of this kind")
            self.reads[stored.buffer] = stored.ctype
            return self.let(f"{stored.buffer}[({channel * shape[-2]} + {row}) * {shape[-1]} + {column}]")
        if node.op == "MatMul":
            a, b = node.inputs
            inner = self.program.shapes[a][-1]
            terms = [
                f"{self._entry(a, channel, row, str(k))} * {self._entry(b, channel, str(k), column)}"
                for k in range(inner)
            ]
            return self.let(" + ".join(terms))
        if node.op == "Slice":
            taken = {len(shape) - 2: row, len(shape) - 1: column}
            for axis, picked in sliced(node, self.program.shapes[node.inputs[0]]).items():
                if axis not in taken:
                    raise refused("a matrix of this kind")
                taken[axis] = f"({picked.step} * ({taken[axis]}) + {picked.start})"
            return self._entry(node.inputs[0], channel, *taken.values())
        if node.op in _BINARY and len(node.inputs) == 2:
            known = [
                _literal(self.program.constants[n])
                if n in self.program.constants
                else self._entry(n, channel, row, column)
                for n in node.inputs
            ]
            return self.let(_BINARY[node.op].format(*known))
        raise refused(f"{node.op} of matrices")

    def _gridsample(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        mode = attributes.get("mode", b"linear")
        border = attributes.get("padding_mode", b"zeros") == b"border" and not attributes.get(
            "align_corners", 0
        )
        if not border or mode not in (b"linear", b"bilinear", b"cubic"):
            raise refused("this way of sampling")
        source, grid = node.inputs
        stored = self._find(source)
        assert stored is not None
        assert not stored.channels
        self.reads[stored.buffer] = stored.ctype
        shape = self.program.shapes[source]
        height, width = shape[-2:]
        key = grid, mode, place, shape[-2:]
        if key not in self._taps:
            taps = []
            for axis, length in ((1, height), (0, width)):
                at = self._coordinate(grid, axis, place)
                at = self.let(f"(({at} + 1.0f) * {length}.0f - 1.0f) * 0.5f")
                whole = self.let(f"floorf({at})")
                part = self.let(f"{at} - {whole}")
                reach = range(-1, 3) if mode == b"cubic" else range(2)
                weights = [self.let(_weight(mode, k, part)) for k in reach]
                # Clipped as floats: far outside, an integer would overflow.
                steps = [
                    self.let(f"(int)fminf(fmaxf({whole} + {k}.0f, 0.0f), {length - 1}.0f)", "int")
                    for k in reach
                ]
                taps.append(list(zip(steps, weights, strict=True)))
            self._taps[key] = taps
        rows, columns = self._taps[key]
        channel = int(np.ravel_multi_index(index[:-2], shape[:-2]))
        sums = []
        for row, weight in rows:
            line = self.let(f"({channel * height} + {row}) * {width}", "int")
            across = " + ".join(f"{stored.buffer}[{line} + {column}] * {w}" for column, w in columns)
            sums.append(self.let(f"({across}) * {weight}"))
        return self.let(" + ".join(sums))

    def _coordinate(self, grid: str, axis: int, place: Site) -> str:
        """Return where to sample: column for axis 0, row for axis 1, from -1 to 1."""
        node = self.program.nodes.get(grid)
        if node is None:
            stored = self._find(grid)
            assert stored is not None
            self.reads[stored.buffer] = stored.ctype
            return self.let(
                f"{stored.buffer}[({place.y} * {self.program.shapes[grid][-2]} + {place.x}) * 2 + {axis}]"
            )
        if node.op == "Transpose" and list(node.attributes["perm"]) == [0, 2, 3, 1]:
            return self.value(node.inputs[0], (0, axis, 0, 0), place)
        raise refused("a grid of this kind")

    def _unshuffle(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        block = attributes["block"]
        channel, corner = divmod(index[1], block * block)
        row, column = divmod(corner, block)
        finer = Site(place.scale * block, place.row * block + row, place.column * block + column)
        return self.value(node.inputs[0], (index[0], channel, 0, 0), finer)

    def _shuffle(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        block, channels = attributes["block"], self.program.shapes[node.output][1]
        if place.scale % block:
            raise refused("a shuffle of pixels here")
        row, column = place.row % block, place.column % block
        if attributes["mode"] == "CRD":
            channel = (index[1] * block + row) * block + column
        else:
            channel = (row * block + column) * channels + index[1]
        coarser = Site(place.scale // block, place.row // block, place.column // block)
        return self.value(node.inputs[0], (index[0], channel, 0, 0), coarser)

    def _resize(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        source, out = self.program.shapes[node.inputs[0]], self.program.shapes[node.output]
        mode = attributes.get("mode", b"nearest")
        how = attributes.get("coordinate_transformation_mode", b""), attributes.get("nearest_mode", b"")
        factor = out[-1] // source[-1]
        even = out[-2:] == (source[-2] * factor, source[-1] * factor)
        if mode != b"nearest" or how != (b"asymmetric", b"floor") or not even:
            raise refused("this way of resizing")
        stored = self._find(node.inputs[0])
        assert stored is not None
        return self._load(stored, node.inputs[0], index, f"({place.y} / {factor})", f"({place.x} / {factor})")

    def _averagepool(self, node: Node, index: Index, place: Site, attributes: Mapping[str, Any]) -> str:
        rows, columns = attributes["kernel_shape"]
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        source = self.program.shapes[node.inputs[0]]
        same = source[-2:] == self.program.shapes[node.output][-2:]
        if not same or attributes.get("count_include_pad", 0) or (top, left) != (bottom, right):
            raise refused("this way of averaging")
        stored = self._find(node.inputs[0])
        assert stored is not None
        assert not stored.channels
        self.reads[stored.buffer] = stored.ctype
        height, width = source[-2:]
        channel = index[1]
        name = f"t{len(self.lines)}"
        self.lines.append(
            f"float {name} = 0.0f; {{ const int y0 = MOST({place.y} - {top}, 0), "
            f"y1 = LEAST({place.y} + {rows - top}, {height}), x0 = MOST({place.x} - {left}, 0), "
            f"x1 = LEAST({place.x} + {columns - left}, {width}); for (int v = y0; v < y1; ++v) "
            f"for (int u = x0; u < x1; ++u) {name} += {stored.buffer}[({channel * height} + v) * {width} + u]; "
            f"{name} /= (float)((y1 - y0) * (x1 - x0)); }}"
        )
        return name


def _weight(mode: bytes, step: int, part: str) -> str:
    """Return the weight of a neighbour some steps away, for a place this part of a step beyond a pixel."""
    if mode != b"cubic":
        return f"1.0f - {part}" if step == 0 else part
    # Keys 1981 with the parameter -3/4, as ONNX has it.
    d = {-1: f"(1.0f + {part})", 0: part, 1: f"(1.0f - {part})", 2: f"(2.0f - {part})"}[step]
    if step in (0, 1):
        return f"(1.25f * {d} - 2.25f) * {d} * {d} + 1.0f"
    return f"((-0.75f * {d} + 3.75f) * {d} - 6.0f) * {d} + 3.0f"


_FLOAT = 1
_WHOLE = {2, 3, 4, 5, 6, 7, 9}  # ONNX's integers and booleans


def _literal(value: Any) -> str:
    number = float(np.asarray(value).item())
    if np.isinf(number):
        return "INFINITE" if number > 0 else "(-INFINITE)"
    text = repr(float(np.float32(number)))
    return f"{text}f" if number >= 0 else f"({text}f)"


def sliced(node: Node, shape: tuple[int, ...]) -> dict[int, range]:
    """Return which indices a Slice takes along each of its axes."""
    starts, ends = np.atleast_1d(node.attributes["starts"]), np.atleast_1d(node.attributes["ends"])
    axes = np.atleast_1d(node.attributes.get("axes", np.arange(len(starts))))
    steps = np.atleast_1d(node.attributes.get("steps", np.ones(len(starts), np.int64)))
    found = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = int(axis) % len(shape)
        found[at] = range(*slice(int(start), int(end), int(step)).indices(shape[at]))
    return found


def reduced(
    node: Node, index: Index, shape: tuple[int, ...], axis_of: Callable[[Node, int], int]
) -> list[Index]:
    """Return the indices of what a reduction adds up for one of its results."""
    axes = sorted(axis_of(node, int(a)) for a in np.atleast_1d(node.attributes["axes"]))
    keeps = node.attributes.get("keepdims", 1)
    full = list(index)
    if not keeps:
        for axis in axes:
            full.insert(axis, 0)
    found: list[Index] = [()]
    for k, length in enumerate(shape):
        choices = range(length) if k in axes else (full[k],)
        found = [(*front, choice) for front in found for choice in choices]
    return found
