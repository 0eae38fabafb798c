"""The training engine: Muon, time budgets, random beginnings that race."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from commands import Call
from runs import assert_same, stop_at, stop_when
from torch.amp import GradScaler

from inr_runtime.errors import UsageError
from inr_train import Clip, fit, start
from inr_train.budget import fit_into
from inr_train.evaluate import Quality
from inr_train.models import MODELS, meta_model
from inr_train.optimizers import HALF_SIDE, Muon, Together, hidden_matrices, orthogonalized
from inr_train.options import parse_duration
from inr_train.presets import PRESETS
from inr_train.recipe import Recipe
from inr_train.recipes import EDGE_RECIPE, FAST_RECIPE
from inr_train.run import Run
from inr_train.speed import Speed
from inr_train.start import Estimate
from inr_train.step import Learner

MUON = dataclasses.replace(FAST_RECIPE, epochs=12, optimizer="muon", dtype="fp32", threads=1)
MATRICES = {"edge-10": 5, "nerv-xs": 2, "hnerv-0.35m": 4, "hinerv-bunny-xxs": 3, "siren-xs": 3, "nerf-xs": 3}
"""How many Muon moves, of a preset of every family at 160x90; of Edge those of the first and last layers too."""


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 24, 24)])
def test_orthogonalized_matrices_keep_their_singular_vectors(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ orthogonalized(matrices) @ vh.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.3
    assert values.max() < 1.4
    assert (inside - torch.diag_embed(values)).abs().max() < 1e-4
    assert not orthogonalized(torch.zeros(1, 8, 9)).any()


@pytest.mark.parametrize("shape", [(128, 128), (160, 640), (640, 160)])
@pytest.mark.parametrize("decades", [0, 2, 4])
def test_matrices_with_small_singular_values_are_as_safe_in_half(shape: tuple[int, int], decades: int) -> None:
    """A product of polynomials in bf16 gave singular values of 20 here, in directions that gradients did not have."""
    generator, rank = torch.Generator().manual_seed(0), min(shape)
    left, right = (torch.linalg.qr(torch.randn(side, rank, generator=generator))[0] for side in shape)
    matrix = (left * 10 ** (-decades * torch.linspace(0, 1, rank))) @ right.mT
    exact, half = (orthogonalized(matrix[None].to(dtype))[0].float() for dtype in (torch.float32, torch.bfloat16))
    assert torch.linalg.svdvals(half).max() < 1.4
    assert torch.linalg.svdvals(exact).max() < 1.4
    assert torch.cosine_similarity(half.flatten(), exact.flatten(), 0) > 0.97


def test_large_matrices_are_orthogonalized_in_half_where_the_recipe_computes_so() -> None:
    """To a few hundredths of what float32 moves them by; small ones, and all without `half`, bit for bit as before."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((HALF_SIDE, 200), (HALF_SIDE - 8, 200))
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    moved = {}
    for half in (False, True):
        weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        Together([Muon(weights, 0.02)]).step(half)
        moved[half] = [w.detach() for w in weights]
    large, small = zip(*moved.values(), strict=True)
    assert torch.equal(*small)
    assert not torch.equal(*large)
    assert (large[1] - large[0]).norm() < 0.05 * large[0].norm()


@pytest.mark.parametrize(("name", "count"), MATRICES.items())
def test_muon_moves_hidden_matrices_only(name: str, count: int) -> None:
    preset = PRESETS[name]
    model = meta_model(preset.family, preset.config(90, 160, 8))
    chosen = set(hidden_matrices(model))
    left = ("modulate.",) if name == "edge-10" else ("stem.", "first.", "head.")
    assert [n for n in chosen if n.startswith(left)] == []
    assert len(chosen) == count
    assert chosen.isdisjoint(model.grids)
    assert all(model.get_parameter(n).ndim > 1 for n in chosen)


def test_every_family_is_among_those() -> None:
    assert set(MODELS) == {p.family for p in PRESETS.values()} == {PRESETS[name].family for name in MATRICES}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_run_with_muon_learns_and_resumes_to_the_same_weights(tiny_clip: Clip, tmp_path: Path, dtype: str) -> None:
    recipe = dataclasses.replace(MUON, dtype=dtype)
    whole = fit(tiny_clip, "nerv-xxs", recipe=recipe)
    assert whole.report["psnr_db"] > 15
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=recipe, output=tmp_path / "m.pt", progress=stop_at(30))
    assert_same(whole, fit(tiny_clip, output=tmp_path / "m.pt", resume=True))


