"""HiNeRV's sizes, as its authors configured them, fitted to the frame size and count of a clip.

    name          C    base grid (T_g, C_g)   local C_l   depths of all stages but the last
    bunny-xxs    136          40, 2               4              3
    uvg-xl       688         150, 16             32              4
    bunny-b-xxs  160         132, 5               4              2, then 1

The last stage has one block that is not widened inside. Small frames have fewer stages, not fewer cells at the base,
which are about 18 x 32 (of bunny-b 9 x 16, which grow by 5, then by 4); short clips have at most as many slices in the
base grid as they have frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from inr_train.models import HiNeRVConfig
from inr_train.strides import solve_strides

BASE_AREA = 18 * 32
Config = Callable[[int, int, int], HiNeRVConfig]


def hinerv(channels: int, base_frames: int, base_channels: int, local_channels: int, depth: int = 3) -> Config:
    """A size by the columns of the table above, as a function of height, width and frames."""

    def config(height: int, width: int, frames: int) -> HiNeRVConfig:
        strides, _, _ = solve_strides(height, width, BASE_AREA)
        wide = len(strides) - 1
        return HiNeRVConfig(
            height,
            width,
            frames,
            strides,
            channels,
            depths=(*[depth] * wide, 1),
            expansions=(*[4] * wide, 1),
            base_frames=min(base_frames, frames),
            base_channels=base_channels,
            local_channels=local_channels,
        )

    return config


def quick_hinerv(channels: int, base_channels: int, local_channels: int) -> Config:
    """A size of the authors' fast variant: coarser grids, fewer blocks, no norm behind the upscaling."""

    def config(height: int, width: int, frames: int) -> HiNeRVConfig:
        usual = hinerv(channels, 132, base_channels, local_channels)(height, width, frames)
        strides = _with_a_four(solve_strides(height, width)[0])
        stages = len(strides)
        depths, expansions = (2, *[1] * stages)[:stages], (*[4] * (stages - 1), 1)
        return replace(usual, strides=strides, depths=depths, expansions=expansions, upscale_norm=False)

    return config


def _with_a_four(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The first two twos as one stride: 5 2 2 2 2 becomes 5 4 2 2."""
    first = strides.index(2) if strides.count(2) > 1 else len(strides)
    return (*strides[:first], 4, *strides[first + 2 :]) if first < len(strides) else strides


HINERV_CONFIGS: dict[str, Config] = {
    "hinerv-bunny-xxs": hinerv(136, 40, 2, 4),
    "hinerv-bunny-xs": hinerv(196, 40, 4, 8),
    "hinerv-bunny-s": hinerv(280, 40, 8, 16),
    "hinerv-bunny-b-xxs": quick_hinerv(160, 5, 4),
    "hinerv-bunny-b-xs": quick_hinerv(224, 10, 8),
    "hinerv-bunny-b-s": quick_hinerv(320, 20, 16),
    "hinerv-uvg-s": hinerv(280, 150, 2, 4),
    "hinerv-uvg-m": hinerv(400, 150, 4, 8),
    "hinerv-uvg-l": hinerv(560, 150, 8, 16),
    "hinerv-uvg-xl": hinerv(688, 150, 16, 32, depth=4),
    "hinerv-uvg-xxl": hinerv(864, 150, 32, 64, depth=5),
    "hinerv-mcl-xxs": hinerv(136, 40, 2, 4),
    "hinerv-mcl-xs": hinerv(196, 40, 4, 8),
    "hinerv-mcl-s": hinerv(280, 40, 8, 16),
    "hinerv-mcl-m": hinerv(400, 40, 16, 32),
    "hinerv-mcl-l": hinerv(560, 40, 32, 64),
}
