"""Run a canonical graph in PyTorch, differentiably: training imitates exactly the graph that ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from inr_runtime.graph import CanonicalGraph, Node

Hook = Callable[[str, Tensor], Tensor]


def run_graph(
    graph: CanonicalGraph, inputs: Sequence[Tensor], weights: Sequence[Tensor], hook: Hook | None = None
) -> Tensor:
    """The graph's output (B, 3, H, W) for any batch size.

    weights: one per graph weight. hook: called with (edge name, value) for every input and result; what it returns
    takes the value's place.
    """
    hook = hook or (lambda name, value: value)
    values = {p.name: hook(p.name, x) for p, x in zip(graph.inputs, inputs, strict=True)}
    values.update({p.name: w for p, w in zip(graph.weights, weights, strict=True)})
    values.update(_constants(graph, inputs[0].device))
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    for i, node in enumerate(graph.nodes):
        values[node.output] = hook(node.output, _apply(graph, node, values))
        for name in node.inputs:
            if name in values and last_use[name] == i and name != graph.output:
                values.pop(name)
    return values[graph.output]


def _constants(graph: CanonicalGraph, device: torch.device) -> dict[str, Tensor]:
    """Those that are computed with. Limits are structure, so that no step on a GPU waits for them."""
    read = {name for node in graph.nodes if node.op != "Clip" for name in node.inputs}
    floats = {k: v for k, v in graph.constants.items() if v.dtype.kind == "f" and k in read}
    return {k: torch.from_numpy(v.copy()).to(device, non_blocking=True) for k, v in floats.items()}


def _apply(graph: CanonicalGraph, node: Node, values: Mapping[str, Tensor]) -> Tensor:
    attributes = dict(node.attributes)
    data = [values[n] for n in node.inputs if n in values]
    fixed = [n for n in node.inputs if n in graph.constants and (n not in values or node.op == "Clip")]
    structure = [graph.constants[n].tolist() for n in fixed]
    return _FUNCTIONS[node.op](data, attributes, structure)


def _conv(data: list[Tensor], attributes: dict[str, Any], structure: list[Any]) -> Tensor:
    x, weight, *bias = data
    pads = attributes.get("pads", (0, 0, 0, 0))
    if pads[:2] != pads[2:]:
        x, pads = F.pad(x, (pads[1], pads[3], pads[0], pads[2])), (0, 0, 0, 0)
    stride, dilation, group = (attributes.get(k, d) for k, d in (("strides", 1), ("dilations", 1), ("group", 1)))
    return F.conv2d(x, weight, bias[0] if bias else None, stride, pads[:2], dilation, group)


def _conv_transpose(data: list[Tensor], attributes: dict[str, Any], structure: list[Any]) -> Tensor:
    x, weight, *bias = data
    pads = attributes.get("pads", (0, 0, 0, 0))
    assert pads[:2] == pads[2:]
    stride, dilation, group = (attributes.get(k, d) for k, d in (("strides", 1), ("dilations", 1), ("group", 1)))
    return F.conv_transpose2d(x, weight, bias[0] if bias else None, stride, pads[:2], 0, group, dilation)


def _resize(data: list[Tensor], attributes: dict[str, Any], structure: list[list[int]]) -> Tensor:
    size = structure[0][2:]
    if attributes.get("mode", "nearest") == "nearest":
        return F.interpolate(data[0], size, mode="nearest")
    aligned = attributes.get("coordinate_transformation_mode") == "align_corners"
    return F.interpolate(data[0], size, mode="bilinear", align_corners=aligned)


def _slice(data: list[Tensor], attributes: dict[str, Any], structure: list[list[int]]) -> Tensor:
    x = data[0]
    for start, end, axis in zip(*structure[:3], strict=True):
        x = x.narrow(axis, start, min(end, x.shape[axis]) - start)
    return x


def _shuffle(data: list[Tensor], attributes: dict[str, Any], structure: list[Any]) -> Tensor:
    assert attributes.get("mode") == "CRD"
    return F.pixel_shuffle(data[0], attributes["blocksize"])


def _reshape(data: list[Tensor], attributes: dict[str, Any], structure: list[list[int]]) -> Tensor:
    x = data[0].reshape(data[0].shape[0], *structure[0][1:])
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.ndim == 4 else torch.contiguous_format


def _layer_norm(data: list[Tensor], attributes: dict[str, Any], structure: list[Any]) -> Tensor:
    x, *affine = data
    scale, *bias = (a.expand(x.shape[-1]) for a in affine)
    return F.layer_norm(x, x.shape[-1:], scale, bias[0] if bias else None, attributes.get("epsilon", 1e-5))


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _shuffle,
    "Resize": _resize,
    "Relu": lambda d, a, s: F.relu(d[0]),
    "LeakyRelu": lambda d, a, s: F.leaky_relu(d[0], a.get("alpha", 0.01)),
    "Gelu": lambda d, a, s: F.gelu(d[0], approximate=a.get("approximate", "none")),
    "Sigmoid": lambda d, a, s: torch.sigmoid(d[0]),
    "Tanh": lambda d, a, s: torch.tanh(d[0]),
    "Sin": lambda d, a, s: torch.sin(d[0]),
    "Clip": lambda d, a, s: torch.clamp(d[0], *s),
    "Add": lambda d, a, s: d[0] + d[1],
    "Sub": lambda d, a, s: d[0] - d[1],
    "Mul": lambda d, a, s: d[0] * d[1],
    "Div": lambda d, a, s: d[0] / d[1],
    "LayerNormalization": _layer_norm,
    "Concat": lambda d, a, s: torch.cat(d, a["axis"]),
    "Slice": _slice,
    "Reshape": _reshape,
    "Tile": lambda d, a, s: d[0].repeat(s[0]).contiguous(memory_format=_layout(d[0])),
    "Transpose": lambda d, a, s: d[0].permute(a["perm"]),
}
