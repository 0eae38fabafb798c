"""The dialect from its good side: graphs survive, shapes are ONNX's, engines take what was accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import random_weights, tiny_graph, widen_norms
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.cost import macs_of
from inr_runtime.errors import GraphError
from inr_runtime.graph import CanonicalGraph, Node, Port, make_model, renumber
from inr_runtime.ops import OPS, infer_shape

FLOAT = TensorProto.FLOAT


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def scalar(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


# Operator, shapes of its data or its constants in the order of its inputs (None: absent), attributes.
Example = tuple[str, list[Any], dict[str, Any]]
X = (1, 8, 6, 5)
RESIZES: list[Example] = [
    ("Resize", [X, None, None, ints(1, 8, *size)], {"mode": mode, "coordinate_transformation_mode": frame})
    for size in ((12, 10), (6, 9), (3, 4))
    for mode in ("nearest", "linear")
    for frame in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
]
UNARY: list[Example] = [(op, [X], {}) for op in ("Relu", "LeakyRelu", "Gelu", "Sigmoid", "Tanh", "Sin")]
BINARY: list[Example] = [(op, [X, other], {}) for op in ("Add", "Sub", "Mul", "Div") for other in (X, (5,), (8, 1, 1))]
EXAMPLES: list[Example] = [
    ("Conv", [X, (4, 8, 3, 3), (4,)], {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}),
    ("Conv", [X, (4, 8, 1, 1)], {}),
    ("Conv", [X, (8, 1, 3, 5)], {"group": 8, "pads": [1, 2, 1, 2], "dilations": [1, 1]}),
    ("Conv", [X, (6, 4, 2, 2)], {"group": 2, "strides": [2, 3], "pads": [0, 1, 3, 2], "dilations": [2, 1]}),
    ("ConvTranspose", [X, (8, 3, 2, 2), (3,)], {"strides": [2, 2], "kernel_shape": [2, 2]}),
    ("ConvTranspose", [X, (8, 3, 4, 3)], {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    ("DepthToSpace", [X], {"blocksize": 2}),
    ("DepthToSpace", [X], {"blocksize": 2, "mode": "CRD"}),
    *RESIZES,
    ("Resize", [X, None, None, ints(1, 8, 12, 10)], {"nearest_mode": "floor", "cubic_coeff_a": -0.5}),
    *UNARY,
    ("LeakyRelu", [X], {"alpha": 0.25}),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("Clip", [X, scalar(-1), scalar(1)], {}),
    *BINARY,
    ("Sub", [scalar(1), X], {}),
    ("Mul", [X, np.linspace(0, 1, 8, dtype=np.float32).reshape(8, 1, 1)], {}),
    ("LayerNormalization", [X, (5,), (5,)], {}),
    ("LayerNormalization", [X, np.ones(1, np.float32)], {"axis": -1, "epsilon": 1e-6}),
    ("Concat", [X, (1, 3, 6, 5), X], {"axis": 1}),
    ("Concat", [X, X], {"axis": -1}),
    ("Slice", [X, ints(1, 0), ints(7, 99), ints(1, 3), ints(1, 1)], {}),
    ("Slice", [X, ints(2), ints(3), ints(-2), ints(1)], {}),
    ("Reshape", [X, ints(1, 2, 4, 30)], {}),
    ("Reshape", [X, ints(1, 240)], {"allowzero": 1}),
    ("Tile", [X, ints(1, 1, 2, 3)], {}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
]


def one_node(example: Example) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A model of one operator and the shape that this project infers for it."""
    op, parts, attributes = example
    names = ["" if p is None else f"c{i}" if isinstance(p, np.ndarray) else f"x{i}" for i, p in enumerate(parts)]
    constants = {n: p for n, p in zip(names, parts, strict=True) if isinstance(p, np.ndarray)}
    data = {n: p for n, p in zip(names, parts, strict=True) if isinstance(p, tuple)}
    shapes = {**data, **{n: c.shape for n, c in constants.items()}}
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
    shape = infer_shape(op, names, plain, shapes, constants)
    inputs = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in data.items()]
    tensors = [numpy_helper.from_array(c, n) for n, c in constants.items()]
    output = helper.make_tensor_value_info("e0", FLOAT, [None] * len(shape))
    graph = helper.make_graph([helper.make_node(op, names, ["e0"], **attributes)], "one", inputs, [output], tensors)
    return make_model(graph), shape


