"""Strides that take a small feature map to a frame size."""

from __future__ import annotations

import itertools
import math

BASE_AREA = 9 * 16
"""Positions of the stem's feature map that the NeRV paper uses (9 x 16)."""
HNERV_AREA = 2 * 4
"""Positions of HNeRV's embedding."""


def solve_strides(height: int, width: int, area: int = BASE_AREA) -> tuple[tuple[int, ...], int, int]:
    """Strides and base size whose product covers height x width with little to cut off.

    The candidates are the papers' shapes: 5 (or a smaller factor), perhaps a 3, then 2s. The choice
    weighs cut-off pixels against a base far from `area`. Gives (strides, base height, base width); exact for
    the papers' sizes: 720x1280 gives 5 2 2 2 2 and 9x16, with HiNeRV's area of 18 x 32 5 2 2 2.
    """
    candidates = {(f, *three, *([2] * n)) for f in (5, 4, 3, 2) for three in ((), (3,)) for n in range(9)}

    def cost(strides: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        factor = math.prod(strides)
        h, w = -(-height // factor), -(-width // factor)
        waste = h * w * factor**2 / (height * width) - 1
        return (waste + 0.5 * abs(math.log2(h * w / area)), tuple(-s for s in strides))

    best = min(candidates, key=cost)
    factor = math.prod(best)
    return best, -(-height // factor), -(-width // factor)


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
