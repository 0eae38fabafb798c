"""A zoo of graphs that somebody made to break a reader: each is refused, for its own reason, before an engine sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from onnx import TensorProto, helper, numpy_helper

from inr_runtime.errors import GraphError
from inr_runtime.graph import CanonicalGraph, make_model

FLOAT = TensorProto.FLOAT
Model = onnx.ModelProto


def ports(**shapes: Sequence[int]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in shapes.items()]


def model(nodes: Sequence[onnx.NodeProto], constants: Sequence[Any] = (), **shapes: Sequence[int]) -> Model:
    """A model of the dialect whose output is the last node's, declared as (1, 3, 8, 12)."""
    inputs = ports(**{"x0": (1, 8, 4, 6), **shapes})
    tensors = [numpy_helper.from_array(np.asarray(c), f"c{i}") for i, c in enumerate(constants)]
    output = ports(**{nodes[-1].output[0]: (1, 3, 8, 12)})
    return make_model(helper.make_graph(nodes, "hostile", inputs, output, tensors))


def good() -> Model:
    """What all the others are spoiled from."""
    nodes = [
        helper.make_node("Conv", ["x0", "w0", "w1"], ["e0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["e0", "c0"], ["e1"]),
        helper.make_node("LeakyRelu", ["e1"], ["e2"], alpha=0.25),
        helper.make_node("Mul", ["e2", "c1"], ["e3"]),
        helper.make_node("DepthToSpace", ["e3"], ["e4"], blocksize=2),
    ]
    constants = [np.array([1, 12, 4, 6]), np.float32(0.5)]
    return model(nodes, constants, w0=(12, 8, 3, 3), w1=(12,))


def test_the_graph_that_the_zoo_is_bred_from_is_accepted() -> None:
    assert CanonicalGraph.from_model(good()).size == (12, 8)


def one(op: str, inputs: str, *constants: Any, w0: Sequence[int] = (12, 8, 3, 3), **attributes: Any) -> Model:
    """A graph of one operator; inputs: names with spaces between them, `-` for an absent one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return model([helper.make_node(op, names, ["e0"], **attributes)], constants, w0=w0, w1=(12,))


i = np.array
F = np.float32
BIG = 1 << 40
NODES: dict[str, tuple[Model, str]] = {
    "a loop": (one("Loop", "x0 x0 x0"), "'Loop' is not in the dialect"),
    "a branch": (one("If", "x0"), "'If' is not in the dialect"),
    "a precompiled engine": (one("EPContext", "x0"), "'EPContext' is not in the dialect"),
    "somebody's own operator": (one("Relu", "x0", domain="com.evil"), "default domain"),
    "an operator of a long name": (one("\x1b[2J" * 999, "x0"), r"operator '\\x1b\[2J"),
    "an overloaded operator": (one("Relu", "x0", overload="f"), "default domain"),
    "an unknown attribute": (one("Relu", "x0", secret=1), "'secret' is not in the dialect"),
    "a foreign attribute": (one("Relu", "x0", alpha=0.5), "'alpha' is not in the dialect"),
    "an automatic padding": (one("Conv", "x0 w0", auto_pad="SAME_UPPER"), "auto_pad='SAME_UPPER'"),
    "an unknown mode": (one("DepthToSpace", "x0", blocksize=2, mode="XYZ"), "mode='XYZ'"),
    "a cubic resize": (one("Resize", "x0 - - c0", i([1, 8, 8, 8]), mode="cubic"), "mode='cubic'"),
    "a text for a number": (one("LeakyRelu", "x0", alpha="0.5"), "alpha must be of type float"),
    "an int for a float": (one("LeakyRelu", "x0", alpha=1), "alpha must be of type float"),
    "a number for a list": (one("Conv", "x0 w0", pads=1), "pads must be of type tuple"),
    "a list for a number": (one("DepthToSpace", "x0", blocksize=[2]), "blocksize"),
    "a float for a text": (one("DepthToSpace", "x0", blocksize=2, mode=1.0), "mode must be of type str"),
    "a number that is none": (one("LeakyRelu", "x0", alpha=float("nan")), "'alpha' has a kind"),
    "no block size": (one("DepthToSpace", "x0"), "blocksize None"),
    "an empty block": (one("DepthToSpace", "x0", blocksize=0), "blocksize 0"),
    "a negative block": (one("DepthToSpace", "x0", blocksize=-2), "blocksize -2"),
    "a block that does not divide": (one("DepthToSpace", "x0", blocksize=3), "do not fit"),
    "no axis": (one("Concat", "x0 x0"), "axis None"),
    "no order": (one("Transpose", "x0"), "expected a list of ints"),
    "an axis outside": (one("Concat", "x0 x0", axis=4), "axis 4"),
    "an axis far outside": (one("Concat", "x0 x0", axis=-BIG), "does not fit rank 4"),
    "batches joined": (one("Concat", "x0 x0", axis=0), "batch of 1"),
    "batches joined from behind": (one("Concat", "x0 x0", axis=-4), "batch of 1"),
    "ranks mixed": (one("Concat", "x0 w0", w0=(1, 8, 4), axis=3), "Concat"),
    "sizes mixed": (one("Concat", "x0 w0", w0=(1, 8, 4, 7), axis=1), "Concat"),
    "batch moved": (one("Transpose", "x0", perm=[1, 0, 2, 3]), "keeps the batch"),
    "an order that is none": (one("Transpose", "x0", perm=[0, 1, 1, 3]), "Transpose"),
    "an order of another rank": (one("Transpose", "x0", perm=[0]), "Transpose"),
    "a reordered number": (one("Transpose", "c0", F(1), perm=[]), "Transpose"),
    "a kernel of another size": (one("Conv", "x0 w0", kernel_shape=[5, 5]), "Conv kernel"),
    "a kernel of one dimension": (one("Conv", "x0 w0", kernel_shape=[3]), "Conv kernel"),
    "a 3-D convolution": (one("Conv", "x0 w0", w0=(12, 8, 3, 3, 3)), "Conv"),
    "channels that do not fit": (one("Conv", "x0 w0", w0=(12, 7, 3, 3)), "Conv"),
    "a kernel larger than the picture": (one("Conv", "x0 w0", w0=(12, 8, 5, 5)), "Conv output"),
    "no groups": (one("Conv", "x0 w0", group=0), "convolutions are 2-D"),
    "negative groups": (one("Conv", "x0 w0", group=-1), "convolutions are 2-D"),
    "groups that do not divide": (one("Conv", "x0 w0", w0=(13, 4, 3, 3), group=2), "Conv"),
    "no stride": (one("Conv", "x0 w0", strides=[0, 1]), "out of range"),
    "negative padding": (one("Conv", "x0 w0", pads=[-1, 1, 1, 1]), "out of range"),
    "enormous padding": (one("Conv", "x0 w0", pads=[BIG] * 4), "out of range"),
    "enormous dilation": (one("Conv", "x0 w0", dilations=[BIG, 1]), "out of range"),
    "too few paddings": (one("Conv", "x0 w0", pads=[1, 1]), "convolutions are 2-D"),
    "a bias that does not fit": (one("Conv", "x0 w0 w1", w0=(11, 8, 3, 3)), "Conv bias"),
    "no kernel": (one("Conv", "x0 -"), "input 1 must be given"),
    "no picture": (one("Conv", "- w0"), "input 0 must be given"),
    "a bias left empty": (one("Conv", "x0 w0 -"), "input 2 must be given"),
    "channels that do not fit backwards": (one("ConvTranspose", "x0 w0"), "ConvTranspose"),
    "a result that is all padding": (one("ConvTranspose", "x0 w0", w0=(8, 3, 1, 1), pads=[9] * 4), "output"),
    "an operator of nothing": (one("Relu", "-"), "input 0 must be given"),
    "an operator without inputs": (model([helper.make_node("Relu", [], ["e0"])]), "found 0"),
    "too many inputs": (one("Relu", "x0 x0"), "found 2"),
    "a name from nowhere": (one("Relu", "e9"), "'e9', which no earlier node defines"),
    "a node that reads itself": (one("Relu", "e0"), "'e0', which no earlier node defines"),
    "shapes that do not broadcast": (one("Add", "x0 w0"), "do not broadcast"),
    "a broadcast batch": (one("Add", "x0 w0", w0=(5, 8, 4, 6)), "batch of 1"),
    "a broadcast beyond rank 6": (one("Add", "x0 c0", np.zeros((1,) * 7, F)), "rank at most 6"),
    "a result of constants": (one("Add", "c0 c0", F(1)), "batch of 1"),
    "integers as data": (one("Add", "x0 c0", i([1])), "input 1 must be float32"),
    "a float as a shape": (one("Reshape", "x0 c0", F([1, 192])), "vector of int64"),
    "a number as a shape": (one("Reshape", "x0 c0", i(192)), "vector of int64"),
    "a weight as a shape": (one("Reshape", "x0 w1"), "input 1 must be a constant"),
    "a shape of -1": (one("Reshape", "x0 c0", i([1, -1])), "Reshape"),
    "a shape of 0": (one("Reshape", "x0 c0", i([1, 0, 8, 24])), "Reshape"),
    "a shape of another size": (one("Reshape", "x0 c0", i([1, 8, 4, 7])), "Reshape"),
    "a shape that takes the batch": (one("Reshape", "x0 c0", i([8, 24])), "batch of 1"),
    "a shape of rank 7": (one("Reshape", "x0 c0", i([1, 8, 4, 6, 1, 1, 1])), "Reshape"),
    "a number reshaped": (one("Reshape", "c0 c1", F(1), i([2])), "Reshape"),
    "a resize by a weight": (one("Resize", "x0 - - w1"), "input 3 must be a constant"),
    "a resize by scales": (one("Resize", "x0 - c0 c1", F([1, 1, 2, 2]), i([1, 8, 8, 12])), "input 2 must be empty"),
    "a resize of a region": (one("Resize", "x0 w1 - c0", i([1, 8, 8, 12])), "input 1 must be empty"),
    "a resize without a size": (one("Resize", "x0 - -"), "found 3"),
    "a resize of channels": (one("Resize", "x0 - - c0", i([1, 9, 8, 12])), "Resize"),
    "a resize to nothing": (one("Resize", "x0 - - c0", i([1, 8, 0, 12])), "Resize"),
    "a resize of another rank": (one("Resize", "x0 - - c0", i([1, 8, 8])), "Resize"),
    "a slice backwards": (one("Slice", "x0 c0 c1 c2 c3", i([3]), i([0]), i([2]), i([-1])), "forward steps"),
    "a slice in steps": (one("Slice", "x0 c0 c1 c2 c3", i([0]), i([4]), i([2]), i([2])), "forward steps"),
    "a slice from behind": (one("Slice", "x0 c0 c1 c2 c3", i([-2]), i([4]), i([2]), i([1])), "forward steps"),
    "a slice of nothing": (one("Slice", "x0 c0 c1 c2 c3", i([9]), i([BIG]), i([2]), i([1])), "Slice"),
    "a slice of the batch": (one("Slice", "x0 c0 c1 c2 c3", i([0]), i([1]), i([-4]), i([1])), "forward steps"),
    "a slice outside": (one("Slice", "x0 c0 c1 c2 c3", i([0]), i([1]), i([4]), i([1])), "axis 4"),
    "slices of one axis": (one("Slice", "x0 c0 c0 c0 c0", i([2, 2])), "Slice axes"),
    "bounds of several lengths": (one("Slice", "x0 c0 c1 c1 c1", i([0, 0]), i([1])), "Slice"),
    "a slice without axes": (one("Slice", "x0 c0 c0", i([1])), "found 3"),
    "a clip by tensors": (one("Clip", "x0 c0 c0", F([0])), "two float32 scalars"),
    "a clip by integers": (one("Clip", "x0 c0 c0", i(0)), "two float32 scalars"),
    "a clip by a weight": (one("Clip", "x0 w0 w0", w0=(1,)), "must be a constant"),
    "a clip without bounds": (one("Clip", "x0 - -"), "must be given"),
    "an output that is not RGB": (one("Relu", "x0"), r"RGB picture \(1, 3, H, W\), found \(1, 8, 4, 6\)"),
    "an output of another rank": (one("Reshape", "x0 c0", i([1, 3, 64])), "RGB picture"),
    "another size than declared": (one("Slice", "x0 c0 c1 c2 c2", i([0]), i([3]), i([1])), "declared output shape"),
}


@pytest.mark.parametrize("name", NODES)
def test_an_operator_is_refused_for(name: str) -> None:
    hostile, reason = NODES[name]
    for read in (lambda: CanonicalGraph.from_model(hostile), lambda: CanonicalGraph.from_bytes(bytes_of(hostile))):
        with pytest.raises(GraphError, match=reason) as caught:
            read()
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()


def bytes_of(hostile: Model) -> bytes:
    return bytes(hostile.SerializeToString())


def replaced(message: Any, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(message, name, value)


def subgraph(m: Model) -> None:
    m.graph.node[2].attribute.append(helper.make_attribute("alpha", helper.make_graph([], "inner", [], [])))
    del m.graph.node[2].attribute[0]


def constant(number: int, tensor: TensorProto) -> Callable[[Model], None]:
    return lambda m: m.graph.initializer[number].CopyFrom(tensor)


def tensor(name: str = "c1", kind: int = FLOAT, dims: Sequence[int] = (), **fields: Any) -> TensorProto:
    return TensorProto(name=name, data_type=kind, dims=dims, **fields)


def external(m: Model) -> None:
    m.graph.initializer[1].data_location = TensorProto.EXTERNAL
    m.graph.initializer[1].external_data.add(key="location", value="/etc/passwd")


def dim(value: int, number: int = 2) -> Callable[[Model], None]:
    return lambda m: replaced(m.graph.input[0].type.tensor_type.shape.dim[number], dim_value=value)


def port_type(kind: int) -> Callable[[Model], None]:
    return lambda m: replaced(m.graph.input[0].type.tensor_type, elem_type=kind)


def output(name: str) -> Callable[[Model], None]:
    return lambda m: replaced(m.graph.output[0], name=name)


def twice(m: Model) -> None:
    m.graph.node[2].attribute.append(helper.make_attribute("alpha", 1))


def swapped(m: Model) -> None:
    """Nodes out of order: the first reads the second."""
    m.graph.node[0].input[0] = "e1"


def sparse(m: Model) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "c2")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "c2i")
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))


def function(m: Model) -> None:
    m.functions.append(helper.make_function("f", "Relu", ["a"], ["b"], [], []))


def rgb_constant(m: Model) -> None:
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((1, 3, 4, 5), np.float32), "c1"))
    output("c1")(m)


def rgb_input(m: Model) -> None:
    del m.graph.node[:], m.graph.initializer[:]
    m.graph.input[0].CopyFrom(ports(x0=(1, 3, 8, 12))[0])
    output("x0")(m)


def rgb_weight(m: Model) -> None:
    m.graph.input[1].CopyFrom(ports(w0=(1, 3, 8, 12))[0])
    output("w0")(m)


MESSAGES: dict[str, tuple[Callable[[Model], Any], str]] = {
    "another opset": (lambda m: replaced(m.opset_import[0], version=21), "opset 20"),
    "another IR": (lambda m: replaced(m, ir_version=11), "IR 10"),
    "a second domain": (lambda m: m.opset_import.add(domain="com.microsoft", version=1), "opset 20"),
    "no opset": (lambda m: m.ClearField("opset_import"), "opset 20"),
    "functions": (function, "functions"),
    "metadata": (lambda m: m.metadata_props.add(key="run", value="me"), "metadata"),
    "training": (lambda m: m.training_info.add(), "training"),
    "a subgraph": (subgraph, "'alpha' has a kind"),
    "an attribute given twice": (twice, "given twice"),
    "sparse constants": (sparse, "sparse"),
    "quantization annotations": (lambda m: m.graph.quantization_annotation.add(tensor_name="e0"), "annotations"),
    "data from another file": (external, "external data"),
    "a large constant": (constant(1, numpy_helper.from_array(np.ones(65, np.float32), "c1")), "found 65"),
    "an empty constant": (constant(1, numpy_helper.from_array(np.ones(0, np.float32), "c1")), "positive shape"),
    "a constant that is none": (constant(1, numpy_helper.from_array(np.float32("nan"), "c1")), "not finite"),
    "an endless constant": (constant(1, numpy_helper.from_array(np.float32("inf"), "c1")), "not finite"),
    "a constant in halves": (constant(1, numpy_helper.from_array(np.float16(1), "c1")), "float32 or int64"),
    "a constant of truth": (constant(1, numpy_helper.from_array(np.bool_(1), "c1")), "float32 or int64"),
    "a constant of doubles": (constant(1, numpy_helper.from_array(np.float64(1), "c1")), "float32 or int64"),
    "a constant of text": (constant(1, tensor(kind=TensorProto.STRING, string_data=[b"x"])), "float32 or int64"),
    "a constant of no type": (constant(1, tensor(kind=0)), "float32 or int64"),
    "a constant of size -1": (constant(1, tensor(dims=[-1], raw_data=bytes(400))), "positive shape"),
    "a constant of a huge shape": (constant(1, tensor(dims=[BIG, BIG], raw_data=bytes(4))), "malformed"),
    "a constant of 100 dimensions": (constant(1, tensor(dims=[1] * 100, raw_data=bytes(4))), "malformed"),
    "a constant cut off": (constant(1, tensor(dims=[2], raw_data=bytes(7))), "malformed"),
    "a constant without data": (constant(1, tensor(dims=[2])), "malformed"),
    "a constant in segments": (
        constant(1, tensor(float_data=[1], segment=TensorProto.Segment(begin=0, end=1))),
        "malformed",
    ),
    "a dynamic size": (lambda m: replaced(m.graph.input[0].type.tensor_type.shape.dim[2], dim_param="H"), "static"),
    "no size": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "static positive shape"),
    "a size of 0": (dim(0), "static positive shape"),
    "a negative size": (dim(-4), "static positive shape"),
    "a batch of 2": (dim(2, 0), "batch must be 1"),
    "integers as input": (port_type(TensorProto.INT64), "float32 tensor"),
    "halves as input": (port_type(TensorProto.FLOAT16), "float32 tensor"),
    "truth as input": (port_type(TensorProto.BOOL), "float32 tensor"),
    "a sequence as input": (lambda m: m.graph.input[0].type.sequence_type.elem_type.Clear(), "float32 tensor"),
    "a weight of rank 7": (lambda m: m.graph.input[2].CopyFrom(ports(w1=(1,) * 7)[0]), "static positive shape"),
    "integers as output": (
        lambda m: replaced(m.graph.output[0].type.tensor_type, elem_type=TensorProto.INT64),
        "float32",
    ),
    "two outputs": (lambda m: m.graph.output.append(m.graph.output[0]), "one output"),
    "no output": (lambda m: m.graph.ClearField("output"), "one output"),
    "an output from nowhere": (output("e9"), "found None"),
    "a weight as output": (rgb_weight, "Conv|result of a node"),
    "a constant as output": (rgb_constant, "result of a node|do not broadcast"),
    "an input as output": (rgb_input, "result of a node"),
    "nodes out of order": (swapped, "no earlier node defines"),
    "a node of two results": (lambda m: m.graph.node[0].output.append("e5"), "one output"),
    "a node without a result": (lambda m: m.graph.node[0].ClearField("output"), "one output"),
    "a result of a long name": (lambda m: m.graph.node[0].output.__setitem__(0, "e" * 100_000), "not canonical"),
    "results that share a name": (lambda m: m.graph.node[1].output.__setitem__(0, "e0"), "not canonical"),
    "a result named like an input": (lambda m: m.graph.node[0].output.__setitem__(0, "x0"), "not canonical"),
    "a name with a zero before": (lambda m: replaced(m.graph.input[0], name="x00"), "not canonical"),
    "an empty name": (lambda m: replaced(m.graph.input[0], name=""), "not canonical"),
    "an input named like a weight": (lambda m: replaced(m.graph.input[0], name="w0"), "not canonical"),
    "weights out of order": (lambda m: replaced(m.graph.input[1], name="w1"), "not canonical"),
    "constants that share a name": (lambda m: replaced(m.graph.initializer[1], name="c0"), "not canonical"),
    "a constant named like a weight": (lambda m: replaced(m.graph.initializer[1], name="w0"), "not canonical"),
    "a constant without a name": (lambda m: replaced(m.graph.initializer[1], name=""), "not canonical"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_model_is_refused_for(name: str) -> None:
    hostile = good()
    spoil, reason = MESSAGES[name]
    spoil(hostile)
    for read in (lambda: CanonicalGraph.from_model(hostile), lambda: CanonicalGraph.from_bytes(bytes_of(hostile))):
        with pytest.raises(GraphError, match=reason) as caught:
            read()
        assert len(str(caught.value)) < 400
