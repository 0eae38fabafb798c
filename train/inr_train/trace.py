"""From a PyTorch model to the canonical graph: torch.onnx, onnxsim, then the closed dialect.

The weights are traced as graph inputs and mapped by position: names do not survive the exporter, positions do.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.func import functional_call

from inr_runtime.errors import GraphError, MissingExtraError, UsageError
from inr_runtime.graph import OPSET, CanonicalGraph, Constant, Node, Port, renumber
from inr_runtime.int8plan import plan_int8
from inr_runtime.ops import OPS, Value
from inr_train.models import VideoModel

MIN_ROW, MIN_INTEGER_ROW = 128, 32
"""Numbers that share a scale, at least: one of its own costs a row some 7 bits, and makes each number finer by one."""


@dataclass(frozen=True)
class Trace:
    """A model's canonical graph; parameters: the model's parameter name for each weight of the graph, in order."""

    graph: CanonicalGraph
    parameters: tuple[str, ...]


_TRACED: dict[Hashable, Trace] = {}
_MOST_TRACED = 32


def trace(model: VideoModel) -> Trace:
    """Trace `decode`. Raises `GraphError` where it uses something outside the dialect, `UsageError` where it need not
    be tried.

    The graph has no weights in it: models of one class and config are traced once in a process.
    """
    if model.untraceable:
        raise UsageError(model.untraceable)
    key = (type(model), model.config)
    if key not in _TRACED:
        traced = Trace(_canonical(_simplify(_export(model)), model), model.weights)
        while len(_TRACED) >= _MOST_TRACED:
            del _TRACED[next(iter(_TRACED))]
        _TRACED[key] = traced
    return _TRACED[key]


class _WeightsAsInputs(nn.Module):
    """`decode` as a function of its sampled inputs and its weights."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.names = [f"model.{name}" for name in model.weights]
        self.inputs = len(model.time_inputs)
        decode = _Decode(model)
        self._call = lambda weights, inputs: functional_call(decode, weights, inputs)

    def forward(self, *tensors: Tensor) -> Tensor:
        weights = dict(zip(self.names, tensors[self.inputs :], strict=True))
        result: Tensor = self._call(weights, tensors[: self.inputs])
        return result


class _Decode(nn.Module):
    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.decode(*inputs)


def _export(model: VideoModel) -> onnx.ModelProto:
    parameters = dict(model.named_parameters())
    device = next(iter(parameters.values())).device
    inputs = [torch.zeros(shape, device=device) for shape in model.input_shapes()]
    arguments = (*inputs, *(parameters[name].detach() for name in model.weights))
    # A copy: the exporter leaves its own tensors in a model that has a module under two names.
    traced = _WeightsAsInputs(copy.deepcopy(model))
    with _quiet():
        program = torch.onnx.export(
            traced, arguments, dynamo=True, opset_version=OPSET, external_data=False, verbose=False
        )
    if program is None:
        raise GraphError("torch.onnx.export gave no graph")
    proto: onnx.ModelProto = program.model_proto
    return proto


