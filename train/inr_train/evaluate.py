"""Quality of a network on its clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Quality:
    """psnr_db: mean over frames of per-frame RGB PSNR on [0, 1] floats; psnr_8bit_db: same after rounding to 8 bits
    (sound: 16).

    per_frame_db: unrounded PSNR of every frame that was compared.
    """

    psnr_db: float
    psnr_8bit_db: float
    per_frame_db: tuple[float, ...]


@torch.no_grad()
def evaluate(network: nn.Module, frames: Tensor, every: int = 1) -> Quality:
    """Compare frames in float32: all, or one of `every`.

    frames: (T, C, H, W), the clip, on the device of the network.
    """
    exact, rounded = [], []
    settled: Callable[[], AbstractContextManager[None]] = getattr(network, "settled", nullcontext)
    with settled():
        for i in range(0, len(frames), every):
            original = frames[i : i + 1]
            values = scaled(original)
            frame = unit(frame_of(network, i, (original.shape[2], original.shape[3]), values), original)
            target = unit(values, original)
            steps = 255 if original.dtype == torch.uint8 else 65535
            exact.append(psnr(frame, target))
            rounded.append(psnr(torch.round(frame * steps) / steps, target))
    exact_db, rounded_db = torch.stack(exact), torch.stack(rounded)
    return Quality(float(exact_db.mean()), float(rounded_db.mean()), tuple(float(v) for v in exact_db))


def frame_of(network: nn.Module, index: float, size: tuple[int, int], target: Tensor | None = None) -> Tensor:
    """Frame `index` as a network gives it, some pixels at a time where it draws those: (1, C, H, W), not clipped.

    size: height and width. target: (1, C, H, W), what it should be, which an encoder may look at.
    """
    first, *others = network.parts(index)  # type: ignore[operator]
    frame: Tensor = network(first, target).float()
    if others:
        # Into one place: small results between large activations keep the memory of these from being used again.
        done, frame = frame.shape[3], F.pad(frame, (0, math.prod(size) // frame.shape[2] - frame.shape[3]))
        for places in others:
            part = network(places, target)
            frame[..., done : done + part.shape[3]] = part
            done += part.shape[3]
    return frame.reshape(1, -1, *size)


def scaled(batch: Tensor) -> Tensor:
    """Pictures, uint8, as floats in [0, 1]; sound, float32 in [-1, 1], as it is."""
    return batch.float() / 255 if batch.dtype == torch.uint8 else batch


def unit(values: Tensor, like: Tensor) -> Tensor:
    """Clipped and in [0, 1], whatever range the clip's type stands for: so the PSNR of sound is peak to peak."""
    return (values if like.dtype == torch.uint8 else (values + 1) / 2).clamp(0, 1)


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """-10 log10 of the mean squared error, both in [0, 1]; 100 dB where they are equal."""
    return -10 * torch.log10((prediction - target).square().mean().clamp_min(1e-10))
