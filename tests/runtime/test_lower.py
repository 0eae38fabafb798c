"""One canonical graph, many engines: the integers of the file are the integers that run."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import LEVELS, norm_graph, random_weights, tiny_graph
from lowering import (
    FP32,
    INT8,
    MIXTURES,
    PADS,
    Feed,
    convolutions,
    feed_of,
    optimized,
    picture,
    ranges_of,
    reference,
    run,
    stored,
)
from numpy.typing import NDArray
from onnx import numpy_helper

from inr_runtime.builder import OUTPUT
from inr_runtime.errors import GraphError, UsageError
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.int8plan import plan_int8
from inr_runtime.lower import CPU_TARGETS, TARGETS, lower, target_named
from inr_runtime.sample import TimeTensor
from inr_runtime.tensors import quantize


def time_feed(t: float) -> Feed:
    return {"x0": TimeTensor("encoding", 12, levels=LEVELS).sample(t)}


@pytest.mark.parametrize("t", [0.0, 3.0, 7.5])
def test_float_is_the_plain_model_rounded_to_8_bits(t: float) -> None:
    graph, feed = tiny_graph(), time_feed(t)
    weights = random_weights(graph, 3)
    frame = run(lower(graph, weights, FP32), feed)
    wanted = picture(reference(graph, weights, feed)["e6"])
    assert (frame.shape, frame.dtype) == ((1, 32, 48, 3), np.uint8)
    assert np.abs(frame.astype(int) - wanted).max() <= 1  # halves may fall either way
    assert (frame == wanted).mean() > 0.999


@pytest.mark.parametrize("kind", ["LeakyRelu", "Relu", "silu", "bounded"])
def test_int8_runs_on_integers_from_the_input_to_the_picture(kind: str, tmp_path: Path) -> None:
    """No float convolution, no dequantization on the way: these are what costs time."""
    graph = convolutions(kind)
    weights, feed = stored(graph), feed_of(graph)
    edges = reference(graph, weights, feed)
    lowered = lower(graph, weights, INT8, ranges_of(edges))
    ops = Counter(node.op_type for node in optimized(lowered, tmp_path / "optimized.onnx").node)
    assert ops["QLinearConv"] == 3
    assert ops["QuantizeLinear"] == 1
    assert not ops.keys() & {"Conv", "FusedConv", "DequantizeLinear", "LeakyRelu", "Relu", "Sigmoid", "Mul", "Clip"}
    difference = np.abs(run(lowered, feed).astype(int) - picture(edges[graph.output]))
    assert difference.mean() < 2.5


def after_a_convolution(op: str, low: float, high: float, readers: int = 1) -> CanonicalGraph:
    """Clip behind a convolution, or behind the sum of two; a second reader sees what was not limited."""
    nodes = [Node("Conv", ("x", "wa"), "a", PADS), Node("Conv", ("a", "wb"), "b", PADS)]
    nodes += [Node("Add", ("a", "b"), "s")] if op == "Add" else []
    source = "s" if op == "Add" else "b"
    nodes += [Node("Clip", (source, "low", "high"), "c"), Node("Conv", ("c", "wc"), "d", PADS)]
    nodes += [Node("Add", ("d", source), "e")] if readers > 1 else []
    constants = {"low": np.asarray(np.float32(low)), "high": np.asarray(np.float32(high))}
    weights = [Port("wa", (8, 4, 3, 3)), Port("wb", (8, 8, 3, 3)), Port("wc", (8, 8, 3, 3)), Port("wd", (3, 8, 1, 1))]
    nodes += [Node("Conv", ("e" if readers > 1 else "d", "wd"), "out")]
    return renumber([Port("x", (1, 4, 8, 10))], weights, constants, nodes, "out")


@pytest.mark.parametrize("op", ["Conv", "Add"])
@pytest.mark.parametrize(("low", "high", "readers", "fused"), [
    (-0.25, 1.0, 1, True), (0.0, 6.0, 1, True), (-9.0, 9.0, 1, True),
    (-0.25, 0.5, 1, False), (0.125, 1.0, 1, False), (1.0, -1.0, 1, False), (-0.25, 1.0, 2, False),
])  # fmt: skip
def test_a_clip_is_the_saturation_of_what_it_follows(
    op: str, low: float, high: float, readers: int, fused: bool, tmp_path: Path
) -> None:
    graph = after_a_convolution(op, low, high, readers)
    assert bool(plan_int8(graph).clips) == fused
    if not low <= high:
        return
    weights, feed = stored(graph), feed_of(graph)
    edges = reference(graph, weights, feed)
    wide = dict.fromkeys(ranges_of(edges), (-4.0, 4.0))  # the clip's limits hold whatever the file says
    lowered = lower(graph, weights, INT8, wide)
    ops = Counter(node.op_type for node in optimized(lowered, tmp_path / "optimized.onnx").node)
    assert ("Clip" in ops) == (not fused)
    assert np.abs(run(lowered, feed).astype(int) - picture(edges[graph.output])).mean() < 5
    assert np.abs(run(lower(graph, weights, FP32), feed).astype(int) - picture(edges[graph.output])).max() <= 1


def test_what_works_on_one_position_stays_exact(tmp_path: Path) -> None:
    """The stem costs nothing in float32, and an encoding is not to be rounded to 8 bits."""
    graph = tiny_graph()
    weights, feed = random_weights(graph, 0), time_feed(2.0)
    lowered = lower(graph, weights, INT8, ranges_of(reference(graph, weights, feed)))
    nodes = optimized(lowered, tmp_path / "optimized.onnx").node
    ops = Counter(node.op_type for node in nodes)
    assert (ops["Conv"] + ops["FusedConv"], ops["QLinearConv"]) == (1, 2)
    assert next(n for n in nodes if "Conv" in n.op_type).input[0] == "x0"


def rows_of(values: NDArray[np.integer], scales: NDArray[np.float32]) -> list[tuple[float, bytes]]:
    """Every output channel's scale and integers, in no order."""
    return sorted((float(s), v.astype(np.int8).tobytes()) for s, v in zip(scales, values, strict=True))


