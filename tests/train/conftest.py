"""A clip so small that a whole training run takes about a second."""

from __future__ import annotations

import numpy as np
import pytest

from inr_runtime.info import VideoInfo
from inr_train import Clip


def moving_square(frames: int = 6, height: int = 24, width: int = 40) -> Clip:
    """A bright square that moves over a gradient."""
    y, x = np.mgrid[0:height, 0:width]
    background = np.stack([x * 4, y * 6, 80 + 0 * x], axis=-1).clip(0, 255).astype(np.uint8)
    stack = np.repeat(background[None], frames, axis=0)
    for i in range(frames):
        stack[i, 6:14, 3 * i : 3 * i + 8] = (230, 40, 60)
    return Clip(np.ascontiguousarray(stack), VideoInfo(width, height, frames), "moving square")


@pytest.fixture(scope="session")
def tiny_clip() -> Clip:
    return moving_square()
