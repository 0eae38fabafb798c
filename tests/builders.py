"""Tiny .nvb files made by hand, without PyTorch: a NeRV of 48x32 pixels with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.backends import open_backend
from inr_runtime.chunks import Header
from inr_runtime.format import write_nvb
from inr_runtime.frame import Frame
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.info import VideoInfo
from inr_runtime.lower import TARGETS, lower
from inr_runtime.media import open_writer
from inr_runtime.sample import TimeTensor
from inr_runtime.segment import Segment, make_thumbnail
from inr_runtime.tensors import QuantTensor, quantize

Weights = tuple[QuantTensor, ...]
LEVELS = 6
INFO = VideoInfo(48, 32, 12, Fraction(24))


def make_nvb(
    path: Path,
    *,
    info: VideoInfo = INFO,
    lengths: Sequence[int] | None = None,
    int8: bool = True,
    meta: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Write a .nvb whose segments have `lengths` frames (default: one segment) and random weights each."""
    graph = tiny_graph(info.width, info.height)
    segments, first = [], 0
    for number, length in enumerate(lengths or [info.frame_count]):
        weights, time = random_weights(graph, seed + number), TimeTensor("encoding", length, levels=LEVELS)
        picture = render(graph, weights, time.sample(0.0))
        segments.append(Segment(0, first, length, weights, (time,), make_thumbnail(picture)))
        first += length
    ranges = {0: measured_ranges(graph, segments)} if int8 else {}
    header = Header(info, "tiny nerv", bytes(range(16)), (graph,), ranges, meta or {"made by": "tests"})
    write_nvb(path, header, segments)
    return path


def tiny_graph(width: int = 48, height: int = 32) -> CanonicalGraph:
    """Stem, 3x3 convolution, shuffle by 4, head: (1, 12, 1, 1) to (1, 3, height, width)."""
    rows, columns = height // 4, width // 4
    pads = (("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1)))
    shapes = {"ws": (6 * rows * columns, 2 * LEVELS, 1, 1), "bs": (6 * rows * columns,), "wc": (64, 6, 3, 3)}
    shapes |= {"bc": (64,), "wh": (3, 4, 1, 1), "bh": (3,)}
    nodes = [
        Node("Conv", ("t", "ws", "bs"), "stem", (("kernel_shape", (1, 1)),)),
        Node("LeakyRelu", ("stem",), "stem.a", (("alpha", 0.1),)),
        Node("Reshape", ("stem.a", "shape"), "grid"),
        Node("Conv", ("grid", "wc", "bc"), "block", pads),
        Node("LeakyRelu", ("block",), "block.a", (("alpha", 0.1),)),
        Node("DepthToSpace", ("block.a",), "fine", (("blocksize", 4), ("mode", "CRD"))),
        Node("Conv", ("fine", "wh", "bh"), "rgb", (("kernel_shape", (1, 1)),)),
    ]
    constants = {"shape": np.array([1, 6, rows, columns], np.int64)}
    weights = [Port(name, shape) for name, shape in shapes.items()]
    return renumber([Port("t", (1, 2 * LEVELS, 1, 1))], weights, constants, nodes, "rgb")


def norm_graph() -> CanonicalGraph:
    """A block of ConvNeXt between convolutions; two norms of different widths share the constant 1."""
    pads = (("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1)))
    nodes = [
        Node("Conv", ("x", "wa"), "a", pads),
        Node("Conv", ("a", "wd"), "d", (*pads, ("group", 8))),
        Node("Transpose", ("d",), "n.in", (("perm", (0, 2, 3, 1)),)),
        Node("LayerNormalization", ("n.in", "one"), "n.out", (("epsilon", 1e-6),)),
        Node("Transpose", ("n.out",), "n", (("perm", (0, 3, 1, 2)),)),
        Node("Conv", ("n", "wb"), "b"),
        Node("LayerNormalization", ("b", "one", "zero"), "c"),
        Node("Conv", ("c", "wc"), "rgb"),
    ]
    shapes = {"wa": (8, 4, 3, 3), "wd": (8, 1, 3, 3), "wb": (16, 8, 1, 1), "wc": (3, 16, 1, 1)}
    constants = {"one": np.ones(1, np.float32), "zero": np.array(0.25, np.float32)}
    weights = [Port(name, shape) for name, shape in shapes.items()]
    return renumber([Port("x", (1, 4, 8, 10))], weights, constants, nodes, "rgb")


def random_weights(graph: CanonicalGraph, seed: int) -> Weights:
    """8-bit weights with a scale per output channel; pictures stay around mid grey."""
    rng = np.random.default_rng(seed)
    weights = []
    for port in graph.weights:
        if len(port.shape) == 1:
            values = rng.normal(0.5 if port.shape == (3,) else 0.0, 0.05, port.shape)
            weights.append(quantize(values, 16))
        else:
            values = rng.normal(0.0, 1.0, port.shape) / np.sqrt(np.prod(port.shape[1:]))
            weights.append(quantize(values * (0.3 if port.shape[0] == 3 else 1.2), 8, axis=0))
    return tuple(weights)


def render(graph: CanonicalGraph, weights: Weights, sample: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One frame in float32, uint8 (H, W, 3)."""
    engine = open_backend(lower(graph, weights, TARGETS["cpu-fp32"]), threads=1)
    try:
        return np.asarray(engine.run({graph.inputs[0].name: sample})[0], np.uint8)
    finally:
        engine.close()


def measured_ranges(graph: CanonicalGraph, segments: Sequence[Segment]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every edge over every frame of every segment."""
    edges = [graph.inputs[0].name, *(node.output for node in graph.nodes)]
    model = graph.to_model()
    del model.graph.output[:]
    for node in graph.nodes:
        model.graph.output.append(helper.make_tensor_value_info(node.output, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    lows, highs = np.full(len(edges), np.inf), np.full(len(edges), -np.inf)
    for segment in segments:
        feed = {p.name: w.dequantize() for p, w in zip(graph.weights, segment.weights, strict=True)}
        for t in range(min(segment.frame_count, 64)):
            sample = segment.time_tensors[0].sample(float(t))
            values = [sample, *session.run(None, {**feed, edges[0]: sample})]
            lows = np.minimum(lows, [v.min() for v in values])
            highs = np.maximum(highs, [v.max() for v in values])
    return {edge: (float(low), float(high)) for edge, low, high in zip(edges, lows, highs, strict=True)}


def write_video(path: Path, info: VideoInfo, frames: NDArray[np.uint8]) -> None:
    """Write frames, uint8 (T, H, W, 3), as the kind of file that `path` names."""
    with open_writer(str(path), info) as writer:
        for i, pixels in enumerate(frames):
            writer.write(Frame(i, i / 25, pixels))


def widen_norms(model: onnx.ModelProto, widths: Mapping[str, int]) -> onnx.ModelProto:
    """The model with every norm's single constant as one number a channel: all that ONNX Runtime 1.23 takes.

    widths: of the results of norms.
    """
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        for i, name in enumerate(node.input if node.op_type == "LayerNormalization" else ()):
            if i and constants.get(name, np.ones(2)).size == 1:
                node.input[i] = f"{name}.{node.output[0]}"
                full = np.full(widths[node.output[0]], constants[name].item(), np.float32)
                model.graph.initializer.append(numpy_helper.from_array(full, node.input[i]))
    return model
