"""Passes that make int8 faster: the picture keeps every integer, on both layouts and whatever stands around."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowering import NUMBERS, PADS, activation, feed_of, optimized, ranges_of, reference, stored, used_by
from lowering import run as run_lowered

from inr_runtime import lower as lowering
from inr_runtime import rewrite, strips
from inr_runtime.builder import Builder
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.int8plan import plan_int8
from inr_runtime.lower import TARGETS, Lowered, lower
from inr_runtime.program import Program
from inr_runtime.tensors import QuantTensor

INT8 = TARGETS["cpu-int8"]

VERSION = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
ODD = 7 if VERSION > (1, 23) else 8
"""Channels that no kernel likes. ONNX Runtime 1.23 computes them wrongly on CPUs with AMX, by up to 191 steps; the
rewritten graph, which has none of them between convolutions, is right there too."""
KINDS = ("LeakyRelu", "Relu", "silu", "square", "Gelu", "Sigmoid", "Tanh")


def as_planned(
    graph: CanonicalGraph, weights: tuple[QuantTensor, ...], ranges: dict[str, tuple[float, float]]
) -> Lowered:
    """Node for node as the canonical graph has it: what other engines are given."""
    by_name = {p.name: w for p, w in zip(graph.weights, weights, strict=True)}
    builder = Builder(graph, by_name, 1)
    lowering._lower_int8(builder, plan_int8(graph), ranges)
    return Lowered(builder.finish(), builder.initializers, INT8)


def upscaling(kind: str, order: str, block: int, kernel: int, width: int, tail: str, early: bool) -> CanonicalGraph:
    """Two upscalings and a head of `kernel` pixels; order: of channels; early: activation before the shuffle."""
    shuffle = (("blocksize", block), *((("mode", "CRD"),) if order == "CRD" else ()))
    nodes, x = [Node("Conv", ("x", "wa", "ba"), "a", PADS)], "a"
    for name in ("a", "b"):
        if name == "b":
            nodes.append(Node("Conv", (x, "wb"), "b", PADS))
        deep = f"{name}.deep"
        if early:
            nodes += [*activation(kind, name, deep), Node("DepthToSpace", (deep,), f"{name}.up", shuffle)]
        else:
            nodes += [Node("DepthToSpace", (name,), deep, shuffle), *activation(kind, deep, f"{name}.up")]
        x = f"{name}.up"
    pads = (("kernel_shape", (kernel, kernel)), ("pads", (kernel // 2,) * 4))
    nodes += [Node("Conv", (x, "wh", "bh"), "head", pads), *TAILS[tail]]
    shapes = {"wa": (width * block**2, 4, 3, 3), "ba": (width * block**2,), "wb": (width * block**2, width, 3, 3)}
    colours = 48 if tail == "shuffled" else 3
    shapes |= {"wh": (colours, width, kernel, kernel), "bh": (colours,)}
    size = {"start": [0, 0], "end": [5, 7], "axes": [2, 3], "steps": [1, 1]}
    constants = {**NUMBERS, "one": np.float32(1), "half": np.float32(0.5), **size}
    weights = [Port(name, shape) for name, shape in shapes.items()]
    return renumber([Port("x", (1, 4, 4, 5))], weights, used_by(nodes, constants), nodes, nodes[-1].output)


_TANH = [Node("Tanh", ("head",), "t"), Node("Add", ("t", "one"), "t1"), Node("Mul", ("t1", "half"), "rgb")]
TAILS = {
    "linear": [],
    "sigmoid": [Node("Sigmoid", ("head",), "rgb")],
    "tanh": _TANH,
    "tanh, cut": [*_TANH, Node("Slice", ("rgb", "start", "end", "axes", "steps"), "cut")],
    "shuffled": [Node("DepthToSpace", ("head",), "rgb", (("blocksize", 4),))],
}


def pictures(graph: CanonicalGraph, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """By the plain int8 graph and by the rewritten one."""
    weights, feed = stored(graph, seed), feed_of(graph, seed=seed)
    ranges = ranges_of(reference(graph, weights, feed))
    plain = run_lowered(as_planned(graph, weights, ranges), feed)
    return plain, run_lowered(lower(graph, weights, INT8, ranges), feed)


@given(
    kind=st.sampled_from(KINDS),
    order=st.sampled_from(["CRD", "DCR"]),
    block=st.integers(2, 3),
    kernel=st.sampled_from([1, 3, 5]),
    width=st.sampled_from([4, 12, ODD]),
    tail=st.sampled_from(sorted(TAILS)),
    early=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_all_passes_together_keep_every_integer(
    kind: str, order: str, block: int, kernel: int, width: int, tail: str, early: bool, seed: int
) -> None:
    plain, fast = pictures(upscaling(kind, order, block, kernel, width, tail, early), seed)
    np.testing.assert_array_equal(plain, fast)


def program_of(graph: CanonicalGraph) -> Program:
    weights, feed = stored(graph), feed_of(graph)
    named = {p.name: w for p, w in zip(graph.weights, weights, strict=True)}
    return Program.planned(graph, named, plan_int8(graph), ranges_of(reference(graph, weights, feed)))


Pass = Callable[[Program], Program]
EXAMPLES: dict[Pass, tuple[CanonicalGraph, dict[str, int]]] = {
    rewrite.before_shuffles: (upscaling("Gelu", "CRD", 2, 3, 4, "linear", False), {"Gelu": 2, "DepthToSpace": 2}),
    rewrite.fold_into_shuffles: (upscaling("LeakyRelu", "CRD", 2, 3, 4, "linear", True), {"Conv": 3}),
    rewrite.sigmoid_tail: (upscaling("Relu", "DCR", 2, 1, 4, "tanh, cut", True), {"Sigmoid": 1, "Reunit": 1}),
    rewrite.shuffles_in_blocks: (upscaling("silu", "CRD", 3, 3, 4, "sigmoid", True), {"DepthToSpace": 2}),
    rewrite.columns_before_picture: (upscaling("Relu", "DCR", 2, 1, 4, "shuffled", True), {"DepthToSpace": 3}),
    rewrite.align_channels: (upscaling("Relu", "DCR", 2, 3, ODD, "linear", True), {"Slice": 1}),
}


@pytest.mark.parametrize("one_pass", EXAMPLES, ids=lambda p: str(p.__name__))
def test_each_pass_alone_changes_the_graph_and_no_integer(one_pass: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, found = EXAMPLES[one_pass]
    before = program_of(graph)
    after = rewrite.repeated(one_pass, before)
    ops = Counter(node.op for node in after.nodes)
    assert after is not before
    assert found.items() <= ops.items()
    monkeypatch.setattr(rewrite, "PASSES", (one_pass,))
    plain, changed = pictures(graph, 1)
    np.testing.assert_array_equal(plain, changed)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_alone_changes_no_integer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left when no pass runs: maps lie channels last, and functions are operators on bytes."""
    monkeypatch.setattr(rewrite, "PASSES", ())
    for order, early in (("CRD", True), ("DCR", False)):
        plain, emitted = pictures(upscaling(kind, order, 2, 3, 4, "linear", early), 2)
        np.testing.assert_array_equal(plain, emitted)


