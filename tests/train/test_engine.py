"""The training engine: Muon, time budgets, stopping at a quality, measured speed."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Call
from torch.amp import GradScaler

from inr_runtime.errors import UsageError
from inr_train import Clip, fit
from inr_train.budget import fit_into
from inr_train.models import MODELS, build_model, config_dict, meta_model
from inr_train.optimizers import HALF_SIDE, Muon, Together, hidden_matrices, orthogonalized
from inr_train.options import parse_duration
from inr_train.presets import PRESETS
from inr_train.recipe import Recipe
from inr_train.recipes import EDGE_RECIPE, FAST_RECIPE, NERF_RECIPE
from inr_train.runlog import Progress
from inr_train.speed import Speed, measure_speed
from inr_train.start import Estimate

MUON = dataclasses.replace(FAST_RECIPE, epochs=12, optimizer="muon", dtype="fp32", threads=1)


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


def test_muon_moves_hidden_matrices_only() -> None:
    for name in ("nerv-xs", "hnerv-0.35m", "hinerv-bunny-xxs", "siren-xs", "siren-xs"):
        preset = PRESETS[name]
        model = meta_model(preset.family, preset.config(90, 160, 8))
        chosen = set(hidden_matrices(model))
        assert chosen
        assert chosen.isdisjoint(model.grids)
        assert not any(n.startswith(("head.", "stem.")) or model.get_parameter(n).ndim < 2 for n in chosen)
    assert set(MODELS) == {p.family for p in PRESETS.values()}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_run_with_muon_learns_and_resumes_to_the_same_weights(tiny_clip: Clip, tmp_path: Path, dtype: str) -> None:
    recipe = dataclasses.replace(MUON, dtype=dtype)
    whole = fit(tiny_clip, "nerv-xxs", recipe=recipe)
    assert whole.report["psnr_db"] > 15

    def stop(p: Progress) -> None:
        if p.done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=recipe, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    for name, weight in whole.weights.items():
        assert np.array_equal(weight.numpy(), resumed.weights[name].numpy())


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


def test_a_run_too_short_to_see_all_frames_says_so(tmp_path: Path, call: Call, video: Path) -> None:
    clip = Clip.read(str(video))
    recipe = dataclasses.replace(MUON, epochs=2, every=3)
    checkpoint = fit(clip, "nerv-xxs", recipe=recipe, output=tmp_path / "m.pt")
    assert checkpoint.report["evaluated_frames"] == len(checkpoint.report["per_frame_db"]) == -(-len(clip) // 3)
    code, _, words = call("inr-export", tmp_path / "m.pt", "-o", "m.nvb", "--max-loss-db", "50")
    assert code == 0, words


def test_a_run_ends_when_its_quality_is_reached_and_still_becomes_a_file(tiny_clip: Clip, tmp_path: Path) -> None:
    recipe = dataclasses.replace(MUON, epochs=200, until_psnr=20.0)
    seen: list[Progress] = []
    checkpoint = fit(tiny_clip, "nerv-xxs", recipe=recipe, progress=seen.append)
    curve = checkpoint.report["curve"]
    first = [r for r in curve if r["phase"] == "fit"]
    assert first[-1]["psnr_db"] >= 20
    assert all(r["psnr_db"] < 20 for r in first[:-1])
    assert curve[-1]["phase"] == "int8"
    assert len(seen) < recipe.steps(len(tiny_clip))
    assert checkpoint.ranges
    assert checkpoint.report["psnr_db"] > 19


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
    assert checkpoint.seed == max(race, key=lambda r: r["psnr_db"])["seed"]
    alone = fit(tiny_clip, "nerv-xxs", recipe=MUON, seed=checkpoint.seed)
    for name, weight in alone.weights.items():  # the winner's steps are part of the run
        assert np.array_equal(weight.numpy(), checkpoint.weights[name].numpy())


@pytest.mark.parametrize("when", [4, 25, 40])
def test_a_race_that_was_stopped_ends_as_one_that_was_not(tiny_clip: Clip, tmp_path: Path, when: int) -> None:
    whole = fit(tiny_clip, "nerv-xxs", recipe=RACING)
    seen = 0

    def stop(p: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=RACING, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert resumed.report["race"] == whole.report["race"]
    for name, weight in whole.weights.items():
        assert np.array_equal(weight.numpy(), resumed.weights[name].numpy())


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

    def stop(p: Progress) -> None:
        raise KeyboardInterrupt

    clip = Clip.read(str(video))
    recipe = dataclasses.replace(PRESETS["nerv-xxs"].recipe, learning_rate=0.004)
    with pytest.raises(KeyboardInterrupt):
        fit(clip, "nerv-xxs", recipe=recipe, seconds=3.0, output=tmp_path / "m.pt", progress=stop)
    assert with_state.exists()
    code, _, words = call(*common, "9s", "--resume")
    assert (code, "time budget of 3 s" in words) == (2, True)
    code, _, words = call(*common, "3s", "--resume")
    assert code == 0, words


def test_a_time_budget_is_fitted_again_where_steps_take_less_than_was_measured(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inr_train.start.measure_speed", lambda *_: Speed("fp32", 1, 1000.0, 0.0, 0.1, 0.1))
    planned: list[Estimate] = []
    output = tmp_path / "m.pt"
    fitted = fit(tiny_clip, "edge-5", seconds=5, recipe=EDGE_RECIPE, output=output, announce=planned.append)
    assert 0 < planned[0].epochs < 1  # of six steps
    assert fitted.recipe["epochs"] > 2
    assert fitted.recipe["ms_per_step"] < 900
    assert fitted.report["curve"][-1]["rounded"]


def test_sines_of_many_turns_are_not_learned_in_bf16(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the recipe: SIREN with that of NeRF, which leaves the precision to a race."""
    raced: dict[str, set[str]] = {"siren-xs": set(), "nerf-xs": set()}
    frames = torch.from_numpy(tiny_clip.frames).permute(0, 3, 1, 2)
    for name, tried in raced.items():
        watched = lambda trial, frames, dtype, threads, tried=tried: tried.add(dtype) or [1.0]  # noqa: E731
        monkeypatch.setattr("inr_train.speed._milliseconds", watched)
        preset = PRESETS[name]
        model = build_model(preset.family, config_dict(preset.config(24, 40, len(tiny_clip))))
        measure_speed(model, frames, dataclasses.replace(NERF_RECIPE, threads=1), torch.device("cpu"))
    assert raced == {"siren-xs": {"fp32"}, "nerf-xs": {"bf16", "fp32"}}


def test_a_loss_scaled_by_too_much_costs_a_step_and_what_no_scale_helps_is_told() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = Together([torch.optim.Adam([weight], fused=True)], GradScaler("cpu", init_scale=4.0))
    told = []
    for steep in (1e-3, 2e38, 2e38, 2e38, math.inf):
        optimizer.backward((steep * weight).sum())
        norm = torch.nn.utils.clip_grad_norm_([weight], 1.0)
        told.append((optimizer.overflowed(norm), optimizer.scaler.get_scale()))
    assert told == [(False, 4.0), (True, 2.0), (True, 1.0), (False, 1.0), (False, 0.5)]


def test_float32_is_not_tf32_while_a_model_is_fitted(tiny_clip: Clip) -> None:
    def settings() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    inside: set[tuple[str, bool]] = set()
    torch.set_float32_matmul_precision("high")
    try:
        fit(tiny_clip, "nerv-xxs", recipe=MUON, progress=lambda _: inside.add(settings()))
        assert inside == {("highest", False)}
        assert settings()[0] == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
