"""ONNX graphs broken in many ways, each known by a number: bytes, shapes, types, operators, names, cycles."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from support.damage import mutated

__all__ = ["WAYS", "broken_graph"]


def broken_graph(data: bytes, seed: int) -> bytes:
    """Return a graph broken in way `seed % len(WAYS)`."""
    return WAYS[seed % len(WAYS)](data, seed)


def _on_model(change: Callable[[ModelProto, random.Random], object]) -> Callable[[bytes, int], bytes]:
    def broken(data: bytes, seed: int) -> bytes:
        model = onnx.load_model_from_string(data)
        change(model, random.Random(seed))
        return bytes(model.SerializeToString())

    broken.__name__ = change.__name__
    return broken


def _any_node(model: ModelProto, chance: random.Random) -> onnx.NodeProto:
    return model.graph.node[chance.randrange(len(model.graph.node))]


def _any_tensor(model: ModelProto, chance: random.Random) -> TensorProto:
    return model.graph.initializer[chance.randrange(len(model.graph.initializer))]


def _other_operator(model: ModelProto, chance: random.Random) -> None:
    node = _any_node(model, chance)
    node.op_type = chance.choice(["Conv", "GridSample", "Loop", "Reshape", "NoSuchOperator", "", "Einsum"])


def _unknown_domain(model: ModelProto, chance: random.Random) -> None:
    _any_node(model, chance).domain = chance.choice(["com.example", "ai.onnx.ml", "com.microsoft"])


def _cycle(model: ModelProto, chance: random.Random) -> None:
    first, last = sorted(chance.sample(range(len(model.graph.node)), 2))
    node = model.graph.node[first]
    node.input[chance.randrange(len(node.input))] = model.graph.node[last].output[0]


def _own_input(model: ModelProto, chance: random.Random) -> None:
    node = _any_node(model, chance)
    node.input[0] = node.output[0]


def _dangling(model: ModelProto, chance: random.Random) -> None:
    node = _any_node(model, chance)
    node.input[chance.randrange(len(node.input))] = "nowhere"


def _huge_dims(model: ModelProto, chance: random.Random) -> None:
    tensor = _any_tensor(model, chance)
    tensor.dims[:] = [chance.choice([2**31, 2**62, 2**63 - 1, -1, -(2**40)]) for _ in range(4)]


def _other_dims(model: ModelProto, chance: random.Random) -> None:
    tensor = _any_tensor(model, chance)
    tensor.dims[:] = [max(1, d + chance.choice([-1, 1, 7])) for d in tensor.dims] or [3]


def _other_weights(model: ModelProto, chance: random.Random) -> None:
    tensor = _any_tensor(model, chance)
    shape = [chance.randrange(0, 5) for _ in range(chance.randrange(0, 6))]
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(shape, np.float32), tensor.name))


def _other_element(model: ModelProto, chance: random.Random) -> None:
    tensor = _any_tensor(model, chance)
    tensor.data_type = chance.choice([0, TensorProto.STRING, TensorProto.INT8, TensorProto.DOUBLE, 999])


def _external(model: ModelProto, chance: random.Random) -> None:
    tensor = _any_tensor(model, chance)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", chance.choice(["../../secret", "weights.bin", "/etc/hostname", ""])


def _no_data(model: ModelProto, chance: random.Random) -> None:
    _any_tensor(model, chance).ClearField("raw_data")


def _other_io_name(model: ModelProto, chance: random.Random) -> None:
    values = [*model.graph.input, *model.graph.output]
    values[chance.randrange(len(values))].name = chance.choice(["", "other", "frame\x00", "x" * 5000])


def _other_io_shape(model: ModelProto, chance: random.Random) -> None:
    values = [*model.graph.input, *model.graph.output]
    value = values[chance.randrange(len(values))]
    shape = chance.choice([[], [1], [1, 1, 1, 1, 1], [-5, 3, 7, 2], [2**62, 1, 1, 1], [0, 0, 0, 0]])
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))


def _other_io_type(model: ModelProto, chance: random.Random) -> None:
    values = [*model.graph.input, *model.graph.output]
    chance.choice(values).type.tensor_type.elem_type = chance.choice([0, 8, 10, 13, 77])


def _attribute(model: ModelProto, chance: random.Random) -> None:
    nodes = [n for n in model.graph.node if n.attribute]
    attribute = chance.choice(list(chance.choice(nodes).attribute if nodes else []) or [None])
    if attribute is None:
        _dangling(model, chance)
    elif attribute.ints:
        attribute.ints[:] = [chance.choice([-1, 0, 2**62, 10**6]) for _ in attribute.ints]
    else:
        attribute.i = chance.choice([-1, 0, 2**62, 10**6])
        attribute.type = chance.choice([onnx.AttributeProto.INT, onnx.AttributeProto.STRING])


def _opset(model: ModelProto, chance: random.Random) -> None:
    model.opset_import[0].version = chance.choice([-1, 0, 1, 9, 10**9])


def _ir_version(model: ModelProto, chance: random.Random) -> None:
    model.ir_version = chance.choice([-1, 0, 1, 10**6])


def _twice(model: ModelProto, chance: random.Random) -> None:
    model.graph.node.append(_any_node(model, chance))


def _fewer(model: ModelProto, chance: random.Random) -> None:
    del model.graph.node[chance.randrange(len(model.graph.node))]


def _deep(model: ModelProto, chance: random.Random) -> None:
    """Nest graphs in each other."""
    graph = onnx.GraphProto()
    graph.name = "inner"
    for _ in range(chance.choice([3, 20])):
        outer = onnx.GraphProto()
        outer.name = "outer"
        node = outer.node.add()
        node.op_type = "If"
        node.input.append("condition")
        node.output.append("out")
        attribute = node.attribute.add()
        attribute.name, attribute.type = "then_branch", onnx.AttributeProto.GRAPH
        attribute.g.CopyFrom(graph)
        graph = outer
    model.graph.node.extend(graph.node)


def _recursive_function(model: ModelProto, chance: random.Random) -> None:
    node = _any_node(model, chance)
    function = helper.make_function(
        "local",
        "again",
        ["x"],
        ["y"],
        [helper.make_node("again", ["x"], ["y"], domain="local")],
        [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)],
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    node.op_type, node.domain = "again", "local"
    del node.attribute[:]


WAYS: tuple[Callable[[bytes, int], bytes], ...] = (
    mutated,
    lambda data, seed: mutated(data, seed * 7 + 1),
    lambda data, seed: mutated(data, seed * 5 + 3),
    *(
        _on_model(change)
        for change in (
            _other_operator,
            _unknown_domain,
            _cycle,
            _own_input,
            _dangling,
            _huge_dims,
            _other_dims,
            _other_weights,
            _other_element,
            _external,
            _no_data,
            _other_io_name,
            _other_io_shape,
            _other_io_type,
            _attribute,
            _opset,
            _ir_version,
            _twice,
            _fewer,
            _deep,
            _recursive_function,
        )
    ),
)