@pytest.mark.parametrize("kind", ["LeakyRelu", "Relu", "silu", "bounded"])
def test_the_integers_that_run_are_the_integers_of_the_file(kind: str) -> None:
    graph = convolutions(kind)
    weights, edges = stored(graph), reference(graph, stored(graph), feed_of(graph))
    lowered = lower(graph, weights, INT8, ranges_of(edges))
    for port, tensor in zip(graph.weights, weights, strict=True):
        if len(port.shape) == 4:
            # Channels may be in another order, as under a shuffle, and stand under another name then.
            name = next(k for k in lowered.initializers if re.fullmatch(rf"{port.name}(/\d+)?\.q", k))[:-2]
            values, scales, zeros = (lowered.initializers[f"{name}.{part}"] for part in "qsz")
            assert values.dtype == np.int8
            assert not zeros.any()
            assert rows_of(values, scales) == rows_of(tensor.values, tensor.scales)
    floats = lower(graph, weights, FP32).initializers
    for port, tensor in zip(graph.weights, weights, strict=True):
        assert np.array_equal(floats[port.name], tensor.dequantize())


def test_a_bias_is_added_in_the_unit_of_the_sums() -> None:
    graph = convolutions("Relu")
    weights = stored(graph)
    lowered = lower(graph, weights, INT8, ranges_of(reference(graph, weights, feed_of(graph))))
    steps, unit = lowered.initializers["e0.b.q"], lowered.initializers["e0.b.s"]
    assert (steps.dtype, unit.shape) == (np.int32, (16,))
    bias = weights[1].dequantize()
    assert (np.abs(steps * unit.astype(np.float64) - bias) <= unit * 0.5001).all()