def _simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        import onnxsim
    except ImportError as error:
        raise MissingExtraError("onnxsim is not installed; run: pip install 'inr-video[train,export]'") from error
    with _quiet():
        simplified, good = onnxsim.simplify(model)
    if not good:
        raise GraphError("onnxsim changed the graph's result")
    result: onnx.ModelProto = simplified
    return result


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters narrate on stdout, stderr, logging and warnings; none of it is for a user to act on."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _canonical(model: onnx.ModelProto, source: VideoModel) -> CanonicalGraph:
    """Keep what the dialect knows, in its own spelling."""
    graph = model.graph
    ports = [Port(v.name, tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in graph.input]
    constants: dict[str, Constant] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    for proto in graph.node:
        inputs = tuple(renamed.get(name, name) for name in proto.input)
        if proto.op_type == "Constant":
            constants[proto.output[0]] = numpy_helper.to_array(helper.get_node_attr_value(proto, "value"))
        elif proto.op_type == "Identity" or _is_float_cast(proto):
            renamed[proto.output[0]] = inputs[0]
        else:
            nodes.append(_respell(Node(proto.op_type, inputs, proto.output[0], _attributes(proto)), constants, graph))
    count, output = len(source.time_inputs), renamed.get(graph.output[0].name, graph.output[0].name)
    return renumber(ports[:count], ports[count:], constants, nodes, output, role=source.role, result=source.result)


def _is_float_cast(proto: onnx.NodeProto) -> bool:
    return proto.op_type == "Cast" and bool(helper.get_node_attr_value(proto, "to") == onnx.TensorProto.FLOAT)


def _attributes(proto: onnx.NodeProto) -> tuple[tuple[str, Value], ...]:
    known = OPS[proto.op_type].attributes if proto.op_type in OPS else {}
    pairs = []
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        value = value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value
        if attribute.name not in known:
            _check_ignorable(proto, attribute, value)
        elif value != known[attribute.name]:
            pairs.append((attribute.name, value))
    return tuple(sorted(pairs))


def _check_ignorable(proto: onnx.NodeProto, attribute: onnx.AttributeProto, value: Value) -> None:
    """An attribute that the dialect does not know may go only where it says what ONNX assumes anyway."""
    if proto.op_type not in OPS:
        return
    schema = onnx.defs.get_schema(proto.op_type, OPSET).attributes.get(attribute.name)
    default = helper.get_attribute_value(schema.default_value) if schema and schema.default_value.name else None
    if isinstance(default, (bytes, list)):
        default = default.decode() if isinstance(default, bytes) else tuple(default)
    neutral = not any(value) if isinstance(value, tuple) else False
    if value != default and not neutral:
        raise GraphError(f"{proto.op_type}: attribute {attribute.name}={value!r} is not in the dialect")


def _respell(node: Node, constants: dict[str, Constant], graph: onnx.GraphProto) -> Node:
    """Exporters have several spellings of some operators; the dialect has one."""
    if node.op == "Resize":
        return _resize_by_size(node, constants, graph)
    if node.op == "Slice":
        return _full_slice(node, constants)
    if node.op == "Reshape":
        return _positive_reshape(node, constants, graph)
    if node.op == "LayerNormalization":
        return _short_scale(node, constants)
    return node


def _shape_of(name: str, graph: onnx.GraphProto) -> list[int]:
    for value in (*graph.value_info, *graph.output, *graph.input):
        if value.name == name:
            return [d.dim_value for d in value.type.tensor_type.shape.dim]
    raise GraphError(f"the exporter did not infer the shape of {name!r}")


def _resize_by_size(node: Node, constants: dict[str, Constant], graph: onnx.GraphProto) -> Node:
    name, shape = f"{node.output}/sizes", _shape_of(node.output, graph)
    scales = constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is not None and scales.size and not np.array_equal(_shape_of(node.inputs[0], graph) * scales, shape):
        raise GraphError("a scale_factor that gives no whole size draws by another scale than it says; give size=")
    constants[name] = np.array(shape, np.int64)
    return Node(node.op, (node.inputs[0], "", "", name), node.output, node.attributes)


def _full_slice(node: Node, constants: dict[str, Constant]) -> Node:
    values = [constants[name].reshape(-1) for name in node.inputs[1:] if name]
    starts, ends = values[0], np.minimum(values[1], 2**31 - 1)
    axes = values[2] if len(values) > 2 else np.arange(len(starts))
    steps = values[3] if len(values) > 3 else np.ones(len(starts))
    names = [f"{node.output}/{part}" for part in ("starts", "ends", "axes", "steps")]
    constants.update({n: v.astype(np.int64) for n, v in zip(names, (starts, ends, axes, steps), strict=True)})
    return Node(node.op, (node.inputs[0], *names), node.output)


def _positive_reshape(node: Node, constants: dict[str, Constant], graph: onnx.GraphProto) -> Node:
    name = f"{node.output}/shape"
    shape = _shape_of(node.output, graph)
    if math.prod(shape) < 1:
        raise GraphError("a reshape has no static shape")
    constants[name] = np.array(shape, np.int64)
    return Node(node.op, (node.inputs[0], name), node.output)


def _short_scale(node: Node, constants: dict[str, Constant]) -> Node:
    """A norm that scales all channels alike says so with one number, and one that adds nothing has no bias."""
    x, scale, *bias = node.inputs
    numbers = np.unique(constants[scale]) if scale in constants else np.zeros(0, np.float32)
    if len(numbers) == 1:
        scale = f"{node.output}/scale"
        constants[scale] = numbers
    kept = [name for name in bias if name not in constants or constants[name].any()]
    return Node(node.op, (x, scale, *kept), node.output, node.attributes)


def integer_kernels(graph: CanonicalGraph) -> frozenset[str]:
    """The weights that convolutions on integers read, where all are that can be."""
    return frozenset(graph.nodes[i].inputs[1] for i in plan_int8(graph).int8 if graph.nodes[i].op == "Conv")


def weight_axes(graph: CanonicalGraph) -> tuple[int | None, ...]:
    """The axis of each weight's scales: its output channel, or None for vectors and short rows.

    A short row costs more for its own scale than it gains, unless there are few rows, or it is read as integers: those
    have at most 8 bits, others as many as they need.
    """
    kernels = {op: {n.inputs[1] for n in graph.nodes if n.op == op} for op in ("Conv", "ConvTranspose")}
    integers = integer_kernels(graph)
    axes: list[int | None] = []
    for port in graph.weights:
        axis = 1 if port.name in kernels["ConvTranspose"] else 0
        rows = port.shape[axis] if port.shape else 1
        least = MIN_INTEGER_ROW if port.name in integers else MIN_ROW
        worth_it = len(port.shape) > 1 and (math.prod(port.shape) // rows >= least or rows <= 16)
        tied = axis and port.name in kernels["Conv"]  # along its input channels for one of its readers
        axes.append(axis if worth_it and not tied else None)
    return tuple(axes)
