"""Graphs that no trainer makes and the dialect allows, full of what the passes of int8 look for, and almost of it."""

from __future__ import annotations

import random

import numpy as np
from tests.fuzz.graphs import STEPS, _Growth

from inr_runtime.graph import CanonicalGraph, Port, renumber


def strange(seed: int) -> CanonicalGraph:
    """Four to twelve steps from a sampled input, and a picture of whatever they lead to."""
    rng = random.Random(seed)
    shape = (1, rng.choice([1, 2, 3, 4, 8, 12, 16]), rng.randint(1, 5), rng.randint(2, 5))
    growth = _Growth(rng, [Port("x", shape)], {"x": shape})
    for _ in range(rng.randint(4, 12)):
        rng.choice([*PATTERNS, rng.choice(STEPS)])(growth, rng)
    while len(growth.shapes[growth.tip]) != 4:
        growth.add("Reshape", [growth.tip, growth.constant([1, 1, int(np.prod(growth.shapes[growth.tip])), 1])])
    if growth.shapes[growth.tip][1] != 3 or rng.random() < 0.5:
        block = rng.choice([1, 1, 2, 3])
        _convolve(growth, rng, 3 * block**2)
        growth.add("DepthToSpace", [growth.tip], {"blocksize": block, "mode": rng.choice(["DCR", "CRD"])})
    if rng.random() < 0.5:
        _tail(growth, rng)
    return renumber(growth.inputs, growth.weights, growth.constants, growth.nodes, growth.tip)


