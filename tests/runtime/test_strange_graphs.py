"""Graphs of strangers: the passes of int8 keep every integer of them or leave them alone, and stay within limits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from lowering import PADS, feed_of, reference, stored
from tests.strange import strange

from inr_runtime import lower as lowering
from inr_runtime.builder import Builder
from inr_runtime.errors import BackendError, GraphError, LimitError
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.int8plan import plan_int8
from inr_runtime.limits import DEFAULT_LIMITS
from inr_runtime.lower import TARGETS, Lowered, lower
from inr_runtime.program import Program
from inr_runtime.rewrite import MOST_NODES, rewrite
from inr_runtime.tensors import QuantTensor, quantize

INT8 = TARGETS["cpu-int8"]
Ranges = dict[str, tuple[float, float]]


def some_ranges(graph: CanonicalGraph, seed: int) -> Ranges:
    """Of every edge: what a file says and no measurement would."""
    rng = random.Random(seed)
    edges = [*(p.name for p in graph.inputs), *(n.output for n in graph.nodes)]
    return {edge: (-float(rng.choice([0, 1, 3])), float(rng.choice([0.5, 2, 4]))) for edge in edges}


def as_written(lowered: Lowered, graph: CanonicalGraph, seed: int) -> np.ndarray:
    """Node for node, for an engine that fuses rounds at other places."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    model = lowered.embedded().SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed_of(graph, seed=seed))[0])


def differences(graph: CanonicalGraph, seed: int = 0, weights: tuple[QuantTensor, ...] | None = None) -> np.ndarray:
    """Between the picture of the plain int8 graph and of the rewritten one, in steps."""
    weights, ranges = weights or stored(graph, seed), some_ranges(graph, seed)
    builder = Builder(graph, {p.name: w for p, w in zip(graph.weights, weights, strict=True)}, 1)
    lowering._lower_int8(builder, plan_int8(graph), ranges)
    plain = as_written(Lowered(builder.finish(), builder.initializers, INT8), graph, seed)
    fast = as_written(lower(graph, weights, INT8, ranges), graph, seed)
    assert plain.shape == fast.shape
    return np.abs(plain.astype(int) - fast)


@pytest.mark.parametrize("block", range(6))
def test_whatever_the_graph_the_picture_keeps_its_integers(block: int) -> None:
    """But where floats do, a step, as a sigmoid and a sum of a tanh may fall on two sides of a half; seldom more."""
    for seed, graph in some_graphs(20 * block, 20):
        difference = differences(graph, seed)
        if has_numbers(graph, seed):
            assert (difference > 1).mean() < 0.02, seed


def some_graphs(first: int, count: int) -> Iterator[tuple[int, CanonicalGraph]]:
    """Those of these seeds that every engine takes; ONNX Runtime 1.23 normalizes no single number."""
    for seed in range(first, first + count):
        with suppress(GraphError):  # no picture came of it
            graph = strange(seed)
            if not any(n.op == "LayerNormalization" and graph.shapes[n.output][-1] == 1 for n in graph.nodes):
                yield seed, graph


def has_numbers(graph: CanonicalGraph, seed: int) -> bool:
    """Whether there is one right picture: what engines make of 0 / 0 depends on where it stands."""
    with np.errstate(all="ignore"):
        edges = reference(graph, stored(graph, seed), feed_of(graph, seed=seed))
    return all(np.isfinite(e).all() for e in edges.values()) and all(node.op != "Div" for node in graph.nodes)


def around(nodes: list[Node], shapes: dict[str, tuple[int, ...]], **constants: object) -> CanonicalGraph:
    """Two convolutions, of 12 channels each and 4x5 pixels, then nodes from "b" to "out"."""
    convolutions = [Node("Conv", ("x", "wa"), "a", PADS), Node("Conv", ("a", "wb"), "b", PADS)]
    ports = {"wa": (12, 4, 3, 3), "wb": (12, 12, 3, 3), **shapes}
    fixed = {name: np.asarray(value) for name, value in constants.items()}
    weights = [Port(name, shape) for name, shape in ports.items()]
    return renumber([Port("x", (1, 4, 4, 5))], weights, fixed, [*convolutions, *nodes], "out")


