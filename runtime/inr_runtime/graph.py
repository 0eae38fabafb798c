"""The canonical graph: a network without weights, in a closed dialect of ONNX that can be checked.

Rules of the dialect, all enforced by `CanonicalGraph.from_model`, which trusts nothing and rebuilds everything:
opset 20 of the default domain, IR version 10; operators, attributes and constant inputs of `inr_runtime.ops`;
static shapes, dim 0 of inputs and results is the batch and is 1; no subgraphs, functions, other domains, external or
sparse data; names are a letter and a number, in order: `x` sampled inputs, `w` weights, `c` constants (1 to 64 numbers
each), `e` results. One output, the result of a node, float32: a picture (1, 3, H, W), RGB that is clipped to [0, 1]
and rounded to 8 bits by the lowered graph, or sound (1, channels, 1, W), clipped to [-1, 1].
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.cost import macs_of, peak_bytes, workspace_bytes
from inr_runtime.errors import GraphError
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.ops import MAX_RANK, Shape, Value, infer_shape, operator_named

OPSET, IR_VERSION = 20, 10
MAX_CONSTANT = 64
MAX_CHANNELS = 64
ROLES = ("frame", "tile")
"""What one run of a graph gives, by its number in a .nvb file: a whole frame, or a tile at coordinates it is fed."""
RESULTS = ("rgb8", "yuv420p8", "pcm_f32")
"""What a graph's output is, by its number in a .nvb file; yuv420p8 is reserved."""

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

    role, result: one of `ROLES` and of `RESULTS`; they stand beside the graph in a file, and are not in its digest.
    Construction checks every node and infers every shape; raises `GraphError` or `LimitError`.
    """

    inputs: tuple[Port, ...]
    weights: tuple[Port, ...]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]
    output: str
    limits: Limits = DEFAULT_LIMITS
    role: str = "frame"
    result: str = "rgb8"

    def __post_init__(self) -> None:
        self.limits.check("graph_nodes", len(self.nodes), "graph nodes")
        self.limits.check("tensors", max(len(self.weights), len(self.inputs)), "weights or sampled inputs")
        shape = self.shapes.get(self.output, ())
        if not self._gives(shape) or self.output not in {n.output for n in self.nodes}:
            raise GraphError(f"the output must be a node's result, an RGB picture (1, 3, H, W), found {shape}")
        self.limits.check("pixels", shape[2] * shape[3], "output pixels")
        self.limits.check("symbols", sum(math.prod(p.shape) for p in self.weights), "numbers in all weights")
        self.limits.check("macs_per_frame", self.macs, "MACs per frame")
        self.limits.check("activation_bytes", self.activation_bytes, "activations of one frame")

    def _gives(self, shape: Shape) -> bool:
        if len(shape) != 4 or shape[0] != 1:
            return False
        return shape[1] == 3 if self.result == "rgb8" else shape[1] <= MAX_CHANNELS and shape[2] == 1

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every named tensor, by this project's own inference."""
        shapes: dict[str, Shape] = {}
        for port in (*self.inputs, *self.weights):
            _define(shapes, port.name, _checked_shape(port))
        for name, constant in self.constants.items():
            _check_constant(name, constant)
            _define(shapes, name, tuple(constant.shape))
        for node in self.nodes:
            shape = infer_shape(node.op, node.inputs, dict(node.attributes), shapes, self.constants)
            _define(shapes, node.output, shape)
        return shapes

    @cached_property
    def weight_names(self) -> frozenset[str]:
        """Names of the weights."""
        return frozenset(port.name for port in self.weights)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates per frame."""
        return sum(macs_of(n.op, [self.shapes[i] for i in n.inputs if i], self.shapes[n.output]) for n in self.nodes)

    @cached_property
    def activation_bytes(self) -> int:
        """Most bytes of float32 inputs, results and convolutions' scratch memory that are needed at once."""
        sizes = {name: 4 * math.prod(shape) for name, shape in self.shapes.items()}
        work = {
            n.output: workspace_bytes(n.op, [self.shapes[i] for i in n.inputs if i], self.shapes[n.output])
            for n in self.nodes
        }
        return peak_bytes((p.name for p in self.inputs), ((n.inputs, n.output) for n in self.nodes), sizes, work)

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
    def from_bytes(
        cls, data: bytes, limits: Limits = DEFAULT_LIMITS, role: str = "frame", result: str = "rgb8"
    ) -> CanonicalGraph:
        """Parse and validate what `to_bytes` wrote; raises `GraphError` or `LimitError`."""
        limits.check("graph_bytes", len(data), "graph")
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise GraphError("a graph is not a valid ONNX model") from error
        return cls.from_model(model, limits, role, result)

    @classmethod
    def from_model(
        cls, model: onnx.ModelProto, limits: Limits = DEFAULT_LIMITS, role: str = "frame", result: str = "rgb8"
    ) -> CanonicalGraph:
        """Validate an ONNX model and rebuild it from the allowed fields only."""
        _check_model(model)
        graph = model.graph
        limits.check("graph_nodes", len(graph.node), "graph nodes")
        limits.check("tensors", max(len(graph.input), len(graph.initializer)), "graph inputs or constants")
        _check_names(graph)
        ports = [_port(value) for value in graph.input]
        inputs = tuple(p for p in ports if p.name[0] == "x")
        constants = {t.name: _constant(t) for t in graph.initializer}
        output = _port(graph.output[0])
        weights, nodes = tuple(ports[len(inputs) :]), tuple(map(_node, graph.node))
        rebuilt = cls(inputs, weights, constants, nodes, output.name, limits, role, result)
        if output.shape != rebuilt.shapes[output.name]:
            raise GraphError("the declared output shape is not the inferred one")
        return rebuilt


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
    role: str = "frame",
    result: str = "rgb8",
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
        new_output = names[output]
    except KeyError as error:
        raise GraphError(f"a node or the output reads {error}, which nothing defines") from error
    return CanonicalGraph(new_inputs, new_weights, used, renamed, new_output, limits, role, result)


