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

    model_db: PSNR of decoded frames against the trained weights in PyTorch float32, pooled over frames. source_db: mean
    PSNR against the source, None where it is not at hand. float_db: PSNR of the float reference of the training run
    (same length, no quantization), None where the run had none. loss_db: what the file loses: float_db - source_db, or
    an upper estimate (estimated is True) where one of them is unknown. fps: frames per second of decoding here, without
    opening the file.
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
    threads: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verification:
    """Decode `path` for `target` and compare every frame. Raises what `open_video` raises."""
    errors, source, seconds = [], [], 0.0
    with open_video(path, target=target, threads=threads) as video:
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
    source_db = float(np.mean(source)) if source else None
    float_db = checkpoint.report.get("psnr_float_db")
    loss, estimated = _loss(float_db, checkpoint.report.get("psnr_db"), source_db, mse)
    return Verification(target, backend, _decibels(mse), source_db, float_db, loss, estimated, count / seconds)


@torch.no_grad()
def _squared_error(network: VideoModel, index: int, frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """Mean squared error on [0, 1] between a decoded frame and the model's, clipped but not rounded."""
    expected = network.decode(*network.sample([index]))[0].clamp(0, 1).permute(1, 2, 0)
    return float((expected - torch.from_numpy(frame).float() / 255).square().mean())


def _loss(float_db: float | None, trained_db: float | None, source_db: float | None, mse: float) -> tuple[float, bool]:
    """Decibels that the file loses, and whether that is an estimate.

    trained_db: PSNR at the end of training. Without the source, the error of decoding is added to that of training as
    if both were independent, which counts imitated rounding twice; a model that knows no quality at all is measured
    against itself: the error of decoding beside one at 40 dB.
    """
    if float_db is not None and source_db is not None:
        return float_db - source_db, False
    reference = trained_db if float_db is None else float_db
    if source_db is not None and reference is not None:
        return reference - source_db, True
    trained = reference if trained_db is None else trained_db
    if reference is None or trained is None:
        reference = trained = 40.0
    return reference - trained + 10 * math.log10(1 + mse / 10 ** (-trained / 10)), True


def _decibels(mse: float) -> float:
    return min(100.0, -10 * math.log10(max(mse, 1e-10)))
