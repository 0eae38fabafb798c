"""Graphs that an author could have signed: edited ones, which may be nonsense, and grown ones, which are valid."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.errors import GraphError
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.limits import Limits
from inr_runtime.ops import OPS, infer_shape

INTERESTING = (0, 1, -1, 2, 3, 7, 64, 255, 1023, 1 << 16, (1 << 31) - 1, 1 << 40, (1 << 62) + 1, -(1 << 63))
FOREIGN = ("Loop", "If", "Constant", "QuantizeLinear", "MatMul", "Identity", "EPContext", "\x1b[2J")
Edit = Callable[[onnx.ModelProto, random.Random], None]


def edited(graph: CanonicalGraph, rng: random.Random) -> bytes:
    """The graph's bytes after a few edits of its ONNX message; mostly no graph of the dialect any more."""
    model = graph.to_model()
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        rng.choice(EDITS)(model, rng)
    if rng.random() < 0.1:
        _smuggle(model, rng)  # last, as the other edits could not read what it leaves
    return bytes(model.SerializeToString(deterministic=True))


def _attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    attributes = [a for n in model.graph.node for a in n.attribute]
    if not attributes:
        return
    chosen = rng.choice(attributes)
    if chosen.ints:
        chosen.ints[rng.randrange(len(chosen.ints))] = rng.choice(INTERESTING)
    elif chosen.type == onnx.AttributeProto.INT:
        chosen.i = rng.choice(INTERESTING)
    elif chosen.type == onnx.AttributeProto.FLOAT:
        chosen.f = rng.choice([0.0, -1.0, 1e-40, 3e38, -3e38, float("nan"), float("inf")])
    else:
        chosen.s = rng.choice([b"DCR", b"linear", b"", b"tanh", rng.randbytes(3)])


def _operator(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice([*sorted(OPS), *FOREIGN])


def _wire(model: onnx.ModelProto, rng: random.Random) -> None:
    names = [v.name for v in model.graph.input] + [t.name for t in model.graph.initializer]
    names += [n.output[0] for n in model.graph.node] + ["", "e999"]
    node = rng.choice(model.graph.node)
    if rng.random() < 0.2:
        node.input.append(rng.choice(names))
    else:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)


def _insert(model: onnx.ModelProto, rng: random.Random) -> None:
    """A function or a sum of something with itself before some node; results are named anew."""
    at = rng.randrange(len(model.graph.node))
    source = model.graph.node[at].input[0]
    op = rng.choice(["Relu", "Sigmoid", "Sin", "Tanh", "Gelu", "LeakyRelu", "Add", "Mul", "Div", "Sub"])
    nodes = list(model.graph.node)
    model.graph.node[at].input[0] = "new"
    nodes.insert(at, helper.make_node(op, [source] * OPS[op].inputs[0], ["new"]))
    _renamed(model, nodes)