def _convolve(g: _Growth, rng: random.Random, outputs: int | None = None) -> None:
    """To any number of channels, mostly as many pixels, sometimes with a kernel that another has too."""
    shape = g.shapes[g.tip]
    channels, side = shape[1], rng.choice([1, 1, 3, 3, 5, 2])
    outputs = outputs or rng.choice([1, 2, 3, 4, 7, 8, 12, 16, 27, 36, 64])
    wanted = (outputs, channels, side, side)
    same = [port.name for port in g.weights if port.shape == wanted]
    kernel = rng.choice(same) if same and rng.random() < 0.5 else g.weight(*wanted)
    bias = [g.weight(outputs)] if rng.random() < 0.5 else []
    pads = (side // 2,) * 4 if rng.random() < 0.9 else tuple(rng.randint(0, 3) for _ in range(4))
    g.add("Conv", [g.tip, kernel, *bias], {"pads": pads})


def _upscale(g: _Growth, rng: random.Random) -> None:
    block, after = rng.choice([1, 2, 2, 3, 4, 5]), rng.choice([1, 2, 3, 4])
    _convolve(g, rng, block**2 * after)
    if rng.random() < 0.5:
        _function(g, rng)
    g.add("DepthToSpace", [g.tip], {"blocksize": block, "mode": rng.choice(["DCR", "CRD"])})


def _function(g: _Growth, rng: random.Random) -> None:
    """Of one map, of two of the same shape, or of a map and one number in any disguise."""
    ones = [1] * rng.randint(1, 5)
    number = rng.choice([g.weight(*ones), g.constant(np.full(ones, rng.choice([0.0, 0.5, 1.0])), np.float32)])
    before = g.tip
    if rng.random() < 0.6:
        g.add(rng.choice(["Relu", "LeakyRelu", "Sigmoid", "Gelu", "Tanh"]), [g.tip])
    if rng.random() < 0.3:
        limits = rng.choice([(-1.0, 1.0), (0.0, 6.0), (-0.25, 2.0), (-3.0, 0.5), (0.125, 1.5), (1.0, -1.0)])
        g.add("Clip", [g.tip, *(g.constant(np.float32(limit), np.float32) for limit in limits)])
    others = [number, number, before, g.some()]
    if rng.random() < 0.5:
        g.add(rng.choice(["Add", "Mul", "Sub", "Div"]), rng.sample([g.tip, rng.choice(others)], 2))


def _square(g: _Growth, rng: random.Random) -> None:
    """A map times itself, and less a number, or what only looks like it."""
    before = g.tip
    if rng.random() < 0.5:
        g.add("Clip", [g.tip, g.constant(np.float32(-1), np.float32), g.constant(np.float32(1), np.float32)])
    g.add("Mul", [g.tip, rng.choice([g.tip, g.tip, before])])
    number = np.full([1] * rng.randint(0, 5), rng.choice([0.25, 0.25, 1e-3, 0.0, -1.0, 1e9]))
    pair = [g.tip, g.constant(number, np.float32)]
    g.add(rng.choice(["Sub", "Sub", "Add"]), pair if rng.random() < 0.8 else pair[::-1])


def _of_a_weight(g: _Growth, rng: random.Random) -> None:
    """Something is moved, or computed, that no frame changes, and added to the map."""
    tip, shape = g.tip, g.shapes[g.tip]
    if len(shape) != 4:
        return
    how, block = rng.randrange(4), rng.choice([1, 2])
    if how == 0:
        shuffled = g.weight(1, shape[1] * block**2, -(-shape[2] // block), -(-shape[3] // block))
        g.add("DepthToSpace", [shuffled], {"blocksize": block, "mode": rng.choice(["DCR", "CRD"])})
    elif how == 1:
        g.add("Transpose", [g.weight(1, *shape[2:], shape[1])], {"perm": (0, 3, 1, 2)})
    elif how == 2:
        g.add("Reshape", [g.constant([0.5, 1.0], np.float32), g.constant([1, 1, 2, 1])])
    else:
        g.add(rng.choice(["Relu", "Sin", "Tanh"]), [g.weight(1, 1, 1, 1)])
    pair = [tip, g.tip]
    if not g.add(rng.choice(["Add", "Mul"]), rng.sample(pair, 2)):
        g.tip = tip


def _turn(g: _Growth, rng: random.Random) -> None:
    """There and back, with something between; or the axes counted from the end."""
    if len(g.shapes[g.tip]) != 4:
        return
    if rng.random() < 0.5:
        g.add("Transpose", [g.tip], {"perm": rng.choice([(0, 2, 3, 1), (0, 3, 1, 2)])})
        if rng.random() < 0.5:
            rng.choice(STEPS)(g, rng)
        if len(g.shapes[g.tip]) == 4:
            g.add("Transpose", [g.tip], {"perm": rng.choice([(0, 2, 3, 1), (0, 3, 1, 2)])})
    else:
        bounds = ([0], [rng.randint(1, 9)], [rng.choice([-1, -2, -3])], [1])
        g.add("Slice", [g.tip, *(g.constant(b) for b in bounds)])


def _stretch(g: _Growth, rng: random.Random) -> None:
    """What does the same to every channel."""
    shape = g.shapes[g.tip]
    if len(shape) != 4:
        return
    how = rng.randrange(3)
    if how == 0:
        g.add("Reshape", [g.tip, g.constant([*shape[:2], shape[2] * shape[3], 1])])
    elif how == 1:
        g.add("Tile", [g.tip, g.constant([1, rng.choice([1, 2]), 1, rng.choice([1, 2])])])
    else:
        g.add("Resize", [g.tip, "", "", g.constant([*shape[:2], 4, 6])], {"mode": rng.choice(["nearest", "linear"])})


def _tail(g: _Growth, rng: random.Random) -> None:
    """(tanh(x) + 1) / 2, or what only looks like it."""
    ones = np.ones(rng.choice([(), (1,), (1, 3, 1, 1), (1, 1, 1, 4), (2,)]))
    g.add("Tanh", [g.tip])
    g.add("Add", [g.tip, g.constant(ones, np.float32)])
    g.add("Mul", [g.tip, g.constant(0.5 * ones, np.float32)])


def _residual(g: _Growth, rng: random.Random) -> None:
    """A convolution's result is added to what it reads, or its function to another's."""
    tip = g.tip
    channels = g.shapes[tip][1]
    g.add("Conv", [tip, g.weight(channels, channels, 1, 1)])
    if rng.random() < 0.5:
        _function(g, rng)
    g.add(rng.choice(["Add", "Mul"]), [g.tip, tip])


PATTERNS = (
    _convolve,
    _convolve,
    _upscale,
    _upscale,
    _function,
    _square,
    _residual,
    _of_a_weight,
    _turn,
    _stretch,
)
