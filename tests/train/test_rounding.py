"""Bits of the weights of float layers: few where nobody sees it, more where quality asks for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import Call

from inr_export import export
from inr_runtime.format import NvbReader
from inr_train import Checkpoint, Clip, fit
from inr_train.models import NeRV, NeRVConfig, Siren, SirenConfig
from inr_train.quantization import bits_by_weight
from inr_train.recipes import SIREN_RECIPE
from inr_train.rounding import ROUNDING_DB, settle_float_bits
from inr_train.trace import trace

RECIPE = replace(SIREN_RECIPE, epochs=150, batch_size=480, learning_rate=3e-3, threads=1)


def test_the_better_a_model_the_more_bits_it_needs() -> None:
    torch.manual_seed(0)
    model = Siren(SirenConfig(24, 40, 1, hidden=24, depth=3)).eval()
    traced = trace(model)
    found = [settle_float_bits(model, traced, (8, 14), 1, quality) for quality in (25.0, 65.0, 80.0)]
    chosen = [bits for bits, _ in found]
    assert chosen[0] == 8 < chosen[1] < chosen[2]
    for bits, trade in found:
        losses = [row["loss_db"] for row in trade]
        assert trade[-1]["bits"] == bits
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] <= ROUNDING_DB
        assert all(loss > ROUNDING_DB for loss in losses[:-1])
    assert settle_float_bits(model, traced, (6, 14), 1, 65.0) == (6, [])
    assert settle_float_bits(model, traced, (8, 14), 1, None) == (8, [])


def test_only_weights_that_no_integer_kernel_reads_get_more_bits() -> None:
    model = NeRV(NeRVConfig(24, 40, 6, 3, 5, (2, 2, 2), 16, stem_width=16, activation="leaky_relu"))
    traced = trace(model)
    bits = dict(zip(traced.parameters, bits_by_weight(model, traced, (8, 10, 12)), strict=True))
    assert {bits[name] for name in bits if name.startswith("stem") and name.endswith("weight")} == {12}
    assert {bits[name] for name in bits if name.startswith("blocks") and name.endswith("weight")} == {8}
    assert {bits[name] for name in bits if name.endswith("bias")} == {10}


@pytest.fixture(scope="module")
def smooth(tiny_clip: Clip) -> Clip:
    return replace(tiny_clip, frames=tiny_clip.frames[:1], info=replace(tiny_clip.info, frame_count=1))


def test_a_fine_picture_loses_little_in_its_file(smooth: Clip, tmp_path: Path) -> None:
    checkpoint = fit(smooth, "siren-xs", recipe=RECIPE, config={"hidden": 32, "depth": 3})
    assert checkpoint.report["psnr_float_db"] > 41
    assert 8 < checkpoint.float_bits == checkpoint.recipe["float_bits"] <= 14
    report = export(checkpoint, tmp_path / "v.nvb", reference=smooth)
    assert report.float_bits == checkpoint.float_bits
    assert report.verified[0].loss_db < 0.2
    with NvbReader(tmp_path / "v.nvb") as reader:
        largest = max(abs(w.values).max() for w in reader.segment(0).weights if w.values.ndim > 1)
    assert largest > 127
    old = replace(checkpoint, float_bits=0)
    assert export(old, tmp_path / "old.nvb", reference=smooth, max_loss_db=99).bytes < report.bytes


def test_the_commands_say_what_the_weights_have(call: Call, tmp_path: Path, video: Path) -> None:
    small = (
        "--preset",
        "siren-xs",
        "--set",
        "hidden=8",
        "--set",
        "depth=2",
        "--set",
        "tile_width=16",
        "-b",
        800,
        "--epochs",
        2,
        "--threads",
        1,
    )
    assert call("inr-train", video, "-o", "m.pt", "--frames", 1, *small, "-q")[0] == 0
    assert Checkpoint.load(tmp_path / "m.pt").float_bits == 8  # bad models bear 8
    assert call("inr-train", video, "-o", "six.pt", "--frames", 1, *small, "-q", "--bits", 6)[0] == 0
    assert Checkpoint.load(tmp_path / "six.pt").bits == (6, 14, 6)
    fine = replace(
        Checkpoint.load(tmp_path / "m.pt"),
        float_bits=12,
        report={
            **Checkpoint.load(tmp_path / "m.pt").report,
            "float_bits_trade": [{"bits": 8, "loss_db": 1.5}, {"bits": 12, "loss_db": 0.1}],
        },
    )
    fine.save(tmp_path / "fine.pt")
    code, out, told = call("inr-export", "fine.pt", "--max-loss-db", 9, "--json")
    assert (code, '"float_bits": 12' in out) == (0, True)
    assert "weights of float layers: 12 bits; to round them untrained costs 8 bits 1.50 dB, 12 bits 0.10 dB" in told
