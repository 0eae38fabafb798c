"""A canonical graph on its way into an int8 engine: its nodes, its integers, and the unit of every quantized edge.

A `Program` is what the passes of `rewrite.py` turn into another one that computes the same integers faster. Edges
keep their names where they keep their values. Besides the operators of the dialect there is one of its own,
`Reunit`: the same integers read with another scale, which costs nothing; and a third order of channels under a
shuffle, `COLUMNS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inr_runtime.cost import macs_of, peak_bytes, workspace_bytes
from inr_runtime.graph import CanonicalGraph, Node, Port
from inr_runtime.int8plan import Int8Plan, Range, saturating
from inr_runtime.limits import Limits
from inr_runtime.ops import Shape, infer_shape
from inr_runtime.tensors import QuantTensor
from inr_runtime.units import edge_parameters

Unit = tuple[np.float32, int]
"""Scale and uint8 zero point."""
COLUMNS = "columns"
"""A mode of DepthToSpace beside DCR, whose channels are (dy, dx, c), and CRD, (c, dy, dx): (dx, c, dy)."""


@dataclass(frozen=True, eq=False)
class Program:
    """Trusted: made from a validated graph.

    int8: results of the nodes that run on integers. units: of quantized edges. picture: whether the output's integers
    are the 8-bit picture itself. limits: those of the graph, which hold for what is made of it too.
    """

    inputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[np.generic]]
    weights: Mapping[str, QuantTensor]
    units: Mapping[str, Unit]
    int8: frozenset[str]
    output: str
    result: str
    picture: bool
    limits: Limits

    @classmethod
    def planned(
        cls,
        graph: CanonicalGraph,
        weights: Mapping[str, QuantTensor],
        plan: Int8Plan,
        ranges: Mapping[str, Range],
    ) -> Program:
        """The graph as `plan` quantizes it; ranges: of at least `plan.ranged`."""
        units = {edge: edge_parameters(plan, ranges, edge) for edge in plan.edges}
        int8 = frozenset(graph.nodes[i].output for i in plan.int8) | plan.fused_relu
        return cls(
            graph.inputs,
            tuple(_without_shift(node, plan) for _, node in saturating(graph, plan)),
            graph.constants,
            weights,
            units,
            int8,
            graph.output,
            graph.result,
            plan.output_source is not None,
            graph.limits,
        )

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Of every named tensor, NCHW, for one frame."""
        shapes: dict[str, Shape] = {p.name: p.shape for p in self.inputs}
        shapes |= {name: tensor.shape for name, tensor in self.weights.items()}
        shapes |= {name: tuple(constant.shape) for name, constant in self.constants.items()}
        for node in self.nodes:
            if node.op == "Reunit":
                shapes[node.output] = shapes[node.inputs[0]]
            else:
                attributes = {k: v for k, v in node.attributes if v != COLUMNS}
                shapes[node.output] = infer_shape(node.op, node.inputs, attributes, shapes, self.constants)
        return shapes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the output in pixels."""
        _, _, height, width = self.shapes[self.output]
        return width, height

    @cached_property
    def within_limits(self) -> bool:
        """Whether a frame's arithmetic and activations are still what the reader is willing to spend on the graph."""
        reads = {n.output: [self.shapes[i] for i in n.inputs if i] for n in self.nodes}
        macs = sum(macs_of(n.op, reads[n.output], self.shapes[n.output]) for n in self.nodes)
        work = {n.output: workspace_bytes(n.op, reads[n.output], self.shapes[n.output]) for n in self.nodes}
        sizes = {name: 4 * math.prod(shape) for name, shape in self.shapes.items()}
        needed = peak_bytes((p.name for p in self.inputs), ((n.inputs, n.output) for n in self.nodes), sizes, work)
        return macs <= self.limits.macs_per_frame and needed <= self.limits.activation_bytes

    def has_room(self, numbers: int) -> bool:
        """Whether so many more numbers of weights may be made, known before they are."""
        return sum(tensor.values.size for tensor in self.weights.values()) + numbers <= self.limits.symbols

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node of each result."""
        return {node.output: node for node in self.nodes}

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor, in order; the output is read by nobody."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def read_once(self, edge: str) -> bool:
        """Whether one node reads the edge, and it is not the output."""
        return len(self.readers.get(edge, [])) == 1 and edge != self.output

    def data_inputs(self, node: Node) -> list[str]:
        """Inputs that are neither weights nor constants."""
        return [n for n in node.inputs if n and n not in self.weights and n not in self.constants]

    def replacing(
        self,
        exchanged: Mapping[str, tuple[Node, ...]],
        weights: Mapping[str, QuantTensor] | None = None,
        **fields: object,
    ) -> Program:
        """Another program: in the place of the node with each result named, other nodes; fields: further changes.

        Nodes whose results nobody reads any more are left out, and weights that no node reads.
        """
        nodes = [new for node in self.nodes for new in exchanged.get(node.output, (node,))]
        needed, kept = {self.output}, []
        for node in reversed(nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        weights = {name: tensor for name, tensor in (weights or self.weights).items() if name in needed}
        return replace(self, nodes=tuple(reversed(kept)), weights=weights, **fields)  # type: ignore[arg-type]


def _without_shift(node: Node, plan: Int8Plan) -> Node:
    return Node("Reunit", node.inputs[:1], node.output) if node.output in plan.shifts else node
