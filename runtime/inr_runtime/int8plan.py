"""Where a canonical graph is quantized for int8 engines: one plan, used by lowering and by training.

Engines fuse only certain patterns; this page knows which (ONNX Runtime's CPU provider, measured). A node is
- *int8*: convolution or elementwise function with an int8 kernel; its inputs and its result are quantized edges;
- *moving*: it moves values without changing them (shuffle, reshape, slice ...); its result shares its input's range;
- *float*: everything else; whatever works on a single position or is a small convolution of sampled inputs (a stem
  costs nothing and keeps encodings exact); depthwise convolutions (there is little arithmetic in them: to round what
  they read and give costs the time that integers save; in ConvNeXt blocks they read the sum of all blocks before);
  of graphs that draw tiles also what reads their coordinates (256 steps are too few for a place in a picture), what
  comes before or after a sine (whose argument spans many turns), and all of a sound (8 bits are 50 dB).
A Relu that alone follows a convolution is fused into it: only its result is quantized, with zero point 0. So is a Clip
after a convolution, a sum or a product, if its limits hold 0 and 1: integers of a range within them saturate there.

A file may keep more in float: an edge that the plan would quantize, and of which the file tells no range, is not, and
the int8 nodes that read or make it are float nodes then. What is left of the plan follows from that alone, for the
engine as for the training that imitates it. Ranges that do not add up to a plan are refused (`lower`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from inr_runtime.cost import macs_of
from inr_runtime.graph import CanonicalGraph, Node

CONVOLUTIONS = frozenset({"Conv"})
ELEMENTWISE = frozenset({"LeakyRelu", "Sigmoid", "Add", "Mul", "Concat"})
CLIPPED = CONVOLUTIONS | {"Add", "Mul"}
SMALL_SHARE = 1 / 500
"""Of a graph's multiply-accumulates: what a convolution of sampled inputs may cost to stay float."""
MOVING = frozenset({"DepthToSpace", "Reshape", "Slice", "Transpose"})

Range = tuple[float, float]


@dataclass(frozen=True)
class Int8Plan:
    """int8: indices of nodes that run on integers. fused_relu: results of Relu nodes fused into their convolution.
    clips: results of Clip nodes fused into the node before, which are in int8 too, with their limits.

    edges: every quantized edge with the edge whose range it uses (itself, or the source of moved values).
    leaky: results of LeakyRelu with (source of the input's range, alpha): their range follows (`units.py`).
    output_source: the edge whose integers are the picture, if there is one.
    """

    int8: frozenset[int]
    fused_relu: frozenset[str]
    clips: Mapping[str, Range]
    edges: Mapping[str, str]
    leaky: Mapping[str, tuple[str, float]]
    output_source: str | None

    @property
    def ranged(self) -> tuple[str, ...]:
        """Edges that need a measured range, in graph order; the others' follow from theirs."""
        derived = {self.output_source, *self.leaky}
        return tuple(dict.fromkeys(s for s in self.edges.values() if s not in derived))


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
    int8 = _int8_nodes(graph, kept_float)
    fused = _fused_relus(graph, int8)
    taken = {graph.nodes[i].output for i in int8}
    clips = {node.output: limits for node, limits in _clips(graph) if node.output in taken}
    unquantized = {node.inputs[0] for node in graph.nodes if node.output in fused or node.output in clips}
    edges: dict[str, str] = {}
    for i, node in enumerate(graph.nodes):
        if i in int8:
            edges.update({name: name for name in _data_inputs(graph, node) if name not in edges})
        if (i in int8 or node.output in fused) and node.output not in unquantized:
            moved = node.op in MOVING
            edges[node.output] = edges[node.inputs[0]] if moved else node.output
    edges = {name: source for name, source in edges.items() if name not in unquantized}
    return Int8Plan(int8, fused, clips, edges, _leaky_results(graph, int8, edges), _output_source(graph, edges))


def _unranged_nodes(graph: CanonicalGraph, plan: Int8Plan, ranged: Collection[str]) -> frozenset[int]:
    """int8 nodes that read or make an edge without a range, neither its own nor the one it would share."""
    fused_result = {
        node.inputs[0]: node.output
        for node in graph.nodes
        if node.output in plan.fused_relu or node.output in plan.clips
    }

    def has_range(edge: str) -> bool:
        source = plan.edges.get(edge, edge)
        before = plan.leaky[source][0] if source in plan.leaky else source
        return edge in ranged or source in ranged or before in ranged or source == plan.output_source

    touched = {
        i: [fused_result.get(edge, edge) for edge in (*_data_inputs(graph, node), node.output)]
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
    graph: CanonicalGraph, int8: frozenset[int], edges: Mapping[str, str]
) -> dict[str, tuple[str, float]]:
    results = {}
    for node in (graph.nodes[i] for i in sorted(int8)):
        alpha = float(str(dict(node.attributes).get("alpha", 0.01))) if node.op == "LeakyRelu" else -1.0
        if 0 <= alpha <= 1 and edges[node.inputs[0]] not in results:  # one step only: a chain would recurse
            results[node.output] = (edges[node.inputs[0]], alpha)
    return results


