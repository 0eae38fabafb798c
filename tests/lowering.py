"""Small graphs with random weights, run as an engine runs them and as the plain model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from builders import Weights, norm_graph, widen_norms
from numpy.typing import NDArray
from onnx import TensorProto, helper

from inr_runtime.backends import open_backend
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.lower import TARGETS, Lowered
from inr_runtime.tensors import quantize

FP32, INT8 = TARGETS["cpu-fp32"], TARGETS["cpu-int8"]
Feed = dict[str, NDArray[np.float32]]
Ranges = dict[str, tuple[float, float]]
PADS = (("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1)))


NUMBERS = {"low": np.float32(-0.25), "high": np.float32(1.0), "quarter": np.float32(0.25)}
"""Constants of `activation`."""


def activation(kind: str, source: str, name: str) -> list[Node]:
    if kind == "square":
        limited = Node("Clip", (source, "low", "high"), f"{name}.c")
        return [
            limited,
            Node("Mul", (limited.output,) * 2, f"{name}.s"),
            Node("Sub", (f"{name}.s", "quarter"), name),
        ]
    if kind == "bounded":
        return [Node("Clip", (source, "low", "high"), f"{name}.c"), *activation("silu", f"{name}.c", name)]
    if kind == "silu":
        return [Node("Sigmoid", (source,), f"{name}.s"), Node("Mul", (source, f"{name}.s"), name)]
    return [Node(kind, (source,), name)]


def convolutions(kind: str) -> CanonicalGraph:
    """Three convolutions with activations between them and a shuffle: all of it hot."""
    nodes = [
        Node("Conv", ("x", "wa", "ba"), "a", PADS),
        *activation(kind, "a", "a.f"),
        Node("Conv", ("a.f", "wb", "bb"), "b", PADS),
        *activation(kind, "b", "b.f"),
        Node("Conv", ("b.f", "wc", "bc"), "c", (("kernel_shape", (1, 1)),)),
        Node("DepthToSpace", ("c",), "rgb", (("blocksize", 2), ("mode", "CRD"))),
    ]
    shapes = {"wa": (16, 4, 3, 3), "ba": (16,), "wb": (16, 16, 3, 3), "bb": (16,), "wc": (12, 16, 1, 1), "bc": (12,)}
    weights = [Port(name, shape) for name, shape in shapes.items()]
    return renumber([Port("x", (1, 4, 8, 10))], weights, used_by(nodes, NUMBERS), nodes, "rgb")


def used_by(nodes: Sequence[Node], constants: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
    """Those of the constants that a node reads."""
    return {name: np.asarray(v) for name, v in constants.items() if any(name in n.inputs for n in nodes)}


def stored(graph: CanonicalGraph, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    weights = []
    for port in graph.weights:
        size = np.sqrt(np.prod(port.shape[1:])) if len(port.shape) > 1 else 10
        weights.append(quantize(rng.normal(0, 1 / size, port.shape), 8, 0 if len(port.shape) > 1 else None))
    return tuple(weights)


def feed_of(graph: CanonicalGraph, batch: int = 1, seed: int = 0) -> Feed:
    rng = np.random.default_rng(seed)
    return {p.name: rng.random((batch, *p.shape[1:]), np.float32) for p in graph.inputs}


def reference(graph: CanonicalGraph, weights: Weights, feed: Feed) -> dict[str, NDArray[np.float32]]:
    """Every edge, as ONNX Runtime computes the plain model."""
    model = widen_norms(graph.to_model(), {n.output: graph.shapes[n.output][-1] for n in graph.nodes})
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n.output, TensorProto.FLOAT, None) for n in graph.nodes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    everything = {**feed, **{p.name: w.dequantize() for p, w in zip(graph.weights, weights, strict=True)}}
    results = session.run(None, {i.name: everything[i.name] for i in session.get_inputs()})
    return {**feed, **{n.output: r for n, r in zip(graph.nodes, results, strict=True)}}


def picture(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What the format says of the output: clipped to [0, 1], rounded to 8 bits, NHWC."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def ranges_of(edges: Mapping[str, NDArray[np.float32]]) -> Ranges:
    return {name: (float(values.min()), float(values.max())) for name, values in edges.items()}


def run(lowered: Lowered, feed: Feed) -> NDArray[np.uint8]:
    engine = open_backend(lowered, threads=1)
    try:
        return engine.run(feed)
    finally:
        engine.close()


def optimized(lowered: Lowered, path: Path) -> onnx.GraphProto:
    """The graph that ONNX Runtime makes of it and runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(lowered.embedded().SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path).graph


def mixed(*nodes: Node, **weights: Sequence[int]) -> CanonicalGraph:
    """A convolution, then whatever is given from "a" to "b", then a convolution to the picture."""
    around = [
        Node("Conv", ("x", "wa"), "a", PADS),
        *nodes,
        Node("Conv", ("b", "wb"), "rgb", (("kernel_shape", (1, 1)),)),
    ]
    ports = [Port(name, tuple(shape)) for name, shape in {"wa": (8, 4, 3, 3), **weights, "wb": (3, 8, 1, 1)}.items()]
    shape = {"shape": np.array([1, 8, 1, 1], np.int64), "half": np.array(0.5, np.float32)}
    return renumber([Port("x", (1, 4, 6, 6)), Port("y", (1, 8, 1, 1))], ports, shape, nodes=around, output="rgb")


MIXTURES = {
    "a learned map is added": mixed(Node("Add", ("a", "m"), "b"), m=(1, 8, 6, 6)),
    "channels are scaled by weights": mixed(Node("Mul", ("a", "m"), "b"), m=(8, 1, 1)),
    "channels are scaled by an input": mixed(Node("Mul", ("a", "y"), "b")),
    "a constant is added": mixed(Node("Add", ("a", "half"), "b")),
    "a weight is joined": mixed(Node("Concat", ("a", "m"), "j", (("axis", 1),)), Node("Conv", ("j", "k"), "b"),
                                m=(1, 8, 6, 6), k=(8, 16, 1, 1)),
    "a weight is reshaped": mixed(Node("Reshape", ("m", "shape"), "r"), Node("Mul", ("a", "r"), "b"), m=(1, 8)),
    "a weight is convolved": mixed(Node("Conv", ("m", "k"), "c"), Node("Add", ("a", "c"), "b"),
                                   m=(1, 8, 6, 6), k=(8, 8, 1, 1)),
    "a kernel is computed": mixed(Node("Reshape", ("y", "shape"), "r"), Node("Mul", ("k", "r"), "kk"),
                                  Node("Conv", ("a", "kk"), "one"), Node("Add", ("a", "one"), "b"), k=(1, 8, 1, 1)),
    "a bias is a result": mixed(Node("Relu", ("a",), "r"), Node("Gelu", ("r",), "g"), Node("Tanh", ("g",), "b")),
    "two norms follow": norm_graph(),
    "a leaky function follows another": mixed(Node("LeakyRelu", ("a",), "l"), Node("LeakyRelu", ("l",), "b")),
}  # fmt: skip
