"""One canonical graph, many engines: `lower` turns it, with its weights, into the ONNX graph an engine likes best.

This is the only place that knows engines' tastes. It may permute or replicate stored integers and compute scales
from them; it never changes an integer weight. Every lowered graph takes the sampled inputs and gives uint8 RGB, or
float32 sound in [-1, 1], NHWC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from onnx import numpy_helper

from inr_runtime.builder import OUTPUT, Array, Builder, channel_scales
from inr_runtime.channels_last import emit
from inr_runtime.errors import GraphError, UsageError
from inr_runtime.graph import CanonicalGraph, Node
from inr_runtime.int8plan import Int8Plan, Range, plan_int8, saturating
from inr_runtime.program import Program
from inr_runtime.rewrite import rewrite
from inr_runtime.tensors import QuantTensor
from inr_runtime.units import edge_parameters


@dataclass(frozen=True)
class Target:
    """An engine and the precision of its arithmetic."""

    engine: str
    precision: str

    @property
    def name(self) -> str:
        """As on the command line, `cpu-int8`."""
        return f"{self.engine}-{self.precision}"

    @property
    def backend(self) -> str:
        """The engine by the name that `inr_runtime.backends` gives it."""
        return "tensorrt" if self.engine == "trt" else self.engine


_PRECISIONS = {
    "cpu": ("int8", "fp32"),
    "openvino": ("int8", "bf16", "fp32"),
    "cuda": ("fp16",),
    "trt": ("fp16", "int8"),
}
TARGETS = {f"{e}-{p}": Target(e, p) for e, precisions in _PRECISIONS.items() for p in precisions}
CPU_TARGETS = tuple(name for name, target in TARGETS.items() if target.engine == "cpu")
"""Names of the targets that run wherever the `cpu` extra is installed."""


def target_named(name: str) -> Target:
    """The target called `name`; raises `UsageError` that lists the known ones."""
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}; known: {', '.join(TARGETS)}")
    return TARGETS[name]


@dataclass(frozen=True)
class Lowered:
    """A graph for one engine.

    model: without weights. initializers: its weights by name, to be handed over as memory.
    """

    model: onnx.ModelProto
    initializers: Mapping[str, Array]
    target: Target

    def embedded(self) -> onnx.ModelProto:
        """The same graph with its weights inside, as one ordinary ONNX file."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in self.initializers:
                tensor.CopyFrom(
                    numpy_helper.from_array(np.ascontiguousarray(self.initializers[tensor.name]), tensor.name)
                )
        return model


def lower(
    graph: CanonicalGraph,
    weights: Sequence[QuantTensor],
    target: Target,
    ranges: Mapping[str, Range] | None = None,
    batch: int = 1,
) -> Lowered:
    """Build the graph that `target` runs.

    weights: one per `graph.weights`, in order. ranges: (low, high) by edge name, needed by int8 targets; edges
    without one, and what needs them, stay float (`int8plan.py`). batch: frames per run. Raises `GraphError` where
    weights do not fit or ranges are missing, `BackendError` where values leave the range of float16.
    """
    for port, tensor in zip(graph.weights, weights, strict=False):
        if port.shape != tensor.shape:
            raise GraphError(f"{port.name}: the graph declares {port.shape}, the weights have {tensor.shape}")
    if len(weights) != len(graph.weights):
        raise GraphError(f"the graph has {len(graph.weights)} weights, {len(weights)} were given")
    builder = Builder(graph, {p.name: t for p, t in zip(graph.weights, weights, strict=True)}, batch)
    if target.engine in ("cuda", "trt"):
        from inr_runtime.lower_half import lower_half  # it is built on this file

        lower_half(builder, ranges, integers=target.precision == "int8")
    elif target.precision == "int8":
        plan = plan_int8(graph, ranges or None)
        if target.engine == "cpu" and plan.int8 and ranges:
            return _lower_rewritten(builder, plan, require_ranges(plan, ranges), target)
        _lower_int8(builder, plan, ranges)
    else:
        _lower_float(builder)
    return Lowered(builder.finish(), builder.initializers, target)


def require_ranges(plan: Int8Plan, ranges: Mapping[str, Range] | None) -> Mapping[str, Range]:
    """The activation ranges that integers need; raises `GraphError` where the file carries none."""
    if ranges is None or any(edge not in ranges for edge in plan.ranged):
        raise GraphError("this file carries no activation ranges for int8; use a float target or export with --int8")
    return ranges


def _lower_float(builder: Builder) -> None:
    for node in builder.graph.nodes:
        _copy_float(builder, node, node.inputs)
    builder.tail(builder.graph.output)


def _copy_float(builder: Builder, node: Node, inputs: Sequence[str]) -> None:
    for name in inputs:
        if name in builder.weights:
            builder.float_weight(name)
    builder.copy(node, inputs, node.output)


