"""Parallel branches as one convolution, whose kernel is the sum of theirs: folded once, when a file is written.

    x ─► 3x3 ─┐
    x ─► 1x1 ─+─►        =        x ─► 3x3 ─+─►
    x ────────┘                   x ────────┘

(RepVGG, Ding et al. 2021.) The input itself stays a term of the sum: a kernel with ones on its diagonal has coarser
integers for all its other numbers, and an addition costs little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from inr_runtime.graph import CanonicalGraph, Node, renumber
from inr_runtime.ops import OPS
from inr_train.checkpoint import Checkpoint
from inr_train.trace import Trace


def merge_branches(checkpoint: Checkpoint, traced: Trace) -> tuple[Checkpoint, Trace, int]:
    """Add up the kernels of convolutions of one map whose results are added up and read by nobody else.

    Gives the model with its changed weights, its graph with fewer convolutions, and how many were merged into others.
    The kernels that the graph no longer reads are zero in the model, which therefore still draws the same pictures, up
    to rounding of float32. Merged are convolutions alike in groups and strides, undilated, around their middle, one of
    which is as large as the other in both directions; weights that other nodes share stay as they are.
    """
    graph = traced.graph
    parameter_of = dict(zip((p.name for p in graph.weights), traced.parameters, strict=True))
    weights = dict(checkpoint.weights)
    merged = 0
    while (pair := _find(graph)) is not None:
        into, other = pair
        kernels = [weights[parameter_of[conv.inputs[1]]] for conv in pair]
        weights[parameter_of[into.inputs[1]]] = kernels[0] + _widened(kernels[1], kernels[0])
        weights[parameter_of[other.inputs[1]]] = torch.zeros_like(kernels[1])
        biases = [conv.inputs[2] for conv in pair if len(conv.inputs) > 2 and conv.inputs[2]]
        if len(biases) == 2:
            first, second = (parameter_of[name] for name in biases)
            weights[first] = weights[first] + weights[second]
            weights[second] = torch.zeros_like(weights[second])
        conv = replace(into, inputs=(*into.inputs[:2], *biases[:1]))
        graph, kept = _without(graph, conv, other)
        parameter_of = {new: parameter_of[old] for old, new in kept.items()}
        merged += 1
    if not merged:
        return checkpoint, traced, 0
    parameters = tuple(parameter_of[port.name] for port in graph.weights)
    return replace(checkpoint, weights=weights), Trace(graph, parameters), merged


@dataclass(frozen=True)
class _Sum:
    """A tree of additions of maps of one shape: the nodes, the last of which gives the result, and what is added."""

    nodes: tuple[Node, ...]
    terms: tuple[str, ...]


def _sums(graph: CanonicalGraph) -> Iterable[_Sum]:
    """Every tree of additions, as large as it is."""
    makers, uses = {n.output: n for n in graph.nodes}, _uses(graph)

    def grown(name: str, shape: tuple[int, ...], is_root: bool) -> tuple[list[Node], list[str]]:
        node = makers.get(name)
        if node is None or node.op != "Add" or not (is_root or uses[name] == 1):
            return [], [name]
        if any(graph.shapes[term] != shape for term in node.inputs):
            return [], [name]
        parts = [grown(term, shape, False) for term in node.inputs]
        return [n for nodes, _ in parts for n in nodes] + [node], [t for _, terms in parts for t in terms]

    inside: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op == "Add" and node.output not in inside:
            nodes, terms = grown(node.output, graph.shapes[node.output], True)
            inside |= {n.output for n in nodes}
            yield _Sum(tuple(nodes), tuple(terms))


def _find(graph: CanonicalGraph) -> tuple[Node, Node] | None:
    """Two convolutions that can be one: the one to keep, then the other."""
    makers, uses = {n.output: n for n in graph.nodes}, _uses(graph)
    for each in _sums(graph):
        convs = [c for c in map(makers.get, each.terms) if c is not None and _is_plain(graph, c, uses)]
        for into in convs:
            for other in convs:
                if into is not other and _fits(graph, into, other):
                    return into, other
    return None


def _is_plain(graph: CanonicalGraph, node: Node, uses: Counter[str]) -> bool:
    """A convolution around its middle with weights of its own, whose result is read once."""
    if node.op != "Conv" or uses[node.output] != 1 or graph.output == node.output:
        return False
    own = [name for name in node.inputs[1:] if name]
    if any(name not in graph.weight_names or uses[name] != 1 for name in own):
        return False
    sides, attributes = graph.shapes[node.inputs[1]][2:], _attributes(node)
    middle = tuple(side // 2 for side in sides)
    return all(side % 2 for side in sides) and attributes["pads"] == middle * 2 and attributes["dilations"] == (1, 1)


def _fits(graph: CanonicalGraph, into: Node, other: Node) -> bool:
    """Whether `other` reads the same and its kernel lies within that of `into`."""
    same = all(_attributes(into)[key] == _attributes(other)[key] for key in ("group", "strides"))
    sides = zip(graph.shapes[into.inputs[1]][2:], graph.shapes[other.inputs[1]][2:], strict=True)
    return same and into.inputs[0] == other.inputs[0] and all(large >= small for large, small in sides)


def _without(graph: CanonicalGraph, conv: Node, other: Node) -> tuple[CanonicalGraph, dict[str, str]]:
    """The graph with `conv` as it now is, and `other` gone; old names of its weights to new ones."""
    total = next(s for s in _sums(graph) if other.output in s.terms)
    terms = [name for name in total.terms if name != other.output]
    result, alone = total.nodes[-1].output, len(terms) == 1
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.output == conv.output:
            nodes.append(replace(conv, output=result) if alone else conv)
        elif node.output == result:
            nodes += [] if alone else _chain(terms, result)
        elif node.output != other.output and node not in total.nodes:
            nodes.append(node)
    read = {name for node in nodes for name in node.inputs}
    ports = [port for port in graph.weights if port.name in read]
    parts = (graph.inputs, ports, graph.constants, nodes, graph.output, graph.limits, graph.role, graph.result)
    smaller = renumber(*parts)
    return smaller, {old.name: new.name for old, new in zip(ports, smaller.weights, strict=True)}


def _chain(terms: Sequence[str], result: str) -> list[Node]:
    names = [f"{result}/{i}" for i in range(len(terms) - 2)] + [result]
    pairs = zip([terms[0], *names], terms[1:], strict=False)
    return [Node("Add", pair, name) for pair, name in zip(pairs, names, strict=True)]


def _widened(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel with zeros around it, as large as another."""
    height, width = ((large - small) // 2 for large, small in zip(like.shape[2:], kernel.shape[2:], strict=True))
    return F.pad(kernel, (width, width, height, height))


def _attributes(node: Node) -> dict[str, object]:
    return {**OPS["Conv"].attributes, **dict(node.attributes)}


def _uses(graph: CanonicalGraph) -> Counter[str]:
    return Counter(name for node in graph.nodes for name in node.inputs if name)
