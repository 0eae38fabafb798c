"""Graphs that ask for too much: known from their shapes alone, refused before anything is allocated."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from builders import tiny_graph
from zoo import bytes_of, good

from inr_runtime.errors import GraphError, LimitError, NvbError
from inr_runtime.graph import CanonicalGraph, Constant, Node, Port, renumber
from inr_runtime.int8plan import plan_int8
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.lower import TARGETS, lower
from inr_runtime.tensors import quantize

X = Port("x", (1, 3, 64, 64))
Build = Callable[[], CanonicalGraph]


def graph(
    *nodes: Node, weights: Sequence[Port] = (), x: Port = X, constants: Mapping[str, Constant] | None = None
) -> Build:
    return lambda: renumber([x], weights, constants or {}, nodes, nodes[-1].output)


def resize(height: int, width: int) -> Build:
    size = {"size": np.array([1, 3, height, width], np.int64)}
    return graph(Node("Resize", ("x", "", "", "size"), "e"), constants=size)


def chain(op: str, count: int) -> Build:
    return graph(*(Node(op, (f"e{i - 1}" if i else "x",), f"e{i}") for i in range(count)))


def padded(count: int) -> Build:
    """Convolutions of one number that each add 1024 pixels of padding on every side."""
    pads = (("pads", (1024,) * 4),)
    return graph(
        *(Node("Conv", (f"e{i - 1}" if i else "x", "w"), f"e{i}", pads) for i in range(count)),
        Node("Slice", (f"e{count - 1}", "zero", "eight", "axes", "one"), "out"),
        weights=[Port("w", (3, 3, 1, 1))],
        constants={k: np.array(v, np.int64) for k, v in CUT.items()},
    )


CUT = {"zero": [0, 0], "eight": [8, 8], "axes": [2, 3], "one": [1, 1]}
SHRUNK = Port("x", (1, 3 * 64 * 64, 1, 1))
BOMBS: dict[str, tuple[Build, str]] = {
    "a picture of a billion pixels": (resize(1 << 15, 1 << 15), "pixels"),
    "a picture of more pixels than there are numbers": (resize(1 << 62, 1 << 62), "pixels"),
    "padding upon padding": (padded(20), "activation_bytes"),
    "a shuffle from too many channels": (
        graph(
            Node("Conv", ("x", "w"), "a", (("pads", (512,) * 4),)),
            Node("DepthToSpace", ("a",), "b", (("blocksize", 64),)),
            Node("Conv", ("b", "v"), "c", (("strides", (1024, 1024)),)),
            weights=[Port("w", (4096, 3, 1, 1)), Port("v", (3, 1, 1, 1))],
        ),
        "activation_bytes",
    ),
    "a broadcast of two lines": (
        lambda: renumber(
            [Port("x", (1, 3, 100_000, 1)), Port("y", (1, 3, 1, 100_000))],
            [],
            {},
            [Node("Add", ("x", "y"), "e")],
            "e",
        ),
        "pixels",
    ),
    "too many multiplications": (
        graph(
            Node("Conv", ("x", "w"), "a", (("pads", (500,) * 4),)),
            Node("Conv", ("a", "v"), "b"),
            weights=[Port("w", (512, 3, 99, 99)), Port("v", (3, 512, 99, 99))],
        ),
        "macs_per_frame",
    ),
    "a weight of too many numbers": (
        graph(Node("Conv", ("x", "w"), "e"), weights=[Port("w", (3, 3, 1 << 20, 1 << 20))]),
        "do not fit",
    ),
    "an unused weight of too many numbers": (
        graph(Node("Relu", ("x",), "e"), weights=[Port("w", (1 << 40, 1 << 40))]),
        "symbols",
    ),
    "many weights that are too many together": (
        graph(Node("Relu", ("x",), "e"), weights=[Port(f"w{i}", (10_000_000,)) for i in range(21)]),
        "symbols",
    ),
    "inputs that are too large together": (
        lambda: renumber(
            [X, *(Port(f"x{i}", (1, 100_000_000)) for i in range(30))], [], {}, [Node("Relu", ("x",), "e")], "e"
        ),
        "activation_bytes",
    ),
    "a transposed convolution that unfolds to gigabytes": (
        graph(Node("ConvTranspose", ("x", "w"), "e"), weights=[Port("w", (3, 3, 500, 500))]),
        "activation_bytes",
    ),
    "a kernel that int8 unfolds for every pixel": (
        graph(
            Node("Conv", ("x", "w"), "e", (("pads", (1000,) * 4),)),
            weights=[Port("w", (3, 3, 99, 99))],
        ),
        "activation_bytes",
    ),
    "a tensor joined with itself until its size cannot be printed": (
        graph(*(Node("Concat", (f"e{i - 1}" if i else "x",) * 16, f"e{i}", (("axis", 2),)) for i in range(4000))),
        r"above 2\*\*62",
    ),
    "a shuffle of sides without end": (
        graph(
            Node("Resize", ("x", "", "", "size"), "a"),
            Node("DepthToSpace", ("a",), "b", (("blocksize", 64),)),
            x=Port("x", (1, 3 * 64 * 64, 1, 1)),
            constants={"size": np.array([1, 3 * 64 * 64, 1 << 60, 1 << 60])},
        ),
        r"above 2\*\*62",
    ),
    "too many weights": (
        graph(Node("Relu", ("x",), "e"), weights=[Port(f"w{i}", (1,)) for i in range(4097)]),
        "tensors",
    ),
    "too many nodes": (chain("Relu", 4097), "graph_nodes"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_reader_does_not_spend_itself_on(name: str) -> None:
    build, limit = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises((LimitError, GraphError), match=limit):
            build()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(graph_nodes=4), "graph_nodes"),
        (Limits(tensors=2), "tensors"),
        (Limits(pixels=95), "pixels"),
        (Limits(macs_per_frame=12 * 24 * 72 - 1), "macs_per_frame"),
        (Limits(activation_bytes=1000), "activation_bytes"),
        (Limits(symbols=12 * 73 - 1), "symbols"),
        (Limits(graph_bytes=100), "graph_bytes"),
    ],
)
def test_every_limit_is_the_callers_and_named(limits: Limits, name: str) -> None:
    data = bytes_of(good())
    assert CanonicalGraph.from_bytes(data, DEFAULT_LIMITS).macs == 12 * 24 * 72
    with pytest.raises(LimitError, match=rf"\({name}\), .*; from Python, Limits\({name}=\.\.\.\) does$"):
        CanonicalGraph.from_bytes(data, limits)


@pytest.mark.parametrize("field", [1, 5, 11, 13])
def test_messages_in_masses_are_refused_in_little_memory(field: int) -> None:
    """Empty nodes, constants, inputs, comments: a megabyte of them deflates to one kilobyte."""
    masses = bytes([field << 3 | 2, 0]) * 400_000
    size, length = len(masses), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    data = bytes_of(good()) + bytes([7 << 3 | 2, *length, size]) + masses
    if field == 13:  # nobody reads those
        assert CanonicalGraph.from_bytes(data).digest == CanonicalGraph.from_model(good()).digest
        return
    with pytest.raises(LimitError, match=r"graph_nodes|tensors"):
        CanonicalGraph.from_bytes(data)
    with pytest.raises(LimitError, match="graph_bytes"):
        CanonicalGraph.from_bytes(data + bytes(DEFAULT_LIMITS.graph_bytes))


def test_a_graph_may_be_as_deep_as_the_limit() -> None:
    """Thousands of nodes in a row, moved or leaky: no recursion, no quadratic work."""
    moved = [Node("Reshape", (f"e{i - 1}" if i else "x", "shape"), f"e{i}") for i in range(4096)]
    leaky = [Node("Conv", ("x", "w"), "e0"), *(Node("LeakyRelu", (f"e{i}",), f"e{i + 1}") for i in range(4000))]
    weights, constants = [Port("w", (3, 3, 1, 1))], {"shape": np.array(X.shape, np.int64)}
    for nodes in (moved, leaky):
        deep = CanonicalGraph.from_bytes(renumber([X], weights, constants, nodes, nodes[-1].output).to_bytes())
        ranges = dict.fromkeys(deep.shapes, (-1.0, 1.0))
        stored = [quantize(np.ones(p.shape), 8) for p in deep.weights]
        assert plan_int8(deep).edges or nodes is moved
        assert lower(deep, stored, TARGETS["cpu-int8"], ranges).model.graph.node


@pytest.mark.parametrize("seed", range(4))
def test_mutated_graphs_are_refused_or_valid(seed: int) -> None:
    """Bytes changed, dropped and inserted: the outcome is a graph or one of our errors, never another exception."""
    original, rng = tiny_graph().to_bytes(), random.Random(seed)
    limits = Limits(macs_per_frame=10**8, activation_bytes=1 << 24)
    outcomes = set()
    for _ in range(400):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        try:
            CanonicalGraph.from_bytes(bytes(data), limits)
            outcomes.add("accepted")
        except NvbError as error:
            outcomes.add(type(error).__name__)
    assert {"accepted", "GraphError"} <= outcomes


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 100, b"not a graph", bytes(range(256)), b"\x0a" * 10_000])
def test_bytes_that_are_no_graph_are_refused(data: bytes) -> None:
    with pytest.raises(GraphError):
        CanonicalGraph.from_bytes(data)