@pytest.mark.parametrize("target", CPU_TARGETS)
@pytest.mark.parametrize("graph", [tiny_graph(), convolutions("LeakyRelu"), convolutions("silu"), norm_graph()])
def test_three_frames_at_once_are_three_frames(target: str, graph: CanonicalGraph) -> None:
    weights, together = stored(graph), feed_of(graph, batch=3)
    apart = [{k: v[i : i + 1] for k, v in together.items()} for i in range(3)]
    ranges = ranges_of(reference(graph, weights, apart[0]))
    frames = run(lower(graph, weights, TARGETS[target], ranges, batch=3), together)
    one = lower(graph, weights, TARGETS[target], ranges)
    assert frames.shape == (3, graph.size[1], graph.size[0], 3)
    for frame, feed in zip(frames, apart, strict=True):
        difference = np.abs(frame.astype(int) - run(one, feed)[0])
        normed = any(node.op == "LayerNormalization" for node in graph.nodes)
        exact = target == "cpu-int8" and graph.inputs[0].shape[2] > 1 and not normed
        assert difference.max() <= (0 if exact else 1)


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_an_embedded_model_is_the_same_bit_for_bit(target: str) -> None:
    graph = tiny_graph()
    weights, feed = random_weights(graph, 1), time_feed(5.0)
    lowered = lower(graph, weights, TARGETS[target], ranges_of(reference(graph, weights, feed)))
    model = lowered.embedded()
    onnx.checker.check_model(model)
    inside = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, array in lowered.initializers.items():
        assert (inside[name].dtype, inside[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(inside[name], array)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run([OUTPUT], feed)[0], run(lowered, feed))
    assert len(lowered.model.SerializeToString()) < 6000  # no weights in there


def test_depthwise_convolutions_and_norms_are_float_and_the_others_are_not(tmp_path: Path) -> None:
    graph = norm_graph()
    weights, feed = stored(graph), feed_of(graph)
    lowered = lower(graph, weights, INT8, ranges_of(reference(graph, weights, feed)))
    ops = Counter(node.op_type for node in optimized(lowered, tmp_path / "optimized.onnx").node)
    assert (ops["QLinearConv"], ops["Conv"] + ops["FusedConv"], ops["LayerNormalization"]) == (3, 1, 2)


@pytest.mark.parametrize("name", MIXTURES)
def test_int8_where_only_part_of_a_graph_is_stored_integers(name: str) -> None:
    """Islands of float are slow, never wrong."""
    graph = MIXTURES[name]
    weights, feed = stored(graph), feed_of(graph)
    edges = reference(graph, weights, feed)
    plan = plan_int8(graph)
    assert set(plan.ranged) <= set(edges)
    frame = run(lower(graph, weights, INT8, ranges_of(edges)), feed)
    assert np.abs(frame.astype(int) - picture(edges[graph.output])).mean() < 2.5


def test_int8_without_ranges_says_what_to_do() -> None:
    graph = convolutions("Relu")
    for ranges in (None, {}):
        with pytest.raises(GraphError, match="use a float target or export with --int8"):
            lower(graph, stored(graph), INT8, ranges)
    assert lower(graph, stored(graph), FP32, None).target == FP32


@pytest.mark.parametrize("bad", [(np.nan, 1.0), (0.0, np.inf), (-1e38, 1e38)])
def test_ranges_that_are_none_are_refused(bad: tuple[float, float]) -> None:
    graph = convolutions("Relu")
    with pytest.raises(GraphError, match="not finite"):
        lower(graph, stored(graph), INT8, dict.fromkeys(graph.shapes, bad))


def test_weights_must_be_those_of_the_graph() -> None:
    graph = convolutions("Relu")
    weights = stored(graph)
    for few in (weights[:-1], (*weights, weights[0]), ()):
        with pytest.raises(GraphError, match=rf"has 6 weights, {len(few)} were given"):
            lower(graph, few, FP32)
    with pytest.raises(GraphError, match=r"w0: the graph declares \(16, 4, 3, 3\), the weights have \(16,\)"):
        lower(graph, (weights[1], weights[0], *weights[2:]), FP32)


@pytest.mark.parametrize(("bits", "axis"), [(9, 0), (16, 0), (8, 1), (8, 3)])
def test_int8_takes_8_bits_and_scales_per_output_channel(bits: int, axis: int) -> None:
    graph = convolutions("Relu")
    weights = stored(graph)
    other = quantize(weights[2].dequantize(), bits, axis)
    ranges = dict.fromkeys(graph.shapes, (-1.0, 1.0))
    lower(graph, (*weights[:2], quantize(weights[2].dequantize(), 8), *weights[3:]), INT8, ranges)
    with pytest.raises(GraphError, match="at most 8 bits with scales per output channel"):
        lower(graph, (*weights[:2], other, *weights[3:]), INT8, ranges)


def test_targets_have_names() -> None:
    assert [target_named(name).name for name in TARGETS] == list(TARGETS)
    with pytest.raises(UsageError, match="unknown target 'cpu-int4'; known: cpu-int8, cpu-fp32"):
        target_named("cpu-int4")
