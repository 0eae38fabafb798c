"""One named row per published number: what was published, where, and how we train for it.

`published` is the paper's value and never stands in our column. `reduced` is the network that stands for the row in the
reduced protocol, which shows directions only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.bench.paper_tables.datasets import MCL, UVG
from tests.bench.paper_tables.pixelwise import PIXELWISE
from tests.bench.paper_tables.quant_noise import quant_noise_rows
from tests.bench.paper_tables.row import Row

_NERV = "NeRV (Chen et al. 2021), Bunny 1280x720"
_ABLATION = "NeRV, ablations on UVG, 150 epochs"
_HNERV = "HNeRV (Chen et al. 2023), Bunny 1280x640, 300 epochs"

BUNNY = (
    Row("bunny", "NeRV-S 300", "nerv-s", 32.21, _NERV, reduced="nerv-xs"),
    Row("bunny", "NeRV-S 1200", "nerv-s", 34.21, _NERV, epochs=1200),
    Row("bunny", "NeRV-M 300", "nerv-m", 36.05, _NERV),
    Row("bunny", "NeRV-M 1200", "nerv-m", 38.14, _NERV, epochs=1200),
    Row("bunny", "NeRV-L 300", "nerv-l", 39.75, _NERV),
    Row("bunny", "NeRV-L 1200", "nerv-l", 41.29, _NERV, epochs=1200),
    Row("bunny", "HNeRV 0.35 M", "hnerv-0.35m", 30.15, _HNERV, clip="bunny-640x1280", reduced="hnerv-0.35m"),
    Row("bunny", "HNeRV 0.75 M", "hnerv-0.75m", 32.81, _HNERV, clip="bunny-640x1280"),
    Row("bunny", "HNeRV 1.5 M", "hnerv-1.5m", 35.57, _HNERV, clip="bunny-640x1280"),
    Row("bunny", "HNeRV 3 M", "hnerv-3m", 37.43, _HNERV, clip="bunny-640x1280"),
    Row(
        "bunny",
        "HiNeRV XXS",
        "hinerv-bunny-xxs",
        None,
        "HiNeRV, Bunny 1280x720: no number at hand",
        config={"patch": (80,)},
    ),
    Row(
        "bunny",
        "HiNeRV XS",
        "hinerv-bunny-xs",
        None,
        "HiNeRV, Bunny 1280x720: no number at hand",
        config={"patch": (80,)},
    ),
    Row(
        "bunny",
        "HiNeRV S",
        "hinerv-bunny-s",
        None,
        "HiNeRV, Bunny 1280x720: no number at hand",
        config={"patch": (80,)},
    ),
)


def _ablation(name: str, published: float, config: Mapping[str, Any], recipe: Mapping[str, Any]) -> Row:
    return Row(
        "nerv_ablations", name, "nerv-s", published, _ABLATION, 150, 0.5, "uvg", "nerv-xs", {**PAPER, **config}, recipe
    )


PAPER = {"activation": "gelu", "output": "tanh"}
"""The ablations' default network."""

NERV_ABLATIONS = (
    _ablation("default", 37.26, {}, {}),
    _ablation("no positional encoding", 24.93, {"encoding_levels": 0}, {}),
    _ablation("bilinear upscaling", 29.56, {"upscale": "bilinear"}, {}),
    _ablation("transposed convolution", 36.63, {"upscale": "transposed"}, {}),
    _ablation("ReLU", 35.89, {"activation": "relu"}, {}),
    _ablation("LeakyReLU", 36.76, {"activation": "leaky_relu"}, {}),
    _ablation("SiLU", 37.08, {"activation": "silu"}, {}),
    _ablation("L2", 35.64, {}, {"loss": "l2"}),
    _ablation("L1", 35.77, {}, {"loss": "l1"}),
    _ablation("SSIM", 35.69, {}, {"loss": "ssim"}),
    _ablation("L2 + L1", 35.95, {}, {"loss": "l2_l1", "alpha": 0.7}),
    _ablation("L2 + SSIM", 36.46, {}, {"loss": "l2_ssim", "alpha": 0.7}),
)

