"""Files of coordinate networks made by hand, without PyTorch, and what they draw, computed in float64."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_runtime.chunks import Header
from inr_runtime.format import write_nvb
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.info import AudioInfo, VideoInfo
from inr_runtime.sample import TimeTensor
from inr_runtime.segment import Segment, make_thumbnail, sound_print
from inr_runtime.tensors import QuantTensor, quantize

HIDDEN = 12
Floats = NDArray[np.float64]


def tile_graph(axes: str, tile: tuple[int, int], channels: int = 3, result: str = "rgb8") -> CanonicalGraph:
    """One hidden layer of sines over the axes, `xyt` say, and a linear head; tile: width and height."""
    extents = {"x": (1, 1, 1, tile[0]), "y": (1, 1, tile[1], 1), "t": (1, 1, 1, 1)}
    ports = [Port(axis, extents[axis]) for axis in axes]
    weights = {f"w{axis}": (HIDDEN, 1, 1, 1) for axis in axes} | {"wh": (channels, HIDDEN, 1, 1), "bh": (channels,)}
    nodes = [Node("Conv", (axis, f"w{axis}"), f"c{axis}", (("kernel_shape", (1, 1)),)) for axis in axes]
    last = nodes[0].output
    for axis in axes[1:]:
        nodes.append(Node("Add", (last, f"c{axis}"), f"s{axis}"))
        last = nodes[-1].output
    nodes += [Node("Sin", (last,), "sine"), Node("Conv", ("sine", "wh", "bh"), "out", (("kernel_shape", (1, 1)),))]
    parts = [Port(name, shape) for name, shape in weights.items()]
    return renumber(ports, parts, {}, nodes, "out", role="tile", result=result)


def random_weights(graph: CanonicalGraph, seed: int = 0) -> tuple[QuantTensor, ...]:
    rng = np.random.default_rng(seed)
    middle = 0.5 if graph.result == "rgb8" else 0.0
    spread = {1: (middle, 0.01), 4: (0.0, 0.08)}
    values = [rng.normal(*spread[len(p.shape)], p.shape) * (60 if p.shape[1:2] == (1,) else 1) for p in graph.weights]
    return tuple(quantize(v, 16) for v in values)


def value_at(weights: Sequence[QuantTensor], *coordinates: Floats) -> Floats:
    """The network at coordinates that broadcast: (..., channels), not clipped."""
    *axes, head, bias = (w.dequantize().astype(np.float64) for w in weights)
    places = np.stack(np.broadcast_arrays(*coordinates), -1)
    return np.sin(places @ np.stack([a.reshape(-1) for a in axes])) @ head.reshape(head.shape[:2]).T + bias


def picture_of(weights: Sequence[QuantTensor], info: VideoInfo, t: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    x, y = ((2 * np.arange(n) + 1) / n - 1 for n in size)
    middle = () if info.frame_count == 1 else (np.array((2 * t + 1) / info.frame_count - 1),)
    return np.rint(value_at(weights, x[None], y[:, None], *middle).clip(0, 1) * 255).astype(np.uint8)


def sound_of(weights: Sequence[QuantTensor], places: Floats, count: int) -> Floats:
    return value_at(weights, (2 * places + 1) / count - 1).clip(-1, 1)


def axis_tensors(graph: CanonicalGraph, axes: str, frames: int) -> tuple[TimeTensor, ...]:
    lengths = {"x": graph.size[0], "y": graph.size[1], "t": frames}
    return tuple(TimeTensor(axis, lengths[axis]) for axis in axes)


def make_picture(path: Path, info: VideoInfo, tile: tuple[int, int]) -> tuple[QuantTensor, ...]:
    """Write a picture or video drawn in tiles; returns its weights, which do not depend on the tile."""
    axes = "xy" if info.frame_count == 1 else "xyt"
    graph = tile_graph(axes, tile)
    weights = random_weights(graph)
    shown = make_thumbnail(picture_of(weights, info, 0.0, (info.width, info.height)))
    segment = Segment(0, 0, info.frame_count, weights, axis_tensors(graph, axes, info.frame_count), shown)
    media = "image" if info.frame_count == 1 else "video"
    write_nvb(path, Header(info, "tiles", bytes(16), (graph,), media=media), [segment])
    return weights


def make_sound(path: Path, lengths: Sequence[int], rate: int = 1000, tile: int = 64) -> list[tuple[QuantTensor, ...]]:
    """Write a sound of two channels in segments of some lengths; returns their weights."""
    graph = tile_graph("x", (tile, 1), 2, "pcm_f32")
    weights = [random_weights(graph, seed) for seed in range(len(lengths))]
    segments, first = [], 0
    for own, count in zip(weights, lengths, strict=True):
        start = sound_print(sound_of(own, np.arange(count), count).astype(np.float32))
        segments.append(Segment(0, first, count, own, axis_tensors(graph, "x", count), start))
        first += count
    info = AudioInfo(Fraction(rate), 2, first).as_video()
    write_nvb(path, Header(info, "waves", bytes(16), (graph,), media="audio"), segments)
    return weights
