"""Losses between a predicted and a true frame, both float32 (B, 3, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from pytorch_msssim import SSIM, ms_ssim, ssim
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (prediction - target).abs().mean()


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference."""
    return (prediction - target).square().mean()


def one_minus_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM (11-tap Gaussian of sigma 1.5, valid windows, per RGB channel, then averaged)."""
    value: Tensor = ssim(prediction, target, data_range=1.0, win=_window(11, prediction.device))
    return 1 - value


def one_minus_ms_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - MS-SSIM with windows of 5 taps (of sigma 1.5), five scales: as HiNeRV is trained, for sides above 64."""
    value: Tensor = ms_ssim(prediction, target, data_range=1.0, win=_window(5, prediction.device))
    return 1 - value


@lru_cache(maxsize=8)
def _window(taps: int, device: torch.device) -> Tensor:
    """A Gaussian of sigma 1.5 for three channels, on its device for good: a step that moved it there would wait."""
    window: Tensor = SSIM(win_size=taps, win_sigma=1.5, channel=3).win
    return window.to(device)


def fft_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean magnitude of the difference's orthonormal 2-D Fourier coefficients (as in Boosting-NeRV's loss)."""
    result: Tensor = _MeanMagnitude.apply(prediction - target)  # type: ignore[no-untyped-call]
    return result


class _MeanMagnitude(torch.autograd.Function):
    """Of the half spectrum. Its gradient is a real inverse transform, half the work of what autograd does."""

    @staticmethod
    def forward(ctx: Any, difference: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(difference, norm="ortho")
        magnitude = spectrum.abs()
        ctx.save_for_backward(spectrum, magnitude)
        ctx.size = difference.shape[-2:]
        mean: Tensor = magnitude.mean()
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        spectrum, magnitude = ctx.saved_tensors
        direction = spectrum / magnitude.clamp_min(1e-30)
        # irfft2 counts columns that stand for a conjugated pair twice.
        direction[..., 1 : (ctx.size[1] + 1) // 2] *= 0.5
        result: Tensor = torch.fft.irfft2(direction, s=ctx.size, norm="ortho") * (gradient / magnitude.numel())
        return result


def _mix(first: Loss, second: Loss) -> Callable[[float], Loss]:
    return lambda alpha: lambda p, t: alpha * first(p, t) + (1 - alpha) * second(p, t)


LOSSES: dict[str, Callable[[float], Loss]] = {
    "l1": lambda alpha: l1,
    "l2": lambda alpha: l2,
    "ssim": lambda alpha: one_minus_ssim,
    "l1_ssim": _mix(l1, one_minus_ssim),
    "l1_msssim": _mix(l1, one_minus_ms_ssim),
    "l2_ssim": _mix(l2, one_minus_ssim),
    "l2_l1": _mix(l2, l1),
    "l1_fft": lambda alpha: lambda p, t: alpha * l1(p, t) + fft_l1(p, t),
}
"""Losses by name; mixes take alpha: alpha * first + (1 - alpha) * second, and l1_fft is alpha * L1 + FFT-L1."""


POINTWISE = ("l1", "l2", "l2_l1")
"""Losses that need no neighbours: what networks that learn from single pixels can use."""


def least_side(name: str) -> int:
    """The smallest height and width, in pixels, that a loss can be computed for."""
    return 65 if "msssim" in name else 11 if "ssim" in name else 1
