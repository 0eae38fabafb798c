"""Lowering for GPUs: float16 throughout, float32 where float16 is too coarse, int8 convolutions on demand.

Strongly typed engines (TensorRT 10 and 11) and ONNX Runtime's CUDA provider run a graph in the types that stand in it,
so every change of type is a Cast here. The picture leaves as uint8 by float32 arithmetic: GPUs quantize to no uint8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from inr_runtime.builder import OUTPUT, Builder, channel_scales
from inr_runtime.errors import BackendError
from inr_runtime.graph import CanonicalGraph, Node
from inr_runtime.int8plan import Int8Plan, Range, plan_int8
from inr_runtime.lower import require_ranges
from inr_runtime.units import edge_parameters

Kind = np.dtype[Any]
HALF: Kind = np.dtype(np.float16)
FULL: Kind = np.dtype(np.float32)
HALF_MAX = 65504.0
FULL_OPERATORS = frozenset({"Sin", "LayerNormalization"})
"""Computed in float32: a sine's argument spans many turns, a norm adds squares."""
_STRUCTURE = frozenset({"Reshape", "Resize", "Slice", "Tile"})
_TO = {HALF: TensorProto.FLOAT16, FULL: TensorProto.FLOAT}
_LINEAR = frozenset({"Conv", "ConvTranspose", "Add", "Sub", "Mul", "Div", "Concat", "Slice", "Reshape", "Transpose"})


def lower_half(builder: Builder, ranges: Mapping[str, Range] | None, integers: bool = False) -> None:
    """Fill `builder` with the graph in float16.

    ranges: (low, high) by edge, None where the file has none; they show what overflows. integers: convolutions read
    int8 (symmetric, per tensor) and have int8 weights (per channel). Raises `BackendError` where a weight or a range is
    beyond float16, `GraphError` where integers need ranges that are missing.
    """
    graph = builder.graph
    assert isinstance(graph, CanonicalGraph)
    plan = plan_int8(graph, ranges or None) if integers else None
    if plan is not None:
        ranges = require_ranges(plan, ranges)
    full = full_nodes(graph)
    edges = _Edges(builder, {port.name: FULL for port in graph.inputs})
    for i, node in enumerate(graph.nodes):
        kind = FULL if i in full else HALF
        if kind == HALF and ranges is not None:
            _check_range(node.output, ranges.get(node.output, (0.0, 0.0)))
        if plan is not None and ranges is not None and i in plan.int8 and node.op == "Conv" and kind == HALF:
            inputs = _integer_inputs(edges, node, plan, ranges)
        else:
            inputs = [edges.read(node, position, kind) for position in range(len(node.inputs))]
        builder.copy(node, inputs, node.output)
        edges.kinds[node.output] = kind
    _tail(edges)


def full_nodes(graph: CanonicalGraph) -> frozenset[int]:
    """Indices of the nodes that stay in float32: `FULL_OPERATORS`, what makes a sine's argument, all of a sound."""
    if graph.result == "pcm_f32":
        return frozenset(range(len(graph.nodes)))
    makers = {node.output: i for i, node in enumerate(graph.nodes)}
    full = {i for i, node in enumerate(graph.nodes) if node.op in FULL_OPERATORS}
    waiting = [makers[n] for i in full if graph.nodes[i].op == "Sin" for n in graph.nodes[i].inputs if n in makers]
    while waiting:
        i = waiting.pop()
        if i not in full and graph.nodes[i].op in _LINEAR:
            full.add(i)
            waiting += [makers[name] for name in graph.nodes[i].inputs if name in makers]
    return frozenset(full)


