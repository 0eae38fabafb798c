"""Time budgets on a machine with a clock of its own: the length that is chosen, what of it is kept, and the ETA."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs import stop_when

from inr_runtime.int8plan import Range
from inr_train import Clip, fit
from inr_train.budget import fit_into
from inr_train.compensation import compensation_seconds
from inr_train.evaluate import Quality
from inr_train.models import build_model, config_dict
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel, ranges_over
from inr_train.recipe import Recipe, with_goal
from inr_train.recipes import EDGE_RECIPE, NERV_RECIPE
from inr_train.rounding import settling_seconds
from inr_train.run import Run
from inr_train.runlog import Progress
from inr_train.speed import Speed, measure_speed
from inr_train.start import Estimate, last_path
from inr_train.step import Learner
from inr_train.trace import trace

CPU = torch.device("cpu")
STEP, QUANTIZED_STEP, EVALUATION, ROUNDING, RANGING = 0.02, 0.05, 0.15, 0.4, 6.0
"""Seconds that they take on the machine of these tests."""


class Machine:
    """Work moves its clock, and learns nothing. measured: how many times too long a step seemed before the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, measured: float = 1.0, faster: float = 1.0) -> None:
        self.now, self.faster, self.measured, self.measurements, self.evaluations = 0.0, faster, measured, 0, 0
        for module in ("loop", "phases", "run", "start", "race"):
            clock = SimpleNamespace(monotonic=lambda: self.now)
            monkeypatch.setattr(sys.modules[f"inr_train.{module}"], "time", clock)
        monkeypatch.setattr(sys.modules["inr_train.step"], "train_step", self.train_step)
        monkeypatch.setattr(sys.modules["inr_train.phases"], "evaluate", self.evaluate)
        monkeypatch.setattr(sys.modules["inr_train.phases"], "compensate", self.compensate)
        monkeypatch.setattr(sys.modules["inr_train.run"], "ranges_over", self.ranges_over)
        monkeypatch.setattr(sys.modules["inr_train.start"], "measure_speed", self.measure_speed)

    def work(self, seconds: float) -> None:
        self.now += seconds / self.faster

    def train_step(self, learner: Learner, *_: object) -> torch.Tensor:
        self.work(QUANTIZED_STEP if isinstance(learner.network, QuantizedModel) else STEP)
        return torch.tensor(0.5)

    def evaluate(self, network: object, frames: torch.Tensor, every: int) -> Quality:
        self.work(EVALUATION / every)
        self.evaluations += 1
        return Quality(20 + 0.01 * self.evaluations, 20.0, (20.0,))

    def compensate(self, *_: object) -> dict[str, torch.Tensor]:
        self.work(ROUNDING)
        return {}

    def ranges_over(self, *given: Any) -> dict[str, Range]:
        self.work(RANGING)
        return ranges_over(*given)

    def measure_speed(self, *_: object) -> Speed:
        self.measurements += 1
        steps = (1e3 * self.measured * s for s in (STEP, QUANTIZED_STEP))
        return Speed("fp32", 1, *steps, 1e3 * EVALUATION, 1e3 * ROUNDING, 1e3 * RANGING)


def train(clip: Clip, recipe: Recipe, seconds: float, machine: Machine) -> list[tuple[float, Progress]]:
    """What was shown, and when; the end is the last."""
    seen: list[tuple[float, Progress]] = []
    fit(clip, "nerv-xxs", recipe=recipe, seconds=seconds, progress=lambda p: seen.append((machine.now, p)))
    return seen


@pytest.mark.parametrize("recipe", [EDGE_RECIPE, NERV_RECIPE], ids=["edge", "nerv"])
@pytest.mark.parametrize("seconds", [0.0, 40.0], ids=["epochs", "budget"])
@pytest.mark.parametrize("measured", [0.5, 1.0, 2.0])
def test_the_eta_is_right_within_a_tenth_even_where_steps_were_measured_wrong(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, seconds: float, measured: float
) -> None:
    machine = Machine(monkeypatch, measured)
    seen = train(tiny_clip, dataclasses.replace(recipe, epochs=200), seconds, machine)
    end = seen[-1][0]
    if seconds:
        assert end == pytest.approx(seconds, rel=0.1)
    for share in (0.25, 0.5, 0.75):
        now, shown = next((now, p) for now, p in seen if now >= share * end)
        assert shown.eta_seconds == pytest.approx(end - now, rel=0.1), share