_SMALL_HINERV = {
    "strides": (5, 2),
    "channels": 48,
    "depths": (2, 1),
    "expansions": (4, 1),
    "base_frames": 12,
    "base_channels": 4,
}
"""Two stages from 9 x 16 cells, for frames of 160x90."""
_HINERV = "HiNeRV (Kwan et al. 2023), table 4, mean of UVG"
_PATCH = {"patch": (120,)}
"""What the paper draws in training at 1920x1080, unless a row says otherwise."""
_WHOLE = {"patch": (0,)}
_SMALL_PATCH = {"patch": (30, 40)}
"""Twelve patches make up a frame of 160x90. They are too small for MS-SSIM: all rows of their table take SSIM."""


def _variant(name: str, published: float, **config: Any) -> Row:
    """Trained on patches as in the paper; on whole frames in the reduced protocol."""
    small = {"reduced": "hinerv-bunny-xxs", "reduced_config": {**_SMALL_HINERV, **_WHOLE}}
    config = {**_PATCH, **config}
    return Row("hinerv_ablations", name, "hinerv-uvg-s", published, _HINERV, clip="uvg", config=config, **small)


def _patches(name: str, published: float, config: Mapping[str, Any], small_config: Mapping[str, Any]) -> Row:
    small = {"reduced": "hinerv-bunny-xxs", "reduced_config": {**_SMALL_HINERV, **small_config}}
    small["reduced_recipe"] = {"loss": "l1_ssim"}
    return Row("hinerv_patches", name, "hinerv-uvg-s", published, _HINERV, clip="uvg", config=config, **small)


def _of_equal_size(row: Row, channels: int, reduced_channels: int) -> Row:
    """With so many channels that the number of parameters is about that of the first row, as in the paper."""
    small = {**row.reduced_config, "channels": reduced_channels}
    note = f"{channels} channels, reduced {reduced_channels}, for equal size"
    return replace(row, config={**row.config, "channels": channels}, reduced_config=small, note=note)


HINERV_ABLATIONS = (
    _variant("HiNeRV", 36.27),
    _of_equal_size(_variant("V1 sub-pixel convolution 1x1", 34.78, upscale="subconv1"), 196, 30),
    _of_equal_size(_variant("V2 sub-pixel convolution 3x3", 33.70, upscale="subconv3"), 86, 12),
    _variant("V3 no encoding", 35.95, encoding="none"),
    _variant("V4 Fourier encoding", 35.92, encoding="fourier"),
    _variant("V5 local Fourier encoding", 35.77, encoding="local_fourier"),
    _variant("V6 local grid only", 35.98, encoding="local_grid"),
    _variant("V7 MLP blocks", 34.69, block="mlp"),
    _variant("V8 3x3 convolution blocks", 35.12, block="conv3"),
    _variant("V11 nearest neighbour", 36.08, upscale="nearest"),
)

HINERV_PATCHES = (
    _patches("HiNeRV on patches", 36.27, _PATCH, _SMALL_PATCH),
    _patches("V9 frame-wise", 36.10, _WHOLE, _WHOLE),
    _patches("V10 patch-wise", 35.38, {**_PATCH, "patch_context": "none"}, _SMALL_PATCH),
)
"""Patches with a margin give the frame's own pixels, so V10, which is worse, must be patches without."""

ROWS = (
    *BUNNY,
    *PIXELWISE,
    *NERV_ABLATIONS,
    *HINERV_ABLATIONS,
    *HINERV_PATCHES,
    *quant_noise_rows(_SMALL_HINERV),
    *UVG,
    *MCL,
)
TABLES = tuple(dict.fromkeys(r.table for r in ROWS))
