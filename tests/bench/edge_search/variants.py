"""What was tried on the way to the Edge family: each variant changes one thing of the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inr_train.recipe import Phase


@dataclass(frozen=True)
class Variant:
    """config, recipe: fields that replace those of edge-10 and of its recipe. group: what is compared."""

    group: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


IMITATING = (Phase("fit", 0.88), Phase("float reference", 0.12, branch=True), Phase("int8", 0.12, quantize="int8"))
VARIANTS = (
    Variant("", "edge-10"),
    Variant("activation", "SiLU within limits", {"activation": "bounded_silu"}),
    Variant("activation", "SiLU", {"activation": "silu"}),
    Variant("activation", "GELU", {"activation": "gelu"}),
    Variant("activation", "ReLU", {"activation": "relu"}),
    Variant("activation", "LeakyReLU", {"activation": "leaky_relu"}),
    Variant("shape", "2 convolutions of 76 channels", {"widths": (64, 76), "depths": (1, 2)}),
    Variant("shape", "4 convolutions of 56 channels", {"widths": (64, 56), "depths": (1, 4)}),
    Variant("shape", "6 convolutions of 48 channels", {"widths": (64, 48), "depths": (1, 6)}),
    Variant("shape", "more at an eighth: 3 of 80, then 2", {"widths": (80, 64), "depths": (3, 2)}),
    Variant("shape", "no coarser stage", {"widths": (64,), "depths": (3,)}),
    Variant("shape", "a stage more", {"widths": (64, 64, 64), "depths": (1, 1, 3)}),
    Variant("shape", "5x5 kernels, 2 convolutions of 44", {"kernel": 5, "depths": (1, 2), "widths": (48, 44)}),
    Variant("shape", "depthwise", {"block": "depthwise", "widths": (64, 64), "depths": (1, 7)}),
    Variant("grids", "the coarsest only", {"grid_rows": (9,), "grid_channels": (10,), "grid_strides": (1,)}),
    Variant("grids", "nothing slow at 9 rows", {"grid_channels": (6, 1, 3, 5), "grid_strides": (1, 131, 6, 16)}),
    Variant("grids", "nothing fast at 9 rows", {"grid_channels": (1, 22, 3, 5), "grid_strides": (131, 4, 6, 16)}),
    Variant("grids", "half the channels", {"grid_channels": (2, 4, 2, 2)}),
    Variant("grids", "twice the channels", {"grid_channels": (8, 16, 6, 10)}),
    Variant("grids", "1 channel at 45 rows", {"grid_channels": (4, 8, 3, 1)}),
    Variant("grids", "1 channel at 45 rows, more elsewhere", {"grid_channels": (8, 16, 4, 1)}),
    Variant(
        "grids",
        "fewer slices at 45 rows, more channels",
        {"grid_channels": (4, 8, 3, 8), "grid_strides": (1, 4, 6, 32)},
    ),
    Variant(
        "grids", "more slices at 45 rows, fewer channels", {"grid_channels": (4, 8, 3, 3), "grid_strides": (1, 4, 6, 8)}
    ),
    Variant(
        "grids",
        "every second frame, twice the channels",
        {"grid_channels": (8, 8, 3, 5), "grid_strides": (2, 4, 6, 16)},
    ),
    Variant("modulation", "16 numbers a frame scale and shift each stage", {"modulation": 16}),
    Variant("training", "Adam at 2.5e-3", recipe={"optimizer": "adam", "learning_rate": 2.5e-3}),
    Variant("training", "Adam at 5e-3", recipe={"optimizer": "adam", "learning_rate": 5e-3}),
    Variant("training", "Adam at 1e-2", recipe={"optimizer": "adam", "learning_rate": 1e-2}),
    Variant("training", "Muon at half the rate", recipe={"muon_rate": 0.8e-2}),
    Variant("training", "Muon at twice the rate", recipe={"muon_rate": 3.2e-2}),
    Variant("integers", "nothing limited", {"limited": False}),
    Variant("integers", "no decay", recipe={"weight_decay": 0.0}),
    Variant("integers", "nothing limited, no decay", {"limited": False}, {"weight_decay": 0.0}),
    Variant("integers", "twice the decay", recipe={"weight_decay": 0.1}),
    Variant("integers", "six times the decay", recipe={"weight_decay": 0.3}),
    Variant("integers", "the last 12 % of the steps imitate integers", recipe={"phases": IMITATING}),
    Variant("training", "biases at half the rate", recipe={"learning_rate": 5e-3, "grid_rate": 6.0}),
    Variant("training", "grids at the rate of the rest", recipe={"grid_rate": 1.0}),
    Variant("training", "beta2 of 0.999 for Adam", recipe={"betas": (0.9, 0.999)}),
    Variant("training", "cosine decay", recipe={"decay": "cosine"}),
    Variant("training", "L1 + FFT loss", recipe={"alpha": 0.3}),
    Variant("training", "L1 loss", recipe={"loss": "l1"}),
    Variant("training", "L2 loss", recipe={"loss": "l2"}),
    Variant("training", "L1 + SSIM loss", recipe={"loss": "l1_ssim", "alpha": 0.7}),
    Variant("training", "batches of 2", recipe={"batch_size": 2}),
    Variant("training", "batches of 8", recipe={"batch_size": 8}),
    Variant("training", "4 candidates race", recipe={"candidates": 4}),
)
