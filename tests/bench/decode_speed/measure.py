"""How fast contestants decode, interleaved so that what else the machine does meets all of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tests.bench.decode_speed.contestants import Contestant, Ffmpeg, Ours, name_of, seconds_of

from inr_player.profile import profile
from inr_runtime.cli import say
from inr_runtime.errors import UsageError, first_line
from inr_runtime.metrics import psnr
from inr_train import Clip

ROUNDS = 3
SIDE = 2048
LEAST_FRAMES = 2
"""Of a contestant in a round, before the first of which one more is not counted where time allows."""
LEAST_FOR_P99 = 12
WHOLE_SECONDS = 30
"""What playing a file from beginning to end may take; of slower engines as many frames as that lets."""
COLD_RUNS = 3
PLAY = (sys.executable, "-c", "from inr_player.cli import main; main()")


class Peaks:
    """GMAC/s of products of large square matrices on this machine by precision, the best of all that were made."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.best: dict[str, float] = {}

    def measure(self) -> None:
        """Make some more: a machine that others use too is not at its best all the time."""
        torch.set_num_threads(self._threads)
        for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("int8", torch.int8)):
            a, b = (torch.randn(SIDE, SIDE).mul(20).to(kind) for _ in range(2))
            product = torch._int_mm if kind == torch.int8 else torch.mm
            seconds = min(seconds_of(product, a, b) for _ in range(5))
            self.best[name] = max(SIDE**3 / 1e9 / seconds, self.best.get(name, 0.0))


@dataclass
class Standing:
    """A contestant that is open, with seconds: of opening it, of its first frame, and of frames in its turns."""

    fighter: Contestant
    opened: float
    first: float
    times: list[float] = field(default_factory=list)


def interleaved(
    fighters: Sequence[Contestant], frames: int, budget: float, between: Callable[[], None] = lambda: None
) -> list[tuple[Contestant, dict[str, Any]]]:
    """Open all, let them decode in turns, and return each that can with its row, without names.

    budget: seconds of each. between: called before, between and after the rounds. Raises `UsageError` where none can.
    """
    standing = _open_all(fighters)
    between()
    for turn in range(ROUNDS):
        for each in standing:
            each.times += _turn(each.fighter, turn, frames, budget / ROUNDS)
        between()
    done = [(each.fighter, _row(each, frames, budget)) for each in standing]
    for each in standing:
        each.fighter.close()
    return done


def _open_all(fighters: Sequence[Contestant]) -> list[Standing]:
    """Those that give a first frame; of others the reason is printed: no compiler, say, or no such arithmetic."""
    standing: list[Standing] = []
    for fighter in fighters:
        try:
            if not standing:  # whoever comes first is not to pay for what is loaded at a first use
                fighter.open()
                fighter.close()
            standing.append(Standing(fighter, seconds_of(fighter.open), seconds_of(fighter.frame, 0)))
        except Exception as error:
            say(f"{name_of(fighter)} is left out: {first_line(error)}")
            with suppress(Exception):  # as far as it came
                fighter.close()
    if not standing:
        raise UsageError("nobody is here who can decode this")
    return standing


def _row(each: Standing, frames: int, budget: float) -> dict[str, Any]:
    middle = statistics.median(each.times)
    enough = len(each.times) >= LEAST_FOR_P99
    seeks = isinstance(each.fighter, (Ours, Ffmpeg))
    return {
        **_end_to_end(each, frames, middle),
        "fps_network": 1 / middle,
        "ms_p50": 1e3 * middle,
        "ms_p99": 1e3 * float(np.percentile(each.times, 99)) if enough else None,
        "seek_ms": _seek(each.fighter, frames, budget / ROUNDS) if seeks else None,
        "open_ms": 1e3 * each.opened,
        "timed_frames": len(each.times),
    }


def _end_to_end(each: Standing, frames: int, middle: float) -> dict[str, Any]:
    """Frames per second from opening the file to its last frame: played; of PyTorch, from the times of single ones."""
    if not isinstance(each.fighter, (Ours, Ffmpeg)):
        return {"fps": frames / (each.opened + each.first + (frames - 1) * middle), "played_frames": None}
    played = min(frames, max(LEAST_FRAMES, int(WHOLE_SECONDS / middle)))
    return {"fps": played / seconds_of(each.fighter.play, played), "played_frames": played}


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


def quality(fighter: Contestant, clip: Clip, count: int) -> float:
    """Mean PSNR of `count` frames, spread evenly, against the clip's."""
    fighter.open()
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
