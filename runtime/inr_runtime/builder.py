"""An engine's ONNX graph while it is built: nodes, constants, and weights that are handed over as memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.errors import GraphError
from inr_runtime.graph import CanonicalGraph, Node, make_model
from inr_runtime.program import Program
from inr_runtime.tensors import QuantTensor

Array = NDArray[np.generic]
OUTPUT = "frame"
_BATCHED_STRUCTURE = {"Reshape": 1, "Resize": 3}


@dataclass
class Builder:
    """Collects nodes, constants and weights of one lowered graph."""

    graph: CanonicalGraph | Program
    weights: Mapping[str, QuantTensor]
    batch: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    initializers: dict[str, Array] = field(default_factory=dict)

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def copy(self, node: Node, inputs: Sequence[str], output: str) -> None:
        """One node as it is, its structural constants resized for the batch."""
        inputs = self.full_scales(node, inputs) if node.op == "LayerNormalization" else inputs
        for position, name in enumerate(node.inputs):
            if inputs[position] in self.graph.constants:
                constant = self.graph.constants[name]
                if _BATCHED_STRUCTURE.get(node.op) == position:
                    constant = np.concatenate([[self.batch], constant[1:]]).astype(np.int64)
                self.constants[inputs[position]] = constant
        self.add(node.op, inputs, output, **dict(node.attributes))

    def full_scales(self, node: Node, inputs: Sequence[str]) -> list[str]:
        """A norm's constants as one number for each channel: engines are much slower with a single one."""
        names = list(inputs)
        for position, name in enumerate(node.inputs[1:], 1):
            if name in self.graph.constants:
                names[position] = f"{node.output}.{position}"
                full = np.broadcast_to(self.graph.constants[name], self.graph.shapes[node.output][-1:])
                self.constants[names[position]] = np.ascontiguousarray(full)
        return names

    def float_weight(self, name: str) -> str:
        self.initializers.setdefault(name, self.weights[name].dequantize())
        return name

    def tail(self, float_edge: str) -> None:
        """Round and clip [0, 1] floats to uint8 NHWC in one operator each; clip sound."""
        if self.graph.result == "pcm_f32":
            self.constants |= {"low": np.float32(-1), "high": np.float32(1)}
            self.add("Clip", [float_edge, "low", "high"], "pcm")
            self.add("Transpose", ["pcm"], OUTPUT, perm=[0, 2, 3, 1])
            return
        self.quantize(float_edge, "u8", np.float32(1 / 255), 0)
        self.add("Transpose", ["u8"], OUTPUT, perm=[0, 2, 3, 1])

    def quantize(self, edge: str, output: str, scale: np.float32, zero: int) -> str:
        return self.add("QuantizeLinear", [edge, *self.parameters(scale, zero)], output)

    def parameters(self, scale: np.float32, zero: int) -> list[str]:
        scale_name, zero_name = f"s{scale!r}", f"z{zero}"
        self.constants[scale_name] = np.asarray(scale, np.float32)
        self.constants[zero_name] = np.asarray(zero, np.uint8)
        return [scale_name, zero_name]

    def finish(self) -> onnx.ModelProto:
        graph = self.graph
        inputs = [_value(p.name, TensorProto.FLOAT, (self.batch, *p.shape[1:])) for p in graph.inputs]
        width, height = graph.size
        kind = TensorProto.FLOAT if graph.result == "pcm_f32" else TensorProto.UINT8
        outputs = [_value(OUTPUT, kind, (self.batch, height, width, graph.shapes[graph.output][1]))]
        tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items()]
        tensors += [_placeholder(k, v) for k, v in self.initializers.items()]
        return make_model(helper.make_graph(self.nodes, "nvb", inputs, outputs, tensors))


def channel_scales(tensor: QuantTensor) -> NDArray[np.float32]:
    """One scale for each output channel; raises `GraphError` where integers have others, or more than 8 bits."""
    if tensor.axis not in (None, 0) or np.abs(tensor.values).max(initial=0) > 127:
        raise GraphError("int8 targets need weights of at most 8 bits with scales per output channel")
    return np.ascontiguousarray(np.broadcast_to(tensor.scales, (tensor.shape[0],)))


def _value(name: str, kind: int, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _placeholder(name: str, array: Array) -> onnx.TensorProto:
    """An initializer whose bytes the engine is given in memory; the location names no file."""
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="memory")
    return tensor
