"""Where a canonical graph is quantized for int8 engines: one plan, used by lowering and by training.

Engines fuse only certain patterns; this page knows which (ONNX Runtime's CPU provider, measured). A node is
- *int8*: convolution or elementwise function with an int8 kernel; its inputs and its result are quantized edges;
- *moving*: it moves values without changing them (shuffle, reshape, slice ...); its result shares its input's range;
- *float*: everything else; whatever works on a single position or is a small convolution of sampled inputs (a stem
  costs nothing and keeps encodings exact; but where it is added to integers, the sum and all behind it would be float);
  depthwise convolutions (there is little arithmetic in them: to round what they read and give costs the time that
  integers save; in ConvNeXt blocks they read the sum of all blocks before);
  of graphs that draw tiles also what reads their coordinates (256 steps are too few for a place in a picture), what
  comes before or after a sine (whose argument spans many turns), and all of a sound (8 bits are 50 dB).
A Relu that alone follows a convolution is fused into it: only its result is quantized, with zero point 0. So is a Clip
after a convolution, a sum or a product, if its limits hold 0 and 1: integers of a range within them saturate there.
A number that is taken from a square moves its zero point, and no integer.

A file may keep more in float: an edge that the plan would quantize, and of which the file tells no range, is not, and
the int8 nodes that read or make it are float nodes then. What is left of the plan follows from that alone, for the
engine as for the training that imitates it. Ranges that do not add up to a plan are refused (`lower`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from inr_runtime.cost import macs_of
from inr_runtime.graph import CanonicalGraph, Node
from inr_runtime.int8nodes import (
    MOVING,
    clipping_nodes,
    data_inputs,
    fused_relus,
    int8_nodes,
    picture_edge,
    shifting_nodes,
)

Range = tuple[float, float]


@dataclass(frozen=True)
class Int8Plan:
    """int8: indices of nodes that run on integers. fused_relu: results of Relu nodes fused into their convolution.
    clips: results of Clip nodes fused into the node before, which are in int8 too, with their limits.

    edges: every quantized edge with the edge whose range it uses (itself, or the source of moved values).
    leaky: results of LeakyRelu with (source of the input's range, alpha): their range follows (`units.py`).
    shifts: results of Sub, of a number from a square, with (the square, the number): its integers, of another zero.
    output_source: the edge whose integers are the picture, if there is one.
    """

    int8: frozenset[int]
    fused_relu: frozenset[str]
    clips: Mapping[str, Range]
    edges: Mapping[str, str]
    leaky: Mapping[str, tuple[str, float]]
    shifts: Mapping[str, tuple[str, float]]
    output_source: str | None

    @property
    def ranged(self) -> tuple[str, ...]:
        """Edges that need a measured range, in graph order; the others' follow from theirs."""
        derived = {self.output_source, *self.leaky, *self.shifts}
        return tuple(dict.fromkeys(s for s in self.edges.values() if s not in derived))

    @cached_property
    def shifted(self) -> Mapping[str, float]:
        """The squares from which a number is taken, with that number."""
        return dict(self.shifts.values())


def plan_int8(graph: CanonicalGraph, ranged: Collection[str] | None = None) -> Int8Plan:
    """Decide what runs on integers and which edges are quantized.

    ranged: edges of known range; None where all will be measured. Where one is missing, nodes are left to float, in one
    pass: what then still needs a range that is not there is not resolved further.
    """
    plan = _plan(graph, frozenset())
    if ranged is None or all(edge in ranged for edge in plan.ranged):
        return plan
    return _plan(graph, _unranged_nodes(graph, plan, ranged))


def plan_without(graph: CanonicalGraph, dropped: Collection[str]) -> Int8Plan | None:
    """The plan of a file that tells no range of the `dropped` edges: what it asks for makes just this plan again.

    None where no such plan is found.
    """
    ranged = frozenset(plan_int8(graph).ranged) - frozenset(dropped)
    for _ in range(len(graph.nodes)):
        plan = plan_int8(graph, ranged)
        if ranged == frozenset(plan.ranged):
            return plan
        ranged = frozenset(plan.ranged)
        if not ranged.isdisjoint(dropped):
            return None
    return None


def int8_mac_share(graph: CanonicalGraph, plan: Int8Plan) -> float:
    """Share of the graph's multiply-accumulates that run on integers."""
    return macs_of_nodes(graph, [graph.nodes[i] for i in plan.int8]) / max(1, graph.macs)


def macs_of_nodes(graph: CanonicalGraph, nodes: Collection[Node]) -> int:
    """Multiply-accumulates of some nodes of a graph."""
    shapes = graph.shapes
    return sum(macs_of(n.op, [shapes[x] for x in n.inputs if x], shapes[n.output]) for n in nodes)


def _plan(graph: CanonicalGraph, kept_float: frozenset[int]) -> Int8Plan:
    int8 = int8_nodes(graph, kept_float)
    fused = fused_relus(graph, int8)
    taken = {graph.nodes[i].output for i in int8}
    clips = {node.output: limits for node, limits in clipping_nodes(graph) if node.output in taken}
    unquantized = {node.inputs[0] for node in graph.nodes if node.output in fused or node.output in clips}
    edges: dict[str, str] = {}
    for i, node in enumerate(graph.nodes):
        if i in int8:
            edges.update({name: name for name in data_inputs(graph, node) if name not in edges})
        if (i in int8 or node.output in fused) and node.output not in unquantized:
            moved = node.op in MOVING
            edges[node.output] = edges[node.inputs[0]] if moved else node.output
    edges = {name: source for name, source in edges.items() if name not in unquantized}
    shifts = {n.output: (n.inputs[0], number) for n, number in shifting_nodes(graph) if n.output in taken}
    leaky = _leaky_results(graph, int8, edges, shifts)
    return Int8Plan(int8, fused, clips, edges, leaky, shifts, picture_edge(graph, edges))


def _unranged_nodes(graph: CanonicalGraph, plan: Int8Plan, ranged: Collection[str]) -> frozenset[int]:
    """int8 nodes that read or make an edge without a range, neither its own nor the one it would share."""
    fused_result = {
        node.inputs[0]: node.output
        for node in graph.nodes
        if node.output in plan.fused_relu or node.output in plan.clips
    }

    def has_range(edge: str) -> bool:
        source = plan.edges.get(edge, edge)
        before = (plan.leaky.get(source) or plan.shifts.get(source) or (source,))[0]
        return edge in ranged or source in ranged or before in ranged or source == plan.output_source

    touched = {
        i: [fused_result.get(edge, edge) for edge in (*data_inputs(graph, node), node.output)]
        for i, node in enumerate(graph.nodes)
        if i in plan.int8
    }
    return frozenset(i for i, edges in touched.items() if not all(map(has_range, edges)))


def saturating(graph: CanonicalGraph, plan: Int8Plan) -> list[tuple[int, Node]]:
    """The nodes with their indices, without fused Clips: the node before gives their result by saturating."""
    results = {node.inputs[0]: node.output for node in graph.nodes if node.output in plan.clips}
    return [
        (i, replace(node, output=results.get(node.output, node.output)))
        for i, node in enumerate(graph.nodes)
        if node.output not in plan.clips
    ]


def _leaky_results(
    graph: CanonicalGraph, int8: frozenset[int], edges: Mapping[str, str], shifts: Collection[str]
) -> dict[str, tuple[str, float]]:
    results = {}
    for node in (graph.nodes[i] for i in sorted(int8)):
        alpha = float(str(dict(node.attributes).get("alpha", 0.01))) if node.op == "LeakyRelu" else -1.0
        source = edges[node.inputs[0]] if 0 <= alpha <= 1 else ""
        if source and source not in results and source not in shifts:  # one step only: a chain would recurse
            results[node.output] = (source, alpha)
    return results
