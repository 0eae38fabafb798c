"""The canonical graph: a network without weights, in a closed dialect of ONNX that can be checked.

Rules of the dialect, all enforced by `CanonicalGraph.from_model`, which trusts nothing and rebuilds everything:
opset 20 of the default domain, IR version 10; operators, attributes and constant inputs of `inr_runtime.ops`;
static shapes, dim 0 is the batch and is 1; no subgraphs, functions, other domains, external or sparse data;
names are a letter and a number, in order:
`x` sampled inputs, `w` weights, `c` constants (at most 64 numbers each), `e` results.
One output, float32 (1, 3, H, W): RGB that is clipped to [0, 1] and rounded to 8 bits by the lowered graph.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.errors import GraphError
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.ops import OPS, Shape, Value, macs_of

OPSET, IR_VERSION = 20, 10
MAX_CONSTANT = 64
_NAME = re.compile(r"[xwce](0|[1-9][0-9]{0,5})")

Constant = NDArray[np.generic]


@dataclass(frozen=True)
class Port:
    """A named float32 tensor that enters a graph: a sampled input or a weight."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Node:
    """One operator. inputs: names, "" for an absent optional one. attributes: sorted pairs."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True, eq=False)
class CanonicalGraph:
    """A validated graph without weights; build one with `from_model`, `from_bytes` or directly from trusted code.

    Construction checks every node and infers every shape; raises `GraphError` or `LimitError`.
    """

    inputs: tuple[Port, ...]
    weights: tuple[Port, ...]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]
    output: str
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        self.limits.check("graph_nodes", len(self.nodes), "graph nodes")
        self.limits.check("tensors", len(self.weights), "weights")
        shape = self.shapes.get(self.output)
        if shape is None or len(shape) != 4 or shape[:2] != (1, 3):
            raise GraphError(f"the output must be an RGB picture (1, 3, H, W), found {shape}")
        self.limits.check("pixels", shape[2] * shape[3], "output pixels")
        self.limits.check("macs_per_frame", self.macs, "MACs per frame")

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every named tensor, by this project's own inference."""
        shapes: dict[str, Shape] = {}
        for port in (*self.inputs, *self.weights):
            _define(shapes, port.name, _checked_shape(port, self.limits))
        for name, constant in self.constants.items():
            _check_constant(name, constant)
            _define(shapes, name, tuple(constant.shape))
        for node in self.nodes:
            _define(shapes, node.output, _infer(node, shapes, self.constants))
            self.limits.check("activation_bytes", 4 * math.prod(shapes[node.output]), f"result {node.output}")
        return shapes

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates per frame."""
        return sum(macs_of(n.op, [self.shapes[i] for i in n.inputs if i], self.shapes[n.output]) for n in self.nodes)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the output in pixels."""
        _, _, height, width = self.shapes[self.output]
        return width, height

    @cached_property
    def digest(self) -> bytes:
        """First 16 bytes of the SHA-256 of the serialized graph."""
        return hashlib.sha256(self.to_bytes()).digest()[:16]

    def to_bytes(self) -> bytes:
        """Serialize, deterministically."""
        return bytes(self.to_model().SerializeToString(deterministic=True))

    def to_model(self) -> onnx.ModelProto:
        """This graph as an ONNX model whose weights are graph inputs."""
        ports = [_value_info(p.name, p.shape) for p in (*self.inputs, *self.weights)]
        constants = [numpy_helper.from_array(v, k) for k, v in sorted(self.constants.items(), key=_by_number)]
        nodes = [helper.make_node(n.op, list(n.inputs), [n.output], **dict(n.attributes)) for n in self.nodes]
        result = [_value_info(self.output, self.shapes[self.output])]
        return make_model(helper.make_graph(nodes, "nvb", ports, result, constants))

    @classmethod
    def from_bytes(cls, data: bytes, limits: Limits = DEFAULT_LIMITS) -> CanonicalGraph:
        """Parse and validate what `to_bytes` wrote; raises `GraphError` or `LimitError`."""
        limits.check("graph_bytes", len(data), "graph")
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise GraphError("a graph is not a valid ONNX model") from error
        return cls.from_model(model, limits)

    @classmethod
    def from_model(cls, model: onnx.ModelProto, limits: Limits = DEFAULT_LIMITS) -> CanonicalGraph:
        """Validate an ONNX model and rebuild it from the allowed fields only."""
        _check_model(model)
        graph = model.graph
        limits.check("graph_nodes", len(graph.node), "graph nodes")
        limits.check("tensors", len(graph.input), "graph inputs")
        ports = [_port(value) for value in graph.input]
        constants = {t.name: _constant(t) for t in graph.initializer}
        if len(constants) != len(graph.initializer):
            raise GraphError("two constants share a name")
        nodes = tuple(_node(n) for n in graph.node)
        inputs = tuple(p for p in ports if p.name.startswith("x"))
        weights = tuple(p for p in ports if p.name.startswith("w"))
        result = cls(inputs, weights, constants, nodes, graph.output[0].name, limits)
        _check_names(result, ports)
        if _port(graph.output[0]).shape != result.shapes[result.output]:
            raise GraphError("the declared output shape is not the inferred one")
        return result


