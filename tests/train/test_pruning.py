"""Pruning, few bits and fine-tuning: what is taken away stays away, and what is left plays."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import write_video
from commands import run_text
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_export import export
from inr_runtime.errors import UsageError
from inr_runtime.format import NvbReader
from inr_train import Checkpoint, Clip, fit
from inr_train.models import NeRV, NeRVConfig
from inr_train.presets import PRESETS
from inr_train.pruning import compress, prune, sparsity_of
from inr_train.recipe import Phase, Recipe, fine_tuning, with_noise
from inr_train.recipes import EDGE_RECIPE
from inr_train.runlog import Progress

FAST = dataclasses.replace(PRESETS["nerv-xxs"].recipe, epochs=8, dtype="bf16", threads=1)


def network() -> NeRV:
    torch.manual_seed(3)
    return NeRV(NeRVConfig(24, 40, 6, 3, 5, (2, 2, 2), 8, stem_width=16))


@pytest.fixture(scope="module")
def float_model(tiny_clip: Clip) -> Checkpoint:
    return fit(tiny_clip, "nerv-xxs", recipe=FAST, quantize="none")


def zeros(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {k: w == 0 for k, w in checkpoint.weights.items()}


@given(st.floats(0, 0.99), st.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_exactly_the_asked_share_goes_and_head_and_biases_stay(sparsity: float, power: float) -> None:
    model = network()
    total = sum(dict(model.named_parameters())[n].numel() for n in model.prunable)
    masks = prune(model, sparsity, power)
    assert sparsity_of(model) == pytest.approx(sparsity, abs=0.5 / total + 1e-9)
    assert set(masks) == set(model.prunable)
    assert all(p.ndim == 1 or p.all() for n, p in model.named_parameters() if n not in masks)


def test_magnitude_pruning_takes_the_smallest_of_the_whole_network() -> None:
    model = network()
    before = torch.cat([dict(model.named_parameters())[n].detach().abs().flatten() for n in model.prunable])
    masks = prune(model, 0.3)
    kept = torch.cat([m.flatten() for m in masks.values()])
    assert before[~kept].max() <= before[kept].min()


def test_adaptive_pruning_spares_small_layers() -> None:
    shares = []
    for power in (0.0, 0.5):
        model = network()
        smallest = min(model.prunable, key=lambda n: dict(model.named_parameters())[n].numel())
        with torch.no_grad():
            for name in model.prunable:
                dict(model.named_parameters())[name].normal_(generator=torch.Generator().manual_seed(1))
        masks = prune(model, 0.5, power)
        shares.append(float(1 - masks[smallest].float().mean()))
    assert shares[0] == pytest.approx(0.5, abs=0.1)
    assert shares[1] < 0.2


def test_pruning_in_steps_is_cumulative_and_never_gives_back() -> None:
    model = network()
    first = prune(model, 0.2, 0.5)
    second = prune(model, 0.5, 0.5)
    assert sparsity_of(model) == pytest.approx(0.5, abs=1e-3)
    assert all((~first[n] <= ~second[n]).all() for n in first)


def test_fine_tuning_is_slower_whatever_moves_the_weights() -> None:
    slower = fine_tuning(EDGE_RECIPE)
    assert slower.muon_rate == EDGE_RECIPE.muon_rate / 2
    assert slower.learning_rate == EDGE_RECIPE.learning_rate / 2


def test_pruned_weights_stay_zero_through_fine_tuning_and_into_the_file(tiny_clip: Clip, tmp_path: Path) -> None:
    """Phases combine freely: pruned twice, then weights imitated with 6 bits, then all int8."""
    phases = (
        Phase("fit", 0.4),
        Phase("prune a little", 0.2, sparsity=0.2),
        Phase("prune more", 0.1, sparsity=0.4),
        Phase("weights", 0.1, quantize="weights"),
        Phase("int8", 0.2, quantize="int8"),
    )
    recipe = with_noise(dataclasses.replace(FAST, phases=phases, weight_bits=6, prune_power=0.5), 0.9)
    checkpoint = fit(tiny_clip, "nerv-xxs", recipe=recipe)
    assert checkpoint.report["sparsity"] == pytest.approx(0.4, abs=1e-3)
    report = export(checkpoint, tmp_path / "v.nvb", reference=tiny_clip, max_loss_db=100)
    with NvbReader(tmp_path / "v.nvb") as reader:
        weights = reader.segment(0).weights
    assert max(np.abs(w.values).max() for w in weights if w.values.ndim > 1) <= 31
    assert report.sparsity >= 0.39
    assert report.cost.coded_bytes <= 1.005 * report.cost.ideal_bytes + 64


def test_a_pruned_file_is_smaller(float_model: Checkpoint, tiny_clip: Clip, tmp_path: Path) -> None:
    sizes = [
        export(
            compress(float_model, 8, s), tmp_path / f"{s}.nvb", int8=False, reference=tiny_clip, max_loss_db=100
        ).bytes
        for s in (0.0, 0.5, 0.9)
    ]
    assert sizes[1] < 0.7 * sizes[0]
    assert sizes[2] < 0.3 * sizes[0]


def test_the_float_reference_of_a_pruned_run_has_all_its_weights(tiny_clip: Clip) -> None:
    whole = fit(tiny_clip, "nerv-xxs", recipe=FAST, quantize="none")
    pruned = fit(tiny_clip, "nerv-xxs", recipe=FAST, quantize="weights", sparsity=0.6)
    assert pruned.report["psnr_float_db"] == pytest.approx(whole.report["psnr_db"], abs=1e-6)
    assert pruned.report["sparsity"] == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize("stop_at", [10, 35, 55])
def test_a_stopped_pruned_run_resumes_to_the_same_result(tiny_clip: Clip, tmp_path: Path, stop_at: int) -> None:
    """Stopped before pruning, in the float reference, after pruning."""
    options = {"recipe": with_noise(FAST, 0.8), "sparsity": 0.5, "seed": 3}
    whole = fit(tiny_clip, "nerv-xxs", **options)

    def stop(p: Progress) -> None:
        if p.done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", **options, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert all(torch.equal(w, whole.weights[k]) for k, w in resumed.weights.items())
    assert resumed.report["sparsity"] == whole.report["sparsity"] == pytest.approx(0.5, abs=1e-3)


def test_fine_tuning_starts_from_a_model_and_keeps_its_zeros(float_model: Checkpoint, tiny_clip: Clip) -> None:
    pruned = compress(float_model, 8, 0.5)
    tuned = fit(tiny_clip, origin=pruned, epochs=4, quantize="weights")
    before, after = zeros(pruned), zeros(tuned)
    assert all((before[n] <= after[n]).all() for n in network().prunable if n in before)
    assert tuned.report["psnr_float_db"] >= float_model.report["psnr_db"]
    assert tuned.report["psnr_db"] > fit(tiny_clip, "nerv-xxs", epochs=4, quantize="weights").report["psnr_db"]
    with pytest.raises(UsageError, match="6 frames of 40x24"):
        fit(dataclasses.replace(tiny_clip, frames=tiny_clip.frames[:3]), origin=float_model)
    with pytest.raises(UsageError, match="is a nerv-xxs"):
        fit(tiny_clip, "nerv-xs", origin=float_model)


def test_fewer_bits_without_training_lose_more_and_weigh_less(
    float_model: Checkpoint, tiny_clip: Clip, tmp_path: Path
) -> None:
    reports = [
        export(compress(float_model, b), tmp_path / f"{b}.nvb", int8=False, reference=tiny_clip, max_loss_db=100)
        for b in (8, 2)
    ]
    assert reports[1].bytes < 0.5 * reports[0].bytes
    assert reports[1].verified[0].loss_db > reports[0].verified[0].loss_db + 0.05
    assert compress(float_model, None, 0.0) is float_model
    with pytest.raises(UsageError, match="2 to 8"):
        compress(float_model, 9)


def test_the_commands_prune_quantize_and_fine_tune(tiny_clip: Clip, tmp_path: Path) -> None:
    video = tmp_path / "v.y4m"
    write_video(video, tiny_clip.info, tiny_clip.frames)
    common = ("--preset", "nerv-xxs", "--epochs", 2, "--threads", 1, "--json")
    first = run_text("inr-train", video, "-o", tmp_path / "a.pt", *common, "--prune", 0.3, "--bits", 6)
    facts = json.loads(first.stdout)
    assert facts["sparsity"] == pytest.approx(0.3, abs=1e-3)
    assert facts["weight_bits"] == 6
    (tmp_path / "recipe.json").write_text(first.stdout)
    again = run_text("inr-train", video, "-o", tmp_path / "b.pt", "--recipe", tmp_path / "recipe.json", "--json")
    assert json.loads(again.stdout)["recipe"]["phases"] == facts["recipe"]["phases"]
    tuned = run_text(
        "inr-train",
        video,
        "--from",
        tmp_path / "a.pt",
        "-o",
        tmp_path / "c.pt",
        *common,
        "--prune",
        0.5,
        "--prune-power",
        0.5,
    )
    assert json.loads(tuned.stdout)["sparsity"] == pytest.approx(0.5, abs=1e-3)
    exported = run_text(
        "inr-export",
        tmp_path / "a.pt",
        "-o",
        tmp_path / "a.nvb",
        "--bits",
        4,
        "--prune",
        0.6,
        "--max-loss-db",
        50,
        "--json",
    )
    facts = json.loads(exported.stdout)
    assert facts["weight_bits"] == 4
    assert facts["sparsity"] > 0.55
    assert {t["coder"] for t in facts["tensors"]} <= {"constant", "gaussian", "histogram"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--recipe", "magic"), "neither one of edge, muon, fast"),
        (("--prune-power", "9"), "power of pruning"),
        (("--prune", "1.5"), "1.5"),
        (("--from", "nothing.pt"), "no such file"),
    ],
)
def test_bad_requests_are_one_clear_line(
    tiny_clip: Clip, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    video = tmp_path / "v.y4m"
    write_video(video, tiny_clip.info, tiny_clip.frames)
    done = run_text("inr-train", video, "-o", tmp_path / "m.pt", *arguments, code=None)
    assert done.returncode in (2, 3)
    assert reason in done.stderr
    assert not (tmp_path / "m.pt").exists()


def test_rounding_alone_prunes_nothing(float_model: Checkpoint) -> None:
    """Its zeros were taken for pruned weights, and who gave too few bits was told to prune less."""
    assert "sparsity" not in compress(dataclasses.replace(float_model, report={}), bits=2).report
    assert compress(float_model, bits=2, sparsity=0.5).report["sparsity"] == pytest.approx(0.5, abs=0.01)


def test_a_network_without_weights_to_prune_says_so_before_it_trains(tiny_clip: Clip) -> None:
    with pytest.raises(UsageError, match="no weight of this siren may be pruned"):
        fit(tiny_clip, "siren-xs", epochs=1, config={"depth": 1}, sparsity=0.5)


def test_a_recipe_refuses_to_prune_everything() -> None:
    with pytest.raises(ValueError, match="sparsity"):
        Recipe("x", 1, (Phase("fit", 1.0, sparsity=1.0),))