def test_a_time_budget_becomes_epochs_and_part_of_the_recipe(tmp_path: Path, call: Call, video: Path) -> None:
    code, out, words = call("inr-train", video, "-o", "m.pt", "--preset", "nerv-xxs", "--time-budget", "2s", "--json")
    assert code == 0, words
    recipe = Recipe.from_dict(json.loads(out)["recipe"])
    assert recipe.epochs > 0.2
    code, _, words = call("inr-train", video, "-o", "m.pt", "--time-budget", "soon", "-y")
    assert (code, "90s, 10m or 1h30m" in words) == (2, True)
    code, _, words = call("inr-train", video, "-o", "m.pt", "--time-budget", "1m", "--epochs", "3", "-y")
    assert (code, "--epochs" in words) == (2, True)


def test_twice_the_time_is_twice_the_epochs() -> None:
    recipe = dataclasses.replace(FAST_RECIPE, ms_per_step=10.0, ms_per_quantized_step=30.0, ms_per_evaluation=100.0)
    short, long = (fit_into(recipe, seconds, 100) for seconds in (600, 1200))
    assert short.total_cost(100) == pytest.approx(600_000, rel=0.01)
    assert long.epochs == pytest.approx(2 * short.epochs, rel=0.01)
    assert fit_into(recipe, 0.001, 100).steps(100) == 2


def test_evaluations_take_no_more_than_a_tenth_of_a_short_time() -> None:
    slow = dataclasses.replace(FAST_RECIPE, ms_per_step=100.0, ms_per_quantized_step=300.0, ms_per_evaluation=30_000.0)
    found = fit_into(slow, 60, 132, 132)
    assert found.every > 8
    assert found.evaluation_cost(132) <= 6_000
    assert 0.9 * 60_000 < found.total_cost(132) <= 60_000
    assert fit_into(slow, 1e6, 132, 132).every == 1
    assert fit_into(slow, 1, 132, 4).every == 4  # a frame there must be


