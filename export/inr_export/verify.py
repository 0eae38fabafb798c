"""Decode a file through the runtime and compare every frame with the model and with the source."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inr_runtime.decoder import open_video
from inr_runtime.metrics import psnr
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.models import VideoModel


@dataclass(frozen=True)
class Verification:
    """One target's result over all frames.

    model_db: PSNR of decoded frames against the model's in PyTorch float32, pooled over frames. source_db: mean PSNR
    against the source, None where the source is not at hand. float_db: the float model's PSNR that the loss is
    measured from. loss_db: float_db - source_db; without a source, what model_db implies if both errors are
    independent (estimated is True then). fps: frames per second of decoding here.
    """

    target: str
    backend: str
    model_db: float
    source_db: float | None
    float_db: float | None
    loss_db: float
    estimated: bool
    fps: float


def verify(
    path: Path,
    checkpoint: Checkpoint,
    network: VideoModel,
    clip: Clip | None,
    target: str,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verification:
    """Decode `path` for `target` and compare every frame. Raises what `open_video` raises."""
    errors, source = [], []
    begin = time.perf_counter()
    seconds = 0.0
    with open_video(path, target=target) as video:
        backend, count = video.backend, len(video)
        for i in range(count):
            begin = time.perf_counter()
            frame = video[i]
            seconds += time.perf_counter() - begin
            errors.append(_squared_error(network, i, frame))
            if clip is not None:
                source.append(psnr(frame, clip.frames[i]))
            if progress:
                progress(target, i + 1, count)
    mse = float(np.mean(errors))
    float_db = checkpoint.report.get("psnr_float_db") or checkpoint.report.get("psnr_db")
    source_db = float(np.mean(source)) if source else None
    loss, estimated = _loss(float_db, source_db, mse)
    return Verification(target, backend, _decibels(mse), source_db, float_db, loss, estimated, count / seconds)


@torch.no_grad()
def _squared_error(network: VideoModel, index: int, frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """Mean squared error on [0, 1] between a decoded frame and the model's, clipped but not rounded."""
    expected = network.decode(*network.sample([index]))[0].clamp(0, 1).permute(1, 2, 0)
    return float((expected - torch.from_numpy(frame).float() / 255).square().mean())


def _loss(float_db: float | None, source_db: float | None, mse: float) -> tuple[float, bool]:
    if float_db is not None and source_db is not None:
        return float_db - source_db, False
    if float_db is None:
        return 0.0 if mse < 1e-4 else math.inf, True
    return 10 * math.log10(1 + mse / 10 ** (-float_db / 10)), True


def _decibels(mse: float) -> float:
    return min(100.0, -10 * math.log10(max(mse, 1e-10)))
