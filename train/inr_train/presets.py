"""Named sizes of each representation, fitted to the frame size of a clip."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from inr_runtime.errors import UsageError
from inr_train.models import HNeRVConfig, NeRVConfig, count_macs, count_parameters, meta_model
from inr_train.models.hnerv import solve_channels
from inr_train.recipe import FAST_RECIPE, HNERV_RECIPE, NERV_RECIPE, Recipe

BASE_AREA = 9 * 16
"""Positions of the stem's feature map that the NeRV paper uses (9 x 16)."""
HNERV_AREA = 2 * 4
"""Positions of HNeRV's embedding."""


@dataclass(frozen=True)
class Preset:
    """A named model size. config: (height, width, frames) to the model's config. recipe: how to train it."""

    name: str
    family: str
    config: Callable[[int, int, int], Any]
    recipe: Recipe


def solve_strides(height: int, width: int) -> tuple[tuple[int, ...], int, int]:
    """Strides and base size whose product covers height x width with little to cut off.

    The candidates are the papers' shapes: 5 (or a smaller factor), perhaps a 3, then 2s. The choice
    weighs cut-off pixels against a base far from 9 x 16. Gives (strides, base height, base width); exact for
    the papers' sizes: 720x1280 gives 5 2 2 2 2 and 9x16.
    """
    candidates = {(f, *three, *([2] * n)) for f in (5, 4, 3, 2) for three in ((), (3,)) for n in range(9)}

    def cost(strides: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        factor = math.prod(strides)
        h, w = -(-height // factor), -(-width // factor)
        waste = h * w * factor**2 / (height * width) - 1
        return (waste + 0.5 * abs(math.log2(h * w / BASE_AREA)), tuple(-s for s in strides))

    best = min(candidates, key=cost)
    factor = math.prod(best)
    return best, -(-height // factor), -(-width // factor)


def _paper_nerv(channels: int) -> Callable[[int, int, int], NeRVConfig]:
    def config(height: int, width: int, frames: int) -> NeRVConfig:
        strides, base_height, base_width = solve_strides(height, width)
        return NeRVConfig(height, width, frames, base_height, base_width, strides, channels)

    return config


def _small_nerv(channels: int, stem_width: int, lower_width: int) -> Callable[[int, int, int], NeRVConfig]:
    """For short budgets: a small stem, and what int8 engines run without loss (LeakyReLU, no output function)."""

    def config(height: int, width: int, frames: int) -> NeRVConfig:
        strides, base_height, base_width = solve_strides(height, width)
        return NeRVConfig(
            height,
            width,
            frames,
            base_height,
            base_width,
            strides,
            channels,
            stem_width=stem_width,
            expansion=2.0,
            lower_width=lower_width,
            activation="leaky_relu",
            output="linear",
        )

    return config


def hnerv_strides(height: int, width: int) -> tuple[int, ...]:
    """Strides of HNeRV for a frame size: few embeddings (about 2 x 4 positions) and little to cut off.

    The candidates are made like the papers' strides: a 5, then 4s, 3s and 2s. Exact for their sizes: 640x1280 gives
    5 4 4 2 2, 480x960 gives 5 4 3 2 2, 960x1920 gives 5 4 4 3 2.
    """
    counts = itertools.product((0, 1), (0, 1, 2), (0, 1), (0, 1, 2))
    candidates = [(*(5,) * a, *(4,) * b, *(3,) * c, *(2,) * d) for a, b, c, d in counts if a + b + c + d]

    def cost(strides: tuple[int, ...]) -> tuple[float, int, tuple[int, ...]]:
        factor = math.prod(strides)
        h, w = -(-height // factor), -(-width // factor)
        waste = h * w * factor**2 / (height * width) - 1
        return (2 * waste + 0.5 * abs(math.log2(h * w / HNERV_AREA)), abs(len(strides) - 5), tuple(-s for s in strides))

    return min(candidates, key=cost)


def _hnerv(parameters: int) -> Callable[[int, int, int], HNeRVConfig]:
    def config(height: int, width: int, frames: int) -> HNeRVConfig:
        shape = HNeRVConfig(height, width, frames, hnerv_strides(height, width))
        return replace(shape, channels=solve_channels(parameters, shape))

    return config


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset("nerv-xxs", "nerv", _small_nerv(12, 32, 20), FAST_RECIPE),
        Preset("nerv-xs", "nerv", _small_nerv(16, 48, 32), FAST_RECIPE),
        Preset("nerv-s", "nerv", _paper_nerv(26), NERV_RECIPE),
        Preset("nerv-m", "nerv", _paper_nerv(58), NERV_RECIPE),
        Preset("nerv-l", "nerv", _paper_nerv(112), NERV_RECIPE),
        Preset("hnerv-0.35m", "hnerv", _hnerv(350_000), HNERV_RECIPE),
        Preset("hnerv-0.75m", "hnerv", _hnerv(750_000), HNERV_RECIPE),
        Preset("hnerv-1.5m", "hnerv", _hnerv(1_500_000), HNERV_RECIPE),
        Preset("hnerv-3m", "hnerv", _hnerv(3_000_000), HNERV_RECIPE),
    )
}


def preset_named(name: str) -> Preset:
    """The preset called `name`; raises `UsageError` that lists the known ones."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}; known: {', '.join(PRESETS)} (inr-train --list-presets)")
    return PRESETS[name]


def default_preset(height: int, width: int) -> Preset:
    """A size that trains in minutes on a CPU for small frames, the paper's smallest for large ones."""
    pixels = height * width
    return PRESETS["nerv-xxs" if pixels < 20_000 else "nerv-xs" if pixels < 500_000 else "nerv-s"]


def describe_presets(height: int, width: int, frames: int) -> list[dict[str, Any]]:
    """One row per preset for a frame size and count, with the keys of `inr-train --list-presets --json`."""
    rows = []
    for preset in PRESETS.values():
        model = meta_model(preset.family, preset.config(height, width, frames))
        parameters, macs = count_parameters(model), count_macs(model)
        rows.append(
            {
                "preset": preset.name,
                "family": preset.family,
                "parameters": parameters,
                "gmac_per_frame": macs / 1e9,
                "kmac_per_pixel": macs / 1e3 / (height * width),
                "bytes_int8_estimate": estimate_bytes(parameters),
            }
        )
    return rows


def estimate_bytes(parameters: int) -> int:
    """Expected file size: trained 8-bit weights code to about 0.8 bytes each, plus 2 kB of graph and header."""
    return round(parameters * 0.8) + 2000