def _drop(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    if len(nodes) < 2:
        return
    gone = nodes.pop(rng.randrange(len(nodes) - 1))
    for node in nodes:
        for i, name in enumerate(node.input):
            if name == gone.output[0]:
                node.input[i] = gone.input[0]
    _renamed(model, nodes)


def _swap(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    _renamed(model, nodes) if rng.random() < 0.5 else _replaced(model, nodes)


def _renamed(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    names = {node.output[0]: f"e{i}" for i, node in enumerate(nodes)}
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[0] = names[node.output[0]]
    model.graph.output[0].name = names.get(model.graph.output[0].name, "e0")
    _replaced(model, nodes)


def _replaced(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _constant(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    values = np.array(numpy_helper.to_array(tensor))
    if values.dtype == np.int64 and values.size:
        values.ravel()[rng.randrange(values.size)] = rng.choice(INTERESTING)
    elif rng.random() < 0.5:
        values = values * np.float32(rng.choice([0, -1, 1e30, float("inf"), float("nan")]))
    else:
        values = np.zeros(rng.choice([(0,), (65,), (1,) * 7, (2, 2)]), rng.choice([np.float32, np.float64, np.int8]))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _shape(model: onnx.ModelProto, rng: random.Random) -> None:
    dims = rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type.shape.dim
    how = rng.randrange(4)
    if how == 0 or not dims:
        dims.add(dim_value=rng.choice(INTERESTING))
    elif how == 1:
        dims[rng.randrange(len(dims))].dim_param = "N"
    else:
        dims[rng.randrange(len(dims))].dim_value = rng.choice(INTERESTING)


def _smuggle(model: onnx.ModelProto, rng: random.Random) -> None:
    """What the dialect has no place for."""
    how = rng.randrange(7)
    if how == 0:
        model.functions.append(helper.make_function("f", "Relu", ["a"], ["b"], [], []))
    elif how == 1:
        model.metadata_props.add(key="run", value="me")
    elif how == 2:
        model.opset_import.add(domain="com.microsoft", version=1)
    elif how == 3:
        values = numpy_helper.from_array(np.ones(1, np.float32), "c9")
        indices = numpy_helper.from_array(np.zeros(1, np.int64), "c9i")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))
    elif how == 4 and model.graph.initializer:
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL
        model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    elif how == 5:
        body = helper.make_graph([], "body", [], [])
        rng.choice(model.graph.node).attribute.append(helper.make_attribute("body", body))
    else:
        rng.choice(model.graph.node).domain = "com.microsoft"


EDITS: tuple[Edit, ...] = (_attribute, _operator, _wire, _insert, _insert, _drop, _swap, _constant, _shape)


@dataclass
class _Growth:
    """A graph in the making: a node is kept where the dialect allows it."""

    rng: random.Random
    inputs: list[Port]
    shapes: dict[str, tuple[int, ...]]
    weights: list[Port] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    tip: str = "x"

    def some(self) -> str:
        """Any float tensor, recent ones rather."""
        names = [p.name for p in self.inputs] + [n.output for n in self.nodes]
        return self.rng.choice([self.tip, *names[-4:]])

    def weight(self, *shape: int) -> str:
        self.weights.append(Port(f"w{len(self.weights)}", shape))
        self.shapes[self.weights[-1].name] = shape
        return self.weights[-1].name

    def constant(self, value: Any, kind: type = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, kind)
        self.shapes[name] = self.constants[name].shape
        return name

    def add(self, op: str, inputs: list[str], attributes: Mapping[str, Any] | None = None) -> bool:
        given = tuple(sorted((attributes or {}).items()))
        try:
            shape = infer_shape(op, inputs, dict(given), self.shapes, self.constants)
        except GraphError:
            return False
        if np.prod(shape, dtype=float) > 50_000:
            return False
        self.tip = f"n{len(self.nodes)}"
        self.nodes.append(Node(op, tuple(inputs), self.tip, given))
        self.shapes[self.tip] = shape
        return True


def grown(rng: random.Random, width: int, height: int, limits: Limits) -> CanonicalGraph:
    """A graph of the dialect that makes pictures of that size: one to eight random steps, then whatever makes RGB."""
    shape = (1, rng.choice([1, 2, 3, 4, 8, 12, 16]), rng.randint(1, 9), rng.randint(1, 9))
    growth = _Growth(rng, [Port("x", shape)], {"x": shape})
    for _ in range(rng.randint(1, 8)):
        rng.choice(STEPS)(growth, rng)
    shape = growth.shapes[growth.tip]
    if len(shape) != 4:
        growth.add("Reshape", [growth.tip, growth.constant([1, int(np.prod(shape)), 1, 1])])
        shape = growth.shapes[growth.tip]
    growth.add("Resize", [growth.tip, "", "", growth.constant([*shape[:2], height, width])], _resizing(rng))
    channels = growth.shapes[growth.tip][1]
    growth.add("Conv", [growth.tip, growth.weight(3, channels, 1, 1)])
    return renumber(growth.inputs, growth.weights, growth.constants, growth.nodes, growth.tip, limits)


def _convolve(g: _Growth, rng: random.Random) -> None:
    channels = g.shapes[g.tip][1] if len(g.shapes[g.tip]) == 4 else 1
    group = rng.choice([d for d in (1, 1, 2, 3, 4, channels) if channels % d == 0])
    kernel = (rng.randint(1, 4), rng.randint(1, 4))
    attributes = {
        "group": group,
        "pads": tuple(rng.choice([0, 0, 1, 2, 5]) for _ in range(4)),
        "strides": (rng.randint(1, 3), rng.randint(1, 3)),
        "dilations": (rng.randint(1, 3), rng.randint(1, 3)),
    }
    out = group * rng.randint(1, 4)
    transposed = rng.random() < 0.3
    w = g.weight(channels, out // group, *kernel) if transposed else g.weight(out, channels // group, *kernel)
    bias = [g.weight(out)] if rng.random() < 0.5 else []
    g.add("ConvTranspose" if transposed else "Conv", [g.tip, w, *bias], attributes)


def _function(g: _Growth, rng: random.Random) -> None:
    op = rng.choice(["Relu", "Relu", "LeakyRelu", "Gelu", "Sigmoid", "Tanh", "Sin"])
    alpha = rng.choice([0.0, 0.1, 1.0, -0.5, 2.0, 1e-30, 3e38])
    g.add(op, [g.tip], {"alpha": alpha} if op == "LeakyRelu" else {})


def _combine(g: _Growth, rng: random.Random) -> None:
    shape = g.shapes[g.tip]
    number = rng.choice([0.0, 0.5, -3.0, 1e-38, 1e38])
    others = [g.some(), g.constant(number, np.float32), g.weight(*shape[1:]), g.weight(*(1 for _ in shape))]
    pair = [g.tip, rng.choice(others)]
    rng.shuffle(pair)
    g.add(rng.choice(["Add", "Sub", "Mul", "Div"]), pair)


def _join(g: _Growth, rng: random.Random) -> None:
    g.add("Concat", [g.tip] + [g.some() for _ in range(rng.randrange(4))], {"axis": rng.choice([1, 2, 3, -1])})


def _move(g: _Growth, rng: random.Random) -> None:
    shape = g.shapes[g.tip]
    how = rng.randrange(5)
    if how == 4:
        g.add("Tile", [g.tip, g.constant([1, *(rng.choice([1, 1, 2, 3]) for _ in shape[1:])])])
    elif how == 0:
        order = list(range(1, len(shape)))
        rng.shuffle(order)
        g.add("Transpose", [g.tip], {"perm": (0, *order)})
    elif how == 1:
        mode = rng.choice(["DCR", "CRD"])
        g.add("DepthToSpace", [g.tip], {"blocksize": rng.choice([1, 2, 3, 4]), "mode": mode})
    elif how == 2:
        rest = list(shape[1:])
        rng.shuffle(rest)
        new = rng.choice([rest, [int(np.prod(rest))], [1, *rest]])
        g.add("Reshape", [g.tip, g.constant([1, *new])])
    else:
        axis = rng.randrange(1, max(2, len(shape)))
        start = rng.randrange(shape[axis]) if axis < len(shape) else 0
        bounds = ([start], [start + rng.choice([1, 2, 1 << 40])], [axis], [1])
        g.add("Slice", [g.tip, *(g.constant(b) for b in bounds)])


def _limit(g: _Growth, rng: random.Random) -> None:
    low, high = rng.choice([(0, 1), (-1, 1), (1, 0), (-3e38, 3e38)])
    g.add("Clip", [g.tip, g.constant(low, np.float32), g.constant(high, np.float32)])


def _normalize(g: _Growth, rng: random.Random) -> None:
    last = g.shapes[g.tip][-1]
    scale = rng.choice([g.constant(rng.choice([1.0, 0.0, -2.0, 1e38]), np.float32), g.weight(last)])
    bias = [g.weight(last)] if rng.random() < 0.5 else []
    g.add("LayerNormalization", [g.tip, scale, *bias], {"epsilon": rng.choice([1e-6, 1e-38, 1.0])})


def _resize(g: _Growth, rng: random.Random) -> None:
    shape = g.shapes[g.tip]
    size = [*shape[:2], *(rng.randint(1, 12) for _ in shape[2:])]
    g.add("Resize", [g.tip, "", "", g.constant(size)], _resizing(rng))


def _resizing(rng: random.Random) -> dict[str, str]:
    return {name: str(rng.choice(values)) for name, values in OPS["Resize"].choices.items()}


STEPS = (_convolve, _convolve, _function, _combine, _join, _move, _move, _limit, _normalize, _resize)