CRD = (("blocksize", 2), ("mode", "CRD"))
DCR = (("blocksize", 2), ("mode", "DCR"))
UP = Node("DepthToSpace", ("b",), "up", CRD)
ONES = np.ones((1, 1, 1, 30), np.float32)
FACTS: dict[str, CanonicalGraph] = {
    "a weight is shuffled": around(
        [replace(UP, attributes=DCR), Node("DepthToSpace", ("m",), "mm", CRD), Node("Add", ("up", "mm"), "out")],
        {"m": (1, 12, 4, 5)},
    ),
    "a weight is turned around": around(
        [UP, Node("Transpose", ("m",), "mm", (("perm", (0, 2, 3, 1)),)), Node("Mul", ("up", "mm"), "out")],
        {"m": (1, 10, 3, 8)},
    ),
    "axes are counted from the end": around(
        [UP, Node("Slice", ("up", "s", "e", "axis", "t"), "out")], {}, s=[1], e=[6], axis=[-1], t=[1]
    ),
    "a function of one stored number": around([UP, Node("Tanh", ("m",), "n"), Node("Mul", ("up", "n"), "out")],
                                              {"m": (1, 1, 1, 1)}),
    "a constant is reshaped": around(
        [UP, Node("Reshape", ("k", "shape"), "n"), Node("Mul", ("up", "n"), "out")], {},
        k=np.float32([0.5, 1, 2]), shape=[1, 3, 1, 1],
    ),
    "the tail makes one column many": around(
        [UP, Node("Conv", ("up", "h"), "c"), Node("Tanh", ("c",), "t"), Node("Add", ("t", "ones"), "u"),
         Node("Mul", ("u", "half"), "out")],
        {"h": (3, 3, 1, 10)}, ones=ONES, half=np.float32(0.5),
    ),
    "a convolution reads what it is added to": around(
        [Node("Conv", ("b", "wb"), "c", PADS), Node("Add", ("b", "c"), "d"),  # and its kernel serves twice
         Node("DepthToSpace", ("d",), "out", CRD)], {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fact", FACTS)
def test_what_almost_fits_a_pattern_is_left_as_it_is(fact: str) -> None:
    assert differences(FACTS[fact]).max() <= 1


def test_scales_along_another_axis_are_refused_for_integers_and_kept_for_floats() -> None:
    """A file may say so of any tensor; the passes took the scales of its columns for those of its rows."""
    graph = FACTS["a convolution reads what it is added to"]
    kernels = (*stored(graph)[:1], quantize(np.ones((12, 12, 3, 3)), 8, axis=1))
    with pytest.raises(GraphError, match="scales per output channel"):
        lower(graph, kernels, INT8, some_ranges(graph, 0))
    nodes = [Node("Conv", ("x", "wi"), "i"), Node("Sin", ("i",), "s"), Node("Conv", ("s", "wf"), "f")]
    nodes += [Node("DepthToSpace", ("f",), "up", CRD), Node("Conv", ("up", "wo"), "out")]
    shapes = {"wi": (2, 4, 1, 1), "wf": (12, 2, 1, 1), "wo": (3, 3, 1, 1)}
    graph = renumber([Port("x", (1, 4, 4, 5))], [Port(k, v) for k, v in shapes.items()], {}, nodes, "out")
    weights = list(stored(graph))
    weights[1] = quantize(np.random.default_rng(0).normal(0, 1, (12, 2, 1, 1)), 8, axis=1)
    assert differences(graph, weights=tuple(weights)).max() <= 1


def rewritten(graph: CanonicalGraph) -> tuple[Program, Program]:
    """Before and after all passes."""
    weights = {p.name: w for p, w in zip(graph.weights, stored(graph), strict=True)}
    before = Program.planned(graph, weights, plan_int8(graph), some_ranges(graph, 0))
    return before, rewrite(before)


def limited(graph: CanonicalGraph, **limits: int) -> CanonicalGraph:
    return replace(graph, limits=replace(DEFAULT_LIMITS, **limits))


def thin(width: int) -> CanonicalGraph:
    """One channel all the way: kernels would take 16 with joy."""
    nodes = [Node("Conv", ("x", "w"), "a", PADS), Node("Conv", ("a", "w"), "b", PADS), Node("Conv", ("b", "h"), "c")]
    return renumber([Port("x", (1, 1, 8, width))], [Port("w", (1, 1, 3, 3)), Port("h", (3, 1, 1, 1))], {}, nodes, "c")


def test_channels_are_added_only_as_far_as_the_limits_of_the_graph_go() -> None:
    graph = thin(64)
    before, after = rewritten(graph)
    assert max(shape[1] for shape in after.shapes.values() if len(shape) == 4) == 16
    for limits in ({"activation_bytes": graph.activation_bytes}, {"macs_per_frame": graph.macs}, {"symbols": 20}):
        before, after = rewritten(limited(graph, **limits))
        assert after.within_limits
        assert {n.output: after.shapes[n.output] for n in after.nodes} == {
            n.output: before.shapes[n.output] for n in before.nodes
        }
    with pytest.raises(LimitError):
        limited(graph, activation_bytes=graph.activation_bytes - 1)


def test_a_fold_that_would_make_a_thousand_times_the_numbers_is_not_made() -> None:
    """A kernel of 1x1 behind a shuffle of 5x5 pixels becomes 625 times as many."""
    for channels, folded in ((40, True), (40_000, False)):
        nodes = [
            Node("Reshape", ("x", "shape"), "r"),
            Node("DepthToSpace", ("r",), "d", (("blocksize", 5),)),
            Node("Conv", ("d", "h"), "e"),
            Node("Conv", ("e", "k"), "out"),
        ]
        ports = [Port("h", (1, channels, 1, 1)), Port("k", (3, 1, 1, 1))]
        shape = {"shape": np.array([1, 25 * channels, 1, 1])}
        graph = renumber([Port("x", (1, channels, 5, 5))], ports, shape, nodes, "out")
        _, after = rewritten(graph)
        numbers = sum(weight.values.size for weight in after.weights.values())
        assert (numbers > 100 * channels) == folded


def test_thousands_of_nodes_are_not_rewritten() -> None:
    nodes, x = [], "x"
    for i in range(MOST_NODES):
        nodes.append(Node("Conv", (x, "w"), f"n{i}"))
        x = f"n{i}"
    nodes.append(Node("Conv", (x, "h"), "out"))
    ports = [Port("w", (12, 12, 1, 1)), Port("h", (3, 12, 1, 1))]
    before, after = rewritten(renumber([Port("x", (1, 12, 2, 2))], ports, {}, nodes, "out"))
    assert after is before


@pytest.mark.parametrize("target", ["cuda-fp16", "trt-fp16", "trt-int8"])
def test_graphs_for_gpus_have_one_type_at_every_place(target: str) -> None:
    for seed, graph in some_graphs(0, 40):
        lowered = lower(graph, stored(graph, seed), TARGETS[target], some_ranges(graph, seed))
        onnx.shape_inference.infer_shapes(lowered.embedded(), check_type=True, strict_mode=True)


@pytest.mark.parametrize("reach", [1e-30, 1e-9, 60000.0])
def test_steps_of_integers_on_gpus_are_numbers_that_can_divide(reach: float) -> None:
    graph = FACTS["a convolution reads what it is added to"]
    ranges = dict.fromkeys(some_ranges(graph, 0), (-reach, reach))
    lowered = lower(graph, stored(graph), TARGETS["trt-int8"], ranges)
    scales = [onnx.numpy_helper.to_array(t) for t in lowered.model.graph.initializer if t.name.endswith(".s")
              and t.data_location == onnx.TensorProto.DEFAULT]  # fmt: skip
    assert scales
    assert all(np.isfinite(s).all() and (s > 0).all() for s in scales)


def test_sampled_inputs_beyond_float16_are_refused_like_results() -> None:
    graph = FACTS["a convolution reads what it is added to"]
    with pytest.raises(BackendError, match="float16 ends"):
        lower(graph, stored(graph), TARGETS["trt-int8"], {**some_ranges(graph, 0), "x0": (-1.0, 1e29)})
