"""Rounding whose errors cancel: never off the grid, better than rounding one by one, in training and in export."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from commands import Call
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inr_export import export
from inr_train import Checkpoint, Clip, fit
from inr_train.bits import Bits
from inr_train.compensation import compensate
from inr_train.models import Edge, EdgeConfig, HiNeRV, HiNeRVConfig, NeRV, NeRVConfig, Siren, SirenConfig, VideoModel
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel
from inr_train.recipe import Phase, Recipe, with_goal
from inr_train.runlog import Progress
from inr_train.trace import trace

FLOAT = dataclasses.replace(PRESETS["edge-5"].recipe, epochs=20, dtype="fp32", threads=1)
EDGE = EdgeConfig(24, 40, 6, (16, 16), (1, 2), (3, 6), (4, 2), (1, 4))
FAMILIES = {
    "edge": lambda: Edge(EDGE),
    "depthwise edge": lambda: Edge(dataclasses.replace(EDGE, block="depthwise")),
    "nerv": lambda: NeRV(NeRVConfig(23, 40, 6, 3, 5, (4, 2), 16)),
    "hinerv": lambda: HiNeRV(HiNeRVConfig(24, 40, 6, strides=(2, 2), channels=16, depths=(1, 1), expansions=(2, 1))),
    "siren": lambda: Siren(SirenConfig(12, 20, 2, hidden=16, depth=2)),
}


def new(family: str, seed: int = 0) -> VideoModel:
    """A network with more than noise in its grids and biases."""
    torch.manual_seed(seed)
    model: VideoModel = FAMILIES[family]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in model.grids or parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@torch.no_grad()
def drawn(network: VideoModel | QuantizedModel, frames: int) -> Tensor:
    """Everything that a network draws."""
    return torch.cat([network(part).flatten() for i in range(frames) for part in network.parts(i)])


def compensated(model: VideoModel, bits: Bits) -> tuple[QuantizedModel, dict[str, Tensor]]:
    """The model with its weights rounded together."""
    found = compensate(model, trace(model), bits, model.config.frames)
    model.load_state_dict(found, strict=False)
    return QuantizedModel(model, trace(model), bits), found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [8, 5])
def test_a_network_loses_less_than_by_rounding_one_by_one(family: str, bits: int) -> None:
    model = new(family)
    exact = drawn(model, model.config.frames)
    by_one = drawn(QuantizedModel(model, trace(model), Bits(bits, 12)), model.config.frames)
    together, _ = compensated(model, Bits(bits, 12))
    error, before = ((d - exact).square().mean() for d in (drawn(together, model.config.frames), by_one))
    # Sines of few coordinates are hardly correlated: nothing to gain there.
    assert error < (1.1 if family == "siren" else 0.7) * before


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["edge", "depthwise edge", "nerv"]), st.integers(0, 2**16), st.integers(2, 8))
def test_what_was_rounded_is_on_the_grid_that_a_file_stores(family: str, seed: int, bits: int) -> None:
    network, found = compensated(new(family, seed), Bits(bits))
    stored = dict(zip(network.trace.parameters, network.quantized_weights(), strict=True))
    assert any(w.ndim == 4 for w in found.values())
    assert all(torch.equal(stored[name], w) for name, w in found.items() if w.ndim == 4)


def test_what_was_pruned_stays_zero() -> None:
    model = new("edge")
    with torch.no_grad():
        for name in model.prunable:
            weight = model.get_parameter(name)
            weight[torch.rand_like(weight) < 0.5] = 0.0
    before = {name: model.get_parameter(name) == 0 for name in model.prunable}
    _, found = compensated(model, Bits(6))
    assert all((found[name][zero] == 0).all() for name, zero in before.items() if name in found)


def test_layers_whose_inputs_are_zero_or_not_finite_are_left_alone() -> None:
    model = new("edge")
    with torch.no_grad():
        for name in model.grids:
            model.get_parameter(name).zero_()
        model.get_parameter("stages.1.0.bias").fill_(float("inf"))
    found = compensate(model, trace(model), Bits(), 6)
    assert "enter.0.weight" not in found
    assert "stages.1.1.weight" not in found
    assert all(torch.isfinite(w).all() for name, w in found.items() if name != "stages.1.0.bias")


def test_a_run_ends_with_rounding_and_tells_both_qualities(tiny_clip: Clip) -> None:
    whole = fit(tiny_clip, "edge-5", recipe=FLOAT)
    alone = fit(tiny_clip, "edge-5", recipe=FLOAT, quantize="none")
    assert [row["phase"] for row in whole.report["curve"]][-2:] == ["fit", "weights"]
    assert whole.report["psnr_float_db"] == alone.report["psnr_db"]
    assert whole.report["psnr_db"] == whole.report["curve"][-1]["psnr_db"] > alone.report["psnr_db"] - 0.5
    assert (whole.rounded, alone.rounded) == (True, False)


def test_coarse_weights_and_rounded_activations_are_trained_for() -> None:
    for recipe, goal in ((FLOAT, "int8"), (dataclasses.replace(FLOAT, weight_bits=6, float_bits=6), None)):
        phases = with_goal(recipe, goal).phases
        assert [p.branch for p in phases] == [False, True, False]
        assert phases[-1].share > 0
        assert phases[-1].quantize == (goal or "weights")
    assert with_goal(FLOAT, "none").phases == (Phase("fit", 1.0),)


@pytest.mark.parametrize(
    "bad", [Phase("x", 0.0), Phase("x", 0.0, "weights", branch=True), Phase("x", 0.0, "weights", sparsity=0.5)]
)
def test_only_rounding_takes_no_steps(bad: Phase) -> None:
    with pytest.raises(ValueError, match="without steps"):
        Recipe("r", 1, (Phase("fit", 1.0), bad))


def test_a_model_that_was_never_rounded_is_rounded_by_the_exporter(tiny_clip: Clip, tmp_path: Path) -> None:
    alone = fit(tiny_clip, "edge-5", recipe=FLOAT, quantize="none")
    # The same weights, with a recipe that says training has seen to it.
    seen = dataclasses.replace(alone, recipe={**alone.recipe, "phases": [{"quantize": "weights"}]})
    losses = [
        export(c, tmp_path / f"{i}.nvb", int8=False, reference=tiny_clip, max_loss_db=100).verified[0].loss_db
        for i, c in enumerate((alone, seen))
    ]
    assert losses[0] < 0.7 * losses[1]


def test_fewer_bits_are_rounded_for_when_exporting(tiny_clip: Clip, tmp_path: Path, call: Call) -> None:
    fit(tiny_clip, "edge-5", recipe=FLOAT, output=tmp_path / "m.pt")
    assert Checkpoint.load(tmp_path / "m.pt").rounded
    losses = []
    for bits in (8, 6):
        code, out, words = call(
            "inr-export", "m.pt", "-o", f"{bits}.nvb", "--bits", bits, "--max-loss-db", 100, "--json"
        )
        assert code == 0, words
        losses.append(json.loads(out)["loss_db"])
    assert losses[0] < losses[1] < 6


def test_a_run_that_was_stopped_behind_its_rounding_ends_with_the_same_weights(tiny_clip: Clip, tmp_path: Path) -> None:
    calls: list[Progress] = []
    whole = fit(tiny_clip, "edge-5", recipe=FLOAT, progress=calls.append)
    last, calls = len(calls), []

    def stop(p: Progress) -> None:
        calls.append(p)
        if len(calls) == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "edge-5", recipe=FLOAT, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert all(torch.equal(w, whole.weights[name]) for name, w in resumed.weights.items())
    assert resumed.report["psnr_float_db"] == whole.report["psnr_float_db"]
    assert len(resumed.report["curve"]) == len(whole.report["curve"])