def _int8_nodes(graph: CanonicalGraph, kept_float: frozenset[int]) -> frozenset[int]:
    produced_by = {n.output: i for i, n in enumerate(graph.nodes)}
    chosen: set[int] = set()
    convolutions = _int8_convolutions(graph) - {graph.nodes[i].output for i in kept_float}
    waiting, clips = _feeding(graph, convolutions), {node.output for node, _ in _clips(graph)}
    for i, node in enumerate(graph.nodes):
        data = _data_inputs(graph, node)
        after_int8 = bool(data) and all(produced_by.get(name) in chosen for name in data)
        if node.op in CONVOLUTIONS:
            take = node.output in convolutions
        elif node.op in ELEMENTWISE:
            take = after_int8 and len(data) == len(node.inputs)
        elif node.op == "Clip":
            take = after_int8 and node.output in clips
        else:
            take = node.op in MOVING and bool(data) and (after_int8 or node.output in waiting)
        if take and i not in kept_float:
            chosen.add(i)
    return frozenset(chosen)


def _int8_convolutions(graph: CanonicalGraph) -> set[str]:
    """Results of the convolutions that are worth it."""
    sampled = {port.name for port in graph.inputs}  # and what is moved or joined of them
    chosen, exact = set(), _exact_edges(graph)
    for node in graph.nodes:
        data = _data_inputs(graph, node)
        if node.op in (*MOVING, "Concat") and sampled.issuperset(data):
            sampled.add(node.output)
        if node.op not in CONVOLUTIONS or not _has_stored_kernel(graph, node):
            continue
        shapes, result = [graph.shapes[name] for name in node.inputs], graph.shapes[node.output]
        small = data[0] in sampled and macs_of(node.op, shapes, result) < SMALL_SHARE * graph.macs
        depthwise = shapes[1][1] == 1 < shapes[0][1]
        if math.prod(result[2:]) > 1 and not small and not depthwise and exact.isdisjoint((data[0], node.output)):
            chosen.add(node.output)
    return chosen


def _exact_edges(graph: CanonicalGraph) -> set[str]:
    """Edges that int8 convolutions must neither read nor write: coordinates, what sines take and give, sound."""
    exact = {port.name for port in graph.inputs} if graph.role == "tile" else set()
    exact |= {node.output for node in graph.nodes if node.op == "Sin" or graph.result == "pcm_f32"}
    for node in reversed(graph.nodes):
        if node.op == "Sin" or (node.op in ("Mul", "Add") and node.output in exact):
            exact.update(_data_inputs(graph, node))
    return exact


def _has_stored_kernel(graph: CanonicalGraph, node: Node) -> bool:
    """Whether weight and bias are the file's integers and only the first input is data."""
    return _data_inputs(graph, node) == [node.inputs[0]] and graph.weight_names.issuperset(node.inputs[1:])


def _feeding(graph: CanonicalGraph, convolutions: set[str]) -> set[str]:
    """Edges of which all readers, directly or after moving, are these convolutions: quantized before they are moved."""
    others = {graph.output}
    for node in reversed(graph.nodes):
        moved_to_convolutions = node.op in MOVING and node.output not in others
        if node.output not in convolutions and not moved_to_convolutions:
            others.update(node.inputs)
    return {node.output for node in graph.nodes} - others


def _data_inputs(graph: CanonicalGraph, node: Node) -> list[str]:
    others = (graph.constants, graph.weight_names)
    return [name for name in node.inputs if name and not any(name in names for names in others)]


def _clips(graph: CanonicalGraph) -> list[tuple[Node, Range]]:
    """Clip nodes that could be fused, with their limits.

    They alone follow what has a range of its own, and hold 0, which every range holds, and 1, where pictures saturate.
    """
    readers, makers = _readers(graph), {node.output: node.op for node in graph.nodes}
    found = []
    for node in graph.nodes:
        before = makers.get(node.inputs[0]) if node.op == "Clip" else None
        if before in CLIPPED and readers[node.inputs[0]] == 1:
            low, high = (float(graph.constants[name]) for name in node.inputs[1:])
            found += [(node, (low, high))] if low <= 0 and high >= 1 else []
    return found


def _readers(graph: CanonicalGraph) -> dict[str, int]:
    """How often each edge is read; the output counts as read."""
    readers: dict[str, int] = {graph.output: 1}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    return readers


def _fused_relus(graph: CanonicalGraph, int8: frozenset[int]) -> frozenset[str]:
    produced_by, readers = {n.output: i for i, n in enumerate(graph.nodes)}, _readers(graph)
    fused = set()
    for node in graph.nodes:
        source = produced_by.get(node.inputs[0])
        after_conv = source in int8 and source is not None and graph.nodes[source].op in CONVOLUTIONS
        if node.op == "Relu" and after_conv and readers[node.inputs[0]] == 1:
            fused.add(node.output)
    return frozenset(fused)


def _output_source(graph: CanonicalGraph, edges: Mapping[str, str]) -> str | None:
    """The edge whose integers are the picture itself, where a convolution makes it: scale 1/255, zero point 0."""
    source = edges.get(graph.output)
    sharing = {name for name, s in edges.items() if s == source}
    readers = [n for n in graph.nodes if any(name in sharing for name in n.inputs)]
    if source is None or any(n.op not in MOVING for n in readers):
        return None
    return source
