"""One target on one video, in a process of its own: `python -m tests.device.measure TARGET FILE FRAMES THREADS`."""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import numpy as np

from inr_player.benchmark import peak_memory
from inr_runtime.decoder import Decoder, open_video
from inr_runtime.errors import InrError

PROTOCOL = (
    "Every engine in a process of its own, {threads} CPU threads, the first {frames} frames. psnr_db: mean over frames "
    "against cpu-fp32 on the same machine, null where identical; psnr_worst_frame_db: the worst of them. open_ms: the "
    "first opening, with whatever the engine builds; open_again_ms: the second; first_frame_ms: that and a picture. "
    "fps: decoding calls in order, without the first five. seek_ms_p50: single frames in random order. "
    "peak_memory_bytes: of the process after playing, GPU memory not included."
)
WARM_UP = 5


def measure(target: str, path: str, frames: int, threads: int) -> dict[str, Any]:
    """The row of one target. Raises what `open_video` raises."""
    start = perf_counter()
    open_video(path, target=target, threads=threads).close()
    opened, start = perf_counter() - start, perf_counter()
    with open_video(path, target=target, threads=threads) as video:
        again = perf_counter() - start
        video.frame(0)
        first = perf_counter() - start
        count = min(frames, len(video))
        seconds = [_timed(video, i) for i in range(count)]
        order = np.random.default_rng(0).permutation(count)[:32]
        seeks = [_timed(video, int(i)) for i in order]
        memory = peak_memory()
        scores = _compare(video, path, count, threads)
        backend = video.backend
    steady = seconds[WARM_UP:] or seconds[-1:]
    return {
        "backend": backend,
        "frames": count,
        "psnr_db": _mean(scores),
        "psnr_worst_frame_db": min(scores, default=None),
        "open_ms": 1000 * opened,
        "open_again_ms": 1000 * again,
        "first_frame_ms": 1000 * first,
        "fps": len(steady) / sum(steady),
        "seek_ms_p50": 1000 * float(np.median(seeks)),
        "peak_memory_bytes": memory,
    }


def _timed(video: Decoder, index: int) -> float:
    start = perf_counter()
    video.frame(index)
    return perf_counter() - start


def _compare(video: Decoder, path: str, count: int, threads: int) -> list[float]:
    """PSNR of each frame that is not the same as cpu-fp32 draws it."""
    scores = []
    with open_video(path, target="cpu-fp32", threads=threads) as exact:
        for i in range(count):
            error = float(np.mean((video[i].astype(np.float64) - exact[i]) ** 2))
            if error:
                scores.append(10 * float(np.log10(255**2 / error)))
    return scores


def _mean(scores: list[float]) -> float | None:
    return float(np.mean(scores)) if scores else None


if __name__ == "__main__":
    try:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    except InrError as error:
        sys.exit(str(error))
