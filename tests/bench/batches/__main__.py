"""Whether CPU engines decode several frames in one run faster than one by one.

    python -m tests.bench.batches [--preset edge-10 ...] [--size 1280x720 ...] [--record]

Files have random weights: speed does not depend on what was learned. Batches take turns, so that what else the machine
does meets all of them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from tests.bench.decode_speed.files import Case, make_file
from tests.bench.record import write_results

from inr_player.benchmark import available_cores
from inr_runtime import open_video
from inr_runtime.backends import look_for, open_backend
from inr_runtime.format import NvbReader
from inr_runtime.lower import TARGETS, lower
from inr_runtime.media import parse_size
from inr_runtime.segment import Segment
from inr_runtime.several import frames_at_once

BATCHES = (1, 2, 4, 8)
ROUNDS = 4
FRAMES, PLAYS = 3000, 3
PROTOCOL = (
    "Files with random weights, all in int8; {threads} thread(s). ms_per_frame: of a run of the network with so many "
    "frames, sampling and colour inside, divided by them; the median of all runs of about {seconds:g} s in {rounds} "
    "rounds, in which batches take turns. ratio: against single frames of the same engine. open_ms: lowering the graph "
    "for so many frames and opening it, once for every segment. frames_to_pay: after which a second engine for so many "
    "frames, beside that for single ones, has saved what opening it took. played_ratio: from opening a file of "
    "{frames} frames to its last frame, how many times as fast as with single frames, as `Decoder.frames` does it; "
    "1 where it draws single ones; the median of {plays} pairs."
)


@click.command()
@click.option("--preset", "presets", multiple=True, default=("edge-10", "nerv-xs"), show_default=True)
@click.option("--size", "sizes", multiple=True, default=("320x180", "1280x720"), show_default=True)
@click.option("--threads", default=0, help="Of every engine (default: all cores).")
@click.option("--seconds", default=2.0, show_default=True, help="Of each batch size of an engine.")
@click.option("--record", is_flag=True, help="Write the results into the repository.")
def main(presets: Sequence[str], sizes: Sequence[str], threads: int, seconds: float, record: bool) -> None:
    """Time every batch size of every engine that is here."""
    threads = threads or available_cores()
    targets = ["cpu-int8", *(["openvino-int8"] if look_for("openvino").available else [])]
    rows = []
    for preset in presets:
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                _, video = make_file(Case(preset, parse_size(size)), Path(folder), frames=FRAMES)
                for target in targets:
                    found = measured(video, target, threads, seconds)
                    same = {"model": preset, "size": size, "engine": target, "threads": threads}
                    same["played_ratio"] = played(video, target, threads)
                    rows += [same | row for row in found]
                    print(preset, size, target, {r["batch"]: round(r["ms_per_frame"], 2) for r in found}, flush=True)
    if record:
        words = {"threads": threads, "seconds": seconds, "rounds": ROUNDS, "frames": FRAMES, "plays": PLAYS}
        print(write_results("batches", PROTOCOL.format(**words), rows))


def measured(video: Path, target: str, threads: int, seconds: float) -> list[dict[str, Any]]:
    """A row for every number of frames in a run."""
    with NvbReader(video) as reader:
        segment, header = reader.segment(0), reader.header
    engines, opening = {}, {}
    for batch in BATCHES:
        begin = perf_counter()
        lowered = lower(header.graphs[0], segment.weights, TARGETS[target], header.ranges[0], batch)
        engines[batch] = open_backend(lowered, threads=threads)
        opening[batch] = 1e3 * (perf_counter() - begin)
    times: dict[int, list[float]] = {b: [] for b in BATCHES}
    for _ in range(ROUNDS):
        for batch, engine in engines.items():
            spent, runs = 0.0, list[float]()
            while spent < seconds / ROUNDS or len(runs) < 2:
                begin = perf_counter()
                engine.run(sampled(segment, batch))
                runs.append(perf_counter() - begin)
                spent += runs[-1]
            times[batch] += runs[1:]
    for engine in engines.values():
        engine.close()
    ms = {batch: 1e3 * statistics.median(runs) / batch for batch, runs in times.items()}
    return [
        {"batch": batch, "ms_per_frame": ms[batch], "ratio": ms[1] / ms[batch], "open_ms": opening[batch]}
        | {"frames_to_pay": opening[batch] / (ms[1] - ms[batch]) if ms[batch] < ms[1] else None}
        for batch in BATCHES
    ]


def played(video: Path, target: str, threads: int) -> float:
    """How many times as fast the whole file is with several frames in a run where `Decoder.frames` wants that."""
    with NvbReader(video) as reader:
        if frames_at_once(reader.header.graphs[0], TARGETS[target], FRAMES) == 1:
            return 1.0
    ratios = []
    for _ in range(PLAYS):
        seconds = []
        for single in (True, False):
            begin = perf_counter()
            with open_video(video, target=target, threads=threads) as decoder:
                for _frame in decoder.frames(single=single):
                    pass
            seconds.append(perf_counter() - begin)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def sampled(segment: Segment, batch: int) -> dict[str, Any]:
    """The inputs of the first frames."""
    return {
        f"x{i}": np.concatenate([tensor.sample(float(t)) for t in range(batch)])
        for i, tensor in enumerate(segment.time_tensors)
    }


if __name__ == "__main__":
    main()
