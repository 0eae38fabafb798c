"""Rounding that makes up for itself: what a weight loses, others of its output channel take over.

The inputs of a convolution are correlated: an error in one weight can be undone by small changes to the others. Weights
are rounded one after another, and what remains of the error goes where it costs least by the second moments of the
inputs (OBQ, Frantar & Alistarh 2022, in the column order of GPTQ, Frantar et al. 2022); a bias takes the mean. Only the
network's own activations are needed, no video.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from inr_runtime.graph import Node
from inr_train.bits import Bits
from inr_train.clip import spread
from inr_train.graph_runner import run_graph
from inr_train.imitation import imitate_quantize, scale_of_code, slice_scale
from inr_train.models import VideoModel
from inr_train.models.base import Places
from inr_train.quantization import QuantizedModel, bits_by_weight
from inr_train.timing import warm_seconds
from inr_train.trace import Trace, weight_axes

FRAMES = 32
"""Moments that are looked at, at most, spread evenly."""
PLACES_PER_WEIGHT, LEAST_PLACES = 32, 64
"""Places of a layer's output that are looked at: in all as a multiple of the weights of a channel, and in each run."""
LONGEST_ROW = 6000
"""Weights of an output channel beyond which rounding is left as it is: its moments would not fit in memory."""
DAMPING = 0.01
"""Added to the diagonal of the moments, as a share of its mean."""
BLOCK = 128
"""Columns that are rounded before what follows them is changed."""
ATTEMPTS = 4
SOLVING = 0.2
"""What rounding takes of the time of looking before it, about: 3 to 25 % in our families."""


@dataclass
class _Layer:
    """A convolution and what it reads: sums over places of its inputs' products and of its inputs."""

    node: Node
    weight: str
    bias: str | None
    bits: int
    axis: int | None
    products: Tensor = field(default_factory=lambda: torch.zeros(()))
    sums: Tensor = field(default_factory=lambda: torch.zeros(()))
    places: int = 0
    draws: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))


@torch.no_grad()
def compensate(
    model: VideoModel, trace: Trace, bits: Bits, frames: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Tensor]:
    """Weights and biases of the model's convolutions, by parameter name, after rounding that makes up for itself.

    bits: as `QuantizedModel` takes them. frames: of the clip. progress: called with (done, total). The weights are
    multiples of the very scales that `quantize` finds for them, so rounding them again changes nothing. Zeros stay
    zero. Layers whose rows are too long, or that share their weights, are left out.
    """
    layers, places = _layers(model, trace, bits), _places(model, frames)
    report = progress or (lambda done, total: None)
    for done, _ in enumerate(_looks(model, trace, bits, layers, places), 1):
        report(done, len(places) + len(layers))
    parameters = dict(model.named_parameters())
    found: dict[str, Tensor] = {}
    for done, layer in enumerate(layers, len(places) + 1):
        found |= _rounded(layer, parameters)
        report(done, len(places) + len(layers))
    return found


@torch.no_grad()
def compensation_seconds(model: VideoModel, trace: Trace, bits: Bits, frames: int) -> float:
    """What `compensate` will take, about: its second look at a place for each of them, and a fifth for what follows."""
    layers, places = _layers(model, trace, bits), _places(model, frames)
    looks = _looks(model, trace, bits, layers, [*places, places[-1]])  # of a single place, too, there is a second look
    return len(places) * warm_seconds(lambda: next(looks), next(model.parameters()).device) * (1 + SOLVING)


def _places(model: VideoModel, frames: int) -> Sequence[Places]:
    return model.calibration(spread(frames, FRAMES))


def _looks(
    model: VideoModel, trace: Trace, bits: Bits, layers: Sequence[_Layer], places: Sequence[Places]
) -> Iterator[None]:
    """Run the network at one place after another, with layers that add up what they read."""
    imitation = QuantizedModel(model, trace, bits)
    parameters = dict(model.named_parameters())
    weights = [parameters[name].detach() for name in trace.parameters]

    def observe(edge: str, x: Tensor) -> Tensor:
        for layer in layers:
            if layer.node.inputs[0] == edge:
                _look(layer, x, parameters[layer.weight].shape, len(places))
        return x

    for part in places:
        run_graph(trace.graph, imitation.sample(part), weights, observe)
        yield


def _layers(model: VideoModel, trace: Trace, bits: Bits) -> list[_Layer]:
    graph = trace.graph
    names = [port.name for port in graph.weights]
    parameter = dict(zip(names, trace.parameters, strict=True))
    bits_of = dict(zip(names, bits_by_weight(model, trace, bits), strict=True))
    axis_of = dict(zip(names, weight_axes(graph), strict=True))
    shape_of = {port.name: port.shape for port in graph.weights}
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    layers = []
    for node in graph.nodes:
        own = [name for name in node.inputs[1:] if name in parameter and uses[name] == 1]
        if node.op == "Conv" and own[:1] == [node.inputs[1]] and math.prod(shape_of[own[0]][1:]) <= LONGEST_ROW:
            weight, bias = own[0], parameter[own[1]] if len(own) > 1 else None
            layers.append(_Layer(node, parameter[weight], bias, bits_of[weight], axis_of[weight]))
    return layers


