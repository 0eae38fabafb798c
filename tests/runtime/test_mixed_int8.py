"""Files that keep some layers of int8 in float: an edge without a range is not quantized."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from builders import tiny_graph
from lowering import INT8, MIXTURES, convolutions, feed_of, optimized, picture, ranges_of, reference, run, stored

from inr_runtime import open_video
from inr_runtime.chunks import Header
from inr_runtime.errors import GraphError
from inr_runtime.format import write_nvb
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.info import VideoInfo
from inr_runtime.int8plan import int8_mac_share, plan_int8, plan_without
from inr_runtime.lower import lower
from inr_runtime.sample import TimeTensor
from inr_runtime.segment import Segment, make_thumbnail
from inr_runtime.tensors import quantize

GRAPHS = {
    **MIXTURES,
    **{kind: convolutions(kind) for kind in ("LeakyRelu", "Relu", "silu", "square")},
    "tiny": tiny_graph(),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_choice_of_edges_is_told_by_the_ranges_that_are_left(name: str) -> None:
    graph = GRAPHS[name]
    weights, feed = stored(graph), feed_of(graph)
    edges = reference(graph, weights, feed)
    ranges, wanted = ranges_of(edges), picture(edges[graph.output])
    full = plan_int8(graph)
    shares = {int8_mac_share(graph, full)}
    for dropped in itertools.chain.from_iterable(itertools.combinations(full.ranged, n) for n in (1, 2, 3)):
        plan = plan_without(graph, dropped)
        assert plan is not None
        assert plan.int8 < full.int8
        assert plan_int8(graph, plan.ranged) == plan
        assert not set(dropped) & set(plan.ranged)
        shares.add(int8_mac_share(graph, plan))
        if plan.ranged:
            frame = run(lower(graph, weights, INT8, {edge: ranges[edge] for edge in plan.ranged}), feed)
            assert np.abs(frame.astype(int) - wanted).mean() < 2.5
    assert max(shares) == int8_mac_share(graph, full) <= 1
    assert plan_without(graph, full.ranged) == plan_int8(graph, ())
    assert not plan_int8(graph, ()).int8


@pytest.mark.parametrize("name", GRAPHS)
def test_any_subset_of_ranges_plays_nearly_the_same_or_is_refused(name: str) -> None:
    graph, rng = GRAPHS[name], random.Random(0)
    weights, feed = stored(graph), feed_of(graph)
    edges = reference(graph, weights, feed)
    for share in [0.2, 0.5, 0.8, 0.9] * 5:
        some = {edge: r for edge, r in ranges_of(edges).items() if rng.random() < share}
        try:
            frame = run(lower(graph, weights, INT8, some), feed)
        except GraphError:
            continue
        assert np.abs(frame.astype(int) - picture(edges[graph.output])).mean() < 2.5


def test_the_engine_runs_just_these_layers_in_float(tmp_path: Path) -> None:
    graph = convolutions("LeakyRelu")
    weights, feed = stored(graph), feed_of(graph)
    ranges = ranges_of(reference(graph, weights, feed))
    plan = plan_without(graph, ["e2"])  # what the second convolution gives and the third reads
    assert plan is not None
    lowered = lower(graph, weights, INT8, {edge: ranges[edge] for edge in plan.ranged})
    ops = Counter(node.op_type for node in optimized(lowered, tmp_path / "optimized.onnx").node)
    assert (ops["QLinearConv"], ops["Conv"] + ops["FusedConv"]) == (1, 2)
    kinds = {
        (name.split(".")[0].split("/")[0], str(w.dtype)) for name, w in lowered.initializers.items() if w.ndim == 4
    }
    assert kinds == {("w0", "int8"), ("w2", "float32"), ("w4", "float32")}


def test_a_file_with_fewer_ranges_plays_and_is_closer_to_float(tmp_path: Path) -> None:
    graph = convolutions("silu")
    weights = stored(graph)
    time = TimeTensor("row", 2, data=quantize(np.random.default_rng(1).random((2, *graph.inputs[0].shape[1:])), 8))
    ranges = ranges_of(reference(graph, weights, {"x0": time.sample(1.0)}))
    plan = plan_without(graph, [plan_int8(graph).ranged[-1]])
    assert plan is not None
    assert plan.int8
    choices = {"all": ranges, "some": {edge: ranges[edge] for edge in plan.ranged}}
    frames = {}
    for name, chosen in choices.items():
        thumbnail = make_thumbnail(run(lower(graph, weights, INT8, chosen), {"x0": time.sample(0.0)})[0])
        header = Header(VideoInfo(20, 16, 2), "mixed", bytes(16), (graph,), {0: chosen})
        write_nvb(tmp_path / f"{name}.nvb", header, [Segment(0, 0, 2, weights, (time,), thumbnail)])
        with open_video(tmp_path / f"{name}.nvb", threads=1) as video:
            assert video.target == INT8
            assert video.reader.header.ranges[0].keys() == chosen.keys()
            frames[name] = video[1].astype(int)
    with open_video(tmp_path / "all.nvb", target="cpu-fp32", threads=1) as video:
        errors = {name: np.square(frame - video[1]).mean() for name, frame in frames.items()}
    assert 0 < errors["some"] < errors["all"]


def test_thousands_of_nodes_without_ranges_are_planned_at_once() -> None:
    """Each convolution asks for what the one before would have given: that must not be followed step by step."""
    nodes = []
    for i in range(1300):
        nodes += [Node("Conv", (f"a{i}", "w"), f"c{i}"), Node("LeakyRelu", (f"c{i}",), f"a{i + 1}")]
    graph = renumber([Port("a0", (1, 3, 2, 2))], [Port("w", (3, 3, 1, 1))], {}, nodes, "a1300")
    assert isinstance(graph, CanonicalGraph)
    ranges = dict.fromkeys(plan_int8(graph).ranged[1:], (-1.0, 1.0))
    with pytest.raises(GraphError, match="no activation ranges"):
        lower(graph, stored(graph), INT8, ranges)
