"""What was tried on the way to the Edge family: each variant changes one thing of the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """config, recipe: fields that replace those of edge-10 and of its recipe. group: what is compared."""

    group: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("", "edge-10"),
    Variant("activation", "SiLU without limits", {"activation": "silu"}),
    Variant("activation", "ReLU", {"activation": "relu"}),
    Variant("activation", "LeakyReLU", {"activation": "leaky_relu"}),
    Variant("activation", "GELU", {"activation": "gelu"}),
    Variant("shape", "4 convolutions of 60 channels", {"widths": (64, 60), "depths": (1, 4)}),
    Variant("shape", "9 convolutions of 40 channels", {"widths": (64, 40), "depths": (1, 9)}),
    Variant("shape", "more at an eighth: 4 of 80, then 5 of 48", {"widths": (80, 48), "depths": (3, 5)}),
    Variant("shape", "no coarser stage", {"widths": (48,), "depths": (7,)}),
    Variant("shape", "a stage more", {"widths": (64, 64, 48), "depths": (1, 1, 6)}),
    Variant("shape", "5x5 kernels, 3 convolutions", {"kernel": 5, "depths": (1, 2), "widths": (48, 44)}),
    Variant("shape", "depthwise", {"block": "depthwise", "widths": (64, 64), "depths": (1, 7)}),
    Variant("grids", "the coarsest only", {"grid_rows": (9,), "grid_channels": (8,), "grid_strides": (1,)}),
    Variant("grids", "half the channels", {"grid_channels": (3, 1, 1)}),
    Variant("grids", "twice the channels", {"grid_channels": (12, 4, 2)}),
    Variant(
        "grids", "every second frame, twice the channels", {"grid_channels": (12, 2, 1), "grid_strides": (2, 4, 16)}
    ),
    Variant("grids", "denser in time", {"grid_strides": (1, 2, 8)}),
    Variant("modulation", "16 numbers a frame scale and shift each stage", {"modulation": 16}),
    Variant("training", "Adam, best of three rates", recipe={"optimizer": "adam", "learning_rate": 5e-3}),
    Variant("training", "Muon at half the rate", recipe={"muon_rate": 1e-2}),
    Variant("training", "Muon at twice the rate", recipe={"muon_rate": 4e-2}),
    Variant("training", "grids at the rate of the rest", recipe={"grid_rate": 1.0}),
    Variant("training", "cosine decay", recipe={"decay": "cosine"}),
    Variant("training", "L1 + FFT loss", recipe={"alpha": 0.3}),
    Variant("training", "L1 loss", recipe={"loss": "l1"}),
    Variant("training", "L2 loss", recipe={"loss": "l2"}),
    Variant("training", "L1 + SSIM loss", recipe={"loss": "l1_ssim", "alpha": 0.7}),
    Variant("training", "batches of 2", recipe={"batch_size": 2}),
)
