"""Mixed precision: layers that int8 activations would harm are found, kept in float, and said to be."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import inr_play, run_text

from inr_export import export
from inr_export.mixed import MixedPrecision
from inr_export.pipeline import decode_with_torch
from inr_runtime import open_video
from inr_runtime.errors import PromiseError
from inr_runtime.info import VideoInfo
from inr_runtime.metrics import psnr
from inr_train import Checkpoint, Clip
from inr_train.models import HNeRV, HNeRVConfig
from inr_train.models import config_dict as fields_of
from inr_train.pruning import compress

INFO = VideoInfo(40, 24, 4)
CONFIG = HNeRVConfig(24, 40, 4, strides=(2, 2, 2), channels=16, embedding=6, encoder_width=8)
OUTLIER = 100.0
AROUND = {"blocks.1", "blocks.2"}
"""The layer that makes it and the one that reads it."""


def layers_of(precision: MixedPrecision) -> set[str]:
    return {name for kept in precision.kept_float for name in kept.layers}


def checkpoint_of(model: HNeRV) -> tuple[Checkpoint, Clip]:
    """A model and what it shows, with the noise of a camera."""
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    frames = np.stack([decode_with_torch(model, i, (24, 40)) for i in range(4)])
    noisy = (frames + np.random.default_rng(0).normal(0, 16, frames.shape)).clip(0, 255).astype(np.uint8)
    decibels = float(np.mean([psnr(a, b) for a, b in zip(frames, noisy, strict=True)]))
    report = {"psnr_db": decibels, "psnr_float_db": decibels}
    return Checkpoint("hnerv", fields_of(CONFIG), INFO, weights, report=report), Clip(noisy, INFO, "noise")


def random_model(seed: int = 0) -> HNeRV:
    torch.manual_seed(seed)
    model = HNeRV(CONFIG).eval()
    with torch.no_grad():
        model.embeddings.normal_()
        for layer in (model.stem, *model.blocks):
            torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def spoiled() -> tuple[Checkpoint, Clip]:
    """The second block gives a channel that is far above all others, and that the head does not look at."""
    model = random_model()
    with torch.no_grad():
        block, reader = model.blocks[1], model.blocks[2]
        steps = block.weight.shape[0] // reader.weight.shape[1]
        block.weight[:steps], block.bias[:steps] = 0, OUTLIER
        reader.weight[:, 0] = 0
    return checkpoint_of(model)


def test_a_model_that_bears_integers_keeps_nothing_in_float(tmp_path: Path) -> None:
    checkpoint, clip = checkpoint_of(random_model())
    report = export(checkpoint, tmp_path / "v.nvb", reference=clip)
    assert report.precision is not None
    assert report.precision.kept_float == ()
    assert report.precision.int8_mac_share > 0.9
    assert report.verified[0].loss_db < 0.2


def test_the_layers_around_an_outlier_are_found_and_the_others_stay_on_integers(
    spoiled: tuple[Checkpoint, Clip], tmp_path: Path
) -> None:
    checkpoint, clip = spoiled
    with pytest.raises(PromiseError, match="worse than the float model on cpu-int8"):
        export(checkpoint, tmp_path / "all.nvb", reference=clip, int8_budget_db=math.inf)
    report = export(checkpoint, tmp_path / "v.nvb", reference=clip)
    precision = report.precision
    assert precision is not None
    assert precision.all_int8_loss_db > 1
    assert precision.loss_db <= 0.15
    assert layers_of(precision) == AROUND
    assert sum(kept.mac_share for kept in precision.kept_float) == pytest.approx(1 - precision.int8_mac_share, abs=0.02)
    assert 0.05 < precision.int8_mac_share < 0.9
    played, exact = report.verified
    assert played.loss_db - exact.loss_db == pytest.approx(precision.loss_db, abs=0.02)


def test_without_the_source_the_same_layers_are_found(spoiled: tuple[Checkpoint, Clip], tmp_path: Path) -> None:
    checkpoint, _ = spoiled
    precision = export(checkpoint, tmp_path / "v.nvb").precision
    assert precision is not None
    assert layers_of(precision) == AROUND


@pytest.mark.parametrize("bits", [2, 4])
def test_without_the_source_integers_are_not_blamed_for_few_bits(bits: int, tmp_path: Path) -> None:
    """The frames were compared with those of the rounded weights, as if these were as good as the model."""
    checkpoint, clip = checkpoint_of(random_model())
    rounded = compress(checkpoint, bits)
    for reference in (clip, None):
        report = export(rounded, tmp_path / "v.nvb", reference=reference, check=False, overwrite=True)
        assert report.precision is not None
        assert (report.precision.kept_float, report.precision.int8_mac_share > 0.9) == ((), True)


def test_what_is_always_zero_costs_no_bias(tmp_path: Path) -> None:
    """Its range is empty: in steps of 1e-30 the bias behind it was more than an integer holds, and gone."""
    model = random_model()
    with torch.no_grad():
        model.blocks[1].weight.zero_()
        model.blocks[1].bias.zero_()
        model.head.bias.fill_(0.4)
    checkpoint, clip = checkpoint_of(model)
    report = export(checkpoint, tmp_path / "v.nvb", reference=clip, max_loss_db=99)
    assert report.precision is not None
    assert report.precision.int8_mac_share > 0.9
    with open_video(tmp_path / "v.nvb", target="cpu-int8") as video:
        expected = decode_with_torch(model, 1, (24, 40)).astype(int)
        assert np.abs(video[1].astype(int) - expected).max() <= 2


def test_the_command_prints_the_trade(spoiled: tuple[Checkpoint, Clip], tmp_path: Path) -> None:
    checkpoint, _ = spoiled
    checkpoint.save(tmp_path / "m.pt")
    done = run_text("inr-export", tmp_path / "m.pt", "-o", tmp_path / "v.nvb", "--json")
    report = json.loads(done.stdout)
    assert {name for kept in report["kept_float"] for name in kept["layers"]} == AROUND
    for kept in report["kept_float"]:
        assert f"{kept['mac_share']:.1%}" in done.stderr
        assert f"{kept['gain_db']:+.2f} dB" in done.stderr
    facts = json.loads(inr_play(tmp_path / "v.nvb", "--info", "--json").stdout)
    assert facts["int8_mac_share"] == report["int8_mac_share"] < 1
    command = ("inr-export", tmp_path / "m.pt", "-o", tmp_path / "all.nvb", "--json", "--max-loss-db", 99)
    every = json.loads(run_text(*command, "--int8-budget-db", "inf").stdout)
    assert every["kept_float"] == []
    assert every["int8_mac_share"] > report["int8_mac_share"]
    assert every["loss_db"] > report["loss_db"] + 0.5


def test_where_nothing_bears_integers_the_file_is_a_float_file(tmp_path: Path) -> None:
    checkpoint, clip = checkpoint_of(random_model())
    quiet = replace(clip, frames=np.stack([decode_with_torch(checkpoint.build(), i, (24, 40)) for i in range(4)]))
    report = export(checkpoint, tmp_path / "v.nvb", reference=quiet, int8_budget_db=0.0)
    assert report.precision is not None
    assert (report.precision.int8_mac_share, report.precision.loss_db) == (0, 0)
    assert [v.target for v in report.verified] == ["cpu-fp32"]
