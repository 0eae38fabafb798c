"""The pass of `rewrite.py` that bounds memory: a wide map that a few channels are made of is never there as a whole.

    conv ─► activation ─► conv to few channels      =      the same for some rows at a time, joined

The rows that convolutions read beyond a strip are computed for both of its neighbours. A strip stays in a cache, so
this is not slower than whole maps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inr_runtime.graph import Node
from inr_runtime.patterns import is_int8_conv, is_pointwise, is_same_padded
from inr_runtime.program import Program

LARGE = 1 << 24
"""Bytes of a map that is not kept whole."""
STRIP = 1 << 22
"""Bytes of its part."""
MOST_STRIPS = 32
MOST_JOINED = 16
"""Parts that one Concat of the dialect takes."""
NARROWS = 4
"""How many times smaller the result must be than the map."""


def in_strips(program: Program) -> Program:
    """The first large map that stands between two convolutions, in strips."""
    for node in program.nodes:
        size = math.prod(program.shapes[node.output][1:]) if is_int8_conv(program, node) else 0
        if size < LARGE or not is_same_padded(program, node):
            continue
        chain = _chain_after(program, node)
        if chain and math.prod(program.shapes[chain[-1].output][1:]) * NARROWS <= size:
            return _cut(program, chain, min(MOST_STRIPS, -(-size // STRIP)))
    return program


def _chain_after(program: Program, conv: Node) -> list[Node]:
    """The convolution, the pointwise functions of its result, and the one convolution that reads theirs; or nothing."""
    chain, inside = [conv], {conv.output}
    for node in program.nodes[program.nodes.index(conv) + 1 :]:
        if inside.isdisjoint(node.inputs):
            continue
        chain.append(node)
        if is_int8_conv(program, node):
            break
        if not is_pointwise(program, node) or not inside.issuperset(program.data_inputs(node)):
            return []
        inside.add(node.output)
    last = chain[-1]
    known = {node.output for node in chain}
    closed = all(r.output in known for edge in inside for r in program.readers.get(edge, ()))
    ends = len(chain) > 1 and is_same_padded(program, last) and is_int8_conv(program, last)
    whole = ends and closed and last.output in program.units and program.output not in inside
    return chain if whole and conv.inputs[0] in program.units else []


def _cut(program: Program, chain: list[Node], count: int) -> Program:
    """`chain` in `count` strips of rows, or fewer where there are not so many."""
    first, last = chain[0], chain[-1]
    source, height = first.inputs[0], program.shapes[last.output][2]
    before, behind = (program.shapes[conv.inputs[1]][2] // 2 for conv in (first, last))
    places = np.linspace(0, height, min(count, height) + 1).astype(int).tolist()
    nodes, constants = list[Node](), dict(program.constants)
    units, int8 = dict(program.units), set(program.int8)
    for start, end in itertools.pairwise(places):
        tag = f"/{start}"
        middle = _wider(start, end, behind, height)
        read = _wider(*middle, before, height)
        bounds = {"start": read[0], "end": read[1], "axis": 2, "step": 1}
        names = {key: f"{first.output}{tag}.{key}" for key in bounds}
        constants |= {names[key]: _one(value) for key, value in bounds.items()}
        cut = f"{first.output}{tag}.rows"
        nodes.append(Node("Slice", (source, *names.values()), cut))
        units[cut] = units[source]
        renamed = {source: cut} | {node.output: f"{node.output}{tag}" for node in chain}
        pads = {first.output: _pads(before, read, middle), last.output: _pads(behind, middle, (start, end))}
        for node in chain:
            made = renamed[node.output]
            units |= {made: units[node.output]} if node.output in units else {}
            int8 |= {made} if node.output in int8 else set()
            attributes = dict(node.attributes) | ({"pads": pads[node.output]} if node.output in pads else {})
            inputs = tuple(renamed.get(name, name) for name in node.inputs)
            nodes.append(Node(node.op, inputs, made, tuple(sorted(attributes.items()))))
    joins = _joined([f"{last.output}/{start}" for start in places[:-1]], last.output)
    groups = {node.output for node in joins[:-1]}
    units |= dict.fromkeys(groups, units[last.output])
    replaced = replace(program, constants=constants)
    return replaced.replacing({last.output: (*nodes, *joins)}, units=units, int8=frozenset(int8 | groups))


def _joined(parts: Sequence[str], output: str) -> list[Node]:
    """Concats of all rows, the last of which makes `output`: of some parts each, and of those."""
    groups = [tuple(parts[i : i + MOST_JOINED]) for i in range(0, len(parts), MOST_JOINED)]
    names = [f"{output}/rows{i}" for i in range(len(groups))] if len(groups) > 1 else [output]
    joins = [Node("Concat", group, name, (("axis", 2),)) for group, name in zip(groups, names, strict=True)]
    return joins if len(groups) == 1 else [*joins, Node("Concat", tuple(names), output, (("axis", 2),))]


def _wider(start: int, end: int, reach: int, height: int) -> tuple[int, int]:
    """The rows that rows from `start` to `end` are made of."""
    return max(0, start - reach), min(height, end + reach)


def _pads(reach: int, read: tuple[int, int], made: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right: rows beyond the map that a strip at its border reads."""
    return reach - (made[0] - read[0]), reach, reach - (read[1] - made[1]), reach


def _one(value: int) -> NDArray[np.int64]:
    return np.array([value], np.int64)
