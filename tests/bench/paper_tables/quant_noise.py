"""Quant-Noise against ordinary quantization-aware training and against rounding alone, with HiNeRV.

After training, a tenth of its epochs with a tenth of its learning rate and no warm-up, as HiNeRV does (30 after 300).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.bench.paper_tables.row import Row, Tuning

from inr_train.recipe import Phase, Recipe

BITS = (8, 6, 4)
KINDS = {"rounded": 0.0, "quantization-aware": 1.0, "Quant-Noise 0.9": 0.9}


def quant_noise_rows(reduced_config: Mapping[str, Any]) -> tuple[Row, ...]:
    """The float model, then its integers; reduced_config: of the network that stands for HiNeRV."""
    source = "HiNeRV (Kwan et al. 2023), UVG: no number for this comparison at hand"
    float_row = Row(
        "quant_noise",
        "HiNeRV, float",
        "hinerv-uvg-s",
        None,
        source,
        clip="uvg",
        reduced="hinerv-bunny-xxs",
        reduced_config=reduced_config,
    )
    rows = [
        replace(float_row, name=f"{bits} bits, {kind}", tuning=Tuning(float_row, bits, noise))
        for bits in BITS
        for kind, noise in KINDS.items()
    ]
    return (float_row, *rows)


def tuning_recipe(trained: Recipe, tuning: Tuning) -> Recipe:
    """How the integers of a tuned row are trained, after `trained`."""
    phases = (Phase("quantization-aware", 1.0, quantize="weights", noise=tuning.noise),)
    return replace(
        trained,
        name=f"{trained.name} quantization",
        epochs=max(1, trained.epochs // 10),
        learning_rate=trained.learning_rate / 10,
        warmup=0.0,
        weight_bits=tuning.bits,
        phases=phases,
    )
