"""Sizes of the Edge family: edge-N takes about N thousand multiply-accumulates per pixel, whatever the frame size."""

from __future__ import annotations

import math
from collections.abc import Callable

from inr_train.models.edge import EdgeConfig

GRID_ROWS, GRID_STRIDES = (9, 9, 23, 45), (1, 4, 6, 16)
"""Rows where a frame is wider than it is high. The coarsest grid twice: a few numbers for every frame, more for what
changes slowly. Half of the numbers are in the finest, which shows what hardly changes."""
COARSEST_ROWS = 20
"""Rows of the first stage (of high frames: columns), at least, where frames are large enough."""


def edge_config(
    width: int, depth: int, coarse_width: int, grid_channels: tuple[int, ...]
) -> Callable[[int, int, int], EdgeConfig]:
    """`depth` convolutions of `width` channels at a quarter of the frame's resolution; one at each coarser stage."""

    def config(height: int, frame_width: int, frames: int) -> EdgeConfig:
        shorter = min(height, frame_width)  # a clip that is turned has as many numbers
        finest = shorter / 4
        coarse = max(0, min(4, int(math.log2(max(1.0, finest / COARSEST_ROWS)))))
        widths, depths = (*(coarse_width,) * coarse, width), (*(1,) * coarse, depth)
        rows = tuple(min(r * height // shorter, math.ceil(height / 4)) for r in GRID_ROWS)
        sizes = (height, frame_width, frames, widths, depths, rows, grid_channels, GRID_STRIDES)
        return EdgeConfig(*sizes, activation="square", limited=True)

    return config


EDGE_CONFIGS = {
    "edge-5": edge_config(64, 1, 64, (3, 6, 2, 4)),
    "edge-10": edge_config(64, 3, 64, (4, 8, 3, 5)),
    "edge-20": edge_config(96, 3, 96, (4, 8, 4, 5)),
}
