"""Which nodes of a canonical graph int8 engines could run on integers: the patterns behind `int8plan.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from inr_runtime.cost import macs_of
from inr_runtime.graph import CanonicalGraph, Node

CONVOLUTIONS = frozenset({"Conv"})
ELEMENTWISE = frozenset({"LeakyRelu", "Sigmoid", "Add", "Mul", "Concat"})
CLIPPED = CONVOLUTIONS | {"Add", "Mul"}
SMALL_SHARE = 1 / 500
"""Of a graph's multiply-accumulates: what a convolution of sampled inputs may cost to stay float."""
MOVING = frozenset({"DepthToSpace", "Reshape", "Slice", "Transpose"})


def int8_nodes(graph: CanonicalGraph, kept_float: frozenset[int]) -> frozenset[int]:
    """Indices of the nodes that run on integers where those of `kept_float` must not."""
    worthy, small = _int8_convolutions(graph)
    chosen = _around(graph, worthy, kept_float)
    integers, read = {graph.nodes[i].output for i in chosen}, _readers(graph)
    sums = [set(node.inputs) for node in graph.nodes if node.op == "Add" and not integers.isdisjoint(node.inputs)]
    limited = {node.inputs[0]: node.output for node, _ in clipping_nodes(graph)}
    ends = {name: limited.get(name, name) for name in small if read.get(name) == 1}
    joining = {name for name, end in ends.items() if read.get(end) == 1 and any(end in inputs for inputs in sums)}
    return _around(graph, worthy | joining, kept_float) if joining else chosen


def _around(graph: CanonicalGraph, convolutions: set[str], kept_float: frozenset[int]) -> frozenset[int]:
    """The int8 nodes that follow from those convolutions."""
    produced_by = {n.output: i for i, n in enumerate(graph.nodes)}
    chosen: set[int] = set()
    convolutions = convolutions - {graph.nodes[i].output for i in kept_float}
    waiting = _feeding(graph, convolutions)
    fitting = {node.output for node, _ in (*clipping_nodes(graph), *shifting_nodes(graph))}
    for i, node in enumerate(graph.nodes):
        data = data_inputs(graph, node)
        after_int8 = bool(data) and all(produced_by.get(name) in chosen for name in data)
        if node.op in CONVOLUTIONS:
            take = node.output in convolutions
        elif node.op in ELEMENTWISE:
            take = after_int8 and len(data) == len(node.inputs)
        elif node.op in ("Clip", "Sub"):
            take = after_int8 and node.output in fitting
        else:
            take = node.op in MOVING and bool(data) and (after_int8 or node.output in waiting)
        if take and i not in kept_float:
            chosen.add(i)
    return frozenset(chosen)


def _int8_convolutions(graph: CanonicalGraph) -> tuple[set[str], set[str]]:
    """Results of the convolutions that are worth it, and of those that are but small ones of sampled inputs."""
    sampled = {port.name for port in graph.inputs}  # and what is moved or joined of them
    chosen, small, exact = set[str](), set[str](), _exact_edges(graph)
    for node in graph.nodes:
        data = data_inputs(graph, node)
        if node.op in (*MOVING, "Concat") and sampled.issuperset(data):
            sampled.add(node.output)
        if node.op not in CONVOLUTIONS or not _has_stored_kernel(graph, node):
            continue
        shapes, result = [graph.shapes[name] for name in node.inputs], graph.shapes[node.output]
        cheap = data[0] in sampled and macs_of(node.op, shapes, result) < SMALL_SHARE * graph.macs
        depthwise = shapes[1][1] == 1 < shapes[0][1]
        if math.prod(result[2:]) > 1 and not depthwise and exact.isdisjoint((data[0], node.output)):
            (small if cheap else chosen).add(node.output)
    return chosen, small


def _exact_edges(graph: CanonicalGraph) -> set[str]:
    """Edges that int8 convolutions must neither read nor write: coordinates, what sines take and give, sound."""
    exact = {port.name for port in graph.inputs} if graph.role == "tile" else set()
    exact |= {node.output for node in graph.nodes if node.op == "Sin" or graph.result == "pcm_f32"}
    for node in reversed(graph.nodes):
        if node.op == "Sin" or (node.op in ("Mul", "Add") and node.output in exact):
            exact.update(data_inputs(graph, node))
    return exact


def _has_stored_kernel(graph: CanonicalGraph, node: Node) -> bool:
    """Whether weight and bias are the file's integers and only the first input is data."""
    return data_inputs(graph, node) == [node.inputs[0]] and graph.weight_names.issuperset(node.inputs[1:])


def _feeding(graph: CanonicalGraph, convolutions: set[str]) -> set[str]:
    """Edges of which all readers, directly or after moving, are these convolutions: quantized before they are moved."""
    others = {graph.output}
    for node in reversed(graph.nodes):
        moved_to_convolutions = node.op in MOVING and node.output not in others
        if node.output not in convolutions and not moved_to_convolutions:
            others.update(node.inputs)
    return {node.output for node in graph.nodes} - others


def data_inputs(graph: CanonicalGraph, node: Node) -> list[str]:
    """What a node reads beside constants and weights."""
    others = (graph.constants, graph.weight_names)
    return [name for name in node.inputs if name and not any(name in names for names in others)]


def clipping_nodes(graph: CanonicalGraph) -> list[tuple[Node, tuple[float, float]]]:
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


def shifting_nodes(graph: CanonicalGraph) -> list[tuple[Node, float]]:
    """Sub nodes that alone take a positive number from a square, where the result is not the picture's integers."""
    readers, makers = _readers(graph), {node.output: node for node in graph.nodes}
    picture = graph.output
    while picture in makers and makers[picture].op in MOVING:
        picture = makers[picture].inputs[0]
    found = []
    for node in graph.nodes:
        square = makers.get(node.inputs[0]) if node.op == "Sub" and node.output != picture else None
        constant = graph.constants.get(node.inputs[1]) if square is not None else None
        if square is None or constant is None or constant.size != 1 or readers[square.output] != 1:
            continue
        number = float(constant.reshape(-1)[0])
        same_shape = graph.shapes[node.output] == graph.shapes[square.output]
        if square.op == "Mul" and square.inputs[0] == square.inputs[1] and same_shape and 1e-20 < number < 1e20:
            found.append((node, number))
    return found


def _readers(graph: CanonicalGraph) -> dict[str, int]:
    """How often each edge is read; the output counts as read."""
    readers: dict[str, int] = {graph.output: 1}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    return readers


def fused_relus(graph: CanonicalGraph, int8: frozenset[int]) -> frozenset[str]:
    """Results of the Relu nodes that alone follow an int8 convolution."""
    produced_by, readers = {n.output: i for i, n in enumerate(graph.nodes)}, _readers(graph)
    fused = set()
    for node in graph.nodes:
        source = produced_by.get(node.inputs[0])
        after_conv = source in int8 and source is not None and graph.nodes[source].op in CONVOLUTIONS
        if node.op == "Relu" and after_conv and readers[node.inputs[0]] == 1:
            fused.add(node.output)
    return frozenset(fused)


def picture_edge(graph: CanonicalGraph, edges: Mapping[str, str]) -> str | None:
    """The edge whose integers are the picture itself, where a convolution makes it: scale 1/255, zero point 0."""
    source = edges.get(graph.output)
    sharing = {name for name, s in edges.items() if s == source}
    readers = [n for n in graph.nodes if any(name in sharing for name in n.inputs)]
    if source is None or any(n.op not in MOVING for n in readers):
        return None
    return source