def test_there_is_an_example_of_every_operator() -> None:
    assert {op for op, _, _ in EXAMPLES} == set(OPS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e[0])
def test_shapes_are_those_that_onnx_infers_and_the_engine_gives(example: Example) -> None:
    model, shape = one_node(example)
    onnx.checker.check_model(model)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output[0]
    assert tuple(d.dim_value for d in inferred.type.tensor_type.shape.dim) == shape
    model = widen_norms(model, {"e0": shape[-1]})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()}
    assert session.run(None, feed)[0].shape == shape


def test_macs_are_those_of_the_convolutions() -> None:
    assert macs_of("Conv", [(1, 8, 6, 5), (4, 8, 3, 3)], (1, 4, 6, 5)) == 4 * 30 * 8 * 9
    assert macs_of("Conv", [(1, 8, 6, 5), (8, 1, 3, 3)], (1, 8, 6, 5)) == 8 * 30 * 9
    assert macs_of("ConvTranspose", [(1, 8, 6, 5), (8, 3, 2, 2)], (1, 3, 12, 10)) == 8 * 30 * 3 * 4
    assert macs_of("Gelu", [(1, 8, 6, 5)], (1, 8, 6, 5)) == 0
    assert tiny_graph().macs == 576 * 12 + 64 * 96 * 54 + 3 * 32 * 48 * 4


def test_scratch_memory_is_counted_where_engines_unfold_pictures() -> None:
    """Measured: ONNX Runtime writes a float (a byte in int8) for every number of the kernel at every pixel."""
    one, many = Port("w", (3, 3, 1, 1)), Port("w", (3, 3, 9, 9))
    pads = (("pads", (4, 4, 4, 4)),)
    x = [Port("x", (1, 3, 10, 10))]
    pictures = 2 * 1200
    assert renumber(x, [one], {}, [Node("Conv", ("x", "w"), "e")], "e").activation_bytes == pictures
    assert renumber(x, [many], {}, [Node("Conv", ("x", "w"), "e", pads)], "e").activation_bytes == pictures + 8 * 8100
    unfolded = renumber(x, [many], {}, [Node("ConvTranspose", ("x", "w"), "e", pads)], "e")
    assert unfolded.activation_bytes == pictures + 4 * 3 * 8100


def test_activations_are_counted_while_they_are_needed() -> None:
    """x and its three copies: the second reads the first late, so three are alive at once beside x."""
    ports = [Port("x", (1, 3, 10, 10))]
    chain = [Node("Relu", ("x",), "a"), Node("Relu", ("a",), "b"), Node("Relu", ("b",), "c"), Node("Relu", ("c",), "d")]
    assert renumber(ports, [], {}, chain, "d").activation_bytes == 3 * 1200
    late = [*chain[:3], Node("Add", ("c", "a"), "d")]
    assert renumber(ports, [], {}, late, "d").activation_bytes == 4 * 1200


def skip_connections() -> CanonicalGraph:
    """Many operators, two inputs, an absent input, attributes of every kind."""
    nodes = [
        Node("Conv", ("x", "w"), "a", (("pads", (1, 1, 1, 1)),)),
        Node("Add", ("a", "y"), "b"),
        Node("LeakyRelu", ("b",), "c", (("alpha", 0.125),)),
        Node("Resize", ("c", "", "", "size"), "d", (("mode", "linear"),)),
        Node("Concat", ("d", "d"), "e", (("axis", 1),)),
        Node("Slice", ("e", "start", "end", "axes", "steps"), "f"),
        Node("Clip", ("f", "low", "high"), "g"),
    ]
    constants = {
        "unused": scalar(5),
        "size": ints(1, 4, 8, 10),
        "start": ints(1),
        "end": ints(4),
        "axes": ints(1),
        "steps": ints(1),
        "low": scalar(0),
        "high": scalar(1),
    }
    return renumber(
        [Port("x", (1, 2, 4, 5)), Port("y", (1, 4, 1, 1))], [Port("w", (4, 2, 3, 3))], constants, nodes, "g"
    )


