"""Fit a neural representation to a video."""

from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip, excerpt
from inr_train.fit import fit
from inr_train.models import VideoModel
from inr_train.recipe import Phase, Recipe

__all__ = ["Checkpoint", "Clip", "Phase", "Recipe", "VideoModel", "excerpt", "fit"]
