"""Speed of a finished row: of a training step, and of the exported file as a player would see it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from inr_export import export
from inr_runtime import open_video
from inr_runtime.metrics import psnr
from inr_train import Checkpoint, Clip, Recipe
from inr_train.evaluate import scaled
from inr_train.losses import LOSSES

PASSES = 5
STEPS = 6


def played_file(checkpoint: Checkpoint, clip: Clip, file: Path, threads: int) -> dict[str, Any]:
    """decode_fps: end to end (open, entropy decoding, network, colour), float activations, the best of some passes."""
    report = export(checkpoint, file, int8=False, check=False, overwrite=True)
    seconds = []
    for _ in range(PASSES):
        begin = time.perf_counter()
        with open_video(file, target="cpu-fp32", threads=threads) as video:
            errors = [psnr(frame.pixels, clip.frames[frame.index]) for frame in video.frames()]
        seconds.append(time.perf_counter() - begin)
    return {
        "psnr_file_db": statistics.mean(errors),
        "decode_fps": len(errors) / min(seconds),
        "bytes": report.bytes,
        "bits_per_pixel": report.bits_per_pixel,
        "weight_bits": report.weight_bits,
    }


def step_cpu_ms(checkpoint: Checkpoint, clip: Clip) -> float:
    """Milliseconds of a training step on one thread: processor time, so that other programs count less; the least."""
    recipe, model = Recipe.from_dict(checkpoint.recipe), checkpoint.build().train()
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
    loss, threads, times = LOSSES[recipe.loss](recipe.alpha), torch.get_num_threads(), []
    torch.set_num_threads(1)
    for step in range(STEPS):
        begin = time.process_time()
        places, batch = model.draw(frames, recipe.batch_size, 0, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.dtype == "bf16"):
            prediction = model(places, scaled(batch))
        optimizer.zero_grad(set_to_none=True)
        loss(prediction.float(), scaled(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(1e3 * (time.process_time() - begin))
    torch.set_num_threads(threads)
    return min(times)