@pytest.mark.parametrize("graph", [tiny_graph(), skip_connections()], ids=["tiny", "skip connections"])
def test_a_graph_survives_its_serialization(graph: CanonicalGraph) -> None:
    data = graph.to_bytes()
    again = CanonicalGraph.from_bytes(data)
    assert (again.to_bytes(), again.digest) == (data, graph.digest)
    assert (again.inputs, again.weights, again.output) == (graph.inputs, graph.weights, graph.output)
    assert (again.shapes, again.macs, again.size) == (graph.shapes, graph.macs, graph.size)
    assert CanonicalGraph.from_model(graph.to_model()).digest == graph.digest


def test_names_are_given_in_order_and_what_is_unused_is_left_out() -> None:
    graph = skip_connections()
    assert [p.name for p in (*graph.inputs, *graph.weights)] == ["x0", "x1", "w0"]
    assert [n.output for n in graph.nodes] == [f"e{i}" for i in range(7)]
    assert sorted(graph.constants) == [f"c{i}" for i in range(7)]
    assert graph.nodes[3].inputs == ("e2", "", "", "c0")


def test_the_same_graph_under_other_names_is_the_same() -> None:
    def build(prefix: str) -> CanonicalGraph:
        nodes = [Node("Conv", (f"{prefix}x", f"{prefix}w"), f"{prefix}y")]
        return renumber([Port(f"{prefix}x", (1, 4, 2, 2))], [Port(f"{prefix}w", (3, 4, 1, 1))], {}, nodes, f"{prefix}y")

    assert build("a").digest == build("b/").digest
    assert build("a").digest != tiny_graph().digest


def test_what_nothing_defines_is_refused() -> None:
    ports, nodes = [Port("x", (1, 3, 2, 2))], [Node("Relu", ("nowhere",), "y")]
    with pytest.raises(GraphError, match="'nowhere', which nothing defines"):
        renumber(ports, [], {}, nodes, "y")
    with pytest.raises(GraphError, match="'nowhere', which nothing defines"):
        renumber(ports, [], {}, [Node("Relu", ("x",), "y")], "nowhere")


def test_an_accepted_graph_is_valid_onnx_and_runs() -> None:
    graph = tiny_graph()
    model = graph.to_model()
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {p.name: w.dequantize() for p, w in zip(graph.weights, random_weights(graph, 0), strict=True)}
    feed["x0"] = np.ones(graph.inputs[0].shape, np.float32)
    assert session.run(None, feed)[0].shape == (1, 3, 32, 48)


def test_what_the_dialect_does_not_name_is_dropped_when_a_graph_is_rebuilt() -> None:
    """Comments, hints and fields of newer ONNX never reach an engine, nor change the digest."""
    model = tiny_graph().to_model()
    model.producer_name = model.doc_string = model.domain = "somebody else"
    model.graph.name = model.graph.doc_string = "a name"
    model.graph.node[0].name = model.graph.node[0].doc_string = "first"
    model.graph.input[0].doc_string = "the input"
    for message in (model.graph, model.graph.node[0], model.graph.input[0], model.graph.initializer[0]):
        message.metadata_props.add(key="run", value="me")
    model.graph.node[0].device_configurations.add(configuration_id="somewhere")
    model.configuration.add(name="somewhere", num_devices=1)
    model.graph.value_info.append(helper.make_tensor_value_info("e0", FLOAT, [7, 7]))
    data = model.SerializeToString() + b"\x9a\x3f\x04junk"  # field 1011, which no ModelProto has
    again = CanonicalGraph.from_bytes(data)
    assert again.digest == tiny_graph().digest
    assert b"junk" not in again.to_bytes()
