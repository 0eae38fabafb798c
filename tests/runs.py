"""Training runs that are stopped, watched and compared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from inr_train import Checkpoint
from inr_train.run import Run
from inr_train.runlog import Progress
from inr_train.step import Learner

Watch = Callable[[Progress], None]


def stop_when(condition: Callable[[Progress], bool], before: Callable[[], object] = lambda: None) -> Watch:
    """Ctrl-C after the first step of which the condition holds."""

    def stop(p: Progress) -> None:
        if condition(p):
            before()
            raise KeyboardInterrupt

    return stop


def stop_at(step: int, before: Callable[[], object] = lambda: None) -> Watch:
    """Ctrl-C after a step."""
    return stop_when(lambda p: p.done == step, before)


def assert_same(first: Checkpoint, second: Checkpoint) -> None:
    """The same weights, bit for bit, and activation ranges."""
    for name, weight in first.weights.items():
        assert np.array_equal(weight.numpy(), second.weights[name].numpy()), name
    assert first.ranges == second.ranges


@dataclass(frozen=True)
class Step:
    """What a step of a run began with: its number, its learning rate, the frames of its batch."""

    number: int
    rate: float
    frames: tuple[int, ...]


def watched_steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Every step that runs take from now on, as they take it."""
    module = sys.modules["inr_train.step"]
    taken, real = list[Step](), module.train_step

    def step(learner: Learner, places: list[int], batch: torch.Tensor) -> torch.Tensor:
        if isinstance(learner, Run):
            taken.append(Step(learner.step, learner.optimizer.param_groups[0]["lr"], tuple(places)))
        return real(learner, places, batch)

    monkeypatch.setattr(module, "train_step", step)
    return taken


def assert_half_the_rate_in_another_order(before: list[Step], after: list[Step]) -> None:
    """Of the same steps, taken again."""
    assert [s.number for s in after] == [s.number for s in before]
    assert [s.rate for s in after] == [s.rate / 2 for s in before]
    assert [s.frames for s in after] != [s.frames for s in before]
