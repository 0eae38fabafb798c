"""What makes a training step fast: arithmetic, layout, compiling, and the optimizer, on one machine in one run.

    python -m tests.bench.train_speed [--preset edge-10 ...] [--threads 1 ...] [--device cpu] [--record]

All ways to compute the step of a preset stand ready in one process and take real training steps in turns, so that what
else the machine does meets all of them. Compiling needs a C++ compiler; where it fails, it is reported and left out.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tests.bench.record import described, write_results
from tests.bench.train_speed.contestants import LAYOUTS, WAYS, Contestant
from tests.bench.train_speed.table import HEADINGS, cells_of
from torch import Tensor

from inr_player.benchmark import available_cores
from inr_runtime.media import ReadOptions, parse_size
from inr_train import Clip
from inr_train.clip import EXCERPT
from inr_train.models import MODELS
from inr_train.presets import PRESETS
from inr_train.start import choose_device

DEFAULT = ("edge-10", "nerv-s")
FRAMEWISE = [name for name, preset in PRESETS.items() if not MODELS[preset.family].pixelwise]
"""The loss compares frames."""
ROUNDS = 5
WARM = 4
"""Steps before the first round: what they take longer than later ones is compiling."""
PROTOCOL = (
    "{clip}, real steps of the recipe edge (one frame, L1 of Fourier coefficients) from random weights on {device}, "
    "in one process. The ways to compute a step take turns, in {rounds} rounds of {seconds:g} s in all for each; the "
    "first step of a turn is not counted. step_ms_p50, step_ms_p90: of single steps: drawing the batch, forward, "
    "backward, clipping and optimizer. optimizer_ms_p50: of the optimizer in those steps. ratio: how many times faster "
    "than fp32, NCHW of the same preset and threads, of step_ms_p50. compile_seconds: what the first {warm} steps took "
    "longer than the counted ones (the very first also loads the compiler); torch.compile of the "
    "network forward and backward (on a GPU in CUDA graphs), nothing cached."
)
Row = dict[str, Any]


@click.command()
@click.option("--preset", "presets", multiple=True, type=click.Choice(FRAMEWISE), help="May be repeated.")
@click.option("--size", default="320x180", show_default=True, help="WxH.")
@click.option("--seconds", default=3.0, show_default=True, help="Of steps, for each way to compute them.")
@click.option("--threads", multiple=True, type=int, help="May be repeated (default: 1, and all cores).")
@click.option("--device", default="auto", show_default=True)
@click.option("--record", is_flag=True, help="Write the results into the repository.")
def main(presets: Sequence[str], size: str, seconds: float, threads: Sequence[int], device: str, record: bool) -> None:
    """Measure all ways, print one table."""
    clip, place = Clip.read(EXCERPT, ReadOptions(size=parse_size(size))), choose_device(device)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(place)
    clips = {name: frames.contiguous(memory_format=layout) for name, layout in LAYOUTS.items()}
    counts = sorted({*threads} or ({1, available_cores()} if place.type == "cpu" else {torch.get_num_threads()}))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        rows = [row for preset in presets or DEFAULT for row in measured(preset, counts, clips, seconds)]
    show(rows)
    if record:
        gpu = torch.cuda.get_device_name(place) if place.type == "cuda" else None
        about = {"clip": described(clip), "device": place.type, "seconds": seconds, "rounds": ROUNDS, "warm": WARM}
        print(write_results("train_speed", PROTOCOL.format(**about), rows, gpu))


def measured(preset: str, counts: Sequence[int], clips: Mapping[str, Tensor], seconds: float) -> list[Row]:
    """A row for each way to compute a step of a preset and each number of threads."""
    fighters, warm = zip(*ready(preset, counts, clips), strict=True)
    rows = [row_of(preset, *each) for each in zip(fighters, interleaved(fighters, seconds), warm, strict=True)]
    usual = {row["threads"]: row["step_ms_p50"] for row in rows if row["way"] == WAYS[0].name}
    return [{**row, "ratio": usual[row["threads"]] / row["step_ms_p50"]} for row in rows]


def ready(preset: str, counts: Sequence[int], clips: Mapping[str, Tensor]) -> Iterator[tuple[Contestant, float]]:
    """Everyone who can take steps here, and the milliseconds of their first ones."""
    for threads, way in itertools.product(counts, WAYS):
        fighter, name = Contestant(preset, way, threads, clips), f"{preset}, {threads} thread(s), {way.name}"
        try:
            warm = sum(fighter.step()[0] for _ in range(WARM))
        except Exception as error:  # compilers have many ways to fail
            if not way.compiled:
                raise
            click.echo(f"{name} is left out: {str(error).partition(chr(10))[0]}", err=True)
            continue
        click.echo(f"{name}, {way.optimizer}", err=True)
        yield fighter, warm


def interleaved(fighters: Sequence[Contestant], seconds: float) -> list[list[tuple[float, float]]]:
    """Milliseconds of each fighter's steps, and of the optimizer in them. seconds: of each fighter."""
    times: list[list[tuple[float, float]]] = [[] for _ in fighters]
    for _ in range(ROUNDS):
        for fighter, found in zip(fighters, times, strict=True):
            found += turn(fighter, 1e3 * seconds / ROUNDS)
    return times


def turn(fighter: Contestant, budget: float) -> list[tuple[float, float]]:
    """Steps for about `budget` milliseconds, two or more, of which the first is not counted."""
    taken = [fighter.step(), fighter.step()]
    while sum(step for step, _ in taken) < budget:
        taken.append(fighter.step())
    return taken[1:]


def row_of(preset: str, fighter: Contestant, times: Sequence[tuple[float, float]], warm: float) -> Row:
    """What was measured of a fighter. warm: milliseconds of its first steps."""
    steps = [step for step, _ in times]
    middle = statistics.median(steps)
    return {
        "model": preset,
        "threads": fighter.threads,
        "way": fighter.way.name,
        **asdict(fighter.way),
        "step_ms_p50": middle,
        "step_ms_p90": float(np.percentile(steps, 90)),
        "optimizer_ms_p50": statistics.median(optimizer for _, optimizer in times),
        "compile_seconds": (warm - WARM * middle) / 1e3 if fighter.way.compiled else None,
        "timed_steps": len(steps),
    }


def show(rows: Sequence[Row]) -> None:
    """A line per row."""
    table = Table(*HEADINGS, box=None)
    for row in rows:
        table.add_row(*cells_of(row))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