def test_a_pass_that_finds_nothing_gives_the_same_program_back() -> None:
    graph = upscaling("Relu", "DCR", 2, 3, 16, "linear", True)
    done = rewrite.rewrite(program_of(graph))
    assert rewrite.rewrite(done) is done


def test_a_folded_kernel_is_the_convolution_after_the_shuffle() -> None:
    """Against direct convolution in integers, borders included."""
    rng = np.random.default_rng(3)
    for block, side, mode in ((2, 3, "CRD"), (3, 5, "DCR"), (2, 5, "CRD"), (4, 1, "CRD")):
        values = rng.integers(-9, 9, (2, 3, side, side)).astype(np.int32)
        kernel = QuantTensor(values, np.zeros(2, np.int32), 0)
        coarse = rng.integers(0, 9, (3 * block**2, 4, 5))
        folded = rewrite.fold_kernel(kernel, block, mode).values
        wanted = convolve(shuffle(coarse, block, mode), values)
        np.testing.assert_array_equal(shuffle(convolve(coarse, folded), block, mode), wanted)


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    reach = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], (1, 2))
    return np.einsum("chwij,ocij->ohw", windows, kernel)


def shuffle(x: np.ndarray, block: int, mode: str) -> np.ndarray:
    channels, height, width = x.shape[0] // block**2, *x.shape[1:]
    parts = x.reshape(
        (channels, block, block, height, width) if mode == "CRD" else (block, block, channels, height, width)
    )
    parts = parts if mode == "CRD" else parts.transpose(2, 0, 1, 3, 4)
    return parts.transpose(0, 3, 1, 4, 2).reshape(channels, height * block, width * block)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("kind", ["LeakyRelu", "Relu", "silu", "square"])
def test_strips_of_wide_maps_keep_every_integer(kind: str, kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders, and rows that two strips read, and more strips than one operator joins; no map of the program is then as
    large as the one that was cut.
    """
    graph = upscaling(kind, "CRD", 2, kernel, 16, "linear", True)
    whole = rewrite.rewrite(program_of(graph))
    for name, value in {"LARGE": 1, "STRIP": 1000, "NARROWS": 1, "MOST_JOINED": 3}.items():
        monkeypatch.setattr(strips, name, value)
    cut = rewrite.rewrite(program_of(graph))
    wide = [max(math.prod(p.shapes[node.output]) for node in p.nodes) for p in (whole, cut)]
    assert sum(node.op == "Slice" for node in cut.nodes) > 3
    assert wide[1] < wide[0] if kernel == 1 else wide[1] <= wide[0]
    plain, fast = pictures(graph, 4)
    np.testing.assert_array_equal(plain, fast)


@pytest.mark.parametrize("kind", ["LeakyRelu", "Relu", "silu", "square"])
def test_nothing_is_turned_around_between_convolutions(kind: str, tmp_path: Path) -> None:
    """Of the graph that the engine runs: integers only, one move a shuffle, no map from one layout to the other."""
    graph = upscaling(kind, "CRD", 2, 3, 16, "tanh", True)
    weights = stored(graph)
    lowered = lower(graph, weights, INT8, ranges_of(reference(graph, weights, feed_of(graph))))
    nodes = optimized(lowered, tmp_path / "o.onnx").node
    ops = Counter(node.op_type for node in nodes)
    moves = [list(n.attribute[0].ints) for n in nodes if n.op_type == "Transpose"]
    turns = [order for order in moves if order in ([0, 2, 3, 1], [0, 3, 1, 2])]
    assert ops["QLinearConv"] == 3
    assert len(turns) == 1  # the sampled input
    assert ops["Transpose"] == 3
    assert not ops.keys() & {"Conv", "FusedConv", "DequantizeLinear", "Tanh", "Sigmoid", "DepthToSpace"}


def test_weights_that_two_convolutions_share_are_changed_for_one_of_them() -> None:
    graph = upscaling("Relu", "CRD", 2, 3, 4, "linear", True)
    nodes = [*graph.nodes]
    nodes[3] = dataclasses.replace(nodes[3], inputs=(nodes[3].inputs[0], graph.nodes[0].inputs[1]))
    shared = renumber(graph.inputs, graph.weights, graph.constants, nodes, graph.output)
    plain, fast = pictures(shared, 2)
    np.testing.assert_array_equal(plain, fast)
