"""Plan the kernels of a graph: their order, and the arrays that each reads and writes.

Each convolution is one kernel, with what follows them (bias, a vector or another convolution's result added,
ReLU) inside. Everything between them is put together: values that become ready at the same time are made by one kernel,
and what is cheap is computed again rather than stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .emit import HERE, SMALL, Emitter, Site, Stored
from .read import Node, Program, refused

__all__ = ["Convolution", "Kernel", "Plan", "argument_name", "pack_weights", "plan_kernels"]

_SHARED = 48 * 1024  # bytes of shared memory that a block may have without asking
_FILLS_A_GPU = 1 << 15  # pixels of a convolution's result
_CTYPES = {"float32": "float", "uint8": "unsigned char", "uint16": "unsigned short", "int16": "short"}


@dataclass(frozen=True)
class Convolution:
    """The sizes that a convolution is compiled for; channels are those in memory, filled up with zeros.

    Attributes
    ----------
    inputs, outputs, size, stride, dilation
        Channels, edge of the kernel, and its steps.
    relu, more, added
        Whether negative results become zero; whether a vector, and another convolution's result, is added.
    few
        Whether its frame is so small that its blocks do not fill a GPU.
    gathers
        The function that computes its input in place; None where it is read.
    """

    inputs: int
    outputs: int
    size: int
    stride: int
    dilation: int
    relu: bool
    more: bool
    added: bool
    few: bool = False
    gathers: str | None = None

    @cached_property
    def layout(self) -> tuple[int, int, bool]:
        """Rows of pixels of a block, how many blocks share the output channels, and whether weights are kept by it.

        As many rows as shared memory has room for, with the weights if it can be; few blocks are made twice as many.
        """
        reach = self.size // 2 * self.dilation
        wide = 15 * self.stride + 1 + 2 * reach
        for rows in (8, 4, 2):
            tall = (rows - 1) * self.stride + 1 + 2 * reach
            tile = tall * wide * (self.inputs + 8) * 2
            for split in (1, 2, 4) if self.gathers is None else (1,):
                if self.outputs // 8 % split or (self.few and split == 1 and self.gathers is None):
                    continue
                if tile + self.size**2 * self.inputs * self.outputs // split * 2 <= _SHARED:
                    return rows, split, True
        for rows in (8, 4, 2):
            tall = (rows - 1) * self.stride + 1 + 2 * reach
            if tall * wide * (self.inputs + 8) * 2 <= _SHARED:
                return rows, 1, False
        raise refused(f"a convolution of {self.inputs} channels")

    @property
    def name(self) -> str:
        """The kernel's name."""
        if self.gathers is not None:
            return f"gathered_{self.gathers}"
        flags = "".join(
            letter
            for letter, on in (("r", self.relu), ("m", self.more), ("a", self.added), ("f", self.few))
            if on
        )
        return f"conv_{self.inputs}_{self.outputs}_{self.size}_{self.stride}_{self.dilation}_{flags}"

    @property
    def source(self) -> str:
        """The line that makes the kernel."""
        rows, split, kept = self.layout
        last = f"{int(kept)}, {int(self.relu)}, {int(self.more)}, {int(self.added)}"
        if self.gathers is not None:
            key = self.gathers
            call = f"SIGNATURE_{key}, body_{key}(into, y, x, VALUES_{key});"
            return f"GATHERED({self.name}, {self.inputs}, {self.outputs}, {rows}, {last}, {call})\n"
        sizes = f"{self.inputs}, {self.outputs}, {self.size}, {self.stride}, {self.dilation}, {rows}, {split}"
        return f"CONVOLUTION({self.name}, {sizes}, {last})\n"


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes
    ----------
    name
        Of the function.
    places
        Height and width of the grid of threads, in places.
    arguments
        Buffers in the function's order: the graph's inputs and outputs by their names, and those of `Plan.buffers`.
    numbers
        Integers behind them.
    convolution
        What it computes, None for a kernel of fused arithmetic.
    """

    name: str
    places: tuple[int, int]
    arguments: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    convolution: Convolution | None = None

    def uses(self, buffer: str) -> bool:
        """Return whether a buffer, or a part of it, is among the arguments."""
        return any(argument.partition("+")[0] == buffer for argument in self.arguments)


@dataclass(frozen=True)
class Plan:
    """Everything that one run of a graph does.

    Attributes
    ----------
    source
        What is compiled, behind `kernels.cu`.
    kernels
        In their order.
    buffers
        Bytes of each intermediate buffer.
    use
        The first and the last kernel that reads or writes each of them.
    weights
        Contents of the buffers that never change.
    """

    source: str
    kernels: tuple[Kernel, ...]
    buffers: Mapping[str, int]
    use: Mapping[str, tuple[int, int]]
    weights: Mapping[str, npt.NDArray[Any]]


def pack_weights(weights: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    """Return weights (out, in, k, k) in the order in which the lanes of a warp give them to mma.m16n8k16.

    Shape (k k, in / 16, out / 8, 8, 4, 2, 2): tap, sixteen inputs, tile, output within it, quad, register, half.
    """
    out, inputs, size, _ = weights.shape
    taps = weights.astype(np.float16).transpose(2, 3, 1, 0)
    taps = taps.reshape(size * size, inputs // 16, 2, 4, 2, out // 8, 8)
    return np.ascontiguousarray(taps.transpose(0, 1, 5, 6, 3, 2, 4))


def plan_kernels(program: Program) -> Plan:
    """Return the kernels of a program."""
    return _Planner(program).plan()


@dataclass
class _Layer:
    """A convolution and what is computed with it."""

    node: Node
    output: str
    relu: bool = False
    more: str | None = None
    added: str | None = None


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


class _Planner:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.layers = self._find_layers()
        self.fed = {layer.node.inputs[0] for layer in self.layers.values()}  # what convolutions read
        self.stored: dict[str, Stored] = {}
        self.stages: dict[str, int] = {}
        self.small: dict[tuple[str, tuple[int, ...]], int] = {}
        self.gathered: set[str] = set()
        self._choose_stored()
        # A convolution of single pixels computes its input itself, where nobody else needs that.
        for layer in self.layers.values():
            source, weights = layer.node.inputs[0], self._kernel_of(layer.node)
            alone = (
                len(program.users[source]) == 1 and source not in self.layers and source not in self.stored
            )
            if weights.shape[2] == 1 and alone and layer.node.attributes.get("strides", (1, 1)) == [1, 1]:
                self.gathered.add(source)

    # What is stored, and when.

    def _find_layers(self) -> dict[str, _Layer]:
        """Return the convolutions by what they make, with what follows them."""
        program = self.program
        convolutions = [n for n in program.nodes.values() if n.op == "Conv"]
        made = {n.output for n in convolutions}
        layers: dict[str, _Layer] = {}
        taken: set[str] = set()  # sums that a convolution does
        for node in reversed(convolutions):
            layer = _Layer(node, node.output)
            if (following := self._only_user(layer.output)) is not None and following.op == "Add":
                other = next((n for n in following.inputs if n != node.output), None)
                if other is not None and following.output not in taken:
                    channels = program.shapes[node.output][1]
                    vector = other not in program.fields and program.shapes[other] == (1, channels, 1, 1)
                    # Of two convolutions that are added, the later one has the other's result already.
                    sum_of_two = other in made and self._only_user(other) is following
                    if vector or sum_of_two:
                        taken.add(following.output)
                        layer.output = following.output
                        layer.more, layer.added = (other, None) if vector else (None, other)
            if (following := self._only_user(layer.output)) is not None and following.op == "Relu":
                layer.output, layer.relu = following.output, True
            layers[layer.output] = layer
        return layers

    def _only_user(self, name: str) -> Node | None:
        users = self.program.users.get(name, ())
        return users[0] if len(users) == 1 and name not in self.program.outputs else None

    def _choose_stored(self) -> None:
        program = self.program
        for name in program.inputs:
            self.stored[name] = Stored(argument_name(name), _CTYPES[program.dtypes[name]])
            self.stages[name] = 0
        for name in self.layers:
            self.stored[name] = Stored(argument_name(name), channels=_up(program.shapes[name][1], 16))
        for node in program.nodes.values():
            if node.op in ("AveragePool", "GridSample", "Resize") and node.inputs[0] not in self.stored:
                self.stored[node.inputs[0]] = Stored(argument_name(node.inputs[0]))
        for name in program.outputs:
            self.stored[name] = Stored(argument_name(name), _CTYPES[program.dtypes[name]])
        # What several stages need is stored by the first of them, unless it costs no more to compute it again.
        for _ in range(8):
            self.stages = dict.fromkeys(program.inputs, 0)
            more = self._shared_values()
            if not more:
                return
            for name in more:
                self.stored[name] = Stored(argument_name(name))

    def _shared_values(self) -> list[str]:
        first: dict[str, int] = {}
        more: list[str] = []
        for stage, names in sorted(self._groups().items()):
            for name in names:
                for value in self._walk(name, stage[0], more):
                    earliest = first.setdefault(value, stage[0])
                    same_size = self.program.shapes[value][-2:] == stage[1]
                    if earliest < stage[0] and same_size and self._loads(value) > self._channels(value) + 2:
                        more.append(value)
        # One round stores only what nothing else of the round is computed from.
        return [
            name for name in more if not any(name in self._inside(other) for other in more if other != name)
        ]

    def _inside(self, name: str) -> set[str]:
        node, found = self.program.nodes.get(name), set()
        if node is not None and name not in self.layers:
            for other in node.inputs:
                if other in self.program.fields and other not in self.stored:
                    found |= {other} | self._inside(other)
        return found

    def _walk(self, name: str, stage: int, stop: list[str]) -> Iterator[str]:
        """Yield what a kernel of this stage computes for a value, outermost first."""
        for other in self.program.nodes[name].inputs:
            if other not in self.program.fields or other in stop:
                continue
            if other in self.stored and self.stage(other) < stage:
                continue
            if other in self.program.nodes and other not in self.layers:
                yield other
                yield from self._walk(other, stage, stop)

    def _channels(self, name: str) -> int:
        return int(np.prod(self.program.shapes[name][:-2]))

    def _loads(self, name: str) -> int:
        """Return how many numbers are read to compute all channels of a value at one place."""
        emitter = Emitter(self.program, self._anywhere, lambda *_: 0)
        for index in np.ndindex(*self.program.shapes[name][:-2]):
            emitter._compute(self.program.nodes[name], (*index, 0, 0), HERE)
        return emitter.loads

    def _anywhere(self, name: str) -> Stored | None:
        return self.stored.get(name)

    def stage(self, name: str) -> int:
        """Return when a stored value is there: 0 for the graph's inputs."""
        if name not in self.stages:
            if name in self.layers:
                layer = self.layers[name]
                found = 1 + self._fed_stage(layer.node.inputs[0])
                if layer.added is not None:
                    found = max(found, 1 + self.stage(self._layer_of(layer.added)))
            else:
                found = 1 + self._ready(name)
            self.stages[name] = found
        return self.stages[name]

    def _layer_of(self, name: str) -> str:
        if name in self.layers:
            return name
        raise refused("a sum of convolutions of this kind")

    def _fed_stage(self, name: str) -> int:
        """Return when a convolution's input is there in half precision."""
        return self.stage(name) if name in self.layers else 1 + self._ready(name, itself=True)

    def _ready(self, name: str, *, itself: bool = False) -> int:
        """Return the last stage that a value is computed from; with `itself`, its own where it is stored."""
        if name not in self.program.fields:
            return 0
        if itself and name in self.stored:
            return self.stage(name)
        node = self.program.nodes[name]
        return max(
            (
                self.stage(other) if other in self.stored else self._ready(other)
                for other in node.inputs
                if other in self.program.fields
            ),
            default=0,
        )

    def _groups(self) -> dict[tuple[int, tuple[int, int]], list[str]]:
        """Return what fused kernels make, by stage and size; a convolution's input as its name after `feed`."""
        groups: dict[tuple[int, tuple[int, int]], list[str]] = {}
        for name in (*self.stored, *(n for n in self.fed if n not in self.layers and n not in self.stored)):
            if name in self.program.inputs or name in self.layers or name not in self.program.fields:
                continue
            stage = self.stage(name) if name in self.stored else self._fed_stage(name)
            groups.setdefault((stage, self._size(name)), []).append(name)
        return groups

    def _size(self, name: str) -> tuple[int, int]:
        """Return the places that threads stand at: coarser than the pixels where these come from a shuffle."""
        height, width = self.program.shapes[name][-2:]
        factor = self._shuffled(name)
        return height // factor, width // factor

    def _shuffled(self, name: str) -> int:
        node = self.program.nodes.get(name)
        if node is None or node.op == "Unshuffle":
            return 1
        if node.op == "Shuffle":
            return int(node.attributes["block"])
        inside = (n for n in node.inputs if n in self.program.fields and n not in self.stored)
        return max((self._shuffled(n) for n in inside), default=1)

    # The kernels themselves.

    def plan(self) -> Plan:
        """Write everything."""
        program = self.program
        fused: list[tuple[int, Kernel, str]] = []
        feeds = {
            name: f"feed_{argument_name(name)}"
            for name in self.fed
            if name not in self.layers and name not in self.gathered
        }
        groups = self._groups()
        # A convolution's input that is stored for others too becomes half precision in a kernel after that.
        late: dict[tuple[int, tuple[int, int]], list[str]] = {}
        for name in feeds:
            if name in self.stored:
                late.setdefault((self._fed_stage(name), self._size(name)), []).append(name)
        for key in sorted({*groups, *late}):
            stores = [n for n in groups.get(key, ()) if n in self.stored and n not in program.inputs]
            halves = [n for n in groups.get(key, ()) if n not in self.stored and n not in self.gathered]
            halves += late.get(key, [])
            if not stores and not halves:
                continue
            fused.append(self._fuse(key, stores, halves, feeds))
        self.bodies: list[str] = []
        steps = [(stage, 0, kernel) for stage, kernel, _ in fused]
        steps += [(self.stage(name), 1, self._convolve(layer, feeds)) for name, layer in self.layers.items()]
        steps.sort(key=lambda step: step[:2])
        kernels = [kernel for _, _, kernel in steps]
        sources = [source for _, _, source in fused] + self.bodies
        small = self._small_kernel()
        if small is not None:
            kernels.insert(0, small[0])
            sources.append(small[1])
        convolutions = {k.convolution for k in kernels if k.convolution is not None}
        sources += [c.source for c in sorted(convolutions, key=lambda c: c.name)]
        buffers = self._buffers(feeds)
        use = {}
        for name in buffers:
            users = [i for i, kernel in enumerate(kernels) if kernel.uses(name)]
            use[name] = users[0], users[-1]
        return Plan("\n".join(sources), tuple(kernels), buffers, use, self._weights())

    def _fuse(
        self, key: tuple[int, tuple[int, int]], stores: list[str], halves: list[str], feeds: Mapping[str, str]
    ) -> tuple[int, Kernel, str]:
        program, (stage, size) = self.program, key
        emitter = Emitter(program, lambda name: self._at(name, stage), self._slot)
        writes: dict[str, str] = {}
        for name in stores:
            stored, (height, width) = self.stored[name], program.shapes[name][-2:]
            factor = height // size[0]
            writes[stored.buffer] = stored.ctype
            for index in np.ndindex(*program.shapes[name][:-2]):
                for row, column in np.ndindex(factor, factor):
                    place = Site(factor, row, column) if factor > 1 else HERE
                    # The value itself, not what is stored of it.
                    value = emitter._compute(program.nodes[name], (*index, 0, 0), place)
                    if factor == 1:
                        emitter._known[name, (*index, 0, 0), place] = value
                    channel = int(np.ravel_multi_index(index, program.shapes[name][:-2]))
                    at = f"({channel * height} + {place.y}) * {width} + {place.x}"
                    emitter.lines.append(f"{stored.buffer}[{at}] = ({stored.ctype}){value};")
        for name in halves:
            writes[feeds[name]] = "uint4"
            channels = _up(program.shapes[name][1], 16)
            at = f"(y * {program.shapes[name][-1]} + x) * {channels // 8}"
            self._write_halves(emitter, name, f"{feeds[name]}[{at} + {{}}]")
        arguments = {
            **{b: f"const {t} *" for b, t in emitter.reads.items()},
            **{b: f"{t} *" for b, t in writes.items()},
        }
        name = f"fused_{stage}_{size[0]}"
        signature = ", ".join(f"{ctype}{buffer}" for buffer, ctype in arguments.items())
        body = "\n    ".join(emitter.lines)
        source = f"KERNEL {name}({signature}) {{\n  EACH({size[0]}, {size[1]}) {{\n    {body}\n  }}\n}}\n"
        return stage, Kernel(name, size, tuple(arguments)), source

    def _write_halves(self, emitter: Emitter, name: str, target: str) -> None:
        """Write a value at one place in half precision, filled up with zeros to a multiple of 16 channels."""
        shape = self.program.shapes[name]
        if shape[0] != 1 or len(shape) != 4:
            raise refused("a convolution of several frames at once")
        for part in range(_up(shape[1], 16) // 8):
            numbers = [
                emitter.value(name, (0, c, 0, 0)) if c < shape[1] else "0.0f"
                for c in range(8 * part, 8 * part + 8)
            ]
            pairs = (f"BOTH({numbers[2 * k]}, {numbers[2 * k + 1]})" for k in range(4))
            vector = emitter.let(f"{{{', '.join(pairs)}}}", "uint4")
            emitter.lines.append(f"{target.format(part)} = {vector};")

    def _at(self, name: str, stage: int) -> Stored | None:
        stored = self.stored.get(name)
        return stored if stored is not None and self.stage(name) < stage else None

    def _convolve(self, layer: _Layer, feeds: Mapping[str, str]) -> Kernel:
        program, node = self.program, layer.node
        made = self._geometry(layer)
        source = node.inputs[0]
        name = argument_name(layer.output)
        read: tuple[str, ...] = (feeds.get(source) or argument_name(source),)
        reads_last: tuple[str, ...] = ()
        if source in self.gathered:
            read, reads_last = (), self._gather(source, made, self.stage(layer.output))
        nothing = f"bias_{name}"  # never read: stands where an argument is needed
        more = nothing
        if layer.more is not None:
            channels = program.shapes[node.output][1]
            first = [self._slot(layer.more, (0, c, 0, 0)) for c in range(channels)]
            if first != list(range(first[0], first[0] + channels)):
                raise refused("a vector that is used twice")
            for extra in range(channels, made.outputs):  # what fills the channels up reads these
                self._slot("", (first[0], extra))
            more = f"{SMALL}+{first[0]}"
        added = nothing if layer.added is None else argument_name(self._layer_of(layer.added))
        height, width = program.shapes[node.output][-2:]
        arguments = (*read, f"weights_{name}", f"bias_{name}", more, added, name, *reads_last)
        return Kernel(made.name, (height, width), arguments, (height, width), made)

    def _gather(self, name: str, made: Convolution, stage: int) -> tuple[str, ...]:
        """Write the function that computes a convolution's input at one pixel; return the buffers that it reads."""
        emitter = Emitter(self.program, lambda value: self._at(value, stage), self._slot)
        self._write_halves(emitter, name, "into[{}]")
        signature = ", ".join(f"const {ctype} *{buffer}" for buffer, ctype in emitter.reads.items())
        body = "\n    ".join(emitter.lines)
        self.bodies.append(
            f"#define SIGNATURE_{made.gathers} {signature}\n"
            f"#define VALUES_{made.gathers} {', '.join(emitter.reads)}\n"
            f"FUNCTION void body_{made.gathers}(uint4 *into, int y, int x, {signature}) {{\n    {body}\n}}\n"
        )
        return tuple(emitter.reads)

    def _geometry(self, layer: _Layer) -> Convolution:
        program, node = self.program, layer.node
        weights, attributes = self._kernel_of(node), node.attributes
        size, stride, dilation = (
            weights.shape[2],
            *(attributes.get(key, (1, 1)) for key in ("strides", "dilations")),
        )
        reach = size // 2 * dilation[0]
        source, out = program.shapes[node.inputs[0]], program.shapes[node.output]
        plain = (
            attributes.get("group", 1) == 1
            and weights.shape[2] == weights.shape[3]
            and size % 2 == 1
            and stride[0] == stride[1]
            and dilation[0] == dilation[1]
            and tuple(attributes.get("pads", (0, 0, 0, 0))) == (reach,) * 4
            and (source[-2], source[-1]) == (out[-2] * stride[0], out[-1] * stride[0])
            and source[0] == 1
        )
        if not plain:
            raise refused("this kind of convolution")
        return Convolution(
            _up(weights.shape[1], 16),
            _up(weights.shape[0], 16),
            size,
            stride[0],
            dilation[0],
            layer.relu,
            layer.more is not None,
            layer.added is not None,
            few=out[-2] * out[-1] < _FILLS_A_GPU,
            gathers=argument_name(layer.output) if node.inputs[0] in self.gathered else None,
        )

    def _kernel_of(self, node: Node) -> npt.NDArray[Any]:
        if node.inputs[1] not in self.program.constants:
            raise refused("a convolution with computed weights")
        return self.program.constants[node.inputs[1]]

    def _weights(self) -> dict[str, npt.NDArray[Any]]:
        found: dict[str, npt.NDArray[Any]] = {}
        for layer in self.layers.values():
            made, weights, name = (
                self._geometry(layer),
                self._kernel_of(layer.node),
                argument_name(layer.output),
            )
            full = np.zeros((made.outputs, made.inputs, *weights.shape[2:]), np.float32)
            full[: weights.shape[0], : weights.shape[1]] = weights
            found[f"weights_{name}"] = pack_weights(full)
            bias = np.zeros(made.outputs, np.float32)
            if len(layer.node.inputs) > 2:
                bias[: weights.shape[0]] = self.program.constants[layer.node.inputs[2]]
            found[f"bias_{name}"] = bias
        return found

    def _buffers(self, feeds: Mapping[str, str]) -> dict[str, int]:
        program, found = self.program, {}
        for name, stored in self.stored.items():
            if name in program.inputs or name in program.outputs:
                continue
            shape = program.shapes[name]
            pixels = shape[-2] * shape[-1]
            found[stored.buffer] = pixels * (2 * stored.channels or 4 * self._channels(name))
        for name, buffer in feeds.items():
            shape = program.shapes[name]
            found[buffer] = 2 * _up(shape[1], 16) * shape[-2] * shape[-1]
        if self.small:
            found[SMALL] = 4 * len(self.small)
        return found

    # Values without pixels.

    def _slot(self, name: str, index: tuple[int, ...]) -> int:
        return self.small.setdefault((name, index), len(self.small))

    def _small_kernel(self) -> tuple[Kernel, str] | None:
        program = self.program
        outputs = [name for name in program.outputs if name not in program.fields]
        if not self.small and not outputs:
            return None
        emitter = Emitter(program, lambda name: self.stored.get(name) if name in program.inputs else None)
        writes: dict[str, str] = {}
        for (name, index), slot in self.small.items():
            value = emitter.value(name, index) if name else "0.0f"
            emitter.lines.append(f"{SMALL}[{slot}] = {value};")
            writes[SMALL] = "float"
        for name in outputs:
            for flat, index in enumerate(np.ndindex(*program.shapes[name])):
                emitter.lines.append(f"{argument_name(name)}[{flat}] = {emitter.value(name, index)};")
            writes[argument_name(name)] = "float"
        arguments = {
            **{b: f"const {t} *" for b, t in emitter.reads.items()},
            **{b: f"{t} *" for b, t in writes.items()},
        }
        signature = ", ".join(f"{ctype}{buffer}" for buffer, ctype in arguments.items())
        body = "\n    ".join(emitter.lines)
        source = f"KERNEL small_values({signature}) {{\n  ONCE {{\n    {body}\n  }}\n}}\n"
        return Kernel("small_values", (1, 1), tuple(arguments)), source


def argument_name(name: str) -> str:
    """Return a value's name as C takes it."""
    return "v_" + "".join(c if c.isalnum() else "_" for c in name)
