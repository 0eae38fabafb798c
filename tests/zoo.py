"""Models that bend the rules of the dialect, and the one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.graph import make_model

FLOAT = TensorProto.FLOAT
Model = onnx.ModelProto


def ports(**shapes: Sequence[int]) -> list[onnx.ValueInfoProto]:
    """float32 inputs or outputs by name."""
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


def one(op: str, inputs: str, *constants: Any, w0: Sequence[int] = (12, 8, 3, 3), **attributes: Any) -> Model:
    """A graph of one operator; inputs: names with spaces between them, `-` for an absent one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return model([helper.make_node(op, names, ["e0"], **attributes)], constants, w0=w0, w1=(12,))


def bytes_of(model: Model) -> bytes:
    """As in a file."""
    return bytes(model.SerializeToString())
