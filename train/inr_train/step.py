"""One step of training: the same for a run and for measuring how long a step takes."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from inr_train.compiled import Decode, drawing_with
from inr_train.evaluate import scaled
from inr_train.losses import LOSSES
from inr_train.models import VideoModel
from inr_train.models.base import Places
from inr_train.optimizers import Together
from inr_train.pruning import Masks, apply_masks, mask_gradients
from inr_train.quantization import QuantizedModel
from inr_train.recipe import Recipe
from inr_train.run import Run

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
STEPS_BETWEEN_LOOKS = 25
"""Of a device that works ahead: looking at the loss means waiting for it."""


class Learner(Protocol):
    """What a step changes, and by which recipe. network: the model as the phase sees it. decode: compiled, or None."""

    recipe: Recipe
    model: VideoModel
    network: VideoModel | QuantizedModel
    optimizer: Together
    masks: Masks
    decode: Decode | None


def train_step(learner: Learner, places: Places, batch: Tensor) -> Tensor:
    """One optimizer step; returns the loss on the device, NaN where it or the gradient is not finite.

    In fp16 a step may only find that the loss must be scaled by less, and change no weights.

    places, batch: as `VideoModel.draw` gives them. On a CPU nothing is changed
    where the loss is NaN; elsewhere the caller looks from time to time, so that the device never waits, and goes back.
    """
    recipe, network = learner.recipe, learner.network
    target = scaled(batch)
    half = AUTOCAST.get(recipe.dtype)
    with torch.autocast(batch.device.type, half, enabled=half is not None), drawing_with(learner.model, learner.decode):
        prediction = network(places, target)
    loss = LOSSES[recipe.loss](recipe.alpha)(prediction.float(), target)
    learner.optimizer.backward(loss)
    mask_gradients(learner.model, learner.masks)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    if learner.optimizer.overflowed(norm):
        return loss.detach()
    value = torch.where(torch.isfinite(norm), loss.detach(), math.nan)
    if batch.device.type == "cpu" and not math.isfinite(float(value)):
        return value
    learner.optimizer.step(half=recipe.dtype == "bf16")
    apply_masks(learner.model, learner.masks)
    learner.model.confine()
    return value


def advance(run: Run, frames: Tensor, end: int) -> bool:
    """One step of a run towards `end`; whether its loss is finite, as far as was looked.

    frames: (T, C, H, W), the whole clip, on the run's device.
    """
    recipe = run.recipe
    places, batch = run.network.draw(frames, recipe.batch_size, run.order, run.step)
    run.optimizer.schedule(recipe.schedule(run.step, recipe.steps(run.model.count_items(frames.shape))) * run.lr_factor)
    if isinstance(run.network, QuantizedModel):
        run.network.seed_step(run.seed * 1_000_003 + run.step)
    loss = train_step(run, places, batch)
    if run.device.type == "cpu" or run.step % STEPS_BETWEEN_LOOKS == 0 or run.step + 1 == end:
        value = float(loss)
        if not math.isfinite(value):
            return False
        run.loss = value if run.loss == 0 else 0.98 * run.loss + 0.02 * value
    run.step += 1
    return True
