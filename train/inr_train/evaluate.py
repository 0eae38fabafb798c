"""Quality of a network on its clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Quality:
    """psnr_db: mean over frames of per-frame RGB PSNR on [0, 1] floats; psnr_8bit_db: same after rounding to 8 bits.

    per_frame_db: unrounded PSNR of every frame.
    """

    psnr_db: float
    psnr_8bit_db: float
    per_frame_db: tuple[float, ...]


@torch.no_grad()
def evaluate(network: nn.Module, frames: Tensor) -> Quality:
    """Compare every frame in float32. network: of times and frames. frames: uint8 (T, 3, H, W) on its device."""
    exact, rounded = [], []
    for i in range(len(frames)):
        target = frames[i : i + 1].float() / 255
        frame = network([float(i)], target).float().clamp(0, 1)
        exact.append(psnr(frame, target))
        rounded.append(psnr(torch.round(frame * 255) / 255, target))
    exact_db, rounded_db = torch.stack(exact), torch.stack(rounded)
    return Quality(float(exact_db.mean()), float(rounded_db.mean()), tuple(float(v) for v in exact_db))


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """-10 log10 of the mean squared error, both in [0, 1]; 100 dB where they are equal."""
    return -10 * torch.log10((prediction - target).square().mean().clamp_min(1e-10))
