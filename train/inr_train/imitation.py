"""What stored integers do to numbers, differentiably: `inr_runtime.tensors` and `inr_runtime.units`, for training.

Rounding passes gradients straight through (Bengio et al. 2013).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inr_runtime.tensors import SCALE_CODE_RANGE, SCALE_SLACK, SMALLEST_SCALE, STEPS_PER_OCTAVE


class Through(torch.autograd.Function):
    """Another value in the place of a tensor; the gradient passes as if nothing happened."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], None


class Steps(torch.autograd.Function):
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
    result: Tensor = Through.apply(weight, imitated)
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


def whole_steps(high: Tensor, number: Tensor) -> Tensor:
    """The scale of a square as `shifted_parameters` defines it; anything where the number is NaN."""
    number = number.nan_to_num(1.0)
    steps = 255.0 * number / torch.minimum(torch.maximum(high, number), 255.0 * number)
    scale: Tensor = number / Through.apply(steps, torch.round(steps))
    return scale


def leaky_steps(scale: Tensor, zero: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """As `inr_runtime.units.leaky_parameters`, on the device; gradients reach the scale."""
    with torch.no_grad():
        place = zero.double()
        room = (255.0 - place + alpha * place).clamp_min(1.0)
        finer = torch.div(255.0, room, rounding_mode="floor").clamp_min(1.0)
        middle = torch.round(finer * alpha * place).float()
    return scale / finer.float(), middle
