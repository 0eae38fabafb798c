"""How fast contestants decode, interleaved so that what else the machine does meets all of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.bench.decode_speed.contestants import Contestant, Ours, Torch, seconds_of

from inr_player.profile import profile
from inr_runtime.metrics import psnr
from inr_train import Clip

ROUNDS = 3
LEAST_FRAMES = 2
"""Of a contestant in a round, before the first of which one more is not counted where time allows."""
COLD_RUNS = 3
QUALITY_FRAMES = 12
PLAY = (sys.executable, "-c", "from inr_player.cli import main; main()")


def peaks(threads: int) -> dict[str, float]:
    """GMAC/s of matrix products of this machine by precision: best of 10, 2048 x 2048 x 2048."""
    torch.set_num_threads(threads)
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("int8", torch.int8)):
        a, b = (torch.randn(2048, 2048).mul(20).to(kind) for _ in range(2))
        product = torch._int_mm if kind == torch.int8 else torch.mm
        found[name] = 2048**3 / 1e9 / min(seconds_of(product, a, b) for _ in range(10))
    return found


def interleaved(fighters: Sequence[Contestant], frames: int, budget: float) -> list[dict[str, Any]]:
    """Open all, let them decode in turns, and return a row each, without names. budget: seconds of each."""
    opened, rows = [], []
    fighters[0].open()  # whoever comes first is not to pay for what is loaded at a first use
    fighters[0].close()
    for fighter in fighters:
        opened.append(seconds_of(fighter.open))
        rows.append([seconds_of(fighter.frame, 0)])
    times: list[list[float]] = [[] for _ in fighters]
    for turn in range(ROUNDS):
        for fighter, found in zip(fighters, times, strict=True):
            found += _turn(fighter, turn, frames, budget / ROUNDS)
    done = []
    for fighter, seconds, found, (first,) in zip(fighters, opened, times, rows, strict=True):
        middle = statistics.median(found)
        row = {
            "fps": frames / (seconds + first + (frames - 1) * middle),
            "fps_network": 1 / middle,
            "ms_p50": 1e3 * middle,
            "ms_p99": 1e3 * float(np.percentile(found, 99)),
            "seek_ms": None if isinstance(fighter, Torch) else _seek(fighter, frames, budget / ROUNDS),
            "open_ms": 1e3 * seconds,
            "timed_frames": len(found),
        }
        done.append(row)
    for fighter in fighters:
        fighter.close()
    return done


def _turn(fighter: Contestant, turn: int, frames: int, budget: float) -> list[float]:
    """Frames in order, for about `budget` seconds."""
    found: list[float] = []
    start = turn * frames // ROUNDS
    for i in range(start, frames):
        found.append(seconds_of(fighter.frame, i))
        if (len(found) > LEAST_FRAMES and sum(found) > budget) or sum(found) > 4 * budget:
            break
    return found[1:] if len(found) > LEAST_FRAMES else found


def _seek(fighter: Contestant, frames: int, budget: float) -> float:
    """Milliseconds, the middle of some frames in no order."""
    found: list[float] = []
    for index in np.random.default_rng(0).permutation(frames)[:12]:
        found.append(seconds_of(fighter.frame, int(index)))
        if sum(found) > budget and len(found) > LEAST_FRAMES:
            break
    return 1e3 * statistics.median(found)


def quality(fighter: Contestant, clip: Clip) -> float:
    """Mean PSNR of some frames, spread evenly, against the clip's."""
    fighter.open()
    count = min(QUALITY_FRAMES, len(clip))
    chosen = [(2 * i + 1) * len(clip) // (2 * count) for i in range(count)]
    decibels = [psnr(fighter.frame(i), clip.frames[i]) for i in chosen]
    fighter.close()
    return statistics.mean(decibels)


def where_time_goes(fighter: Contestant) -> dict[str, Any] | None:
    """Milliseconds of a frame by type of operator, for our own graph of integers on ONNX Runtime; None for others."""
    if not isinstance(fighter, Ours) or fighter.target != "cpu-int8":
        return None
    found = profile(str(fighter.path), fighter.target, fighter.threads)
    return {"ms_per_frame": found.ms_per_frame, "ms": {row.op: row.ms for row in found.operators}}


def cold(fighter: Ours) -> dict[str, Any]:
    """`inr-play` in processes of its own: the first frame from nothing, and the memory of playing on."""
    options = ["--target", fighter.target, "--threads", str(fighter.threads)]
    first = [
        seconds_of(_play, str(fighter.path), "--vo", "null", "--frames", "1", "-q", *options) for _ in range(COLD_RUNS)
    ]
    report = json.loads(_play(str(fighter.path), "--benchmark", "--frames", "6", "--json", *options))
    return {"first_frame_ms": 1e3 * statistics.median(first), "peak_memory_bytes": report["peak_memory_bytes"]}


def _play(*arguments: str) -> str:
    # An installation has its bytecode, which a process must not compile anew each time.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([*PLAY, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"inr-play {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def keep(path: Path, data: dict[str, Any]) -> None:
    """Write a finished slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(data, indent=2))
    temporary.replace(path)
