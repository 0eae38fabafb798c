"""An int8 program as ONNX in the layout that ONNX Runtime's integer kernels have: channels last, from input to picture.

Left to itself, the engine stores every map channels first and turns it around each convolution and each shuffle, which
costs more than the convolutions. Here an edge lies channels last wherever int8 convolutions make it; a Transpose
stands directly at each convolution, where the engine takes it away together with its own. A shuffle in blocks is then
one Transpose that moves whole rows of bytes, and a Transpose of the canonical graph that turns a map around is a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inr_runtime.builder import Builder
from inr_runtime.graph import Node
from inr_runtime.patterns import is_pointwise, same_unit, shuffle_of
from inr_runtime.program import COLUMNS, Program

FIRST, LAST = "c", "h"  # FIRST < LAST
"""Layouts of a map: channels first (NCHW), channels last (NHWC). Whatever is no map of four axes is FIRST."""
TO = {LAST: [0, 2, 3, 1], FIRST: [0, 3, 1, 2]}
_AXIS_BEHIND = {0: 0, 1: 3, 2: 1, 3: 2}


def emit(
    builder: Builder,
    program: Program,
    output: str,
    weight: Callable[[str], str],
    bias: Callable[[Node, np.float32], str],
) -> None:
    """Add the nodes of `program` to the builder, as float operators between QuantizeLinear and DequantizeLinear.

    output: the name of the result, uint8 NHWC. weight, bias: add a convolution's stored integers, dequantized; bias
    takes the scale of its input too.
    """
    emitter = _Emitter(builder, program, weight, bias)
    for port in program.inputs:
        emitter.put_float(port.name, port.name, FIRST)
    for node in program.nodes:
        emitter.place(node)
    emitter.finish(output)


@dataclass
class _Emitter:
    """names: of each edge as it lies in the graph, by (edge, whether integers, layout)."""

    builder: Builder
    program: Program
    weight: Callable[[str], str]
    bias: Callable[[Node, np.float32], str]
    names: dict[tuple[str, bool, str], str] = field(default_factory=dict)

    def put_float(self, edge: str, name: str, layout: str) -> None:
        """Take `name` as the edge; quantized edges are from here on read through their integers."""
        if edge not in self.program.units:
            self.names[edge, False, layout] = name
            return
        self.names[edge, True, layout] = self.builder.quantize(name, f"{edge}.q", *self.program.units[edge])

    def layout(self, edge: str) -> str:
        """Where the edge lies already; LAST, if it lies in both."""
        return LAST if any((edge, integers, LAST) in self.names for integers in (True, False)) else FIRST

    def get(self, edge: str, integers: bool, layout: str) -> str:
        """The name of an edge in some form, made where it does not lie so yet; weights and constants as they are."""
        key, kind = (edge, integers, layout), "q" if integers else "dq"
        if edge in self.program.constants:
            return edge
        if edge in self.program.weights:
            return self.builder.float_weight(edge)
        if key not in self.names:
            other = (edge, integers, FIRST if layout == LAST else LAST)
            if not integers and edge in self.program.units:
                units = self.builder.parameters(*self.program.units[edge])
                name = f"{edge}.{kind}.{layout}"
                inputs = [self.get(edge, True, layout), *units]
                self.names[key] = self.builder.add("DequantizeLinear", inputs, name)
            else:
                name = f"{edge}.{kind}.{layout}"
                self.names[key] = self.builder.add("Transpose", [self.names[other]], name, perm=TO[layout])
        return self.names[key]

    def place(self, node: Node) -> None:
        """One node with what it needs around it."""
        integers = node.output in self.program.int8
        data = self.program.data_inputs(node)
        turned = dict(node.attributes).get("perm") if node.op == "Transpose" and data else None
        if node.op == "Conv" and integers:
            self._convolution(node)
        elif node.op == "Reunit":
            for (edge, kind, layout), name in list(self.names.items()):
                if edge == node.inputs[0] and kind:
                    self.names[node.output, True, layout] = name
        elif turned in ((0, 2, 3, 1), (0, 3, 1, 2)) and self._same_form(node):
            self._renamed(node, FIRST if turned == (0, 2, 3, 1) else LAST)
        elif LAST in map(self.layout, data) and self._keeps_channels(node):
            self._computed_last(node)
        elif node.op in ("DepthToSpace", "Slice", "Transpose", "Reshape"):
            self._move(node)
        elif is_pointwise(self.program, node):
            self._compute(node, max(map(self.layout, data), default=FIRST))
        elif node.op == "Concat" and len(self.program.shapes[node.output]) == 4:
            self._joined(node)
        else:
            self._compute(node, FIRST)

    def finish(self, output: str) -> None:
        """Give the result its name."""
        edge, builder = self.program.output, self.builder
        if self.program.result == "pcm_f32" or not (self.program.picture or self.layout(edge) == LAST):
            return builder.tail(self.get(edge, False, FIRST))
        if self.program.picture:
            last = self.get(edge, True, LAST)
        else:
            last = builder.quantize(self.get(edge, False, LAST), f"{edge}.picture", np.float32(1 / 255), 0)
        for proto in builder.nodes:
            for names in (proto.input, proto.output):
                for i, name in enumerate(names):
                    names[i] = output if name == last else name

    def _same_form(self, node: Node) -> bool:
        """Whether source and result are both integers of one unit, or both floats."""
        return self.program.units.get(node.inputs[0]) == self.program.units.get(node.output)

    def _renamed(self, node: Node, layout: str) -> None:
        """A turned map lies, in one layout, as its source does in the other."""
        integers = node.output in self.program.units
        source = self.get(node.inputs[0], integers, LAST if layout == FIRST else FIRST)
        self.names[node.output, integers, layout] = source

    def _convolution(self, node: Node) -> None:
        builder, (x, *stored) = self.builder, node.inputs
        inputs = [self.get(x, False, FIRST), self.weight(stored[0])]
        if len(stored) > 1 and stored[1]:
            inputs.append(self.bias(node, self.program.units[x][0]))
        builder.copy(node, inputs, node.output)
        if node.output not in self.program.units:  # a Relu follows and is fused
            self.names[node.output, False, FIRST] = node.output
            return
        self.put_float(node.output, node.output, FIRST)
        self.get(node.output, True, LAST)

    def _compute(self, node: Node, layout: str) -> None:
        inputs = [self.get(name, False, layout) if name else "" for name in node.inputs]
        self.builder.copy(node, inputs, node.output)
        self.put_float(node.output, node.output, layout)
        if node.op == "Relu" and layout == FIRST and node.output in self.program.int8:
            self.get(node.output, True, LAST)

    def _keeps_channels(self, node: Node) -> bool:
        """Whether a float operator does the same to every channel, so that it is told its shape in either layout."""
        shapes = [self.program.shapes[name] for name in (*self.program.data_inputs(node), node.output)]
        stored = not self.program.weights.keys().isdisjoint(node.inputs)
        if node.output in self.program.int8 or stored or any(len(shape) != 4 for shape in shapes):
            return False
        if node.op == "Reshape":
            return shapes[0][1] == shapes[1][1]
        return node.op in ("Resize", "Tile") or (node.op in ("Add", "Mul") and len(shapes) == 3)

    def _computed_last(self, node: Node) -> None:
        inputs = []
        for name in node.inputs:
            if name in self.program.constants:
                inputs.append(f"{name}.{node.op}.last")  # one constant may be a shape here and repeats there
                self.builder.constants[inputs[-1]] = self._last(node, self.program.constants[name])
            else:
                inputs.append(self.get(name, False, LAST) if name else "")
        self.builder.add(node.op, inputs, node.output, **dict(node.attributes))
        self.put_float(node.output, node.output, LAST)

    def _last(self, node: Node, structure: NDArray[np.generic]) -> NDArray[np.generic]:
        """A shape or repeats of four axes, for maps that lie channels last."""
        numbers = structure[TO[LAST]]
        return numbers if node.op == "Tile" else np.concatenate([[self.builder.batch], numbers[1:]]).astype(np.int64)

    def _joined(self, node: Node) -> None:
        data = self.program.data_inputs(node)
        if node.output in self.program.units and all(same_unit(self.program, x, node.output) for x in node.inputs):
            return self._joined_integers(node)
        layout = min(map(self.layout, data)) if data == list(node.inputs) else FIRST
        axis = int(str(dict(node.attributes)["axis"])) % 4
        self._compute(_with(node, axis=axis if layout == FIRST else _AXIS_BEHIND[axis]), layout)

    def _joined_integers(self, node: Node) -> None:
        layout, name = min(map(self.layout, node.inputs)), f"{node.output}.q"
        axis = int(str(dict(node.attributes)["axis"])) % 4
        inputs = [self.get(x, True, layout) for x in node.inputs]
        self.builder.add("Concat", inputs, name, axis=axis if layout == FIRST else _AXIS_BEHIND[axis])
        self.names[node.output, True, layout] = name

    def _move(self, node: Node) -> None:
        """Values that only change their place move as integers where both ends are."""
        source, program = node.inputs[0], self.program
        integers = node.output in program.units and self._same_form(node)
        layout = self.layout(source) if node.op in ("DepthToSpace", "Slice") else FIRST
        if node.op == "DepthToSpace":
            mode = shuffle_of(node)[1]
            layout = LAST if mode == COLUMNS or (mode == "DCR" and layout == LAST) else FIRST
        x, name = self.get(source, integers, layout), f"{node.output}.q" if integers else node.output
        if layout == LAST and node.op == "DepthToSpace":
            self._shuffle(node, x, name)
        elif layout == LAST:
            axes = f"{name}.axes"
            behind = [_AXIS_BEHIND[int(axis) % 4] for axis in program.constants[node.inputs[3]]]
            self.builder.constants[axes] = np.array(behind)
            self.builder.constants |= {n: program.constants[n] for n in (*node.inputs[1:3], node.inputs[4])}
            self.builder.add("Slice", [x, *node.inputs[1:3], axes, node.inputs[4]], name)
        else:
            self.builder.copy(node, [x, *node.inputs[1:]], name)
        if integers:
            self.names[node.output, True, layout] = name
        else:
            self.put_float(node.output, name, layout)

    def _shuffle(self, node: Node, x: str, name: str) -> None:
        """(N, h, w, dy, dx c) to (N, h, dy, w, dx c): rows of dx * c numbers that stay together.

        Of columns, (N, h, w dx c, dy) to (N, h, dy, w dx c).
        """
        (_, channels, height, width), batch = self.program.shapes[node.inputs[0]], self.builder.batch
        block, mode = shuffle_of(node)
        after = channels // block**2
        rows, order = [width, block, block * after], [0, 1, 3, 2, 4]
        if mode == COLUMNS:
            rows, order = [width * block * after, block], [0, 1, 3, 2]
        self._reshape(x, f"{name}.rows", (batch, height, *rows))
        self.builder.add("Transpose", [f"{name}.rows"], f"{name}.moved", perm=order)
        self._reshape(f"{name}.moved", name, (batch, height * block, width * block, after))

    def _reshape(self, x: str, name: str, shape: Sequence[int]) -> None:
        self.builder.constants[f"{name}.shape"] = np.array(shape, np.int64)
        self.builder.add("Reshape", [x, f"{name}.shape"], name)


def _with(node: Node, **attributes: int) -> Node:
    return Node(node.op, node.inputs, node.output, tuple(sorted({**dict(node.attributes), **attributes}.items())))