def test_a_run_too_short_to_see_all_frames_says_so(
    tmp_path: Path, call: Call, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip.read(str(video))
    short = {"epochs": 2, "every": 3}
    monkeypatch.setattr(start, "fit_into", lambda recipe, *_: dataclasses.replace(recipe, **short))
    checkpoint = fit(clip, "nerv-xxs", recipe=MUON, seconds=9, output=tmp_path / "m.pt")
    assert checkpoint.report["evaluated_frames"] == len(checkpoint.report["per_frame_db"]) == -(-len(clip) // 3)
    code, _, words = call("inr-export", tmp_path / "m.pt", "-o", "m.nvb", "--max-loss-db", "50")
    assert code == 0, words


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("2m5s", 125)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3", "m", "10x", "1m1h", "nan", "9" * 12])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_duration(text)


@pytest.mark.parametrize(
    "field", [{"optimizer": "sgd"}, {"muon_rate": 0.0}, {"grid_rate": -1.0}, {"until_psnr": 101.0}]
)
def test_contradicting_recipes_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"lies in|one of"):
        dataclasses.replace(FAST_RECIPE, **field)  # type: ignore[arg-type]


RACING = dataclasses.replace(MUON, candidates=3)


def test_the_best_of_several_beginnings_goes_on(tiny_clip: Clip, tmp_path: Path) -> None:
    checkpoint = fit(tiny_clip, "nerv-xxs", recipe=RACING, seed=5)
    race = checkpoint.report["race"]
    assert [r["seed"] for r in race] == [5, 6, 7]
    assert len({r["psnr_db"] for r in race}) == 3
    winner = max(race, key=lambda r: r["psnr_db"])["seed"]
    # The winner's steps are part of the run.
    assert_same(checkpoint, fit(tiny_clip, "nerv-xxs", recipe=MUON, seed=winner))


def test_a_beginning_that_becomes_nan_does_not_win(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["inr_train.step"]
    real = module.train_step

    def nan_once(learner: Learner, *batch: torch.Tensor) -> torch.Tensor:
        fails = isinstance(learner, Run) and (learner.seed, learner.step) == (5, 3)
        return torch.tensor(math.nan) if fails else real(learner, *batch)

    monkeypatch.setattr(module, "train_step", nan_once)
    checkpoint = fit(tiny_clip, "nerv-xxs", recipe=RACING, seed=5)
    failed, *others = checkpoint.report["race"]
    assert failed == {"seed": 5, "psnr_db": None}
    winner = max(others, key=lambda r: r["psnr_db"])["seed"]
    assert_same(checkpoint, fit(tiny_clip, "nerv-xxs", recipe=MUON, seed=winner))


def test_a_run_is_resumed_with_the_seed_it_began_with_whoever_won(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rising = itertools.count(10.0)
    monkeypatch.setattr("inr_train.race.evaluate", lambda *_: Quality(next(rising), 0.0, ()))
    after_the_race = stop_at(RACING.race_steps(len(tiny_clip)) + 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=RACING, seed=5, output=tmp_path / "m.pt", progress=after_the_race)
    for other in (6, 7):
        with pytest.raises(UsageError, match="has seed 5;"):
            fit(tiny_clip, output=tmp_path / "m.pt", resume=True, seed=other)
    checkpoint = fit(tiny_clip, output=tmp_path / "m.pt", resume=True, seed=5)
    assert (checkpoint.seed, checkpoint.report["race"][-1]["psnr_db"]) == (5, 12.0)  # the last has won


@pytest.mark.parametrize("when", [4, 25, 40])
def test_a_race_that_was_stopped_ends_as_one_that_was_not(tiny_clip: Clip, tmp_path: Path, when: int) -> None:
    whole, seen = fit(tiny_clip, "nerv-xxs", recipe=RACING), itertools.count(1)
    stop = stop_when(lambda _: next(seen) == when)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=RACING, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert resumed.report["race"] == whole.report["race"]
    assert_same(whole, resumed)


def test_candidates_are_for_random_beginnings(tmp_path: Path, call: Call, video: Path) -> None:
    common = ("inr-train", video, "-o", "m.pt", "--preset", "nerv-xxs")
    code, out, words = call(*common, "--epochs", "2", "--candidates", "2", "--json")
    assert code == 0, words
    assert json.loads(out)["recipe"]["candidates"] == 2
    code, _, words = call("inr-train", video, "-o", "n.pt", "--from", "m.pt", "--candidates", "2")
    assert (code, "random beginnings" in words) == (2, True)


def test_a_time_budget_resumes_with_the_options_it_began_with(tmp_path: Path, call: Call, video: Path) -> None:
    common = ("inr-train", video, "-o", "m.pt", "--preset", "nerv-xxs", "--lr", "0.004", "--time-budget")
    with_state = tmp_path / "m.last.pt"
    clip = Clip.read(str(video))
    recipe = dataclasses.replace(PRESETS["nerv-xxs"].recipe, learning_rate=0.004)
    with pytest.raises(KeyboardInterrupt):
        fit(clip, "nerv-xxs", recipe=recipe, seconds=3.0, output=tmp_path / "m.pt", progress=stop_at(1))
    assert with_state.exists()
    code, _, words = call(*common, "9s", "--resume")
    assert (code, "time budget of 3 s" in words) == (2, True)
    code, _, words = call(*common, "3s", "--resume")
    assert code == 0, words


def test_a_time_budget_is_fitted_again_where_steps_take_less_than_was_measured(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inr_train.start.measure_speed", lambda *_: Speed("fp32", 1, 1000.0, 0.0, 0.1, 0.1, 0.0))
    planned: list[Estimate] = []
    output = tmp_path / "m.pt"
    fitted = fit(tiny_clip, "edge-5", seconds=5, recipe=EDGE_RECIPE, output=output, announce=planned.append)
    assert 0 < planned[0].epochs < 1  # of six steps
    assert fitted.recipe["epochs"] > 2
    assert fitted.recipe["ms_per_step"] < 900
    assert fitted.report["curve"][-1]["rounded"]


def test_a_loss_scaled_by_too_much_costs_a_step_and_what_no_scale_helps_is_told() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = Together([torch.optim.Adam([weight], fused=True)], GradScaler("cpu", init_scale=4.0))
    told = []
    for steep in (1e-3, 2e38, 2e38, 2e38, math.inf):
        optimizer.backward((steep * weight).sum())
        norm = torch.nn.utils.clip_grad_norm_([weight], 1.0)
        told.append((optimizer.overflowed(norm), optimizer.scaler.get_scale()))
    assert told == [(False, 4.0), (True, 2.0), (True, 1.0), (False, 1.0), (False, 0.5)]
