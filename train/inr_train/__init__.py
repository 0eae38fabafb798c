"""Fit a neural representation to a video.

Names are imported when they are first used, so that the commands can say what is missing where there is no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inr_train.checkpoint import Checkpoint
    from inr_train.clip import Clip, excerpt
    from inr_train.fit import fit
    from inr_train.models.base import VideoModel
    from inr_train.recipe import Phase, Recipe

_HOMES = {
    "Checkpoint": "checkpoint",
    "Clip": "clip",
    "Phase": "recipe",
    "Recipe": "recipe",
    "VideoModel": "models.base",
    "excerpt": "clip",
    "fit": "fit",
}

__all__ = ["Checkpoint", "Clip", "Phase", "Recipe", "VideoModel", "excerpt", "fit"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'inr_train' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"inr_train.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
