"""A model as its file's integers will draw it, for training and evaluation; and those integers.

Activation ranges start from those that lose least over some frames (`ranges.py`) and are then learned by gradient with
the weights (as in LSQ+, Bhalgat et al. 2020). Training steps may compute products in bf16; evaluation, which decides
what is kept, is float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from inr_runtime.int8plan import Int8Plan, Range, plan_int8
from inr_runtime.sample import TimeTensor
from inr_runtime.tensors import QuantTensor, quantize
from inr_train.bits import Bits
from inr_train.graph_runner import run_graph
from inr_train.imitation import Steps, Through, imitate_quantize, leaky_steps, whole_steps
from inr_train.models import VideoModel
from inr_train.models.base import Places, time_tensor
from inr_train.ranges import measure_ranges
from inr_train.trace import MIN_ROW, Trace, integer_kernels, weight_axes

RANGED_FRAMES = 32
"""Moments whose activations say where ranges begin, at most, spread evenly."""


def bits_by_weight(model: VideoModel, trace: Trace, bits: Bits) -> list[int]:
    """Bits of each weight of the graph. Files may keep more layers in float: their weights still have those of int8."""
    kernels, precise = integer_kernels(trace.graph), set(model.precise)
    names = [port.name for port in trace.graph.weights]
    pairs = zip(names, trace.parameters, strict=True)
    return [bits.weights if n in kernels else bits.biases if p in precise else bits.floats for n, p in pairs]


def quantize_weights(model: VideoModel, trace: Trace, bits: Bits) -> list[QuantTensor]:
    """The integers that a file stores, one per weight of the graph."""
    parameters = dict(model.named_parameters())
    tensors = []
    every = zip(trace.parameters, weight_axes(trace.graph), bits_by_weight(model, trace, bits), strict=True)
    for name, axis, bits_here in every:
        tensors.append(quantize(parameters[name].detach().float().cpu().numpy(), bits_here, axis))
    return tensors


def grid_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of a grid's scales: its channels, unless they are too short to pay for scales of their own."""
    return 1 if len(shape) > 1 and math.prod(shape) // shape[1] >= MIN_ROW else None


def quantize_grids(model: VideoModel, bits: Bits) -> tuple[TimeTensor, ...]:
    """What a file stores of the time inputs."""
    parameters, bits_of = dict(model.named_parameters()), bits.by_grid(model.grids)
    tensors = []
    for t in model.time_inputs:
        grid = parameters[t.grid].detach().float().cpu().numpy() if t.grid else None
        data = None if grid is None else quantize(grid, bits_of[t.grid], grid_axis(grid.shape))
        tensors.append(time_tensor(t, data=data))
    return tuple(tensors)


class QuantizedModel(nn.Module):
    """A model as it will be after export, for training and evaluation.

    ranges: (low, high) by edge, from `measure_ranges` or a
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
        bits: Bits,
        ranges: Mapping[str, Range] | None = None,
        noise: float = 1.0,
    ) -> None:
        super().__init__()
        self.model, self.trace, self.bits, self.noise = model, trace, bits, noise
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
        bits_of = self.bits.by_grid(self.model.grids)
        return {name: self._imitate_weight(g, bits_of[name], grid_axis(g.shape)) for name, g in grids.items()}

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
            result: Tensor = Steps.apply(x.float(), scale, zero)
            return result
        return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale

    def _scale_and_zero(self, edge: str) -> tuple[Tensor, Tensor]:
        """Scale and zero point of an edge as `edge_parameters` defines them; gradients reach the bounds."""
        assert self.plan is not None
        if edge not in self.plan.leaky:
            return self._parameters_by_edge[edge]
        before, alpha = self.plan.leaky[edge]
        return leaky_steps(*self._scale_and_zero(before), alpha)

    def _measured_parameters(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Scale and zero point of every edge with bounds, all at once."""
        assert self.plan is not None
        if not len(self.bounds):
            return {}
        low, high = torch.stack(list(self.bounds.values())).double().unbind(1)
        least, most = self._limits.unbind(1)
        low, high = torch.maximum(low, least), torch.minimum(high, most).clamp(min=0.0)
        low = low.clamp(max=0.0).masked_fill(self._from_zero, 0.0)
        scale = torch.where(self._numbers.isfinite(), whole_steps(high, self._numbers), (high - low) / 255.0)
        scale = scale.masked_fill(scale <= 0, 1 / 255).clamp_min(1e-30).float()
        place = -low / scale
        zero = torch.clamp(Through.apply(place, torch.round(place)), 0, 255).float()
        return dict(zip(self.bounds, zip(scale.unbind(), zero.unbind(), strict=True), strict=True))


@torch.no_grad()
def ranges_over(model: VideoModel, trace: Trace, bits: Bits, times: Sequence[float]) -> dict[str, Range]:
    """The activation ranges that lose least over some moments, behind weights of these bits."""
    imitation = QuantizedModel(model, trace, bits)
    with imitation.settled():
        samples = [imitation.sample(places) for places in model.calibration(times)]
        return measure_ranges(trace.graph, imitation.quantized_weights(), samples)
