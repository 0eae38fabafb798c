"""The files that decoding is timed with: trained models where there are some, else presets with random weights.

Speed does not depend on what was learned; quality does, and rows of random weights tell none.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from inr_export import export
from inr_runtime.errors import UsageError
from inr_runtime.info import VideoInfo
from inr_train import Checkpoint
from inr_train.bits import Bits
from inr_train.models import VideoModel, build_model, config_dict
from inr_train.presets import PRESETS
from inr_train.quantization import ranges_over
from inr_train.trace import trace

FRAMES = 132
BITS = Bits()


@dataclass(frozen=True)
class Case:
    """A preset at a frame size (width, height)."""

    preset: str
    size: tuple[int, int] = (1280, 720)


CASES = (
    Case("edge-5"),
    Case("edge-10"),
    Case("edge-20"),
    Case("nerv-s"),
    Case("hnerv-1.5m", (1280, 640)),
    Case("nerv-m"),
    Case("nerv-l"),
    Case("hinerv-bunny-s"),
)


def make_file(
    case: Case, folder: Path, trained: Path | None = None, frames: int = 0, again: bool = False
) -> tuple[Path, Path]:
    """The checkpoint and the .nvb file of a preset, all in int8; made once for a folder, or again.

    trained: the model.pt to take. frames: of the clip, 0 are `FRAMES`. Raises `UsageError` where a trained model has
    another size or preset.
    """
    model, video = trained or folder / f"{case.preset}.pt", folder / f"{case.preset}{'-trained' * bool(trained)}.nvb"
    frames = frames or FRAMES
    if trained or again or not (model.exists() and video.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = Checkpoint.load(trained) if trained else random_checkpoint(case, frames)
        found = (checkpoint.info.width, checkpoint.info.height, checkpoint.info.frame_count)
        if found != (*case.size, frames) or checkpoint.report.get("preset", case.preset) != case.preset:
            raise UsageError(f"{trained} is not {case.preset} of {frames} frames of {case.size[0]}x{case.size[1]}")
        if not trained:
            checkpoint.save(model)
        export(checkpoint, video, check=False, int8_budget_db=float("inf"), overwrite=True)
    return model, video


def random_checkpoint(case: Case, frames: int) -> Checkpoint:
    """Weights as they are before training, with activation ranges of two frames."""
    torch.manual_seed(0)
    preset, (width, height) = PRESETS[case.preset], case.size
    config = preset.config(height, width, frames)
    network: VideoModel = build_model(preset.family, config_dict(config)).eval()
    traced = trace(network)
    ranges = ranges_over(network, traced, BITS, [0.0, frames // 2])
    return Checkpoint(
        model=preset.family,
        config=config_dict(config),
        info=VideoInfo(width, height, frames, Fraction(24)),
        weights=network.state_dict(),
        ranges=ranges,
        graph_digest=traced.graph.digest.hex(),
    )
