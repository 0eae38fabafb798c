"""Imitating the stored integers in training: what `inr_runtime.tensors` and cpu-int8 lowering do, differentiably.

Rounding passes gradients straight through. Activation ranges start from those that lose least over all frames
(`ranges.py`) and are then learned by gradient with the weights (as in LSQ+, Bhalgat et al. 2020). Training steps may
compute products in bf16; evaluation, which decides what is kept, is float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from inr_runtime.int8plan import Int8Plan, Range, plan_int8
from inr_runtime.sample import TimeTensor
from inr_runtime.tensors import SCALE_CODE_RANGE, SCALE_SLACK, SMALLEST_SCALE, STEPS_PER_OCTAVE, QuantTensor, quantize
from inr_train.graph_runner import run_graph
from inr_train.models import VideoModel
from inr_train.models.base import Places, time_tensor
from inr_train.ranges import measure_ranges
from inr_train.trace import MIN_ROW, Trace, weight_axes


class _Through(torch.autograd.Function):
    """Another value in the place of a tensor; the gradient passes as if nothing happened."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], None


class _Steps(torch.autograd.Function):
    """Activations through uint8: gradients to values within the range, and to scale and zero point.

    A few passes at the full speed of memory; with autograd's own functions a step takes twice as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        place = (x / scale).add_(zero)
        step = place.round().clamp_(0, 255)
        ctx.save_for_backward(place, step, scale, zero)
        return (step - zero).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        place, step, scale, zero = ctx.saved_tensors
        like = (
            torch.channels_last if place.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        gradient = gradients[0].contiguous(memory_format=like)
        within = torch.ops.aten.hardtanh_backward(gradient, place, -0.5, 255.5)
        outside = gradient.sum() - within.sum()
        to_scale = _dot(gradient, step) - _dot(within, place) - zero * outside
        return within, to_scale, -scale * outside


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of products of tensors that lie in memory alike."""
    if not x.is_contiguous():
        x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    return torch.dot(x.reshape(-1), y.reshape(-1))


def imitate_quantize(weight: Tensor, bits: int, axis: int | None) -> Tensor:
    """The float values that `quantize(weight, bits, axis).dequantize()` gives; gradients as if it did nothing."""
    with torch.no_grad():
        top = 2 ** (bits - 1) - 1
        code, used = slice_scale(weight, top, axis)
        scale = scale_of_code(code)
        imitated = (weight / scale).round_().clamp_(-top, top).mul_(scale).mul_(used)
    result: Tensor = _Through.apply(weight, imitated)
    return result


def slice_scale(weight: Tensor, top: int, axis: int | None) -> tuple[Tensor, Tensor]:
    """Codes of the scales of a weight's slices, and 0 for slices that are too small for any, else 1; both broadcast."""
    peak = (
        weight.abs().amax() if axis is None else weight.abs().amax([d for d in range(weight.ndim) if d != axis], True)
    )
    low, high = SCALE_CODE_RANGE
    wanted = peak.double() / top
    code = torch.ceil(torch.log2(wanted.clamp_min(SMALLEST_SCALE)) * STEPS_PER_OCTAVE - SCALE_SLACK).clamp(low, high)
    return code, (wanted > SMALLEST_SCALE).float()


def scale_of_code(code: Tensor) -> Tensor:
    """float32, as `inr_runtime.tensors.scale_of`."""
    return torch.exp2(code / STEPS_PER_OCTAVE).float()


Bits = tuple[int, int, int]
"""Of weights that int8 engines read as integers, of biases, and of all other weights."""


def bits_by_weight(model: VideoModel, trace: Trace, bits: Bits) -> list[int]:
    """Bits of each weight of the graph. Files may keep more layers in float: their weights still have those of int8."""
    graph, plan, precise = trace.graph, plan_int8(trace.graph), set(model.precise)
    kernels = {graph.nodes[i].inputs[1] for i in plan.int8 if graph.nodes[i].op == "Conv"}
    names = [port.name for port in graph.weights]
    return [
        bits[1] if parameter in precise and name not in kernels else bits[0] if name in kernels else bits[2]
        for name, parameter in zip(names, trace.parameters, strict=True)
    ]


def quantize_weights(
    model: VideoModel, trace: Trace, weight_bits: int, bias_bits: int, float_bits: int = 0
) -> list[QuantTensor]:
    """The integers that a file stores, one per weight of the graph. float_bits: 0 are the weight bits."""
    bits = (weight_bits, bias_bits, float_bits or weight_bits)
    parameters = dict(model.named_parameters())
    tensors = []
    every = zip(trace.parameters, weight_axes(trace.graph), bits_by_weight(model, trace, bits), strict=True)
    for name, axis, bits_here in every:
        tensors.append(quantize(parameters[name].detach().float().cpu().numpy(), bits_here, axis))
    return tensors


