"""Decode a file through the runtime and compare every frame with the model and with the source."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inr_runtime.audio import open_audio
from inr_runtime.decoder import Decoder, open_video
from inr_runtime.errors import InrError
from inr_runtime.metrics import psnr
from inr_runtime.opened import OpenFile
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.evaluate import frame_of
from inr_train.models import VideoModel


@dataclass(frozen=True)
class Verification:
    """One target's result over all frames.

    model_db: PSNR of decoded frames against the trained weights, before pruning, in PyTorch float32, pooled over all.
    source_db: mean PSNR against the source, None where it is not at hand. float_db: PSNR of the float reference of the
    training run (same length, no quantization), its frames in 8 bits as well; None where the run had none. loss_db:
    what the file loses: float_db - source_db, of the frames that both know, or an upper estimate (estimated is True)
    where one of them is unknown. fps: frames per second of decoding here, without opening the file.
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
    targets: Sequence[str],
    threads: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Verification, ...]:
    """Decode `path` for each target and compare every frame. Raises what `open_video` raises.

    progress: called with (what, frames done, frames).
    """
    with ExitStack() as stack:
        videos = [stack.enter_context(open_video(path, target=t, threads=threads)) for t in targets]
        tallies = [_Tally() for _ in videos]
        count = len(videos[0])
        for i in range(count):
            expected = _expected(network, i, (checkpoint.info.height, checkpoint.info.width))
            for video, tally in zip(videos, tallies, strict=True):
                tally.add(video, i, expected, None if clip is None else clip.frames[i])
            if progress:
                progress("verify " + " ".join(targets), i + 1, count)
        return tuple(t.result(v, checkpoint) for v, t in zip(videos, tallies, strict=True))


def verify_sound(
    path: Path,
    checkpoint: Checkpoint,
    network: VideoModel,
    clip: Clip | None,
    targets: Sequence[str],
    threads: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Verification, ...]:
    """The same for sound: decibels are peak to peak (a range of 2), fps are samples a second."""
    expected, results = sound_of(network, checkpoint.info.width), []
    for number, target in enumerate(targets, 1):
        with open_audio(path, target=target, threads=threads) as sound:
            begin = time.perf_counter()
            samples = sound.samples()
            tally = _Tally([_peak_to_peak(samples, expected)], seconds=(time.perf_counter() - begin) / len(samples))
            if clip is not None:
                tally.source.append(_decibels(_peak_to_peak(samples, clip.frames[0, 0])))
            results.append(tally.result(sound, checkpoint))
        if progress:
            progress(f"verify {target}", number, len(targets))
    return tuple(results)


def _peak_to_peak(samples: NDArray[np.float32], original: NDArray[np.float32]) -> float:
    """Mean squared difference of sounds (n, channels), their range of 2 taken as 1."""
    return float(np.square(samples.astype(np.float64) - original).mean() / 4)


@torch.no_grad()
def sound_of(network: nn.Module, count: int) -> NDArray[np.float32]:
    """The model's `count` samples in PyTorch float32: (n, channels), clipped. Raises `InrError` on NaN."""
    sound = frame_of(network, 0, (1, count))[0, :, 0]
    if not torch.isfinite(sound).all():
        raise InrError("the model gives NaN or infinity; train again with a lower --lr")
    return np.ascontiguousarray(sound.clamp(-1, 1).T.numpy(), np.float32)


@torch.no_grad()
def _expected(network: VideoModel, index: int, size: tuple[int, int]) -> Tensor:
    """The model's frame in PyTorch float32, (H, W, 3), clipped to [0, 1] but not rounded."""
    return frame_of(network, index, size)[0].clamp(0, 1).permute(1, 2, 0)


@dataclass
class _Tally:
    """What one target showed so far: squared errors against the model, PSNR against the source, seconds of decoding."""

    errors: list[float] = field(default_factory=list)
    source: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, video: Decoder, index: int, expected: Tensor, original: NDArray[np.uint8] | None) -> None:
        begin = time.perf_counter()
        frame = video[index]
        self.seconds += time.perf_counter() - begin
        self.errors.append(float((expected - torch.from_numpy(frame).float() / 255).square().mean()))
        if original is not None:
            self.source.append(psnr(frame, original))

    def result(self, video: OpenFile, checkpoint: Checkpoint) -> Verification:
        mse, report = float(np.mean(self.errors)), checkpoint.report
        source_db = float(np.mean(self.source)) if self.source else None
        # Where training was short of time it knows one of so many frames only; the loss is that of the same ones.
        same_db = float(np.mean(self.source[:: checkpoint.recipe.get("every", 1)])) if self.source else None
        float_db = _known(report, "psnr_float_8bit_db", "psnr_float_db")
        loss, estimated = _loss(float_db, _known(report, "psnr_8bit_db", "psnr_db"), same_db, mse)
        speed = len(self.errors) / self.seconds
        return Verification(
            video.target.name, video.backend, _decibels(mse), source_db, float_db, loss, estimated, speed
        )


def _known(report: Mapping[str, Any], *names: str) -> float | None:
    """The first of these figures that a report has; older ones know none of rounded frames."""
    return next((report[name] for name in names if report.get(name) is not None), None)


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
