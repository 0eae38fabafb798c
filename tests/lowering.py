"""Graphs of convolutions for the tests of lowering: weights, ranges, what engines make of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from builders import Weights, widen_norms
from numpy.typing import NDArray
from onnx import TensorProto, helper

from inr_runtime.backends import open_backend
from inr_runtime.graph import CanonicalGraph, Node
from inr_runtime.lower import Lowered
from inr_runtime.tensors import quantize

Feed = dict[str, NDArray[np.float32]]
Ranges = dict[str, tuple[float, float]]
PADS = (("kernel_shape", (3, 3)), ("pads", (1, 1, 1, 1)))


def activation(kind: str, source: str, name: str) -> list[Node]:
    if kind == "silu":
        return [Node("Sigmoid", (source,), f"{name}.s"), Node("Mul", (source, f"{name}.s"), name)]
    return [Node(kind, (source,), name)]


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
