"""A zoo of models whose messages were bent: types, names, constants, fields that the dialect does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from zoo import FLOAT, Model, bytes_of, good, ports

from inr_runtime.errors import GraphError
from inr_runtime.graph import CanonicalGraph

BIG = 1 << 40


def test_the_graph_that_the_zoo_is_bred_from_is_accepted() -> None:
    assert CanonicalGraph.from_model(good()).size == (12, 8)


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


def shape_without_end(m: Model) -> None:
    for _ in range(100_000):
        m.graph.input[0].type.tensor_type.shape.dim.add(dim_value=1)


def output_without_end(m: Model) -> None:
    output("e" * 100_000)(m)
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def parameter(m: Model) -> None:
    m.graph.node[2].attribute[0].CopyFrom(onnx.AttributeProto(name="alpha", ref_attr_name="a", type=0))


MESSAGES: dict[str, tuple[Callable[[Model], Any], str]] = {
    "another opset": (lambda m: replaced(m.opset_import[0], version=21), "opset 20"),
    "another IR": (lambda m: replaced(m, ir_version=11), "IR 10"),
    "a second domain": (lambda m: m.opset_import.add(domain="com.microsoft", version=1), "opset 20"),
    "the default domain under another name": (lambda m: replaced(m.opset_import[0], domain="ai.onnx"), "opset 20"),
    "an opset given twice": (lambda m: m.opset_import.add(domain="", version=20), "opset 20"),
    "an opset of the past": (lambda m: replaced(m.opset_import[0], version=-20), "opset 20"),
    "a domain without end": (lambda m: m.opset_import.add(domain="d" * 100_000, version=1), "opset 20"),
    "domains without end": (lambda m: m.opset_import.extend([m.opset_import[0]] * 10_000), "opset 20"),
    "no IR": (lambda m: m.ClearField("ir_version"), "IR 10"),
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
    "a sparse tensor as input": (lambda m: m.graph.input[0].type.sparse_tensor_type.shape.Clear(), "float32 tensor"),
    "an optional as input": (lambda m: m.graph.input[0].type.optional_type.elem_type.Clear(), "float32 tensor"),
    "a map as input": (lambda m: replaced(m.graph.input[0].type.map_type, key_type=7), "float32 tensor"),
    "an input of no type": (lambda m: m.graph.input[0].ClearField("type"), "float32 tensor"),
    "complex numbers as input": (port_type(TensorProto.COMPLEX64), "float32 tensor"),
    "quarter bytes as input": (port_type(TensorProto.INT4), "float32 tensor"),
    "an input of an unknown type": (port_type(999), "float32 tensor"),
    "a shape without end": (shape_without_end, "static positive shape"),
    "an output under a name without end": (output_without_end, "expected a float32 tensor"),
    "a constant of eighths": (constant(1, tensor(kind=TensorProto.FLOAT8E4M3FN, raw_data=b"1")), "float32 or int64"),
    "a constant of an unknown type": (constant(1, tensor(kind=999, raw_data=b"1")), "float32 or int64"),
    "a constant with too much data": (constant(1, tensor(raw_data=bytes(400))), "malformed"),
    "a node without an operator": (lambda m: m.graph.node[0].ClearField("op_type"), "operator '' is not"),
    "nobody's attribute": (lambda m: m.graph.node[2].attribute[0].ClearField("name"), "attribute '' is not"),
    "an attribute of no kind": (lambda m: m.graph.node[2].attribute[0].ClearField("type"), "'alpha' has a kind"),
    "a function's parameter as attribute": (parameter, "'alpha' has a kind"),
    "an input given twice": (lambda m: m.graph.input.append(m.graph.input[0]), "not canonical"),
    "external data of no place": (
        lambda m: replaced(m.graph.initializer[1], data_location=TensorProto.EXTERNAL),
        "external data",
    ),
    "a sequence as input": (lambda m: m.graph.input[0].type.sequence_type.elem_type.Clear(), "float32 tensor"),
    "a weight of rank 7": (lambda m: m.graph.input[2].CopyFrom(ports(w1=(1,) * 7)[0]), "static positive shape"),
    "integers as output": (
        lambda m: replaced(m.graph.output[0].type.tensor_type, elem_type=TensorProto.INT64),
        "float32",
    ),
    "two outputs": (lambda m: m.graph.output.append(m.graph.output[0]), "one output"),
    "no output": (lambda m: m.graph.ClearField("output"), "one output"),
    "an output from nowhere": (output("e9"), "a node's result"),
    "a weight as output": (rgb_weight, "Conv|a node's result"),
    "a constant as output": (rgb_constant, "a node's result|do not broadcast"),
    "an input as output": (rgb_input, "a node's result"),
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
