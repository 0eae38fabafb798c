"""Passes that make an int8 program faster and leave every integer of the picture as it was.

    before_shuffles         activation(shuffle(x))          = shuffle(activation(x))
    fold_into_shuffles      conv(shuffle(x))                = shuffle(conv'(x)), conv' dense with zeros between
    sigmoid_tail            (tanh(x) + 1) / 2               = sigmoid(2 x), one table of 256 integers
    shuffles_in_blocks      shuffle of channels (c, dy, dx) = shuffle of (dy, dx, c) after permuted convolutions
    columns_before_picture  a shuffle of (dy, dx, c)        = one transposed matrix after permuted convolutions
    align_channels          zero channels up to what int8 kernels take at full speed
    in_strips               wide maps between two convolutions a few rows at a time

All are exact on integers: they permute, replicate or zero-pad what is stored, and add zeros to the sums of
convolutions (weights have zero point 0, so a zero weight adds nothing whatever it meets). A pass gives the same
program back where its pattern is not found or would not pay. Measured reasons stand with the constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inr_runtime.channels import align_channels, columns_before_picture, shuffles_in_blocks
from inr_runtime.graph import Node
from inr_runtime.patterns import (
    WIDE,
    aligned,
    is_int8_conv,
    is_pointwise,
    is_same_padded,
    pick,
    same_unit,
    shuffle_of,
    with_result,
)
from inr_runtime.program import Program
from inr_runtime.strips import in_strips
from inr_runtime.tensors import QuantTensor

MOST_CHANGES, MOST_NODES = 100, 600
"""Of one pass, of a program: a file from a stranger is not to keep us here."""
WIDEST_KERNEL, MOST_FOLDED = 15, 1 << 22
"""Side of a kernel that is folded, and numbers that come of it: they are block^4 times as many, most of them zero."""
PICTURE = (np.float32(1 / 255), 0)
FOLD_COST = 2.0
"""Multiplications that a folded convolution may have for one before: it saves moving all its inputs."""


def rewrite(program: Program) -> Program:
    """All passes, in the order in which they help each other; none that would leave the limits of the graph."""
    if len(program.nodes) > MOST_NODES:
        return program
    for one_step in PASSES:
        changed = repeated(one_step, program)
        program = changed if changed.within_limits else program
    return program


def repeated(one_step: Callable[[Program], Program], program: Program) -> Program:
    """A pass to its end: every call changes one place, until it gives back what it was given."""
    for _ in range(MOST_CHANGES):
        before, program = program, one_step(program)
        if program is before:
            break
    return program


def before_shuffles(program: Program) -> Program:
    """Pointwise functions of shuffled maps, before the shuffle: engines fuse them there, or run them in place."""
    for node in program.nodes:
        data = program.data_inputs(node)
        shuffles = [program.makers.get(name) for name in data]
        first = shuffles[0] if shuffles else None
        if first is None or not is_pointwise(program, node) or first.op != "DepthToSpace":
            continue
        if any(s is None or (s.op, s.attributes) != (first.op, first.attributes) for s in shuffles):
            continue
        sources = {name: s.inputs[0] for name, s in zip(data, shuffles, strict=True) if s is not None}
        if all(same_unit(program, name, source) for name, source in sources.items()):
            deep = f"{node.output}/deep"
            moved = replace(node, inputs=tuple(sources.get(n, n) for n in node.inputs), output=deep)
            shuffle = replace(first, inputs=(deep,), output=node.output)
            return with_result(program, node, deep, (moved, shuffle))
    return program


def fold_into_shuffles(program: Program) -> Program:
    """Convolutions to few channels after a shuffle (a head), before it: the wide map is never moved."""
    for node in program.nodes:
        shuffle = program.makers.get(node.inputs[0])
        if shuffle is None or shuffle.op != "DepthToSpace" or not is_int8_conv(program, node):
            continue
        block, mode = shuffle_of(shuffle)
        source = shuffle.inputs[0]
        deep, kernel = f"{node.output}/deep", program.weights[node.inputs[1]]
        narrow = kernel.shape[0] * block**2 <= WIDE
        same = narrow and is_same_padded(program, node) and same_unit(program, shuffle.output, source)
        size = 2 * math.ceil(kernel.shape[2] // 2 / block) + 1
        cost = size**2 * aligned(kernel.shape[0] * block**2) / (kernel.shape[2] ** 2 * aligned(kernel.shape[0]))
        if not same or cost > FOLD_COST or not program.read_once(shuffle.output) or node.output not in program.units:
            continue
        numbers = kernel.shape[0] * block**2 * (kernel.shape[1] * block**2 * size**2 + 1)
        if kernel.shape[2] > WIDEST_KERNEL or numbers > MOST_FOLDED or not program.has_room(numbers):
            continue
        weights = {**program.weights, f"{deep}.w": fold_kernel(kernel, block, mode)}
        names = [f"{deep}.w"]
        if len(node.inputs) > 2:
            bias = program.weights[node.inputs[2]]
            weights[f"{deep}.b"] = pick(bias, _phase_channels(kernel.shape[0], block, mode))
            names.append(f"{deep}.b")
        pads = (("kernel_shape", (size, size)), ("pads", (size // 2,) * 4))
        folded = Node("Conv", (source, *names), deep, pads)
        moved = replace(shuffle, inputs=(deep,), output=node.output)
        return with_result(program, node, deep, (folded, moved), weights)
    return program


def fold_kernel(kernel: QuantTensor, block: int, mode: str) -> QuantTensor:
    """The kernel that gives, from a map before its shuffle, what `kernel` (O, C, k, k) gives after it.

    Output phase (dy, dx) of a coarse pixel reads fine pixel (dy + i - k // 2, dx + j - k // 2), which is phase
    modulo `block` of the coarse pixel at the floor of the quotient.
    """
    outputs, channels, side, _ = kernel.shape
    reach = math.ceil(side // 2 / block)
    phases = np.zeros((block, block, outputs, block, block, channels, 2 * reach + 1, 2 * reach + 1), np.int32)
    for dy, dx, i, j in np.ndindex(block, block, side, side):
        (row, from_y), (column, from_x) = (divmod(d + n - side // 2, block) for d, n in ((dy, i), (dx, j)))
        phases[dy, dx, :, from_y, from_x, :, reach + row, reach + column] = kernel.values[:, :, i, j]
    order = (0, 1, 2, 3, 4, 5, 6, 7) if mode == "DCR" else (2, 0, 1, 5, 3, 4, 6, 7)
    size = 2 * reach + 1
    values = phases.transpose(order).reshape(outputs * block**2, channels * block**2, size, size)
    if kernel.axis is None:
        return QuantTensor(np.ascontiguousarray(values), kernel.scale_codes)
    codes = kernel.scale_codes[_phase_channels(outputs, block, mode)]
    return QuantTensor(np.ascontiguousarray(values), codes, 0)


def sigmoid_tail(program: Program) -> Program:
    """(tanh(x) + 1) / 2 of an integer, rounded to 8 bits, is one table: that of a sigmoid of twice the unit."""
    half, moves = program.makers.get(program.output), list[Node]()
    while half is not None and half.op in ("Slice", "DepthToSpace"):
        moves.append(half)
        half = program.makers.get(half.inputs[0])
    plus = _scaled_input(program, half, "Mul", 0.5)
    tanh = _scaled_input(program, plus, "Add", 1.0)
    if half is None or tanh is None or tanh.op != "Tanh" or program.result != "rgb8" or program.picture:
        return program
    source = tanh.inputs[0]
    if source not in program.units or not all(map(program.read_once, (n.inputs[0] for n in moves))):
        return program
    if program.shapes[source] != program.shapes[half.output]:  # a constant of many ones makes more of it
        return program
    double, (scale, zero) = f"{source}/double", program.units[source]
    nodes = (Node("Reunit", (source,), double), Node("Sigmoid", (double,), half.output))
    results = [half.output, *(n.output for n in moves)]
    units = {**program.units, double: (np.float32(2) * scale, zero), **dict.fromkeys(results, PICTURE)}
    int8 = program.int8 | {double, *results}
    return replace(program.replacing({half.output: nodes}, units=units, int8=int8), picture=True)


def _scaled_input(program: Program, node: Node | None, op: str, number: float) -> Node | None:
    """The node whose result `node`, an `op`, takes together with a constant of that value."""
    if node is None or node.op != op:
        return None
    data = program.data_inputs(node)
    constants = [program.constants[n] for n in node.inputs if n in program.constants]
    if len(data) != 1 or len(constants) != 1 or not (constants[0] == np.float32(number)).all():
        return None
    return program.makers.get(data[0])


def _phase_channels(outputs: int, block: int, mode: str) -> NDArray[np.int64]:
    """For each channel before a shuffle, the channel behind it."""
    channels = np.arange(outputs)
    return np.tile(channels, block**2) if mode == "DCR" else np.repeat(channels, block**2)


PASSES = (
    sigmoid_tail,
    fold_into_shuffles,
    before_shuffles,
    shuffles_in_blocks,
    columns_before_picture,
    align_channels,
    in_strips,
)
