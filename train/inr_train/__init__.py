"""Fit a neural representation to a video.

Names are imported when they are first used, so that the commands can say what is missing where there is no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inr_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from inr_train.checkpoint import Checkpoint
    from inr_train.clip import Clip, excerpt
    from inr_train.loop import fit
    from inr_train.models.base import VideoModel
    from inr_train.recipe import Phase, Recipe

_HOMES = {
    "Checkpoint": "checkpoint",
    "Clip": "clip",
    "Phase": "recipe",
    "Recipe": "recipe",
    "VideoModel": "models.base",
    "excerpt": "clip",
    "fit": "loop",
}

__all__ = ["Checkpoint", "Clip", "Phase", "Recipe", "VideoModel", "excerpt", "fit"]

__getattr__ = lazy_names(__name__, _HOMES)