def test_a_run_that_goes_on_announces_what_is_left_at_its_own_pace(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was what had been foreseen less what had passed: nothing at all, where steps are slower than measured."""
    machine, output = Machine(monkeypatch, measured=0.25), tmp_path / "m.pt"
    recipe = dataclasses.replace(NERV_RECIPE, epochs=100)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=recipe, output=output, progress=stop_when(lambda p: p.share > 0.5))
    announced: list[Estimate] = []
    begin = machine.now
    fit(tiny_clip, output=output, resume=True, announce=announced.append)
    assert announced[0].seconds == pytest.approx(machine.now - begin, rel=0.1)


def test_what_a_reached_quality_made_needless_is_in_no_eta_and_no_speed(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    recipe = dataclasses.replace(NERV_RECIPE, epochs=200, until_psnr=20.02)
    seen = train(tiny_clip, recipe, 0.0, machine)
    end, last = seen[-1]
    now, shown = next((now, p) for now, p in seen if p.phase == "int8")
    assert shown.eta_seconds == pytest.approx(end - now, rel=0.1)
    assert last.done == last.total == len(seen) - 1  # the last is shown again when weights are rounded


def test_a_picture_trains_as_long_as_it_is_told(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over one frame is one step: a budget of hours is millions of passes, and ended at one."""
    recipe = dataclasses.replace(EDGE_RECIPE, ms_per_step=0.01)
    assert fit_into(recipe, 100.0, 1).total_cost(1) == pytest.approx(100_000, rel=0.01)


def test_every_fit_of_the_length_is_on_the_disk_before_the_next_step(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed after a fit went on with a state of before it, and took another length."""
    machine = Machine(monkeypatch, measured=2.0)
    output, lengths = tmp_path / "m.pt", [0.0]

    def look(p: Progress) -> None:
        machine.faster *= 0.9998  # it grows warm: every fit finds another length
        if p.epochs != lengths[-1]:
            lengths.append(p.epochs)
            if len(lengths) > 2:  # the first is from before the first step
                state = Run.load(last_path(output), CPU)
                assert (state.recipe.epochs, state.step) == (p.epochs, p.done)
                assert state.report["fitted_again"] == len(lengths) - 2

    fitted = fit(tiny_clip, "nerv-xxs", recipe=EDGE_RECIPE, seconds=40, output=output, save_every=1e9, progress=look)
    assert len(lengths) == 2 + 4
    assert fitted.recipe["epochs"] == lengths[-1]


def test_a_resumed_run_measures_nothing_again_and_keeps_its_length(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, again = tmp_path / "m.pt", tmp_path / "again.pt"
    first = Machine(monkeypatch, measured=2.0)

    def copy_last_fit(p: Progress) -> None:
        if last_path(output).exists():
            shutil.copy(last_path(output), last_path(again))

    options = {"seconds": 40.0, "save_every": 1e9}
    whole = fit(tiny_clip, "nerv-xxs", recipe=EDGE_RECIPE, output=output, progress=copy_last_fit, **options)
    second = Machine(monkeypatch, faster=10.0)
    resumed = fit(tiny_clip, recipe=EDGE_RECIPE, output=again, resume=True, **options)
    assert (first.measurements, second.measurements) == (1, 0)
    assert resumed.recipe == whole.recipe
    assert [r["step"] for r in resumed.report["curve"]] == [r["step"] for r in whole.report["curve"]]


def test_a_run_of_three_steps_that_reached_its_quality_is_not_made_longer(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last share to look at was rounded to the last step, which had just ended the phase."""
    machine = Machine(monkeypatch)
    recipe = dataclasses.replace(EDGE_RECIPE, until_psnr=1.0)
    seen = train(tiny_clip, recipe, 0.9, machine)
    assert seen[-1][1].done == seen[-1][1].total


def test_what_rounding_takes_is_measured_on_the_network_that_is_rounded(tiny_clip: Clip) -> None:
    """It was taken for a multiple of evaluations, the same for all networks: half or twice what it took."""
    frames = torch.from_numpy(tiny_clip.frames).permute(0, 3, 1, 2)
    preset = PRESETS["edge-5"]
    model = build_model("edge", config_dict(preset.config(*frames.shape[2:], len(frames))))
    unrounded = with_goal(EDGE_RECIPE, "none")
    assert measure_speed(model, frames, unrounded, CPU).ms_per_rounding == 0
    traced, calls, goals = trace(model), list[str](), list[tuple[Any, ...]]()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("settling_seconds", "compensation_seconds"):
            measure = lambda *goal, name=name: calls.append(name) or goals.append(goal) or 2.0  # noqa: E731
            patch.setattr(f"inr_train.speed.{name}", measure)
        fixed = dataclasses.replace(EDGE_RECIPE, float_bits=8)
        assert measure_speed(model, frames, EDGE_RECIPE, CPU, traced).ms_per_rounding == 4000
        assert measure_speed(model, frames, fixed, CPU, traced).ms_per_rounding == 2000
    assert calls == ["compensation_seconds", "settling_seconds", "compensation_seconds"]
    for measured, *rest in goals:
        assert (type(measured), measured.config, measured is model) == (type(model), model.config, False)
        assert rest[0] is traced
        assert rest[2] == len(frames)
    assert [goal[2] for goal in goals] == [EDGE_RECIPE.bits, EDGE_RECIPE.bits, fixed.bits]


def test_rounding_takes_as_many_runs_of_the_network_as_were_counted(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where each takes half a second."""
    for module in ("compensation", "rounding"):
        monkeypatch.setattr(f"inr_train.{module}.warm_seconds", lambda work, device: (work(), 0.5)[1])
    preset, count = PRESETS["edge-5"], len(tiny_clip)
    model = build_model("edge", config_dict(preset.config(24, 40, count)))
    goal = model, trace(model), EDGE_RECIPE.bits, count
    assert compensation_seconds(*goal) == pytest.approx(0.5 * count * 1.2)
    assert settling_seconds(*goal) == 0.5 * 4 * (2 + len(model.grids) + 2)
    assert settling_seconds(*goal[:2], dataclasses.replace(EDGE_RECIPE, weight_bits=6).bits, count) == 0
