"""What the passes of `rewrite.py` recognize in a program, and how they change its weights and edges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inr_runtime.graph import Node
from inr_runtime.program import Program
from inr_runtime.tensors import QuantTensor

POINTWISE = frozenset({"Relu", "LeakyRelu", "Gelu", "Sigmoid", "Tanh", "Sin", "Reunit", "Add", "Sub", "Mul", "Div"})
"""One value from the values of one place. Those with two data inputs only where both have the same shape."""
OUTPUT_ALIGNMENT, WIDE = 16, 64
"""Below 64 channels, a convolution to a multiple of 16 is up to three times as fast (12: 28 ms, 16: 8 ms)."""


def with_result(
    program: Program,
    node: Node,
    deep: str,
    instead: tuple[Node, ...],
    weights: Mapping[str, QuantTensor] | None = None,
) -> Program:
    """`node` replaced; `deep` is a new edge with the same values, elsewhere, and takes the same unit and arithmetic."""
    units = {**program.units, **({deep: program.units[node.output]} if node.output in program.units else {})}
    int8 = program.int8 | ({deep} if node.output in program.int8 else set())
    # The moved result is moved integers wherever it is integers at all.
    int8 |= {node.output} if node.output in units else set()
    return program.replacing({node.output: instead}, weights, units=units, int8=int8)


def with_rows(weights: dict[str, QuantTensor], conv: Node, rows: NDArray[np.int64]) -> Node:
    """The convolution with these output channels of its own, or zeros for -1; `weights` takes what it needs."""
    names = [stored(weights, n, pick(weights[n], rows)) if n else "" for n in conv.inputs[1:]]
    return replace(conv, inputs=(conv.inputs[0], *names))


def numbers_of(program: Program, convolutions: Iterable[Node]) -> int:
    """Numbers in their weights and biases."""
    return sum(program.weights[name].values.size for conv in convolutions for name in conv.inputs[1:] if name)


def pick(tensor: QuantTensor, rows: NDArray[np.int64]) -> QuantTensor:
    """Rows of the first axis with their scales, if it has any; zeros, with the scale of the first row, for -1."""
    values = np.where((rows < 0).reshape(-1, *[1] * (tensor.values.ndim - 1)), 0, tensor.values[rows])
    codes = tensor.scale_codes[np.maximum(rows, 0)] if tensor.axis == 0 else tensor.scale_codes
    return QuantTensor(values, codes, tensor.axis)


def stored(weights: dict[str, QuantTensor], name: str, tensor: QuantTensor) -> str:
    """Put a changed weight under a name of its own: others may read the one it was made from."""
    base, number = name.split("/")[0], 0
    while f"{base}/{number}" in weights:
        number += 1
    weights[f"{base}/{number}"] = tensor
    return f"{base}/{number}"


def same_unit(program: Program, edge: str, other: str) -> bool:
    """Whether two edges have the same scale and zero point, or none."""
    return program.units.get(edge) == program.units.get(other)


def shuffle_of(node: Node) -> tuple[int, str]:
    """Block size and mode of a DepthToSpace."""
    attributes = dict(node.attributes)
    return int(str(attributes["blocksize"])), str(attributes.get("mode", "DCR"))


def is_pointwise(program: Program, node: Node) -> bool:
    """Whether each value comes from the values of the same place and channel, with one number for all at most."""
    shape = program.shapes[node.output]
    others = [n for n in node.inputs if n in program.weights or n in program.constants]
    single = all(math.prod(program.shapes[n]) == 1 for n in others)
    return node.op in POINTWISE and single and all(program.shapes[n] == shape for n in program.data_inputs(node))


def is_int8_conv(program: Program, node: Node) -> bool:
    """Whether it is a convolution of stored weights that runs on integers."""
    return node.output in program.int8 and is_stored_conv(program, node)


def is_stored_conv(program: Program, node: Node) -> bool:
    """Whether it is a convolution of all channels with weights and bias of the file."""
    stored = all(n in program.weights for n in node.inputs[1:] if n)
    return node.op == "Conv" and stored and int(str(dict(node.attributes).get("group", 1))) == 1


def is_same_padded(program: Program, node: Node) -> bool:
    """Whether it is square, odd, and gives as many pixels as it reads, one for one."""
    attributes, (_, _, height, width) = dict(node.attributes), program.shapes[node.inputs[1]]
    plain = all(attributes.get(k, (1, 1)) == (1, 1) for k in ("strides", "dilations"))
    return plain and height == width and height % 2 == 1 and attributes.get("pads", (0,) * 4) == (height // 2,) * 4


def aligned(channels: int, to: int = OUTPUT_ALIGNMENT) -> int:
    """The next multiple of `to`."""
    return -(-channels // to) * to
