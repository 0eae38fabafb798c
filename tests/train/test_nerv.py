"""NeRV as the paper has it, and everything its ablations name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from inr_runtime.errors import InputError
from inr_train.graph_runner import run_graph
from inr_train.models import NeRV, NeRVConfig, build_model, config_dict, count_macs, count_parameters, meta_model
from inr_train.models.nerv import NeRVBlock
from inr_train.presets import PRESETS
from inr_train.strides import solve_strides
from inr_train.trace import trace


@pytest.mark.parametrize(
    ("preset", "parameters", "gmac"),
    [("nerv-s", 3_201_905, 100.94), ("nerv-m", 6_282_001, 101.43), ("nerv-l", 12_524_563, 102.40)],
)
def test_paper_presets_have_the_published_sizes_at_720p(preset: str, parameters: int, gmac: float) -> None:
    model = meta_model("nerv", PRESETS[preset].config(720, 1280, 132))
    assert count_parameters(model) == parameters
    assert count_macs(model) / 1e9 == pytest.approx(gmac, abs=0.01)


def test_stage_widths_of_the_worked_example() -> None:
    config = PRESETS["nerv-s"].config(720, 1280, 132)
    assert config.strides == (5, 2, 2, 2, 2)
    assert (config.base_height, config.base_width) == (9, 16)
    assert config.stage_widths == (26, 96, 96, 96, 96)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((720, 1280), ((5, 2, 2, 2, 2), 9, 16)),
        ((1280, 720), ((5, 2, 2, 2, 2), 16, 9)),
        ((1080, 1920), ((5, 3, 2, 2, 2), 9, 16)),
        ((180, 320), ((5, 2, 2), 9, 16)),
    ],
)
def test_strides_are_solved_exactly_for_the_papers_sizes(size: tuple[int, int], expected: object) -> None:
    assert solve_strides(*size) == expected


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (181, 323), (480, 854), (854, 480), (1000, 1000), (2160, 3840)])
def test_any_size_is_covered_with_little_to_cut_off(size: tuple[int, int]) -> None:
    strides, height, width = solve_strides(*size)
    factor = int(np.prod(strides))
    assert height * factor >= size[0]
    assert width * factor >= size[1]
    if min(size) > 100:
        assert height * width * factor**2 < 1.25 * size[0] * size[1]


VARIANTS = [
    {},
    {"upscale": "transposed", "activation": "relu"},
    {"upscale": "bilinear", "activation": "gelu"},
    {"encoding_levels": 0, "output": "sigmoid"},
    {"activation": "silu", "output": "tanh"},
    {"blocks_per_stage": 2, "stem_depth": 2},
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(24, 40), (25, 43)])
def test_every_variant_traces_to_the_dialect_and_computes_the_same(
    variant: dict[str, object], size: tuple[int, int]
) -> None:
    config = dataclasses.replace(PRESETS["nerv-xxs"].config(*size, 6), **variant)
    model = NeRV(config).eval()
    traced = trace(model)
    inputs = model.sample([0.0, 2.5])
    with torch.no_grad():
        expected = model.decode(*inputs)
        found = run_graph(traced.graph, inputs, list(model.parameters()))
    assert expected.shape == (2, 3, *size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert traced.graph.macs == count_macs(model)
    assert [p.shape for p in traced.graph.weights] == [tuple(p.shape) for p in model.parameters()]


@torch.no_grad()
def test_a_block_is_the_papers_though_it_activates_before_the_shuffle() -> None:
    """The paper: convolution, shuffle, activation."""
    config = dataclasses.replace(PRESETS["nerv-xxs"].config(24, 40, 6), activation="gelu")
    block, x = NeRVBlock(5, 7, 2, config), torch.randn(2, 5, 3, 4)
    convolved = F.conv2d(x, block.conv.weight, block.conv.bias, padding=1)
    assert block(x).shape == (2, 7, 6, 8)
    torch.testing.assert_close(block(x), F.gelu(F.pixel_shuffle(convolved, 2)))


@pytest.mark.parametrize(
    "field",
    [{"strides": (2, 2)}, {"activation": "swish"}, {"channels": 0}, {"output": "clamp"}, {"strides": (5000,)}],
)
def test_contradicting_configs_are_refused_at_birth(field: dict[str, object]) -> None:
    good = PRESETS["nerv-xxs"].config(180, 320, 6)
    with pytest.raises(ValueError, match=r"one of|positive|make"):
        dataclasses.replace(good, **field)


def test_a_config_from_a_file_is_bounded_before_anything_is_allocated() -> None:
    config = config_dict(NeRVConfig(16, 16, 4, 4, 4, (2, 2), 8))
    build_model("nerv", config)
    with pytest.raises(InputError, match="parameters"):
        build_model("nerv", {**config, "channels": 100_000, "stem_width": 100_000})
    with pytest.raises(InputError, match="not valid"):
        build_model("nerv", {**config, "surprise": 1})
    with pytest.raises(InputError, match="unknown representation"):
        build_model("verf", config)
