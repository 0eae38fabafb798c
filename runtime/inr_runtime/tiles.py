"""Pictures of any size, and sound of any rate, from a graph that draws one fixed tile at the coordinates it is fed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from inr_runtime.graph import CanonicalGraph
from inr_runtime.sample import AXES, TimeTensor, coordinates_of
from inr_runtime.tensors import FloatArray

Engine = Callable[[dict[str, FloatArray]], NDArray[np.generic]]
"""Inputs by name to one tile, without the batch: (H, W, channels)."""


def count_tiles(size: tuple[int, int], tile: tuple[int, int]) -> int:
    """Runs that a picture of `size` takes from a graph that draws `tile`; both width and height."""
    return -(-size[0] // tile[0]) * -(-size[1] // tile[1])


def feed_at(graph: CanonicalGraph, tensors: Sequence[TimeTensor], t: float) -> dict[str, FloatArray]:
    """The inputs of a graph that follow from time alone, at `t` frames from the segment's start."""
    pairs = zip(graph.inputs, tensors, strict=True)
    return {port.name: tensor.sample(t) for port, tensor in pairs if tensor.rule not in AXES}


def draw_picture(
    run: Engine, graph: CanonicalGraph, tensors: Sequence[TimeTensor], t: float, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The whole frame at `t`, uint8 (height, width, 3), for any `size` (width, height): one run a tile.

    The middle of pixel i of n is at the coordinate (2 i + 1) / n - 1, whatever n is. What a tile draws beyond the
    border is cut off.
    """
    (width, height), (tile_width, tile_height) = size, graph.size
    feed = feed_at(graph, tensors, t)
    picture = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, tile_height):
        feed |= _along(graph, tensors, "y", coordinates_of(np.arange(top, top + tile_height, dtype=np.float64), height))
        for left in range(0, width, tile_width):
            columns = np.arange(left, left + tile_width, dtype=np.float64)
            feed |= _along(graph, tensors, "x", coordinates_of(columns, width))
            part = picture[top : top + tile_height, left : left + tile_width]
            part[:] = run(feed)[: part.shape[0], : part.shape[1]]
    return picture


def draw_sound(
    run: Engine, graph: CanonicalGraph, tensors: Sequence[TimeTensor], positions: NDArray[np.float64], count: int
) -> FloatArray:
    """Sound at some positions (n,), in samples from the start of a segment of `count`: float32 (n, channels)."""
    tile = graph.size[0]
    sound = np.empty((len(positions), graph.shapes[graph.output][1]), np.float32)
    for start in range(0, len(positions), tile):
        part = positions[start : start + tile]
        whole = np.concatenate([part, np.full(tile - len(part), part[-1])])
        sound[start : start + tile] = run(_along(graph, tensors, "x", coordinates_of(whole, count)))[0, : len(part)]
    return sound


def _along(
    graph: CanonicalGraph, tensors: Sequence[TimeTensor], axis: str, coordinates: NDArray[np.float64]
) -> dict[str, FloatArray]:
    pairs = zip(graph.inputs, tensors, strict=True)
    return {port.name: tensor.along(coordinates) for port, tensor in pairs if tensor.rule == axis}