def _lower_rewritten(builder: Builder, plan: Int8Plan, ranges: Mapping[str, Range], target: Target) -> Lowered:
    """For ONNX Runtime: the same integers by fewer and wider operators, channels last."""
    for node in (builder.graph.nodes[i] for i in sorted(plan.int8) if builder.graph.nodes[i].op == "Conv"):
        channel_scales(builder.weights[node.inputs[1]])  # refuses what a pass would take for something else
    assert isinstance(builder.graph, CanonicalGraph)
    program = rewrite(Program.planned(builder.graph, builder.weights, plan, ranges))
    builder = Builder(program, program.weights, builder.batch)
    emit(builder, program, OUTPUT, partial(_integer_weight, builder), partial(_integer_bias, builder))
    return Lowered(builder.finish(), builder.initializers, target)


def _lower_int8(builder: Builder, plan: Int8Plan, ranges: Mapping[str, Range] | None) -> None:
    ranges, graph = require_ranges(plan, ranges), builder.graph
    assert isinstance(graph, CanonicalGraph)
    scales = {e: edge_parameters(plan, ranges, e) for e in plan.edges}
    # The picture is read as integers: a dequantized copy that nobody reads would be computed all the same.
    read = {name for node in graph.nodes for name in node.inputs if name}
    read |= {graph.output} if plan.output_source is None else set()
    read -= plan.shifted.keys()
    for name in (p.name for p in graph.inputs if p.name in scales):
        _place_pair(builder, name, scales[name], name in read)
    for i, node in saturating(graph, plan):
        if node.output in plan.shifts:
            square = [f"{node.inputs[0]}.q", *builder.parameters(*scales[node.output])]
            builder.add("DequantizeLinear", square, f"{node.output}.dq")
            continue
        if i in plan.int8:
            _place_int8(builder, node, scales)
        else:
            inputs = [f"{n}.dq" if n in scales else n for n in node.inputs]
            _copy_float(builder, node, inputs)
        if node.output in scales:
            _place_pair(builder, node.output, scales[node.output], node.output in read)
    if graph.output in scales:
        _integer_tail(builder, scales[graph.output], plan.output_source is not None)
    else:
        builder.tail(graph.output)


def _place_pair(builder: Builder, edge: str, parameters: tuple[np.float32, int], read: bool) -> None:
    """QuantizeLinear and, where nodes read the edge, DequantizeLinear; they take `<edge>.dq`."""
    builder.quantize(edge, f"{edge}.q", *parameters)
    if read:
        builder.add("DequantizeLinear", [f"{edge}.q", *builder.parameters(*parameters)], f"{edge}.dq")


def _place_int8(builder: Builder, node: Node, scales: Mapping[str, tuple[np.float32, int]]) -> None:
    inputs = [f"{n}.dq" if n in scales else n for n in node.inputs]
    if node.op in ("Conv",):
        inputs[1] = _integer_weight(builder, node.inputs[1])
        if len(inputs) > 2 and inputs[2]:
            inputs[2] = _integer_bias(builder, node, scales[node.inputs[0]][0])
    builder.copy(node, inputs, node.output)


def _integer_weight(builder: Builder, name: str) -> str:
    """int8 weight with its scales per output channel, zero point 0; returns the dequantized name."""
    tensor = builder.weights[name]
    if f"{name}.q" not in builder.initializers:
        builder.initializers[f"{name}.q"] = tensor.values.astype(np.int8)
        builder.initializers[f"{name}.s"] = channel_scales(tensor)
        builder.initializers[f"{name}.z"] = np.zeros(tensor.shape[0], np.int8)
        builder.add("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], f"{name}.dq", axis=0)
    return f"{name}.dq"


def _integer_bias(builder: Builder, node: Node, input_scale: np.float32) -> str:
    """The bias in the accumulator's own unit (int32 steps of input scale x weight scale), as engines add it."""
    weight, bias = builder.weights[node.inputs[1]], builder.weights[node.inputs[2]].dequantize()
    unit = (channel_scales(weight) * input_scale).astype(np.float32)
    name = f"{node.output}.b"
    steps = np.rint(bias.astype(np.float64) / unit)
    builder.initializers[f"{name}.q"] = np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)
    builder.initializers[f"{name}.s"] = unit
    return builder.add("DequantizeLinear", [f"{name}.q", f"{name}.s"], f"{name}.dq", axis=0)


def _integer_tail(builder: Builder, parameters: tuple[np.float32, int], is_picture: bool) -> None:
    output = builder.graph.output
    if is_picture:
        builder.add("Transpose", [f"{output}.q"], OUTPUT, perm=[0, 2, 3, 1])
    else:
        builder.tail(f"{output}.dq")