def _value_info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _by_number(item: tuple[str, Constant]) -> int:
    return int(item[0][1:])


def _define(shapes: dict[str, Shape], name: str, shape: Shape) -> None:
    if not name or name in shapes:
        raise GraphError(f"the name {name!r} is empty or defined twice")
    shapes[name] = shape


def _checked_shape(port: Port) -> Shape:
    if not 1 <= len(port.shape) <= MAX_RANK or min(port.shape) < 1:
        raise GraphError(f"{port.name}: shape {port.shape[: MAX_RANK + 1]} is not a static positive shape")
    if port.name.startswith("x") and port.shape[0] != 1:
        raise GraphError(f"{port.name}: the batch must be 1")
    return port.shape


def _check_constant(name: str, constant: Constant) -> None:
    if constant.dtype not in (np.float32, np.int64) or constant.ndim > MAX_RANK:
        raise GraphError(f"constant {name}: expected float32 or int64 of rank at most {MAX_RANK}")
    if not 1 <= constant.size <= MAX_CONSTANT:
        raise GraphError(f"constant {name}: 1 to {MAX_CONSTANT} values are allowed, found {constant.size}")
    if constant.dtype == np.float32 and not np.isfinite(constant).all():
        raise GraphError(f"constant {name} is not finite")


def _check_model(model: onnx.ModelProto) -> None:
    opsets = [(o.domain[:40], o.version) for o in model.opset_import[:9]]
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
        raise GraphError(f"{value.name[:20]!r}: expected a float32 tensor")
    if any(d.WhichOneof("value") != "dim_value" for d in dims):
        raise GraphError(f"{value.name[:20]!r}: shapes must be static")
    return Port(value.name, tuple(int(d.dim_value) for d in dims))


def _constant(tensor: onnx.TensorProto) -> Constant:
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise GraphError(f"constant {tensor.name!r}: external data is not in the dialect")
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.INT64) or min(tensor.dims, default=1) < 1:
        raise GraphError(f"constant {tensor.name!r}: expected float32 or int64 of a positive shape")
    try:
        return np.array(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise GraphError(f"constant {tensor.name!r} is malformed") from error


def _node(node: onnx.NodeProto) -> Node:
    known = operator_named(node.op_type).attributes
    if node.domain or node.overload:
        raise GraphError(f"{node.op_type}: only operators of the default domain are allowed")
    attributes: dict[str, Value] = {}
    for attribute in node.attribute:
        name = attribute.name
        if name not in known or name in attributes:
            raise GraphError(f"{node.op_type}: attribute {name[:40]!r} is not in the dialect or given twice")
        attributes[name] = _attribute(attribute)
    return Node(node.op_type, tuple(node.input), node.output[0], tuple(sorted(attributes.items())))


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


def _check_names(graph: onnx.GraphProto) -> None:
    """Before any name can reach a dictionary or a message: they come from a stranger."""
    if any(len(node.output) != 1 for node in graph.node):
        raise GraphError("every node has one output")
    ports = [value.name for value in graph.input]
    inputs = sum(1 for name in ports if name[:1] == "x")
    constants = {tensor.name for tensor in graph.initializer}
    found = (ports, constants, [node.output[0] for node in graph.node])
    expected = (
        [f"x{i}" for i in range(inputs)] + [f"w{i}" for i in range(len(ports) - inputs)],
        {f"c{i}" for i in range(len(graph.initializer))},
        [f"e{i}" for i in range(len(graph.node))],
    )
    if found != expected:
        raise GraphError("names are not canonical: x0 ..., w0 ... as inputs, c0 ... as constants, e0 ... as results")