@dataclass
class _Edges:
    """The types of the edges so far, and casts made where a reader wants another; one cast an edge and type."""

    builder: Builder
    kinds: dict[str, Kind]
    made: set[str] = field(default_factory=set)

    def read(self, node: Node, position: int, kind: Kind) -> str:
        """The name of a node's input in `kind`: an edge, a weight or a constant."""
        name = node.inputs[position]
        if not name or (position > 0 and node.op in _STRUCTURE):
            return name
        if name in self.builder.weights:
            return self.weight(name, kind)
        if name in self.builder.graph.constants:
            return self.constant(name, kind)
        return self.cast(name, kind)

    def cast(self, name: str, kind: Kind) -> str:
        if self.kinds[name] == kind:
            return name
        other = f"{name}.{kind.name}"
        if other not in self.made:
            self.made.add(other)
            self.builder.add("Cast", [name], other, to=_TO[kind])
        return other

    def weight(self, name: str, kind: Kind) -> str:
        if kind == FULL:
            return self.builder.float_weight(name)
        half = f"{name}.half"
        if half not in self.builder.initializers:
            self.builder.initializers[half] = _halved(name, self.builder.weights[name].dequantize())
        return half

    def constant(self, name: str, kind: Kind) -> str:
        value = self.builder.graph.constants[name]
        if kind == FULL or value.dtype != np.float32:
            return name
        self.builder.constants[f"{name}.half"] = np.clip(value, -HALF_MAX, HALF_MAX).astype(np.float16)
        return f"{name}.half"


def _integer_inputs(edges: _Edges, node: Node, plan: Int8Plan, ranges: Mapping[str, Range]) -> list[str]:
    """Q and DQ on a convolution's input, after whatever activation made it, and integers for its weight."""
    builder, name = edges.builder, edges.cast(node.inputs[0], HALF)
    scale, zero = edge_parameters(plan, ranges, node.inputs[0])
    step = float(scale) * max(zero, 255 - zero) / 127
    _check_range(name, (0.0, 127 * step))
    step = max(np.float16(step), np.finfo(np.float16).smallest_subnormal)  # engines divide by it
    if f"{name}.dq" not in edges.made:
        edges.made.add(f"{name}.dq")
        builder.constants |= {f"{name}.s": step, f"{name}.z": np.int8(0)}
        builder.add("QuantizeLinear", [name, f"{name}.s", f"{name}.z"], f"{name}.q")
        builder.add("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], f"{name}.dq")
    weight = node.inputs[1]
    if f"{weight}.q" not in builder.initializers:
        tensor = builder.weights[weight]
        builder.initializers[f"{weight}.q"] = tensor.values.astype(np.int8)
        builder.initializers[f"{weight}.s"] = _halved(weight, channel_scales(tensor))
        builder.initializers[f"{weight}.z"] = np.zeros(tensor.shape[0], np.int8)
        builder.add("DequantizeLinear", [f"{weight}.{k}" for k in "qsz"], f"{weight}.dq", axis=0)
    biases = [edges.weight(bias, HALF) if bias else "" for bias in node.inputs[2:]]
    return [f"{name}.dq", f"{weight}.dq", *biases]


def _tail(edges: _Edges) -> None:
    """Round and clip [0, 1] to uint8, or clip sound, NHWC; in float32, transposed while the numbers are small."""
    builder, graph = edges.builder, edges.builder.graph
    builder.add("Transpose", [graph.output], "nhwc", perm=[0, 2, 3, 1])
    edges.kinds["nhwc"] = edges.kinds[graph.output]
    full = edges.cast("nhwc", FULL)
    if graph.result == "pcm_f32":
        builder.constants |= {"low": np.float32(-1), "high": np.float32(1)}
        builder.add("Clip", [full, "low", "high"], OUTPUT)
        return
    builder.constants |= {"low": np.float32(0), "high": np.float32(255)}
    builder.add("Mul", [full, "high"], "scaled")
    builder.add("Round", ["scaled"], "rounded")
    builder.add("Clip", ["rounded", "low", "high"], "clipped")
    builder.add("Cast", ["clipped"], OUTPUT, to=TensorProto.UINT8)


def _halved(name: str, values: NDArray[np.float32]) -> NDArray[np.float16]:
    _check_range(name, (float(values.min(initial=0)), float(values.max(initial=0))))
    return np.ascontiguousarray(values.astype(np.float16))


def _check_range(name: str, limits: Range) -> None:
    largest = max(abs(limits[0]), abs(limits[1]))
    if not largest <= HALF_MAX:
        raise BackendError(
            f"{name} reaches {largest:.4g}, float16 ends at {HALF_MAX:.0f}; use a CPU engine (--backend cpu)"
        )
