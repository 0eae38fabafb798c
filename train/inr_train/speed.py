"""How fast training will be here: measured once before the first step, never again."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from inr_train.clip import spread
from inr_train.compensation import compensation_seconds
from inr_train.compiled import Decode, compiled_decode, compiling
from inr_train.evaluate import evaluate
from inr_train.models import VideoModel
from inr_train.optimizers import Together, make_optimizer
from inr_train.pruning import Masks
from inr_train.quantization import RANGED_FRAMES, QuantizedModel, ranges_over
from inr_train.recipe import Recipe
from inr_train.rounding import settling_seconds
from inr_train.step import train_step
from inr_train.timing import wait_for, warm_seconds
from inr_train.trace import Trace

STEPS, SECONDS = 12, 1.5
"""Of a measurement: it ends with the first of them."""


@dataclass(frozen=True)
class Speed:
    """The fastest way to train here.

    dtype: `bf16` (autocast) or `fp32`. threads: all, or 1 where other work keeps the cores busy (waiting for a
    thread that has no core is many times slower than having none). Milliseconds of a step, plain and imitating
    integers (0 where no phase does), of evaluating the clip, and about of rounding weights and of measuring ranges.
    """

    dtype: str
    threads: int
    ms_per_step: float
    ms_per_quantized_step: float
    ms_per_evaluation: float
    ms_per_rounding: float
    ms_per_ranging: float


@dataclass
class _Trial:
    """A copy of the model that takes real steps."""

    recipe: Recipe
    model: VideoModel
    network: VideoModel | QuantizedModel
    optimizer: Together
    masks: Masks = field(default_factory=dict)
    decode: Decode | None = None
    ranging: float = 0.0


def measure_speed(
    model: VideoModel, frames: Tensor, recipe: Recipe, device: torch.device, traced: Trace | None = None
) -> Speed:
    """Time training steps of a copy of the model in both precisions, then in the faster one with a single thread.

    Where the recipe wants compiled steps, the chosen way is compiled and timed again; `UsageError` where it cannot be.

    frames: (T, C, H, W), on the device. traced: the model's graph, where a phase imitates integers. Slow bf16 (CPUs
    without AMX or AVX512-BF16) is found by this race, not by a list. A precision or thread count that the recipe fixes
    is not raced, nor is bf16 where the model needs float32.
    """
    copied = copy.deepcopy(model)
    threads = recipe.threads or torch.get_num_threads()
    plain = _Trial(recipe, copied, copied, make_optimizer(copied, copied, recipe))
    raced = ("fp32",) if model.needs_float32 else ("bf16", "fp32")
    dtypes = (recipe.dtype,) if recipe.dtype else raced
    times = {dtype: _milliseconds(plain, frames, dtype, threads) for dtype in dtypes}
    dtype = min(times, key=lambda name: min(times[name]))
    chosen = times[dtype]
    if not recipe.threads and threads > 1 and device.type == "cpu":
        alone = _milliseconds(plain, frames, dtype, 1)
        chosen, threads = min((chosen, threads), (alone, 1), key=lambda pair: min(pair[0]))
    if recipe.compiled:
        plain.decode = compiled_decode(copied, device)
        with compiling():
            _milliseconds(plain, frames, dtype, threads)  # compiles
            chosen = _milliseconds(plain, frames, dtype, threads)
    torch.set_num_threads(threads)
    frame, quantized, ranging = warm_seconds(lambda: evaluate(copied, frames[:1]), device), [0.0], 0.0
    kinds = [phase.quantize for phase in recipe.phases if phase.quantize != "none" and phase.share]
    if traced is not None and kinds:
        trial = _imitation(copied, frames, recipe, traced, kinds[-1])
        quantized, ranging = _milliseconds(trial, frames, dtype, threads), trial.ranging
    steps, rounding = (statistics.median(chosen), statistics.median(quantized)), 0.0
    if traced is not None and recipe.rounds:
        goal = copied, traced, recipe.bits, len(frames)
        rounding = compensation_seconds(*goal) + (0.0 if recipe.float_bits else settling_seconds(*goal))
    return Speed(dtype, threads, *steps, 1e3 * frame * len(frames), 1e3 * rounding, 1e3 * ranging)


def _imitation(copied: VideoModel, frames: Tensor, recipe: Recipe, traced: Trace, kind: str) -> _Trial:
    copied.settle(frames)
    ranges, ranging = None, 0.0
    if kind == "int8":
        few, begin = spread(len(frames), 2), time.perf_counter()
        ranges = ranges_over(copied, traced, recipe.bits, few)
        places = [len(copied.calibration(times)) for times in (spread(len(frames), RANGED_FRAMES), few)]
        ranging = (time.perf_counter() - begin) * places[0] / places[1]
    network = QuantizedModel(copied, traced, recipe.bits, ranges).to(frames.device)
    return _Trial(recipe, copied, network, make_optimizer(copied, network, recipe), ranging=ranging)


def _milliseconds(trial: _Trial, frames: Tensor, dtype: str, threads: int) -> list[float]:
    """Of a few steps, the first left out; one is enough where it takes seconds."""
    torch.set_num_threads(threads)
    trial.recipe = recipe = replace(trial.recipe, dtype=dtype)
    times: list[float] = []
    trial.optimizer.schedule(1e-6)
    while len(times) < STEPS + 1 and sum(times) < 1e3 * SECONDS:
        begin = time.perf_counter()
        places, batch = trial.network.draw(frames, recipe.batch_size, 0, len(times))
        train_step(trial, places, batch)
        wait_for(frames.device)
        times.append((time.perf_counter() - begin) * 1e3)
    return times[1:] or times
