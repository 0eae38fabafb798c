"""What a row of the papers' tables is: what was published, and how we train for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One published number, or one setting that stands beside it.

    published: PSNR in dB, None where no number is at hand. facts: what else was published, by the keys of `SPEEDS` and
    `bits_per_pixel`. tolerance: dB that a repetition may differ by.
    config, recipe: fields that replace the preset's; reduced, reduced_config, reduced_recipe: the network that stands
    for the row in the reduced protocol, and further fields there; `note` says how it was chosen. clip: the material of
    the full protocol: `bunny-*`, or a dataset.
    quantize: as of `inr_train.fit`. tuning: the row is the model of another row, as a file of integers. file: export
    the model too, decode it through the runtime, and record how fast that is.
    """

    table: str
    name: str
    preset: str
    published: float | None
    source: str
    epochs: int = 300
    tolerance: float = 0.3
    clip: str = "bunny-720p"
    reduced: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    reduced_config: Mapping[str, Any] = field(default_factory=dict)
    reduced_recipe: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    quantize: str | None = "none"
    tuning: Tuning | None = None
    file: bool = False


@dataclass(frozen=True)
class Tuning:
    """Integers of `bits` made of the model of the row `base`.

    noise: share of the weights imitated in each step of a short training after it: 1 is ordinary quantization-aware
    training, 0.9 Quant-Noise as in HiNeRV, 0 none at all, rounding alone.
    """

    base: Row
    bits: int
    noise: float


SPEEDS = {"train_speed": "training speed", "encode_time": "encoding time", "decode_fps": "decoding"}
"""Facts of the pixel-wise comparison: epochs a second against its first row, time of a whole run against NeRV's, and
frames a second."""
