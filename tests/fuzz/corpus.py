"""Small files that fuzzing begins from, one for each thing that a file can hold: `python -m tests.fuzz.corpus`.

Renew them when the format changes. Twins differ in weights, ranges and file id but not in the length of their ranges'
chunk, so that the one of the first fits exactly into the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.tiles import axis_tensors, tile_graph

from inr_runtime.backends import open_backend
from inr_runtime.chunks import Header
from inr_runtime.format import write_nvb
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.info import VideoInfo
from inr_runtime.lower import TARGETS, lower
from inr_runtime.sample import TimeTensor
from inr_runtime.segment import Segment, make_thumbnail, sound_print
from inr_runtime.tensors import QuantTensor, quantize
from inr_runtime.tiles import draw_picture, draw_sound

FOLDER = Path(__file__).parent / "corpus"
WIDE = (-3.0, 3.0)
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Recipe:
    """What one file is made of. times: of a segment of that many frames. ranges: None for a file without int8. without:
    edges of no range, which stay in float.

    size: of the picture, where the graph draws tiles.
    """

    graph: CanonicalGraph
    lengths: Sequence[int] = (4,)
    ranges: tuple[float, float] | None = None
    without: Sequence[str] = ()
    size: tuple[int, int] | None = None
    pts: bool = False
    meta: bool = False
    seed: int = 0


def make_corpus(folder: Path) -> list[Path]:
    """Write every file and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write(folder / f"{name}.nvb", recipe) for name, recipe in recipes().items()]


def recipes() -> dict[str, Recipe]:
    """The files by name."""
    return {
        "stem-float": Recipe(stem()),
        "stem-int8": Recipe(stem(), ranges=WIDE, meta=True, seed=11),
        "twin-a": Recipe(plain(), (3, 2), WIDE, pts=True, meta=True, seed=1),
        "twin-b": Recipe(plain(), (3, 2), (-2.0, 2.5), pts=True, meta=True, seed=2),
        "three-segments": Recipe(plain(), (1, 5, 2), seed=3),
        "grids-float": Recipe(grids(), (18,), seed=4),
        "grids-int8": Recipe(grids(), (3, 17), WIDE, seed=5),
        "functions": Recipe(functions(), pts=True, seed=6),
        "moves-float": Recipe(moves(), seed=7),
        "moves-int8": Recipe(moves(), ranges=WIDE, seed=8),
        "convolutions-float": Recipe(convolutions(), seed=9),
        "tiles": Recipe(tiles(), (3, 2), WIDE, size=(21, 13), seed=12),
        "sound": Recipe(tile_graph("x", (16, 1), 2, "pcm_f32"), (300, 50), seed=13),
        "convolutions-int8": Recipe(convolutions(), ranges=WIDE, meta=True, seed=10),
        "convolutions-mixed": Recipe(convolutions(), ranges=WIDE, without=("e2",), seed=14),
    }


def write(path: Path, recipe: Recipe) -> Path:
    """Write one file; its thumbnails are what the engine here gives."""
    width, height = recipe.size or recipe.graph.size
    sound = recipe.graph.result == "pcm_f32"
    if sound:
        width, height = recipe.graph.shapes[recipe.graph.output][1], 1
    info = VideoInfo(width, height, sum(recipe.lengths), Fraction(24))
    if recipe.pts:
        steps = np.random.default_rng(recipe.seed).integers(30, 60, info.frame_count)
        info = replace(info, pts=tuple(int(t) for t in np.cumsum(steps)))
    ranged = [edge for edge in edges(recipe.graph) if edge not in recipe.without]
    ranges = {} if recipe.ranges is None else {0: dict.fromkeys(ranged, recipe.ranges)}
    meta = {"made by": f"tests/fuzz, {recipe.seed:02}"} if recipe.meta else {}
    file_id = bytes([recipe.seed]) * 16
    header = Header(
        info, f"fuzz {recipe.seed:02}", file_id, (recipe.graph,), ranges, meta, "audio" if sound else "video"
    )
    segments, first = [], 0
    for number, length in enumerate(recipe.lengths):
        segments.append(segment_of(recipe.graph, first, length, ranges.get(0), 100 * recipe.seed + number, recipe.size))
        first += length
    write_nvb(path, header, segments)
    return path


def edges(graph: CanonicalGraph) -> list[str]:
    """Every edge that may have a range."""
    return [*(port.name for port in graph.inputs), *(node.output for node in graph.nodes)]