def make_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Wrap a GraphProto as a model of this dialect's opset and IR version."""
    opset = [helper.make_opsetid("", OPSET)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="inr")
    return model


def renumber(
    inputs: Iterable[Port],
    weights: Iterable[Port],
    constants: Mapping[str, Constant],
    nodes: Iterable[Node],
    output: str,
    limits: Limits = DEFAULT_LIMITS,
) -> CanonicalGraph:
    """Build a canonical graph from parts under any names, giving canonical ones in order of appearance."""
    names: dict[str, str] = {"": ""}
    new_inputs = tuple(Port(names.setdefault(p.name, f"x{i}"), p.shape) for i, p in enumerate(inputs))
    new_weights = tuple(Port(names.setdefault(p.name, f"w{i}"), p.shape) for i, p in enumerate(weights))
    nodes = list(nodes)
    used: dict[str, Constant] = {}
    for name in (i for n in nodes for i in n.inputs if i in constants and i not in names):
        if name not in names:
            names[name] = f"c{len(used)}"
            used[names[name]] = constants[name]
    for i, node in enumerate(nodes):
        names[node.output] = f"e{i}"
    try:
        renamed = tuple(Node(n.op, tuple(names[i] for i in n.inputs), names[n.output], n.attributes) for n in nodes)
    except KeyError as error:
        raise GraphError(f"a node reads {error}, which nothing defines") from error
    return CanonicalGraph(new_inputs, new_weights, used, renamed, names[output], limits)


def _value_info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _by_number(item: tuple[str, Constant]) -> int:
    return int(item[0][1:])


def _define(shapes: dict[str, Shape], name: str, shape: Shape) -> None:
    if not name or name in shapes:
        raise GraphError(f"the name {name!r} is empty or defined twice")
    shapes[name] = shape


def _checked_shape(port: Port, limits: Limits) -> Shape:
    if not 1 <= len(port.shape) <= 6 or min(port.shape) < 1:
        raise GraphError(f"{port.name}: shape {port.shape} is not a static positive shape")
    if port.name.startswith("x") and port.shape[0] != 1:
        raise GraphError(f"{port.name}: the batch must be 1")
    limits.check("symbols", math.prod(port.shape), f"numbers in {port.name}")
    return port.shape


def _check_constant(name: str, constant: Constant) -> None:
    if constant.size > MAX_CONSTANT or constant.dtype not in (np.float32, np.int64):
        raise GraphError(f"constant {name}: at most {MAX_CONSTANT} float32 or int64 values are allowed")
    if constant.dtype == np.float32 and not np.isfinite(constant).all():
        raise GraphError(f"constant {name} is not finite")


def _infer(node: Node, shapes: Mapping[str, Shape], constants: Mapping[str, Constant]) -> Shape:
    op = OPS.get(node.op)
    if op is None:
        raise GraphError(f"operator {node.op!r} is not in the dialect; allowed: {', '.join(sorted(OPS))}")
    if not op.inputs[0] <= len(node.inputs) <= op.inputs[1]:
        raise GraphError(f"{node.op} takes {op.inputs} inputs, found {len(node.inputs)}")
    missing = [i for i in node.inputs if i and i not in shapes]
    if missing or not node.inputs[0]:
        raise GraphError(f"{node.op} reads {missing or 'nothing'}, which no earlier node defines")
    for position in op.constant_inputs:
        if node.inputs[position] not in constants:
            raise GraphError(f"{node.op}: input {position} must be a constant")
    data = [shapes[name] for i, name in enumerate(node.inputs) if name and i not in op.constant_inputs]
    values = [constants.get(name) for name in node.inputs]
    return op.shape(data, _with_defaults(node), values)


