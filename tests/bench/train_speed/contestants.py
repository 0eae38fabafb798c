"""Who takes training steps: one network by one recipe, computed in several ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from inr_train.compiled import compiled_decode
from inr_train.models import VideoModel, build_model, config_dict
from inr_train.optimizers import Together, make_optimizer
from inr_train.presets import PRESETS
from inr_train.pruning import Masks
from inr_train.recipes import EDGE_RECIPE
from inr_train.step import train_step
from inr_train.timing import wait_for

LAYOUTS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
MUON, FUSED, PLAIN = "Muon and Adam", "Adam, fused", "Adam, not fused"


@dataclass(frozen=True)
class Way:
    """How a step is computed. compiled: as steps of training can be (`inr_train.compiled`)."""

    dtype: str
    layout: str
    compiled: bool = False
    optimizer: str = MUON

    @property
    def name(self) -> str:
        """In words, without the optimizer."""
        return f"{self.dtype}, {self.layout}{', compiled' * self.compiled}"


WAYS = (
    Way("fp32", "NCHW"),
    Way("fp32", "channels last"),
    Way("bf16", "NCHW"),
    Way("bf16", "channels last"),
    Way("bf16", "channels last", compiled=True),
    Way("bf16", "channels last", optimizer=FUSED),
    Way("bf16", "channels last", optimizer=PLAIN),
)
"""The first is what the others are compared with."""


class Timed(Together):
    """Several optimizers as one, with a clock. A GPU's own clock, so that its step is not held up for looking."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer], device: torch.device) -> None:
        super().__init__(parts)
        self._device = device

    def step(self, half: bool = False) -> None:
        """One step of every part, between two looks at the clock."""
        self._begin = self._look()
        super().step(half)
        self._end = self._look()

    @property
    def milliseconds(self) -> float:
        """Of the last step, once the device has done it."""
        if self._device.type == "cuda":
            return float(self._begin.elapsed_time(self._end))
        return 1e3 * float(self._end - self._begin)

    def _look(self) -> Any:
        if self._device.type != "cuda":
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


class Contestant:
    """A new network that takes real training steps in one way: a `Learner`, as a run is.

    clips: frames (T, C, H, W) by layout, on the device.
    """

    def __init__(self, preset: str, way: Way, threads: int, clips: Mapping[str, Tensor]) -> None:
        self.way, self.threads, self.frames = way, threads, clips[way.layout]
        count, _, height, width = self.frames.shape
        config = config_dict(PRESETS[preset].config(height, width, count))
        optimizer = "muon" if way.optimizer == MUON else "adam"
        self.recipe = replace(EDGE_RECIPE, dtype=way.dtype, optimizer=optimizer)
        torch.manual_seed(0)
        model = build_model(PRESETS[preset].family, config)
        model.prepare()
        self.model: VideoModel = model.to(self.frames.device, memory_format=LAYOUTS[way.layout])  # type: ignore[call-overload]
        self.network, self.taken = self.model, 0
        self.masks: Masks = {}
        self.optimizer = Timed(make_optimizer(self.model, self.model, self.recipe).parts, self.frames.device)
        self.optimizer.schedule(1e-6)
        if way.optimizer == PLAIN:
            for group in self.optimizer.param_groups:
                group["fused"] = None  # what Adam does unless told
        if way.layout == "NCHW":
            _keep_layout(self.model)
        self.decode = compiled_decode(self.model, self.frames.device) if way.compiled else None

    def step(self) -> tuple[float, float]:
        """Milliseconds of one training step, and of the optimizer in it."""
        torch.set_num_threads(self.threads)
        begin = perf_counter()
        places, batch = self.network.draw(self.frames, self.recipe.batch_size, 0, self.taken)
        train_step(self, places, batch)
        wait_for(self.frames.device)
        self.taken += 1
        return 1e3 * (perf_counter() - begin), self.optimizer.milliseconds


def _keep_layout(model: nn.Module) -> None:
    """Give convolutions NCHW, also where the model's own code asks for channels last."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