def segment_of(
    graph: CanonicalGraph,
    first: int,
    length: int,
    ranges: Ranges | None,
    seed: int,
    size: tuple[int, int] | None = None,
) -> Segment:
    """Random weights and time tensors, and their thumbnail."""
    rng = np.random.default_rng(seed)
    weights = tuple(weight_of(rng, port) for port in graph.weights)
    if graph.role == "tile":
        times = axis_tensors(graph, "xyt"[: len(graph.inputs)], length)
    else:
        times = tuple(time_of(rng, port, length) for port in graph.inputs)
    segment = Segment(0, first, length, weights, times, np.zeros((1, 1, 3), np.uint8), thumbnail_frame=length // 2)
    return replace(segment, thumbnail=shown_by(graph, segment, ranges, size))


def weight_of(rng: np.random.Generator, port: Port) -> QuantTensor:
    """8 bits with a scale per output channel, or 16 bits for what is added."""
    spread = 1.0 / np.sqrt(max(1, int(np.prod(port.shape[1:]))))
    return (
        quantize(rng.normal(0.1, spread, port.shape), 8, axis=0)
        if len(port.shape) > 1
        else quantize(rng.normal(0.2, 0.1, port.shape), 16)
    )


def time_of(rng: np.random.Generator, port: Port, length: int) -> TimeTensor:
    """By the input's shape: an encoding for (1, 2n, 1, 1), else lerp, row or window for 2, 3 or more channels."""
    if port.shape[2:] == (1, 1):
        return TimeTensor("encoding", length, levels=port.shape[1] // 2)
    channels = port.shape[1]
    rule, window = {2: ("lerp", 1), 3: ("row", 1)}.get(channels, ("window", 2))
    values = rng.integers(-127, 128, (length, channels // window, *port.shape[2:])).astype(np.int32)
    axis = {"lerp": 1, "row": 0, "window": None}[rule]
    codes = np.full(1 if axis is None else values.shape[axis], -420, np.int32)
    return TimeTensor(rule, length, window=window, data=QuantTensor(values, codes, axis))


def shown_by(
    graph: CanonicalGraph, segment: Segment, ranges: Ranges | None, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """The thumbnail as a player would make it."""
    if graph.role == "frame":
        return make_thumbnail(render(graph, segment, ranges))
    engine = open_backend(
        lower(graph, segment.weights, TARGETS["cpu-int8" if ranges else "cpu-fp32"], ranges), threads=1
    )
    t, count = segment.thumbnail_frame, segment.frame_count

    def run(feed: dict[str, NDArray[np.float32]]) -> NDArray[np.generic]:
        return engine.run(feed)[0]

    try:
        if size is None:
            places = np.arange(t, count, dtype=np.float64)
            return sound_print(draw_sound(run, graph, segment.time_tensors, places, count))
        return make_thumbnail(draw_picture(run, graph, segment.time_tensors, float(t), size))
    finally:
        engine.close()


def render(graph: CanonicalGraph, segment: Segment, ranges: Ranges | None) -> NDArray[np.uint8]:
    """The frame that the thumbnail shows, uint8 (H, W, 3), as a player would decode it."""
    t = float(segment.thumbnail_frame)
    feed = {p.name: s.sample(t) for p, s in zip(graph.inputs, segment.time_tensors, strict=True)}
    target = TARGETS["cpu-int8" if ranges else "cpu-fp32"]
    engine = open_backend(lower(graph, segment.weights, target, ranges), threads=1)
    try:
        return np.asarray(engine.run(feed)[0], np.uint8)
    finally:
        engine.close()


def i64(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def tiles() -> CanonicalGraph:
    """A tile of 8x5 from three axes: ReLU layers, of which the second may run on integers."""
    ports = [Port("x", (1, 1, 1, 8)), Port("y", (1, 1, 5, 1)), Port("t", (1, 1, 1, 1))]
    shapes = {"wx": (6, 1, 1, 1), "wy": (6, 1, 1, 1), "wt": (6, 1, 1, 1), "w": (6, 6, 1, 1), "wo": (3, 6, 1, 1)}
    kernel = (("kernel_shape", (1, 1)),)
    nodes = [Node("Conv", (axis, f"w{axis}"), f"c{axis}", kernel) for axis in "xyt"]
    nodes += [Node("Add", ("cx", "cy"), "s"), Node("Add", ("s", "ct"), "a"), Node("Relu", ("a",), "r")]
    nodes += [Node("Conv", ("r", "w"), "h", kernel), Node("Relu", ("h",), "g"), Node("Conv", ("g", "wo"), "o", kernel)]
    return renumber(ports, [Port(k, v) for k, v in shapes.items()], {}, nodes, "o", role="tile")


def stem() -> CanonicalGraph:
    """A NeRV in small: encoding, stem, convolution, shuffle, head."""
    nodes = [
        Node("Conv", ("t", "ws", "bs"), "a", (("kernel_shape", (1, 1)),)),
        Node("Gelu", ("a",), "b"),
        Node("Reshape", ("b", "shape"), "c"),
        Node("Conv", ("c", "wc", "bc"), "d", (("pads", (1, 1, 1, 1)),)),
        Node("LeakyRelu", ("d",), "e", (("alpha", 0.125),)),
        Node("DepthToSpace", ("e",), "f", (("blocksize", 2), ("mode", "CRD"))),
        Node("Conv", ("f", "wh", "bh"), "g"),
    ]
    shapes = {"ws": (24, 8, 1, 1), "bs": (24,), "wc": (8, 4, 3, 3), "bc": (8,), "wh": (3, 2, 1, 1), "bh": (3,)}
    ports = [Port(name, shape) for name, shape in shapes.items()]
    return renumber([Port("t", (1, 8, 1, 1))], ports, {"shape": i64(1, 4, 2, 3)}, nodes, "g")


def plain() -> CanonicalGraph:
    """One grid and one convolution."""
    nodes = [Node("Conv", ("x", "w", "b"), "a", (("pads", (1, 1, 1, 1)),)), Node("Relu", ("a",), "e")]
    return renumber([Port("x", (1, 2, 6, 8))], [Port("w", (3, 2, 3, 3)), Port("b", (3,))], {}, nodes, "e")


def grids() -> CanonicalGraph:
    """Every sampling rule at once."""
    inputs = [Port("a", (1, 2, 4, 6)), Port("b", (1, 3, 4, 6)), Port("c", (1, 4, 4, 6)), Port("t", (1, 6, 1, 1))]
    nodes = [
        Node("Concat", ("a", "b", "c"), "all", (("axis", 1),)),
        Node("Conv", ("all", "w"), "d", (("group", 3),)),
        Node("Conv", ("t", "v"), "style"),
        Node("Mul", ("d", "style"), "e"),
        Node("Add", ("e", "half"), "f"),
    ]
    weights = [Port("w", (3, 3, 1, 1)), Port("v", (3, 6, 1, 1))]
    return renumber(inputs, weights, {"half": np.array(0.5, np.float32)}, nodes, "f")


def functions() -> CanonicalGraph:
    """Elementwise functions."""
    constants = {"low": np.array(-1, np.float32), "high": np.array(1, np.float32), "two": np.array(2, np.float32)}
    nodes = [
        Node("Sin", ("x",), "a"),
        Node("Tanh", ("a",), "b"),
        Node("Sigmoid", ("b",), "c"),
        Node("Sub", ("c", "a"), "d"),
        Node("Div", ("d", "two"), "e"),
        Node("Gelu", ("e",), "f", (("approximate", "tanh"),)),
        Node("Clip", ("f", "low", "high"), "g"),
        Node("Mul", ("g", "w"), "h"),
    ]
    return renumber([Port("x", (1, 3, 4, 6))], [Port("w", (3, 1, 1))], constants, nodes, "h")


def moves() -> CanonicalGraph:
    """What only moves values, around a convolution."""
    constants = {"size": i64(1, 8, 4, 6), "flat": i64(1, 8, 24), "tall": i64(1, 8, 6, 4), "up": i64(1, 3, 6, 9)}
    constants |= {"one": i64(1), "four": i64(4)}
    nodes = [
        Node("Conv", ("x", "w"), "a"),
        Node("Reshape", ("a", "flat"), "b"),
        Node("Transpose", ("b",), "c", (("perm", (0, 2, 1)),)),
        Node("Transpose", ("c",), "d", (("perm", (0, 2, 1)),)),
        Node("Reshape", ("d", "tall"), "e"),
        Node("Transpose", ("e",), "f", (("perm", (0, 1, 3, 2)),)),
        Node("Slice", ("f", "one", "four", "one", "one"), "g"),
        Node("Resize", ("g", "", "", "up"), "h", (("mode", "linear"),)),
    ]
    return renumber([Port("x", (1, 2, 4, 6))], [Port("w", (8, 2, 1, 1))], constants, nodes, "h")


def convolutions() -> CanonicalGraph:
    """Strides, dilations, groups, paddings, and a transposed one."""
    nodes = [
        Node("Conv", ("x", "wa", "ba"), "a", (("dilations", (2, 1)), ("pads", (2, 1, 2, 1)))),
        Node("LeakyRelu", ("a",), "b"),
        Node("Conv", ("b", "wb"), "c", (("group", 4), ("pads", (1, 0, 1, 0)))),
        Node("Conv", ("c", "wc"), "d", (("strides", (2, 2)),)),
        Node("ConvTranspose", ("d", "wd", "bd"), "e", (("strides", (2, 2)),)),
    ]
    shapes = {"wa": (4, 3, 3, 3), "ba": (4,), "wb": (4, 1, 3, 1), "wc": (4, 4, 1, 1), "wd": (4, 3, 2, 2), "bd": (3,)}
    return renumber([Port("x", (1, 3, 4, 6))], [Port(n, s) for n, s in shapes.items()], {}, nodes, "e")


if __name__ == "__main__":
    for made in make_corpus(FOLDER):
        print(f"{made.name}: {made.stat().st_size} bytes")
