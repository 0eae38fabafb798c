"""Parallel branches as one convolution, whose kernel is the sum of theirs: folded once, when a file is written.

    x ─► 3x3 ─┐
    x ─► 1x1 ─+─►        =        x ─► 3x3 ─+─►
    x ────────┘                   x ────────┘

(RepVGG, Ding et al. 2021.) A sum of kernels needs scales that hold the largest of both, and rounding to them must not
cost much more than rounding each by itself: a kernel near the identity stays apart, and so does the input itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_runtime.graph import CanonicalGraph, Node, renumber
from inr_runtime.ops import OPS
from inr_train.models import VideoModel
from inr_train.trace import Trace

MOST_NOISE, LITTLE_NOISE = 2.0, 1 / 4000
"""Power of the rounding errors of a sum of kernels: at most so many times that of both by themselves, or less than this
share of what the sum itself gives of inputs without correlation (36 dB)."""


@torch.no_grad()
def merge_branches(model: VideoModel, traced: Trace, bits: int) -> tuple[Trace, int]:
    """Add up the kernels of convolutions of one map whose results are added up and read by nobody else.

    bits: of the weights that will be stored. Changes the model's weights and gives its graph with fewer convolutions,
    and how many were merged into others. The kernels that the graph no longer reads are zero in the model, which
    therefore draws the same pictures, up to the rounding of float32. Merged are convolutions alike in groups and
    strides, undilated, around their middle, one of which covers the other; weights that other nodes read too, or that
    are stored with other bits, stay as they are.
    """
    graph, merged = traced.graph, 0
    parameters = dict(model.named_parameters())
    name_of = dict(zip((port.name for port in graph.weights), traced.parameters, strict=True))
    while True:
        weight_of = {port: parameters[name] for port, name in name_of.items()}
        precise = {port for port, name in name_of.items() if name in model.precise}
        pairs = (
            pair
            for pair in _pairs(graph)
            if len(precise.intersection(conv.inputs[1] for conv in pair)) != 1 and _is_quiet(*pair, weight_of, bits)
        )
        pair = next(pairs, None)
        if pair is None:
            return (Trace(graph, tuple(name_of.values())) if merged else traced), merged
        into, other = pair
        bias = _add_up(into, other, weight_of)
        graph, kept = _merged(graph, replace(into, inputs=(*into.inputs[:2], *bias)), other)
        name_of = {port.name: name_of[old] for port, old in zip(graph.weights, kept, strict=True)}
        merged += 1


def _add_up(into: Node, other: Node, weight_of: dict[str, nn.Parameter]) -> list[str]:
    """Put the sums into the weights of `into` and zeros into those of `other`; gives the name of the bias to read."""
    biases = [conv.inputs[2] for conv in (into, other) if len(conv.inputs) > 2 and conv.inputs[2]]
    kernel, small = weight_of[into.inputs[1]], weight_of[other.inputs[1]]
    kernel.add_(_widened(small, kernel))
    small.zero_()
    if len(biases) == 2:
        first, second = (weight_of[name] for name in biases)
        first.add_(second)
        second.zero_()
    return biases[:1]


def _is_quiet(into: Node, other: Node, weight_of: dict[str, nn.Parameter], bits: int) -> bool:
    """Whether integers are nearly as good for the sum of two kernels as for both, or good enough."""
    kernel, small = weight_of[into.inputs[1]], weight_of[other.inputs[1]]
    total = kernel + _widened(small, kernel)
    apart, noise = _noise(kernel, bits) + _noise(small, bits), _noise(total, bits)
    return bool(noise <= MOST_NOISE * apart or noise <= LITTLE_NOISE * total.square().sum())


def _noise(kernel: Tensor, bits: int) -> Tensor:
    """Power of the rounding errors of a kernel with a scale for each output."""
    rows = kernel.flatten(1)
    steps = rows.abs().amax(1) / (2 ** (bits - 1) - 1)
    noise: Tensor = steps.square().sum() * rows.shape[1] / 12
    return noise


def _pairs(graph: CanonicalGraph) -> Iterable[tuple[Node, Node]]:
    """Convolutions that could be one: the one to keep, then the other."""
    makers, uses = {n.output: n for n in graph.nodes}, _uses(graph)
    for terms in _sums(graph, makers, uses):
        convs = [c for c in map(makers.get, terms) if c is not None and _is_plain(graph, c, uses)]
        for into in convs:
            yield from ((into, other) for other in convs if into is not other and _covers(graph, into, other))


def _sums(graph: CanonicalGraph, makers: dict[str, Node], uses: Counter[str]) -> Iterable[list[str]]:
    """What is added up to one map, by additions of maps of its shape whose results nobody else reads."""
    inside: set[str] = set()
    for root in reversed(graph.nodes):
        if root.op != "Add" or root.output in inside:
            continue
        terms, left = list[str](), [root.output]
        while left:
            name = left.pop()
            node, is_root = makers.get(name), name == root.output
            same = node is not None and all(graph.shapes[n] == graph.shapes[root.output] for n in node.inputs if n)
            if node is not None and node.op == "Add" and same and (is_root or uses[name] == 1):
                inside.add(name)
                left += node.inputs
            else:
                terms.append(name)
        yield terms


def _is_plain(graph: CanonicalGraph, node: Node, uses: Counter[str]) -> bool:
    """Whether it is a convolution around its middle with weights of its own, whose result is read once."""
    if node.op != "Conv" or uses[node.output] != 1 or graph.output == node.output:
        return False
    own = [name for name in node.inputs[1:] if name]
    if any(name not in graph.weight_names or uses[name] != 1 for name in own):
        return False
    sides, attributes = graph.shapes[node.inputs[1]][2:], _attributes(node)
    middle = tuple(side // 2 for side in sides)
    return all(side % 2 for side in sides) and attributes["pads"] == middle * 2 and attributes["dilations"] == (1, 1)


def _covers(graph: CanonicalGraph, into: Node, other: Node) -> bool:
    """Whether `other` reads the same and its kernel lies within that of `into`."""
    same = all(_attributes(into)[key] == _attributes(other)[key] for key in ("group", "strides"))
    sides = zip(graph.shapes[into.inputs[1]][2:], graph.shapes[other.inputs[1]][2:], strict=True)
    return same and into.inputs[0] == other.inputs[0] and all(large >= small for large, small in sides)


def _merged(graph: CanonicalGraph, conv: Node, other: Node) -> tuple[CanonicalGraph, list[str]]:
    """The graph with `conv` as it now is, without `other` and the addition of its result; weights that are left.

    All other additions stay where they are, so that no map has to wait for another longer than before.
    """
    (total,) = (node for node in graph.nodes if other.output in node.inputs)
    (instead,) = (name for name in total.inputs if name != other.output)
    nodes = [
        replace(n, inputs=tuple(instead if name == total.output else name for name in n.inputs))
        for n in (conv if n.output == conv.output else n for n in graph.nodes)
        if n.output not in (other.output, total.output)
    ]
    read = {name for node in nodes for name in node.inputs}
    ports = [port for port in graph.weights if port.name in read]
    output = instead if graph.output == total.output else graph.output
    parts = (graph.inputs, ports, graph.constants, nodes, output, graph.limits, graph.role, graph.result)
    return renumber(*parts), [port.name for port in ports]


def _widened(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel with zeros around it, as large as another."""
    height, width = ((large - small) // 2 for large, small in zip(like.shape[2:], kernel.shape[2:], strict=True))
    return F.pad(kernel, (width, width, height, height))


def _attributes(node: Node) -> dict[str, object]:
    return {**OPS["Conv"].attributes, **dict(node.attributes)}


def _uses(graph: CanonicalGraph) -> Counter[str]:
    return Counter(name for node in graph.nodes for name in node.inputs if name)