def _look(layer: _Layer, x: Tensor, shape: Sequence[int], runs: int) -> None:
    """Add what a run of the graph shows to a layer's moments. x: (B, C, H, W). shape: of the layer's weight."""
    row = math.prod(shape[1:])
    columns = _columns(layer, x, shape, max(LEAST_PLACES, math.ceil(PLACES_PER_WEIGHT * row / runs)))
    layer.products = layer.products + (columns @ columns.transpose(1, 2)).double()
    layer.sums = layer.sums + columns.sum(2, dtype=torch.double)
    layer.places += columns.shape[2]


def _columns(layer: _Layer, x: Tensor, shape: Sequence[int], count: int) -> Tensor:
    """What a layer's weights are multiplied with at some random places of its output: (groups, row, places)."""
    attributes: dict[str, Any] = dict(layer.node.attributes)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    stride, dilation = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    groups, kernel = attributes.get("group", 1), shape[2:]
    x = F.pad(x.float(), (left, right, top, bottom))
    height, width = ((x.shape[2 + d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in (0, 1))
    total = len(x) * height * width
    index = torch.arange(total) if total <= count else torch.randint(total, (count,), generator=layer.draws)
    index = index.to(x.device)
    frame, y, z = index // (height * width), index // width % height * stride[0], index % width * stride[1]
    taps = [x[frame, :, y + i * dilation[0], z + j * dilation[1]] for i in range(kernel[0]) for j in range(kernel[1])]
    return torch.stack(taps, 2).reshape(len(index), groups, -1).permute(1, 2, 0)


def _rounded(layer: _Layer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The new values of a layer's parameters; none where its inputs are always zero or not finite."""
    weight = parameters[layer.weight].detach()
    if not layer.places:
        return {}
    moments, mean = layer.products / layer.places, layer.sums / layer.places
    if layer.bias is not None:
        moments = moments - mean.unsqueeze(2) * mean.unsqueeze(1)
    order = moments.diagonal(dim1=1, dim2=2).sum(0).argsort(descending=True)
    spread = _spread(moments[:, order][:, :, order])
    if spread is None:
        return {}
    rounded = _on_own_scale(weight, order, spread, layer.bits, layer.axis)
    found = {layer.weight: rounded}
    if layer.bias is not None:
        lost = (weight - rounded).double().reshape(len(mean), -1, mean.shape[1])
        shift = (lost @ mean.unsqueeze(2)).flatten()
        found[layer.bias] = (parameters[layer.bias].detach() + shift).float()
    return found


def _spread(moments: Tensor) -> Tensor | None:
    """How an error in a row spreads over what follows it: the upper Cholesky factor of the inverse, (groups, row, row).

    None where the moments are zero or not finite.
    """
    strength = moments.diagonal(dim1=1, dim2=2).mean()
    eye = torch.eye(moments.shape[1], dtype=moments.dtype, device=moments.device)
    factor, failed = torch.linalg.cholesky_ex(moments + DAMPING * strength * eye)
    if not strength > 0 or failed.any():
        return None
    spread: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
    return spread


def _on_own_scale(weight: Tensor, order: Tensor, spread: Tensor, bits: int, axis: int | None) -> Tensor:
    """The rounded weight, with slices whose largest magnitude asks for the very scale they are multiples of.

    A slice whose largest weight became smaller tries the next finer scale, and at last ordinary rounding.
    """
    top = 2 ** (bits - 1) - 1
    code, _ = slice_scale(weight, top, axis)
    for _ in range(ATTEMPTS):
        rounded = _compensated(weight, order, spread, scale_of_code(code), top)
        asked, used = slice_scale(rounded, top, axis)
        good = (asked == code) | (used == 0)
        if good.all():
            return rounded
        code = torch.where(good, code, code - 1)
    return torch.where(good, rounded, imitate_quantize(weight, bits, axis))


def _compensated(weight: Tensor, order: Tensor, spread: Tensor, scale: Tensor, top: int) -> Tensor:
    """Round the columns of a weight in an order. spread: (groups, row, row). scale: broadcasts over the weight."""
    groups, row = spread.shape[:2]
    left = weight.double().reshape(groups, -1, row)[:, :, order]
    step = scale.double().expand(weight.shape).reshape(groups, -1, row)[:, :, :1]
    zero, result = left == 0, torch.zeros_like(left)
    for begin in range(0, row, BLOCK):
        end = min(begin + BLOCK, row)
        errors = torch.zeros_like(left[:, :, begin:end])
        for j in range(begin, end):
            column = left[:, :, j : j + 1]
            value = (column / step).round_().clamp_(-top, top).mul_(step).masked_fill_(zero[:, :, j : j + 1], 0.0)
            error = (column - value) / spread[:, j : j + 1, j : j + 1]
            left[:, :, j:end] -= error * spread[:, j : j + 1, j:end]
            result[:, :, j : j + 1], errors[:, :, j - begin : j - begin + 1] = value, error
        left[:, :, end:] -= errors @ spread[:, begin:end, end:]
    restored = torch.empty_like(result)
    restored[:, :, order] = result
    return restored.reshape(weight.shape).to(weight.dtype)