def _with_defaults(node: Node) -> dict[str, Value]:
    op, given = OPS[node.op], dict(node.attributes)
    unknown = set(given) - set(op.attributes)
    if unknown:
        raise GraphError(f"{node.op}: attributes {sorted(unknown)} are not in the dialect")
    merged = {k: v for k, v in {**op.attributes, **given}.items() if v is not None}
    for name, value in merged.items():
        if name in op.choices and value not in op.choices[name]:
            raise GraphError(f"{node.op}: {name}={value!r} is not in the dialect; allowed: {op.choices[name]}")
    return merged


def _check_model(model: onnx.ModelProto) -> None:
    opsets = [(o.domain, o.version) for o in model.opset_import]
    if opsets != [("", OPSET)] or model.ir_version != IR_VERSION:
        raise GraphError(f"expected opset {OPSET} and IR {IR_VERSION}, found {opsets} and {model.ir_version}")
    if model.functions or model.training_info or model.metadata_props:
        raise GraphError("functions, training info and metadata are not in the dialect")
    graph = model.graph
    if graph.sparse_initializer or graph.quantization_annotation or len(graph.output) != 1:
        raise GraphError("sparse constants and annotations are not in the dialect; one output is")


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    if value.type.WhichOneof("value") != "tensor_type" or tensor.elem_type != TensorProto.FLOAT:
        raise GraphError(f"{value.name!r}: expected a float32 tensor")
    if any(d.WhichOneof("value") != "dim_value" for d in dims):
        raise GraphError(f"{value.name!r}: shapes must be static")
    return Port(value.name, tuple(int(d.dim_value) for d in dims))


def _constant(tensor: onnx.TensorProto) -> Constant:
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise GraphError(f"constant {tensor.name!r}: external data is not in the dialect")
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.INT64) or math.prod(tensor.dims) > MAX_CONSTANT:
        raise GraphError(f"constant {tensor.name!r}: at most {MAX_CONSTANT} float32 or int64 values are allowed")
    try:
        return np.array(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise GraphError(f"constant {tensor.name!r} is malformed") from error


def _node(node: onnx.NodeProto) -> Node:
    if node.domain or node.overload or len(node.output) != 1:
        raise GraphError(f"{node.op_type}: one output of the default domain is allowed")
    attributes = tuple(sorted((a.name, _attribute(a)) for a in node.attribute))
    if len({name for name, _ in attributes}) != len(attributes):
        raise GraphError(f"{node.op_type}: an attribute is given twice")
    return Node(node.op_type, tuple(node.input), node.output[0], attributes)


def _attribute(attribute: onnx.AttributeProto) -> Value:
    kind = attribute.type
    if kind == onnx.AttributeProto.INT:
        return int(attribute.i)
    if kind == onnx.AttributeProto.FLOAT and math.isfinite(attribute.f):
        return float(attribute.f)
    if kind == onnx.AttributeProto.STRING and len(attribute.s) <= MAX_CONSTANT:
        return bytes(attribute.s).decode("ascii", "replace")
    if kind == onnx.AttributeProto.INTS and len(attribute.ints) <= MAX_CONSTANT:
        return tuple(int(i) for i in attribute.ints)
    raise GraphError(f"attribute {attribute.name!r} has a kind or size that is not in the dialect")


def _check_names(graph: CanonicalGraph, ports: list[Port]) -> None:
    bad = [name for name in graph.shapes if not _NAME.fullmatch(name)]
    expected = [f"x{i}" for i in range(len(graph.inputs))] + [f"w{i}" for i in range(len(graph.weights))]
    if bad or [p.name for p in ports] != expected or any(k[0] != "c" for k in graph.constants):
        raise GraphError(f"names are not canonical: {bad[:3] or [p.name for p in ports][:3]}")
    if [n.output for n in graph.nodes] != [f"e{i}" for i in range(len(graph.nodes))]:
        raise GraphError("results are not numbered in order")
