"""Files that must decode for ever, and the command that renews them while the version is 0.x: `python tests/golden.py`.

A renewed file means that files in the wild have to be exported again: say so in the CHANGELOG.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from builders import make_nvb, random_weights
from numpy.typing import NDArray

from inr_runtime.backends import open_backend
from inr_runtime.chunks import Header
from inr_runtime.format import NvbReader, write_nvb
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.info import VideoInfo
from inr_runtime.lower import TARGETS, lower
from inr_runtime.sample import TimeTensor
from inr_runtime.segment import Segment, make_thumbnail
from inr_runtime.tensors import QuantTensor

FOLDER = Path(__file__).parent / "runtime" / "golden"
EXPECTED = FOLDER / "expected.json"
NAMES = ("one-segment-int8.nvb", "two-segments-in-time.nvb")

ODD_INFO = VideoInfo(
    width=24,
    height=16,
    frame_count=25,
    fps=Fraction(30000, 1001),
    pts=tuple(i * 3003 + (i % 3) * 100 for i in range(25)),
    time_base=Fraction(1, 90000),
    pixel_aspect=Fraction(32, 27),
    primaries=9,
    transfer=16,
    matrix_tag=9,
    matrix_used="bt2020",
    full_range=True,
    bit_depth=10,
)


def write_golden(folder: Path) -> list[Path]:
    """Make the files from their description; pictures, and with them the thumbnails, may differ by machine."""
    paths = [folder / name for name in NAMES]
    make_nvb(paths[0], meta={"made by": "tests/golden.py"})
    _write_in_time(paths[1])
    return paths


def fingerprint(path: Path) -> dict[str, str | int]:
    """SHA-256 of a file and of all its integers, in the order of segments, weights and time tensors."""
    digest = hashlib.sha256()
    with NvbReader(path) as reader:
        for number in range(len(reader.index)):
            for tensor in _tensors(reader.segment(number)):
                digest.update(tensor.values.astype("<i4").tobytes() + tensor.scale_codes.astype("<i4").tobytes())
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "integers": digest.hexdigest()}


def rewrite(path: Path, copy: Path) -> Path:
    """Read a file completely and write what was read."""
    with NvbReader(path) as reader:
        write_nvb(copy, reader.header, [reader.segment(i) for i in range(len(reader.index))])
    return copy


def _tensors(segment: Segment) -> list[QuantTensor]:
    return [*segment.weights, *(t.data for t in segment.time_tensors if t.data is not None)]


def _write_in_time(path: Path) -> None:
    """Two segments, one with a grid that is blended and a window of three rows, in 20 and in 5 frames."""
    graph = _graph_in_time()
    segments, first = [], 0
    for number, frames in enumerate((20, 5)):
        weights, times = random_weights(graph, 50 + number), _time_tensors(frames)
        segment = Segment(0, first, frames, weights, times, np.zeros((1, 1, 3), np.uint8), thumbnail_frame=2)
        segments.append(replace(segment, thumbnail=make_thumbnail(_render(graph, segment))))
        first += frames
    header = Header(ODD_INFO, "nœud à ondes 波", bytes(range(100, 116)), (graph,))
    write_nvb(path, header, segments)


def _graph_in_time() -> CanonicalGraph:
    nodes = [
        Node("Conv", ("grid", "wg", "bg"), "a", (("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1)))),
        Node("Conv", ("rows", "wr"), "b", (("kernel_shape", (1, 1)),)),
        Node("Add", ("a", "b"), "c"),
        Node("LeakyRelu", ("c",), "d", (("alpha", 0.25),)),
        Node("Conv", ("d", "wh", "bh"), "e", (("kernel_shape", (1, 1)),)),
        Node("DepthToSpace", ("e",), "rgb", (("blocksize", 4), ("mode", "CRD"))),
    ]
    shapes = {"wg": (8, 3, 3, 3), "bg": (8,), "wr": (8, 6, 1, 1), "wh": (48, 8, 1, 1), "bh": (48,)}
    inputs = [Port("grid", (1, 3, 4, 6)), Port("rows", (1, 6, 1, 1))]
    return renumber(inputs, [Port(name, shape) for name, shape in shapes.items()], {}, nodes, "rgb")


def _time_tensors(frames: int) -> tuple[TimeTensor, TimeTensor]:
    """Scales per channel and per slice; more slices than one blob holds, and slices between frames."""
    rng = np.random.default_rng(frames)
    grid = rng.integers(-127, 128, (frames // 2, 3, 4, 6)).astype(np.int32)
    rows = rng.integers(-31, 32, (frames, 2, 1, 1)).astype(np.int32)
    return (
        TimeTensor("lerp", len(grid), offset=0.5, stride=2.0, data=QuantTensor(grid, _codes(3, -420), 1)),
        TimeTensor("window", frames, window=3, data=QuantTensor(rows, _codes(frames, -300), 0)),
    )


def _codes(count: int, centre: int) -> NDArray[np.int32]:
    return np.arange(count, dtype=np.int32) % 7 + np.int32(centre)


def _render(graph: CanonicalGraph, segment: Segment) -> NDArray[np.uint8]:
    t = float(segment.thumbnail_frame)
    feed = {p.name: s.sample(t) for p, s in zip(graph.inputs, segment.time_tensors, strict=True)}
    engine = open_backend(lower(graph, segment.weights, TARGETS["cpu-fp32"]), threads=1)
    try:
        return np.asarray(engine.run(feed)[0], np.uint8)
    finally:
        engine.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    made = {path.name: fingerprint(path) for path in write_golden(FOLDER)}
    EXPECTED.write_text(json.dumps(made, indent=2) + "\n")
    print(EXPECTED.read_text(), end="")