def grid_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of a grid's scales: its channels, unless they are too short to pay for scales of their own."""
    return 1 if len(shape) > 1 and math.prod(shape) // shape[1] >= MIN_ROW else None


def quantize_grids(model: VideoModel, bits: int) -> tuple[TimeTensor, ...]:
    """What a file stores of the time inputs."""
    parameters = dict(model.named_parameters())
    tensors = []
    for t in model.time_inputs:
        grid = parameters[t.grid].detach().float().cpu().numpy() if t.grid else None
        data = None if grid is None else quantize(grid, bits, grid_axis(grid.shape))
        tensors.append(time_tensor(t, data=data))
    return tuple(tensors)


class QuantizedModel(nn.Module):
    """A model as it will be after export, for training and evaluation.

    bits: of weights and of biases, or all of `Bits`. ranges: (low, high) by edge, from `measure_ranges` or a
    checkpoint, to imitate quantized activations too; their bounds are trained. noise: share of the weights that are
    imitated in a training step, drawn anew in each from `seed_step`; wherever gradients are off, all are.
    """

    _limits: Tensor
    _numbers: Tensor
    _from_zero: Tensor

    def __init__(
        self,
        model: VideoModel,
        trace: Trace,
        bits: tuple[int, int] | Bits,
        ranges: Mapping[str, Range] | None = None,
        noise: float = 1.0,
    ) -> None:
        super().__init__()
        self.model, self.trace, self.noise = model, trace, noise
        self.bits: Bits = (bits[0], bits[1], bits[-1] if len(bits) == 3 else bits[0])
        self._bits_by_weight = bits_by_weight(model, trace, self.bits)
        self._settled: tuple[list[Tensor], dict[str, Tensor]] | None = None
        self._draws = torch.Generator(next(model.parameters()).device)
        self.axes = weight_axes(trace.graph)
        self.plan: Int8Plan | None = plan_int8(trace.graph, ranges) if ranges is not None else None
        self.bounds = nn.ParameterDict({e: nn.Parameter(torch.tensor(r)) for e, r in (ranges or {}).items()})
        if self.plan:
            self._hold(self.plan)

    def _hold(self, plan: Int8Plan) -> None:
        """What the plan says of the edges with bounds, on the model's device: no step on a GPU waits for it."""
        edges = list(self.bounds)
        limits = [plan.clips.get(edge, (-math.inf, math.inf)) for edge in edges]
        numbers = [plan.shifted.get(edge, math.nan) for edge in edges]
        from_zero = [edge in {*plan.fused_relu, *plan.shifted} for edge in edges]
        self.register_buffer("_limits", torch.tensor(limits, dtype=torch.double).reshape(-1, 2), persistent=False)
        self.register_buffer("_numbers", torch.tensor(numbers, dtype=torch.double), persistent=False)
        self.register_buffer("_from_zero", torch.tensor(from_zero, dtype=torch.bool), persistent=False)

    def forward(self, times: Places, frames: Tensor | None = None) -> Tensor:
        """RGB (B, 3, H, W) as the file's integers give it; the picture itself is not rounded."""
        if self.plan:
            self._parameters_by_edge = self._measured_parameters()
        hook = self._imitate if self.plan else None
        weights = self._settled[0] if self._settled else self.quantized_weights()
        return run_graph(self.trace.graph, self.sample(times), weights, hook)

    def draw(self, frames: Tensor, size: int, seed: int, step: int) -> tuple[Places, Tensor]:
        """The batch of a step, as of the model, but of what its graph draws."""
        return self.model.draw_traced(frames, size, seed, step)

    def parts(self, index: float) -> Sequence[Places]:
        """As of the model."""
        return self.model.parts(index)

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Round the weights once for all that is drawn within; no gradients."""
        with torch.no_grad():
            self._settled = (self.quantized_weights(), self._quantized_grids())
            try:
                yield
            finally:
                self._settled = None

    def sample(self, times: Places) -> tuple[Tensor, ...]:
        """The model's `sample` with its grids after a round trip through integers."""
        return self.model.sample(times, self._settled[1] if self._settled else self._quantized_grids())

    def _quantized_grids(self) -> dict[str, Tensor]:
        grids = {name: self.model.get_parameter(name) for name in self.model.grids}
        return {name: self._imitate_weight(g, self.bits[0], grid_axis(g.shape)) for name, g in grids.items()}

    def quantized_weights(self) -> list[Tensor]:
        """The model's parameters after a round trip through integers, with gradients."""
        parameters = dict(self.model.named_parameters())
        every = zip(self.trace.parameters, self._bits_by_weight, self.axes, strict=True)
        return [self._imitate_weight(parameters[name], bits, axis) for name, bits, axis in every]

    def seed_step(self, seed: int) -> None:
        """Begin a training step: what is imitated in it follows from `seed` alone."""
        self._draws.manual_seed(seed)

    def _imitate_weight(self, weight: Tensor, bits: int, axis: int | None) -> Tensor:
        imitated = imitate_quantize(weight, bits, axis)
        if self.noise >= 1 or not torch.is_grad_enabled():
            return imitated
        chosen = torch.rand(weight.shape, generator=self._draws, device=weight.device) < self.noise
        return torch.where(chosen, imitated, weight)

    @property
    def ranges(self) -> dict[str, Range]:
        """The learned ranges by edge."""
        return {edge: (float(b[0].detach()), float(b[1].detach())) for edge, b in self.bounds.items()}

    def take_ranges(self, ranges: Mapping[str, Range]) -> None:
        """Go back to learned ranges, of all edges."""
        with torch.no_grad():
            for edge, bounds in self.bounds.items():
                bounds.copy_(torch.tensor(ranges[edge]))

    def _imitate(self, edge: str, x: Tensor) -> Tensor:
        assert self.plan is not None
        if self.plan.edges.get(edge) != edge or edge == self.plan.output_source or edge in self.plan.shifts:
            return x
        scale, zero = self._scale_and_zero(edge)
        if torch.is_grad_enabled():
            result: Tensor = _Steps.apply(x.float(), scale, zero)
            return result
        return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale

    def _scale_and_zero(self, edge: str) -> tuple[Tensor, Tensor]:
        """Scale and zero point of an edge as `edge_parameters` defines them; gradients reach the bounds."""
        assert self.plan is not None
        if edge not in self.plan.leaky:
            return self._parameters_by_edge[edge]
        before, alpha = self.plan.leaky[edge]
        return _leaky_parameters(*self._scale_and_zero(before), alpha)

    def _measured_parameters(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Scale and zero point of every edge with bounds, all at once."""
        assert self.plan is not None
        if not len(self.bounds):
            return {}
        low, high = torch.stack(list(self.bounds.values())).double().unbind(1)
        least, most = self._limits.unbind(1)
        low, high = torch.maximum(low, least), torch.minimum(high, most).clamp(min=0.0)
        low = low.clamp(max=0.0).masked_fill(self._from_zero, 0.0)
        scale = torch.where(self._numbers.isfinite(), _whole_steps(high, self._numbers), (high - low) / 255.0)
        scale = scale.clamp_min(1e-30).float()
        place = -low / scale
        zero = torch.clamp(_Through.apply(place, torch.round(place)), 0, 255).float()
        return dict(zip(self.bounds, zip(scale.unbind(), zero.unbind(), strict=True), strict=True))


def _whole_steps(high: Tensor, number: Tensor) -> Tensor:
    """The scale of a square as `shifted_parameters` defines it; anything where the number is NaN."""
    number = number.nan_to_num(1.0)
    steps = 255.0 * number / torch.minimum(torch.maximum(high, number), 255.0 * number)
    scale: Tensor = number / _Through.apply(steps, torch.round(steps))
    return scale


def _leaky_parameters(scale: Tensor, zero: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """As `inr_runtime.units.leaky_parameters`, on the device; gradients reach the scale."""
    with torch.no_grad():
        place = zero.double()
        room = (255.0 - place + alpha * place).clamp_min(1.0)
        finer = torch.div(255.0, room, rounding_mode="floor").clamp_min(1.0)
        middle = torch.round(finer * alpha * place).float()
    return scale / finer.float(), middle


@torch.no_grad()
def ranges_over(
    model: VideoModel, trace: Trace, bits: tuple[int, int] | Bits, times: Sequence[float]
) -> dict[str, Range]:
    """The activation ranges that lose least over some moments, behind weights of these bits."""
    imitation = QuantizedModel(model, trace, bits)
    with imitation.settled():
        samples = [imitation.sample(places) for places in model.calibration(times)]
        return measure_ranges(trace.graph, imitation.quantized_weights(), samples)
