"""How fast training will be here: measured once before the first step, never again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inr_train.evaluate import scaled
from inr_train.losses import LOSSES
from inr_train.models import VideoModel
from inr_train.recipe import Recipe


@dataclass(frozen=True)
class Speed:
    """The fastest way to train here.

    dtype: `bf16` (autocast) or `fp32`. threads: all, or 1 where other work keeps the cores busy (waiting for a
    thread that has no core is many times slower than having none). Milliseconds of a step,
    plain and imitating integers.
    """

    dtype: str
    threads: int
    ms_per_step: float
    ms_per_quantized_step: float


def measure_speed(model: VideoModel, frames: Tensor, recipe: Recipe, device: torch.device) -> Speed:
    """Time training steps of a copy of the model in both precisions, then in the faster one with a single thread.

    frames: uint8 (T, 3, H, W). Slow bf16 (CPUs without AMX or AVX512-BF16) is found by this race, not by a list.
    A precision or thread count that the recipe fixes is not raced.
    """
    step = _make_step(model, frames, recipe, device)
    threads = recipe.threads or torch.get_num_threads()
    dtypes = (recipe.dtype,) if recipe.dtype else ("bf16", "fp32")
    times = {dtype: _best(step, dtype, threads) for dtype in dtypes}
    dtype = min(times, key=lambda name: times[name])
    plain = times[dtype]
    if not recipe.threads and threads > 1 and device.type == "cpu":
        alone = _best(step, dtype, 1)
        plain, threads = min((plain, threads), (alone, 1))
    quantized = _best(step, "fp32", threads)
    # The optimizer and evaluation add about a tenth; imitated quantization about a third (measured at 180p).
    return Speed(dtype, threads, 1.1 * plain, 1.35 * quantized)


def _make_step(model: VideoModel, frames: Tensor, recipe: Recipe, device: torch.device) -> Callable[[bool], None]:
    copied = copy.deepcopy(model)
    places, batch = copied.draw(frames, recipe.batch_size, 0, 0)
    target = scaled(batch)
    loss = LOSSES[recipe.loss](recipe.alpha)

    def step(bf16: bool) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            prediction = copied(places, target)
        loss(prediction.float(), target).backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def _best(step: Callable[[bool], None], dtype: str, threads: int) -> float:
    """Milliseconds of the fastest of a few steps; one is enough where it takes seconds."""
    torch.set_num_threads(threads)
    times: list[float] = []
    while len(times) < 6 and sum(times) < 2000:
        begin = time.perf_counter()
        step(dtype == "bf16")
        times.append((time.perf_counter() - begin) * 1e3)
    return min(times)
