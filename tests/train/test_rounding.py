"""Bits of the weights of float layers and of grids: few where nobody sees it, more where quality asks for them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import Call

from inr_export import export
from inr_runtime.errors import InputError
from inr_runtime.format import NvbReader
from inr_train import Checkpoint, Clip, fit
from inr_train.bits import Bits
from inr_train.models import Edge, NeRV, NeRVConfig, Siren, SirenConfig
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel, bits_by_weight, quantize_grids
from inr_train.recipes import SIREN_RECIPE
from inr_train.rounding import GRIDS_DB, ROUNDING_DB, settle_bits
from inr_train.trace import trace

RECIPE = replace(SIREN_RECIPE, epochs=150, batch_size=480, learning_rate=3e-3, threads=1)


def test_the_better_a_model_the_more_bits_it_needs() -> None:
    torch.manual_seed(0)
    model = Siren(SirenConfig(24, 40, 1, hidden=24, depth=3)).eval()
    traced = trace(model)
    settled = [settle_bits(model, traced, Bits(8, 14), 1, quality) for quality in (25.0, 65.0, 80.0)]
    found = [(bits.floats, trade) for bits, trade in settled]
    chosen = [bits for bits, _ in found]
    assert chosen[0] == 8 < chosen[1] < chosen[2]
    for bits, trade in found:
        losses = [row["loss_db"] for row in trade]
        assert trade[-1]["bits"] == bits
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] <= ROUNDING_DB
        assert all(loss > ROUNDING_DB for loss in losses[:-1])
    assert settle_bits(model, traced, Bits(6, 14), 1, 65.0) == (Bits(6, 14), [])
    assert settle_bits(model, traced, Bits(8, 14), 1, None) == (Bits(8, 14), [])


def test_only_weights_that_no_integer_kernel_reads_get_more_bits() -> None:
    model = NeRV(NeRVConfig(24, 40, 6, 3, 5, (2, 2, 2), 16, stem_width=16, activation="leaky_relu"))
    traced = trace(model)
    bits = dict(zip(traced.parameters, bits_by_weight(model, traced, Bits(8, 10, 12)), strict=True))
    assert {bits[name] for name in bits if name.startswith("stem") and name.endswith("weight")} == {12}
    assert {bits[name] for name in bits if name.startswith("blocks") and name.endswith("weight")} == {8}
    assert {bits[name] for name in bits if name.endswith("bias")} == {10}


def test_grids_get_the_bits_that_somebody_sees() -> None:
    torch.manual_seed(0)
    model = Edge(replace(PRESETS["edge-5"].config(48, 80, 12), limited=False)).eval()
    with torch.no_grad():
        for name, size in zip(model.grids, (0.1, 1.0, 1.0, 1.0), strict=True):
            model.get_parameter(name).normal_(0, size)
    traced = trace(model)
    bad, good = (settle_bits(model, traced, Bits(), 12, quality)[0] for quality in (20.0, 45.0))
    assert len(bad.grids) == len(good.grids) == 4
    assert all(a <= b for a, b in zip(bad.grids, good.grids, strict=True))
    assert sum(bad.grids) < sum(good.grids) <= 4 * 8
    assert bad.weights == good.weights == 8
    times = [float(i) for i in range(12)]
    with torch.no_grad():
        exact = model(times)
        eight, chosen = (
            (QuantizedModel(model, traced, bits)(times) - exact).square().mean() for bits in (Bits(), good)
        )
    noise = float(chosen - eight)
    assert 10 * math.log10(1 + noise * 10**4.5) < 1.5 * GRIDS_DB


def test_a_file_has_the_bits_of_its_grids_and_says_so(call: Call, tmp_path: Path, video: Path) -> None:
    small = ("--size", "64x48", "--frames", 6, "--preset", "edge-5", "--epochs", 1, "--threads", 1, "-q")
    assert call("inr-train", video, "-o", "m.pt", *small)[0] == 0
    checkpoint = Checkpoint.load(tmp_path / "m.pt")
    assert len(checkpoint.grid_bits) == 4
    assert min(checkpoint.grid_bits) < 8  # bad models need less
    code, out, told = call("inr-export", "m.pt", "--json")
    assert code == 0
    assert json.loads(out)["grid_bits"] == list(checkpoint.grid_bits)
    assert f"grids: {', '.join(map(str, checkpoint.grid_bits))} bits" in told
    with NvbReader(tmp_path / "m.nvb") as reader:
        grids = [t.data for t in reader.segment(0).time_tensors if t.data is not None]
    for grid, bits in zip(grids, checkpoint.grid_bits, strict=True):
        assert abs(grid.values).max() == 2 ** (bits - 1) - 1
    assert call("inr-export", "m.pt", "-o", "six.nvb", "--bits", 6, "--max-loss-db", 9)[0] == 0
    with NvbReader(tmp_path / "six.nvb") as reader:
        assert {abs(t.data.values).max() for t in reader.segment(0).time_tensors if t.data is not None} == {31}


def test_bits_of_grids_that_a_model_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="2 to 8 bits"):
        Bits(grids=(1,))
    with pytest.raises(ValueError, match="2 to 8 bits"):
        replace(RECIPE, grid_bits=(9,))
    model = Edge(PRESETS["edge-5"].config(48, 80, 12))
    with pytest.raises(InputError, match="2 grids of a model that has 4"):
        quantize_grids(model, Bits(grids=(8, 8)))


@pytest.fixture(scope="module")
def smooth(tiny_clip: Clip) -> Clip:
    return replace(tiny_clip, frames=tiny_clip.frames[:1], info=replace(tiny_clip.info, frame_count=1))


def test_bits_are_measured_where_the_model_to_start_from_knows_no_quality(smooth: Clip) -> None:
    """It was no number, and taken for one: nothing was measured."""
    origin = fit(smooth, "siren-xs", recipe=replace(RECIPE, epochs=2), config={"hidden": 32, "depth": 3})
    unknown = replace(origin, report={**origin.report, "psnr_float_db": None})
    assert fit(smooth, origin=unknown, epochs=2).report["float_bits_trade"]


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
    assert Checkpoint.load(tmp_path / "six.pt").bits == Bits(6, 14)
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
