"""Passes of `rewrite.py` over channels: their order under a shuffle, and their number."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from inr_runtime.graph import Node
from inr_runtime.patterns import (
    OUTPUT_ALIGNMENT,
    WIDE,
    aligned,
    is_int8_conv,
    is_pointwise,
    is_stored_conv,
    numbers_of,
    same_unit,
    shuffle_of,
    stored,
    with_result,
    with_rows,
)
from inr_runtime.program import COLUMNS, Program

MOST_COLUMN_BYTES = 32
"""Rows of 12 bytes: 2.6 ms for a 720p picture as rows, 0.8 ms as columns; of 96 bytes: 0.4 ms as rows."""
INPUT_ALIGNMENT = 4
"""Kernels that read the picture in place take groups of 4 channels; others copy every patch first (half the speed)."""


def shuffles_in_blocks(program: Program) -> Program:
    """Shuffles whose channels are (dy, dx, c): what then moves together stays together, whole rows of bytes."""
    for node in program.nodes:
        if node.op != "DepthToSpace" or shuffle_of(node)[1] == "DCR":
            continue
        chain = _chain_before(program, node)
        if chain is None or not program.has_room(numbers_of(program, chain)):
            continue
        block = shuffle_of(node)[0]
        channels = program.shapes[node.inputs[0]][1]
        order = np.arange(channels).reshape(-1, block, block).transpose(1, 2, 0).ravel()
        weights = dict(program.weights)
        nodes = {conv.output: (with_rows(weights, conv, order),) for conv in chain}
        nodes[node.output] = (replace(node, attributes=(("blocksize", block), ("mode", "DCR"))),)
        return program.replacing(nodes, weights=weights)
    return program


def columns_before_picture(program: Program) -> Program:
    """The shuffle before the picture, where a row within a block is a few bytes: channels (dx, c, dy).

    All rows of a block then lie side by side, as columns of one matrix for each row of blocks; to transpose it costs
    a third of moving every few bytes.
    """
    for node in program.nodes:
        if node.op != "DepthToSpace" or shuffle_of(node)[1] != "DCR" or not same_unit(program, *_ends(node)):
            continue
        block, channels = shuffle_of(node)[0], program.shapes[node.inputs[0]][1]
        chain = _chain_before(program, node) if channels // block <= MOST_COLUMN_BYTES else None
        integers = node.output in program.units and all(is_int8_conv(program, conv) for conv in chain or ())
        if not chain or not integers or any(_region_after(program, conv) for conv in chain):
            continue
        order = np.arange(channels).reshape(block, block, -1).transpose(1, 2, 0).ravel()
        weights = dict(program.weights)
        nodes = {conv.output: (with_rows(weights, conv, order),) for conv in chain}
        nodes[node.output] = (replace(node, attributes=(("blocksize", block), ("mode", COLUMNS))),)
        return program.replacing(nodes, weights=weights)
    return program


def _ends(node: Node) -> tuple[str, str]:
    return node.inputs[0], node.output


def align_channels(program: Program) -> Program:
    """Zero channels between convolutions, up to a number that int8 kernels like; before an output they are cut off."""
    for node in program.nodes:
        if not is_int8_conv(program, node):
            continue
        outputs = program.shapes[node.output][1]
        region = _region_after(program, node)
        blocks, readers = region if region is not None else (1, [])
        wanted = blocks * aligned(outputs // blocks, INPUT_ALIGNMENT)
        wanted = aligned(wanted, blocks * INPUT_ALIGNMENT * (1 if wanted >= WIDE or blocks % 4 == 0 else 4))
        more = max(wanted, aligned(outputs)) / outputs
        if not program.has_room(math.ceil(more * numbers_of(program, [node, *readers]))):
            continue
        if region is not None and wanted != outputs:
            return _widen(program, node, readers, blocks, wanted)
        # A 1x1 is as fast with any number, but ONNX Runtime 1.23 is wrong on CPUs with AMX where 4 does not divide it.
        uneven = outputs % (OUTPUT_ALIGNMENT if program.shapes[node.inputs[1]][2] > 1 else INPUT_ALIGNMENT)
        if region is None and uneven and outputs < WIDE and node.output in program.units:
            return _widen_and_cut(program, node, aligned(outputs))
    return program


def _region_after(program: Program, conv: Node) -> tuple[int, list[Node]] | None:
    """What a convolution's channels meet, up to other convolutions: places in a block of pixels, and those that read.

    None where they meet anything that is not pointwise, a shuffle in blocks, or an int8 convolution.
    """
    inside, blocks, readers = {conv.output}, 1, []
    for node in program.nodes:
        if inside.isdisjoint(node.inputs):
            continue
        if is_int8_conv(program, node):
            readers.append(node)
        elif is_pointwise(program, node) and inside.issuperset(program.data_inputs(node)):
            inside.add(node.output)
        elif node.op == "DepthToSpace" and shuffle_of(node)[1] == "DCR" and blocks == 1:
            blocks = shuffle_of(node)[0] ** 2
            inside.add(node.output)
        else:
            return None
    sizes = {program.shapes[reader.inputs[0]][1] for reader in readers}
    if not readers or program.output in inside or sizes != {program.shapes[conv.output][1] // blocks}:
        return None
    return blocks, readers


def _widen(program: Program, conv: Node, readers: list[Node], blocks: int, wanted: int) -> Program:
    """`conv` with `wanted` output channels, and its readers with zero weights for the new ones."""
    outputs = program.shapes[conv.output][1]
    spread = np.full((blocks, wanted // blocks), -1)
    spread[:, : outputs // blocks] = np.arange(outputs).reshape(blocks, -1)
    weights = dict(program.weights)
    nodes = {conv.output: (with_rows(weights, conv, spread.ravel()),)}
    for reader in readers:
        kernel = weights[reader.inputs[1]]
        values = np.zeros((kernel.shape[0], wanted // blocks, *kernel.shape[2:]), np.int32)
        values[:, : kernel.shape[1]] = kernel.values
        name = stored(weights, reader.inputs[1], replace(kernel, values=values))
        nodes[reader.output] = (replace(reader, inputs=(reader.inputs[0], name, *reader.inputs[2:])),)
    return program.replacing(nodes, weights=weights)


def _widen_and_cut(program: Program, conv: Node, wanted: int) -> Program:
    """`conv` with `wanted` output channels, of which those that were not there are cut off."""
    outputs, full = program.shapes[conv.output][1], f"{conv.output}/full"
    weights = dict(program.weights)
    wide = with_rows(weights, conv, np.r_[np.arange(outputs), np.full(wanted - outputs, -1)])
    bounds = {"start": 0, "end": outputs, "axis": 1, "step": 1}
    constants = {**program.constants, **{f"{full}.{k}": np.array([v], np.int64) for k, v in bounds.items()}}
    cut = Node("Slice", (full, *(f"{full}.{name}" for name in bounds)), conv.output)
    widened = replace(program, weights=weights, constants=constants)
    return with_result(widened, conv, full, (replace(wide, output=full), cut))


def _chain_before(program: Program, shuffle: Node) -> list[Node] | None:
    """The convolutions whose channels the shuffle takes through pointwise functions, if nothing else reads them."""
    inside, convolutions = {shuffle.inputs[0]}, []
    for node in reversed(program.nodes):
        if node.output not in inside:
            continue
        if any(r.output not in inside and r is not shuffle for r in program.readers[node.output]):
            return None
        if is_stored_conv(program, node):
            convolutions.append(node)
        elif is_pointwise(program, node):
            inside.update(program.data_inputs(node))
        else:
            return None
    sampled = inside.intersection(p.name for p in program.inputs)
    permuted = any(conv.inputs[0] in inside for conv in convolutions)  # one would read channels in another order
    return None if sampled or permuted or program.output in inside or not convolutions else convolutions
