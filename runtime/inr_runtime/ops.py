"""The closed list of operators a graph may use: allowed attributes, shape rules and cost, one row each.

Shapes are tuples of positive ints, NCHW. A rule gets the input shapes, the attributes (defaults filled in) and the
values of constant inputs; it returns the output shape or raises `GraphError`. Attributes that are not listed are
refused. Semantics are those of ONNX opset 20, default domain. `infer_shape` checks all that operators have in common
before a rule runs, so a rule may rely on its inputs being there, but not on their ranks or on an attribute without
a default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import GraphError

Shape = tuple[int, ...]
Value = int | float | str | tuple[int, ...]
Constants = Sequence[NDArray[np.generic] | None]
ShapeRule = Callable[[Sequence[Shape], Mapping[str, Value], Constants], Shape]
MAX_RANK = 6
MAX_SIDE = 1 << 62
MAX_NORM = 1 << 16
"""Numbers that are normalized together, at most: engines are given a scale for each."""


@dataclass(frozen=True)
class Op:
    """One operator: how many inputs it takes, its attributes with defaults (None: has none), and its shape rule.

    constant_inputs: positions that must be constants (structure, not data). absent_inputs: positions that must stay
    empty; all others must not. choices: the legal values of an attribute, where not all of its type are.
    """

    inputs: tuple[int, int]
    shape: ShapeRule
    attributes: Mapping[str, Value | None] = field(default_factory=dict)
    constant_inputs: tuple[int, ...] = ()
    absent_inputs: tuple[int, ...] = ()
    choices: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


def _ints(constant: NDArray[np.generic] | None, what: str) -> list[int]:
    if constant is None or constant.dtype != np.int64 or constant.ndim != 1:
        raise GraphError(f"{what} must be a constant vector of int64")
    return [int(v) for v in constant]


def _same(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    return shapes[0]


def _broadcast(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise GraphError(f"shapes {shapes} do not broadcast") from error


def _clip(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    if any(bound is None or bound.shape != () or bound.dtype != np.float32 for bound in constants[1:]):
        raise GraphError("Clip takes two float32 scalars")
    return shapes[0]


def _tuple(value: Value | None) -> tuple[int, ...]:
    if not isinstance(value, tuple):
        raise GraphError(f"expected a list of ints, found {value!r}")
    return value


def _spatial_attributes(
    attributes: Mapping[str, Value],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    strides, pads, dilations = (_tuple(attributes[k]) for k in ("strides", "pads", "dilations"))
    group = attributes["group"]
    if len(strides) != 2 or len(pads) != 4 or len(dilations) != 2 or not isinstance(group, int) or group < 1:
        raise GraphError("convolutions are 2-D: strides, dilations of 2 and pads of 4 values")
    if min(strides) < 1 or min(dilations) < 1 or min(pads) < 0 or max(*strides, *pads, *dilations) > 1024:
        raise GraphError("convolution attributes out of range")
    return strides, pads, dilations, group


def _conv(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    x, w = shapes[0], shapes[1]
    strides, pads, dilations, group = _spatial_attributes(attributes)
    _expect(len(x) == 4 and len(w) == 4 and x[1] == w[1] * group and w[0] % group == 0, "Conv", shapes)
    _expect(attributes.get("kernel_shape", w[2:]) == w[2:], "Conv kernel", shapes)
    _expect(len(shapes) < 3 or shapes[2] == (w[0],), "Conv bias", shapes)
    size = [(x[2 + i] + pads[i] + pads[2 + i] - dilations[i] * (w[2 + i] - 1) - 1) // strides[i] + 1 for i in (0, 1)]
    _expect(min(size) >= 1, "Conv output", shapes)
    return (x[0], w[0], size[0], size[1])


def _conv_transpose(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    x, w = shapes[0], shapes[1]
    strides, pads, dilations, group = _spatial_attributes(attributes)
    _expect(len(x) == 4 and len(w) == 4 and x[1] == w[0] and x[1] % group == 0, "ConvTranspose", shapes)
    _expect(attributes.get("kernel_shape", w[2:]) == w[2:], "ConvTranspose kernel", shapes)
    _expect(len(shapes) < 3 or shapes[2] == (w[1] * group,), "ConvTranspose bias", shapes)
    size = [(x[2 + i] - 1) * strides[i] - pads[i] - pads[2 + i] + dilations[i] * (w[2 + i] - 1) + 1 for i in (0, 1)]
    _expect(min(size) >= 1, "ConvTranspose output", shapes)
    return (x[0], w[1] * group, size[0], size[1])


def _expect(condition: bool, what: str, shapes: Sequence[Shape]) -> None:
    if not condition:
        raise GraphError(f"{what}: shapes {list(shapes)} do not fit")


def _depth_to_space(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    x, block = shapes[0], attributes.get("blocksize")
    if not isinstance(block, int) or not 1 <= block <= 64:
        raise GraphError(f"DepthToSpace blocksize {block!r} out of range")
    _expect(len(x) == 4 and x[1] % (block * block) == 0, "DepthToSpace", shapes)
    return (x[0], x[1] // (block * block), x[2] * block, x[3] * block)


def _resize(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    x = shapes[0]
    size = _ints(constants[3], "Resize sizes")
    _expect(len(x) == 4 and len(size) == 4 and size[:2] == list(x[:2]) and min(size) >= 1, "Resize", shapes)
    return tuple(size)


def _concat(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    axis = _axis(attributes.get("axis"), len(shapes[0]))
    rest = {(len(s), s[:axis], s[axis + 1 :]) for s in shapes}
    _expect(len(rest) == 1, "Concat", shapes)
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _axis(axis: Value | None, rank: int) -> int:
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise GraphError(f"axis {axis!r} does not fit rank {rank}")
    return axis % rank


def _slice(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    starts, ends, axes, steps = (_ints(c, "Slice bounds") for c in constants[1:5])
    _expect(len({len(starts), len(ends), len(axes), len(steps)}) == 1, "Slice", shapes)
    size = list(shapes[0])
    axes = [_axis(axis, len(size)) for axis in axes]
    _expect(len(set(axes)) == len(axes), "Slice axes", shapes)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step != 1 or not 0 <= start < end or axis == 0:
            raise GraphError("Slice takes forward steps of 1 on axes after the batch")
        size[axis] = min(end, shapes[0][axis]) - start
        _expect(size[axis] >= 1, "Slice", shapes)
    return tuple(size)


def _reshape(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    size = _ints(constants[1], "Reshape shape")
    _expect(all(n >= 1 for n in size) and math.prod(size) == math.prod(shapes[0]), "Reshape", shapes)
    _expect(len(size) <= MAX_RANK, "Reshape", shapes)
    return tuple(size)


def _transpose(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    order = _tuple(attributes.get("perm"))
    _expect(sorted(order) == list(range(len(shapes[0]))) and order[:1] == (0,), "Transpose keeps the batch", shapes)
    return tuple(shapes[0][i] for i in order)


def _tile(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    repeats = _ints(constants[1], "Tile repeats")
    _expect(len(repeats) == len(shapes[0]) and repeats[:1] == [1] and min(repeats) >= 1, "Tile", shapes)
    return tuple(n * times for n, times in zip(shapes[0], repeats, strict=True))


def _layer_norm(shapes: Sequence[Shape], attributes: Mapping[str, Value], constants: Constants) -> Shape:
    x, epsilon = shapes[0], attributes["epsilon"]
    _expect(len(x) > 1 and x[-1] <= MAX_NORM, "LayerNormalization", shapes)
    for shape, constant in zip(shapes[1:], constants[1:], strict=True):
        _expect(shape == x[-1:] or (constant is not None and shape in ((), (1,))), "LayerNormalization scale", shapes)
    if not isinstance(epsilon, float) or not 0 < epsilon <= 1:
        raise GraphError(f"LayerNormalization epsilon {epsilon!r} out of range")
    return x


_CONVOLUTION: Mapping[str, Value | None] = {
    "auto_pad": "NOTSET",
    "dilations": (1, 1),
    "group": 1,
    "kernel_shape": None,
    "pads": (0, 0, 0, 0),
    "strides": (1, 1),
}
_NO_AUTO_PAD: Mapping[str, tuple[Value, ...]] = {"auto_pad": ("NOTSET",)}

OPS: Mapping[str, Op] = {
    "Conv": Op((2, 3), _conv, _CONVOLUTION, choices=_NO_AUTO_PAD),
    "ConvTranspose": Op((2, 3), _conv_transpose, _CONVOLUTION, choices=_NO_AUTO_PAD),
    "DepthToSpace": Op((1, 1), _depth_to_space, {"blocksize": None, "mode": "DCR"}, choices={"mode": ("DCR", "CRD")}),
    "Resize": Op(
        (4, 4),
        _resize,
        {
            "coordinate_transformation_mode": "half_pixel",
            "mode": "nearest",
            "nearest_mode": "round_prefer_floor",
            "cubic_coeff_a": -0.75,
        },
        constant_inputs=(3,),
        absent_inputs=(1, 2),
        choices={
            "coordinate_transformation_mode": ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"),
            "mode": ("nearest", "linear"),
            "nearest_mode": ("round_prefer_floor", "floor"),
        },
    ),
    "Relu": Op((1, 1), _same),
    "LeakyRelu": Op((1, 1), _same, {"alpha": 0.01}),
    "Gelu": Op((1, 1), _same, {"approximate": "none"}, choices={"approximate": ("none", "tanh")}),
    "Sigmoid": Op((1, 1), _same),
    "Tanh": Op((1, 1), _same),
    "Sin": Op((1, 1), _same),
    "Clip": Op((3, 3), _clip, constant_inputs=(1, 2)),
    "Add": Op((2, 2), _broadcast),
    "Sub": Op((2, 2), _broadcast),
    "Mul": Op((2, 2), _broadcast),
    "Div": Op((2, 2), _broadcast),
    "LayerNormalization": Op((2, 3), _layer_norm, {"axis": -1, "epsilon": 1e-5}, choices={"axis": (-1,)}),
    "Concat": Op((1, 16), _concat, {"axis": None}),
    "Slice": Op((5, 5), _slice, constant_inputs=(1, 2, 3, 4)),
    "Reshape": Op((2, 2), _reshape, {"allowzero": 0}, constant_inputs=(1,), choices={"allowzero": (0, 1)}),
    "Tile": Op((2, 2), _tile, constant_inputs=(1,)),
    "Transpose": Op((1, 1), _transpose, {"perm": None}),
}


def operator_named(name: str) -> Op:
    """The operator, or `GraphError` where it is not in the dialect."""
    if name not in OPS:
        raise GraphError(f"operator {name[:40]!r} is not in the dialect; allowed: {', '.join(sorted(OPS))}")
    return OPS[name]


def infer_shape(
    name: str,
    inputs: Sequence[str],
    attributes: Mapping[str, Value],
    shapes: Mapping[str, Shape],
    constants: Mapping[str, NDArray[np.generic]],
) -> Shape:
    """Check one node and return the shape of its result; raises `GraphError`.

    inputs: names, "" for an absent one. shapes: of all that is defined before the node, constants included.
    """
    op = operator_named(name)
    if not op.inputs[0] <= len(inputs) <= op.inputs[1]:
        raise GraphError(f"{name} takes {op.inputs} inputs, found {len(inputs)}")
    for position, source in enumerate(inputs):
        _check_input(name, op, position, source, shapes, constants.get(source))
    data = [shapes[source] for i, source in enumerate(inputs) if source and i not in op.constant_inputs]
    shape = op.shape(data, _with_defaults(name, op, attributes), [constants.get(source) for source in inputs])
    if shape[:1] != (1,):
        raise GraphError(f"{name} gives {shape}; every result has a batch of 1 as its first dimension")
    # Joined with itself again and again, a tensor would soon have a size that Python cannot even print.
    if max(shape) > MAX_SIDE:
        raise GraphError(f"{name} gives a dimension above 2**62")
    return shape


def _check_input(
    name: str,
    op: Op,
    position: int,
    source: str,
    shapes: Mapping[str, Shape],
    constant: NDArray[np.generic] | None,
) -> None:
    if (position in op.absent_inputs) != (not source):
        raise GraphError(f"{name}: input {position} must {'be empty' if source else 'be given'}")
    if source and source not in shapes:
        raise GraphError(f"{name} reads {source[:20]!r}, which no earlier node defines")
    if position in op.constant_inputs and constant is None:
        raise GraphError(f"{name}: input {position} must be a constant")
    if position not in op.constant_inputs and constant is not None and constant.dtype != np.float32:
        raise GraphError(f"{name}: input {position} must be float32")


def _with_defaults(name: str, op: Op, given: Mapping[str, Value]) -> dict[str, Value]:
    unknown = set(given) - set(op.attributes)
    if unknown:
        raise GraphError(f"{name}: attributes {sorted(unknown)} are not in the dialect")
    merged = {k: v for k, v in {**op.attributes, **given}.items() if v is not None}
    for key, value in merged.items():
        default = op.attributes[key]
        if default is not None and type(value) is not type(default):
            raise GraphError(f"{name}: {key} must be of type {type(default).__name__}")
        if key in op.choices and value not in op.choices[key]:
            raise GraphError(f"{name}: {key}={value!r} is not in the dialect; allowed: {op.choices[key]}")
    return merged
