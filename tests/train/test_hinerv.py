"""HiNeRV as the paper has it, in frames and in patches, and everything its ablations name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inr_export import export
from inr_export.pipeline import decode_with_torch
from inr_runtime import open_video
from inr_runtime.backends import open_backend
from inr_runtime.errors import UsageError
from inr_runtime.int8plan import plan_int8
from inr_runtime.lower import TARGETS, lower
from inr_train import Clip, fit
from inr_train.bits import Bits
from inr_train.graph_runner import run_graph
from inr_train.models import HiNeRV, HiNeRVConfig, count_macs, count_parameters, meta_model
from inr_train.presets import PRESETS, preset_named
from inr_train.quantization import QuantizedModel, quantize_weights
from inr_train.ranges import measure_ranges
from inr_train.recipes import FAST_RECIPE
from inr_train.start import choose_recipe
from inr_train.trace import trace

SMALL = HiNeRVConfig(39, 55, 9, (3, 2), 12, (2, 1), (2, 1), 4, 3, local_channels=2)
"""A width of 55 and a height of 39 are cut from 60 x 42."""
TINY: dict[str, Any] = {"strides": (4, 2), "channels": 16, "depths": (1, 1), "expansions": (2, 1)}


def random_model(config: HiNeRVConfig, seed: int = 0) -> HiNeRV:
    """All weights far from zero, grids and biases too, so that nothing is hidden by being small."""
    torch.manual_seed(seed)
    model = HiNeRV(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 1.0 if "grids" in name else 0.4)
    return model


SIZES = [
    ("hinerv-bunny-xxs", (720, 1280, 132), 766_691, 22.92),
    ("hinerv-bunny-xs", (720, 1280, 132), 1_585_666, 47.04),
    ("hinerv-bunny-s", (720, 1280, 132), 3_249_819, 95.40),
    ("hinerv-bunny-b-xxs", (720, 1280, 132), 787_543, 12.08),
    ("hinerv-bunny-b-xs", (720, 1280, 132), 1_572_527, 23.31),
    ("hinerv-bunny-b-s", (720, 1280, 132), 3_250_395, 47.03),
    ("hinerv-uvg-s", (1080, 1920, 600), 3_188_933, 180.57),
    ("hinerv-uvg-s", (1080, 1920, 300), 3_075_533, 180.57),
    ("hinerv-uvg-m", (1080, 1920, 600), 6_489_553, 366.31),
    ("hinerv-uvg-l", (1080, 1920, 600), 12_818_953, 715.11),
    ("hinerv-uvg-xl", (1080, 1920, 600), 25_649_557, 1378.64),
    ("hinerv-uvg-xxl", (1080, 1920, 600), 50_726_919, 2645.72),
    ("hinerv-mcl-xxs", (1080, 1920, 150), 777_203, 43.50),
    ("hinerv-mcl-xs", (1080, 1920, 150), 1_606_482, 89.14),
    ("hinerv-mcl-s", (1080, 1920, 150), 3_291_451, 180.59),
    ("hinerv-mcl-m", (1080, 1920, 150), 6_774_549, 366.39),
    ("hinerv-mcl-l", (1080, 1920, 150), 13_581_665, 715.33),
]


@pytest.mark.parametrize(("preset", "clip", "parameters", "gmac"), SIZES)
def test_presets_have_the_papers_sizes(preset: str, clip: tuple[int, int, int], parameters: int, gmac: float) -> None:
    model = meta_model("hinerv", PRESETS[preset].config(*clip))
    assert count_parameters(model) == parameters
    assert count_macs(model) / 1e9 == pytest.approx(gmac, abs=0.01)


BUNNY_A = HiNeRVConfig(720, 1280, 132, (5, 4, 2, 2), base_frames=132)
UVG_A = HiNeRVConfig(1080, 1920, 600, (5, 4, 3, 2), base_frames=600)
OTHERS = {"depths": (2, 1, 1, 1), "upscale_norm": False}
FAMILIES = [
    (BUNNY_A, {}, [(136, 2, 4), (196, 4, 8), (280, 8, 16)], [760_067, 1_572_418, 3_223_323]),
    (BUNNY_A, OTHERS, [(160, 5, 4), (224, 10, 8), (320, 20, 16)], [787_543, 1_572_527, 3_250_395]),
    (UVG_A, {}, [(280, 2, 4), (400, 4, 8), (560, 8, 16)], [3_223_133, 6_557_953, 12_955_753]),
    (UVG_A, OTHERS, [(320, 5, 4), (448, 10, 8), (640, 20, 16)], [3_222_643, 6_395_595, 13_082_963]),
]


@pytest.mark.parametrize(("base", "change", "widths", "parameters"), FAMILIES)
def test_the_other_families_are_configs(
    base: HiNeRVConfig, change: dict[str, Any], widths: list[tuple[int, int, int]], parameters: list[int]
) -> None:
    names = ("channels", "base_channels", "local_channels")
    configs = [dataclasses.replace(base, **change, **dict(zip(names, w, strict=True))) for w in widths]
    assert [count_parameters(meta_model("hinerv", config)) for config in configs] == parameters


def test_small_and_short_clips_get_fewer_stages_and_slices() -> None:
    config = PRESETS["hinerv-uvg-xl"].config(180, 320, 24)
    assert (config.strides, config.base, config.base_frames) == ((5, 2), (18, 32), 24)
    assert (config.depths, config.expansions) == ((4, 1), (4, 1))
    for size in ((1, 1), (7, 5), (24, 40), (481, 853), (2160, 3840)):
        config = PRESETS["hinerv-bunny-xxs"].config(*size, 1)
        assert config.base[0] * config.factor >= size[0]
        assert config.base[1] * config.factor >= size[1]
        assert count_parameters(meta_model("hinerv", config)) > 0


def test_grids_are_blended_between_cells_of_equal_size() -> None:
    """As `interpolate` does it with half-pixel centres, whatever the lengths are."""
    config = dataclasses.replace(SMALL, frames=13, base_frames=5)
    model = random_model(config)
    sampled = model.sample([float(t) for t in range(13)])
    grids = dict(model.named_parameters())
    for x, time_input in zip(sampled, model.time_inputs, strict=True):
        grid = grids[time_input.grid].detach()
        line = grid.reshape(1, len(grid), -1).transpose(1, 2)
        expected = torch.nn.functional.interpolate(line, 13, mode="linear", align_corners=False)
        torch.testing.assert_close(x.detach().reshape(13, -1), expected[0].T)
    assert [len(grids[t.grid]) for t in model.time_inputs] == [5, 2, 13, 6, 3, 13, 6, 3]


VARIANTS: list[dict[str, Any]] = [
    {},
    {"upscale": "nearest"},
    {"upscale": "subconv1", "output": "tanh"},
    {"upscale": "subconv3", "output": "linear"},
    {"encoding": "none"},
    {"encoding": "fourier"},
    {"encoding": "local_fourier"},
    {"encoding": "local_grid"},
    {"block": "mlp"},
    {"block": "conv3"},
    {"upscale_norm": False, "base_levels": 1},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_traces_to_the_dialect_and_draws_the_same_in_patches(variant: dict[str, Any]) -> None:
    model = random_model(dataclasses.replace(SMALL, **variant))
    traced = trace(model)
    inputs, parameters = model.sample([0.0, 2.5]), dict(model.named_parameters())
    with torch.no_grad():
        expected = model.decode(*inputs)
        found = run_graph(traced.graph, inputs, [parameters[name] for name in traced.parameters])
        patches = model.forward_patches([2.5] * 3, [(0, 0), (24, 48), (12, 30)], (18, 12))
    assert expected.shape == (2, 3, 39, 55)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert traced.graph.macs == count_macs(model)
    for patch, (y, x) in zip(patches, [(0, 0), (24, 48), (12, 30)], strict=True):
        piece = expected[1, :, y : y + 18, x : x + 12]
        torch.testing.assert_close(patch[:, : piece.shape[1], : piece.shape[2]], piece, atol=2e-5, rtol=1e-5)


PATCHED = {
    "bunny": HiNeRVConfig(160, 240, 7, (5, 2, 2, 2), 16, (3, 3, 3, 1), (2, 2, 2, 1), 5, local_channels=2),
    "uvg": HiNeRVConfig(240, 240, 7, (5, 3, 2, 2), 16, (3, 3, 3, 1), (2, 2, 2, 1), 5, local_channels=2),
    "uvg-xxl": HiNeRVConfig(240, 240, 7, (5, 3, 2, 2), 8, (5, 5, 5, 1), (1, 1, 1, 1), 5, local_channels=2),
    "bunny-b": HiNeRVConfig(160, 240, 7, (5, 4, 2, 2), 16, (2, 1, 1, 1), (2, 2, 2, 1), 7, upscale_norm=False),
}


@pytest.mark.parametrize("family", PATCHED)
def test_patches_are_pieces_of_the_frame_at_borders_and_inside(family: str) -> None:
    """In float64: a norm over few channels enlarges rounding errors, a margin too small does more than that."""
    config = PATCHED[family]
    model, step = random_model(config).double(), config.factor
    rows, columns = range(0, config.height, step), range(0, config.width, step)
    places = [(y, x) for y in rows for x in columns]
    times = [1.5 + 0.25 * (i % 5) for i in range(len(places))]
    with torch.no_grad():
        whole = {t: model([t])[0] for t in set(times)}
        patches = model.forward_patches(times, places, (step, step))
    for patch, t, (y, x) in zip(patches, times, places, strict=True):
        piece = whole[t][:, y : y + step, x : x + step]
        torch.testing.assert_close(patch, piece, atol=1e-9, rtol=1e-9)
    assert whole[1.5].std() > 0.02


def test_patches_have_the_margins_of_the_papers_code() -> None:
    depths = {"hinerv-uvg-xl": (3, 7, 7, 5, 1), "hinerv-uvg-xxl": (4, 9, 9, 6, 1), "hinerv-uvg-s": (3, 6, 6, 4, 1)}
    for preset, margins in depths.items():
        assert PRESETS[preset].config(1080, 1920, 600).margins == margins
    assert PRESETS["hinerv-bunny-s"].config(720, 1280, 132).margins == (3, 7, 6, 4, 1)
    assert BUNNY_A.margins == (3, 6, 6, 4, 1)
    assert dataclasses.replace(BUNNY_A, **OTHERS).margins == (3, 4, 3, 2, 1)
    assert dataclasses.replace(UVG_A).margins == (3, 5, 5, 4, 1)


@pytest.mark.parametrize(
    ("places", "size"),
    [([(0, 3)], (6, 6)), ([(0, 0)], (6, 7)), ([(0, 54)], (6, 12)), ([(-6, 0)], (6, 6)), ([(0, 0)] * 2, (6, 6))],
)
def test_patches_beside_the_raster_are_refused(places: list[tuple[int, int]], size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 6"):
        HiNeRV(SMALL).forward_patches([0.0], places, size)


def test_gradients_reach_every_weight_and_grid_through_patches_as_through_frames() -> None:
    model = random_model(dataclasses.replace(SMALL, height=36, width=48))
    places = [(y, x) for y in range(0, 36, 12) for x in range(0, 48, 24)]
    model.forward_patches([2.5] * len(places), places, (12, 24)).square().sum().backward()
    patched = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model([2.5]).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(patched[name], parameter.grad, atol=2e-3, rtol=2e-3)


def test_pruning_leaves_grids_encodings_and_the_head() -> None:
    names = set(HiNeRV(SMALL).prunable)
    assert "stem.weight" in names
    assert "stages.0.blocks.1.widen.weight" in names
    assert not {n for n in names if "grid" in n or ".encoding." in n or n.startswith("head.")}


@pytest.mark.parametrize(
    "field",
    [{"strides": (3,)}, {"upscale": "cubic"}, {"channels": 0}, {"kernel": 4}, {"block": "x"}, {"strides": (4096, 2)}],
)
def test_contradicting_configs_are_refused_at_birth(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"one of|positive|one number|odd"):
        dataclasses.replace(SMALL, **field)


@pytest.mark.parametrize("variant", [{}, {"upscale": "subconv1", "block": "conv3"}, {"encoding": "fourier"}])
def test_int8_engine_gives_what_training_imitates(variant: dict[str, Any]) -> None:
    """At most one code value apart but on 0.5 % of values.

    Ties of the engine's rounding differ on a thousandth of the values, and norms pass them on to all channels.
    """
    torch.manual_seed(1)
    model = HiNeRV(dataclasses.replace(SMALL, **variant)).eval()
    with torch.no_grad():
        for name in model.grids:
            dict(model.named_parameters())[name].normal_()
    traced = trace(model)
    weights = quantize_weights(model, traced, Bits(8, 10))
    tensors = [torch.from_numpy(w.dequantize()) for w in weights]
    imitation = QuantizedModel(model, traced, Bits(8, 10))
    ranges = measure_ranges(traced.graph, tensors, [imitation.sample([float(t)]) for t in range(9)])
    imitation = QuantizedModel(model, traced, Bits(8, 10), ranges)
    backend = open_backend(lower(traced.graph, weights, TARGETS["cpu-int8"], ranges, batch=2), threads=1)
    for times in ([0.0, 1.0], [4.5, 7.0]):
        with torch.no_grad():
            feed = {f"x{i}": x.numpy() for i, x in enumerate(imitation.sample(times))}
            frame = imitation(times).clamp(0, 1)
        found = backend.run(feed).astype(int)
        apart = np.abs(found - torch.round(frame * 255).permute(0, 2, 3, 1).numpy().astype(int))
        assert (apart > 0).mean() < 0.04
        assert (apart > 1).mean() <= 0.005
    backend.close()


def test_the_heavy_convolutions_are_int8_and_what_hurts_stays_float() -> None:
    graph = trace(HiNeRV(dataclasses.replace(SMALL, channels=32, depths=(3, 1), expansions=(4, 1)))).graph
    int8 = [graph.nodes[i] for i in plan_int8(graph).int8]
    heavy = sum(graph.shapes[n.output][2:].count(1) == 0 for n in int8 if n.op == "Conv")
    assert heavy >= 2 * 4 + 1
    assert {n.op for n in int8} <= {"Conv", "Transpose", "Sigmoid", "Slice"}
    assert all(dict(n.attributes).get("group", 1) == 1 for n in int8)


def test_frames_too_small_for_its_loss_are_refused_with_another(tiny_clip: Clip) -> None:
    preset = preset_named("hinerv-bunny-xxs")
    with pytest.raises(UsageError, match="at least 65x65 pixels; choose --loss l1_fft"):
        choose_recipe(tiny_clip, HiNeRV, preset.recipe, 1, (None, 0.0, False))


def test_a_clip_is_trained_exported_and_played_without_pytorch(tiny_clip: Clip, tmp_path: Path) -> None:
    recipe = dataclasses.replace(FAST_RECIPE, dtype="fp32", learning_rate=1e-2)
    checkpoint = fit(tiny_clip, "hinerv-bunny-xxs", epochs=30, recipe=recipe, config=TINY, threads=1, device="cpu")
    assert checkpoint.report["psnr_db"] > 28
    report = export(checkpoint, tmp_path / "v.nvb", reference=tiny_clip)
    assert [v.target for v in report.verified] == ["cpu-int8", "cpu-fp32"]
    assert all(v.loss_db < 0.2 for v in report.verified)
    model = checkpoint.build()
    with open_video(tmp_path / "v.nvb", target="cpu-fp32") as video, torch.no_grad():
        for t in (0, 3, 5):
            assert np.abs(video[t].astype(int) - decode_with_torch(model, t, (24, 40)).astype(int)).mean() < 2
        half = model([2.5])[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
        shown = video.at(2.5 / float(video.info.fps), interpolate=True).pixels
        assert np.abs(shown - half).mean() < 2
        assert np.abs(shown.astype(int) - video[2]).mean() > 0
