"""How fast training will be here: measured once before the first step, never again."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from inr_train.losses import LOSSES
from inr_train.models import VideoModel
from inr_train.recipe import Recipe


@dataclass(frozen=True)
class Speed:
    """dtype: the faster of `bf16` (autocast) and `fp32`. Milliseconds of a step, plain and imitating integers."""

    dtype: str
    ms_per_step: float
    ms_per_quantized_step: float


def measure_speed(model: VideoModel, frames: Tensor, recipe: Recipe, device: torch.device) -> Speed:
    """Time one training step of a copy of the model in both precisions.

    frames: uint8 (T, 3, H, W). Slow bf16 (CPUs without AMX or AVX512-BF16) is found by this race, not by a list.
    """
    copied = copy.deepcopy(model)
    inputs = tuple(x.to(device) for x in copied.sample([0.0] * recipe.batch_size))
    target = frames[:1].float().expand(recipe.batch_size, -1, -1, -1) / 255
    loss = LOSSES[recipe.loss](recipe.alpha)

    def step(bf16: bool) -> float:
        begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            prediction = copied(*inputs)
        loss(prediction.float(), target).backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - begin) * 1e3

    def best(bf16: bool) -> float:
        first = step(bf16)
        return first if first > 3000 else min(step(bf16) for _ in range(3))

    bf16, fp32 = best(True), best(False)
    # The optimizer and evaluation add about a tenth; imitated quantization about a third (measured at 180p).
    return Speed("bf16" if bf16 < fp32 else "fp32", 1.1 * min(bf16, fp32), 1.35 * fp32)
