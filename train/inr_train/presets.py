"""Named sizes of each representation, fitted to the frame size of a clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from inr_runtime.errors import UsageError
from inr_train.models import HNeRVConfig, NeRFConfig, NeRVConfig, SirenConfig, count_macs, count_parameters, meta_model
from inr_train.models.coordinate import solve_hidden
from inr_train.models.hnerv import solve_channels
from inr_train.presets_edge import EDGE_CONFIGS
from inr_train.presets_hinerv import HINERV_CONFIGS
from inr_train.recipe import Recipe
from inr_train.recipes import (
    EDGE_RECIPE,
    FAST_RECIPE,
    HINERV_RECIPE,
    HNERV_RECIPE,
    MUON_RECIPE,
    NERF_RECIPE,
    NERV_RECIPE,
    SIREN_RECIPE,
)
from inr_train.strides import hnerv_strides, solve_strides


@dataclass(frozen=True)
class Preset:
    """A named model size. config: (height, width, frames) to the model's config. recipe: how to train it."""

    name: str
    family: str
    config: Callable[[int, int, int], Any]
    recipe: Recipe


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


def _hnerv(parameters: int) -> Callable[[int, int, int], HNeRVConfig]:
    def config(height: int, width: int, frames: int) -> HNeRVConfig:
        shape = HNeRVConfig(height, width, frames, hnerv_strides(height, width))
        return replace(shape, channels=solve_channels(parameters, shape))

    return config


def _conditional_hnerv(parameters: int) -> Callable[[int, int, int], HNeRVConfig]:
    """As Boosting-NeRV has it on frames of 1280x720: strides 5 2 2 2 2, so embeddings of 9x16."""

    def config(height: int, width: int, frames: int) -> HNeRVConfig:
        strides, _, _ = solve_strides(height, width)
        shape = HNeRVConfig(height, width, frames, strides, activation="sine", time_width=32)
        return replace(shape, channels=solve_channels(parameters, shape))

    return config


def _siren(parameters: int, depth: int) -> Callable[[int, int, int], SirenConfig]:
    def config(height: int, width: int, frames: int) -> SirenConfig:
        shape = SirenConfig(height, width, frames, depth=depth)
        return replace(shape, hidden=solve_hidden(parameters, shape))

    return config


def _nerf(parameters: int, depth: int) -> Callable[[int, int, int], NeRFConfig]:
    """Frequencies up to that of a pixel or frame, about: higher ones cannot be seen, and spoil what is between."""

    def config(height: int, width: int, frames: int) -> NeRFConfig:
        levels = [max(1, math.ceil(math.log2(side)) - 1) for side in (max(height, width), frames + 1)]
        shape = NeRFConfig(height, width, frames, depth=depth, levels=levels[0], time_levels=levels[1])
        return replace(shape, hidden=solve_hidden(parameters, shape))

    return config


def _wide(recipe: Recipe, learning_rate: float) -> Recipe:
    """For networks of a thousand hidden units: large batches, which cost them no more a pixel, and a lower rate."""
    return replace(recipe, batch_size=1 << 14, learning_rate=learning_rate)


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        *(Preset(name, "edge", config, EDGE_RECIPE) for name, config in EDGE_CONFIGS.items()),
        Preset("nerv-xxs", "nerv", _small_nerv(12, 32, 20), FAST_RECIPE),
        Preset("nerv-xs", "nerv", _small_nerv(16, 48, 32), FAST_RECIPE),
        Preset("nerv-s", "nerv", _paper_nerv(26), NERV_RECIPE),
        Preset("nerv-m", "nerv", _paper_nerv(58), NERV_RECIPE),
        Preset("nerv-l", "nerv", _paper_nerv(112), NERV_RECIPE),
        Preset("hnerv-0.35m", "hnerv", _hnerv(350_000), HNERV_RECIPE),
        Preset("hnerv-0.75m", "hnerv", _hnerv(750_000), HNERV_RECIPE),
        Preset("hnerv-1.5m", "hnerv", _hnerv(1_500_000), HNERV_RECIPE),
        Preset("hnerv-3m", "hnerv", _hnerv(3_000_000), HNERV_RECIPE),
        Preset("hnerv-boost-1.5m", "hnerv", _conditional_hnerv(1_500_000), MUON_RECIPE),
        *(Preset(name, "hinerv", config, HINERV_RECIPE) for name, config in HINERV_CONFIGS.items()),
        Preset("siren-xs", "siren", _siren(20_000, 4), SIREN_RECIPE),
        Preset("siren-s", "siren", _siren(3_200_000, 5), _wide(SIREN_RECIPE, 2e-4)),
        Preset("siren-m", "siren", _siren(6_400_000, 5), _wide(SIREN_RECIPE, 2e-4)),
        Preset("siren-l", "siren", _siren(12_700_000, 5), _wide(SIREN_RECIPE, 2e-4)),
        Preset("nerf-xs", "nerf", _nerf(20_000, 4), NERF_RECIPE),
        Preset("nerf-s", "nerf", _nerf(3_200_000, 8), _wide(NERF_RECIPE, 5e-4)),
        Preset("nerf-m", "nerf", _nerf(6_400_000, 8), _wide(NERF_RECIPE, 5e-4)),
        Preset("nerf-l", "nerf", _nerf(12_700_000, 8), _wide(NERF_RECIPE, 5e-4)),
    )
}


def preset_named(name: str) -> Preset:
    """The preset called `name`; raises `UsageError` that lists the known ones."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}; known: {', '.join(PRESETS)} (inr-train --list-presets)")
    return PRESETS[name]


def default_preset(height: int, width: int) -> Preset:
    """What trains in minutes and plays in real time: smaller for frames so small that nothing else fits into a file."""
    return PRESETS["edge-5" if height * width < 20_000 else "edge-10"]


def describe_presets(height: int, width: int, frames: int) -> list[dict[str, Any]]:
    """One row per preset for a frame size and count, with the keys of `inr-train --list-presets --json`.

    Presets that cannot be built so, since they are too small for so many frames say, have none.
    """
    rows = []
    for preset in PRESETS.values():
        try:
            model = meta_model(preset.family, preset.config(height, width, frames))
        except ValueError:
            continue
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


def estimate_bytes(parameters: int, bits: int = 8, sparsity: float = 0.0) -> int:
    """Expected file size: trained weights code to about 0.8 of their bits, zeros to a third, plus 2 kB of the rest."""
    return round(parameters * 0.8 * bits / 8 * (1 - 0.67 * sparsity)) + 2000
