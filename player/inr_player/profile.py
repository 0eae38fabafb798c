"""Where decoding spends its time: `inr-play --profile`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inr_player.benchmark import available_cores
from inr_runtime.backends.choice import choose_targets
from inr_runtime.backends.ort_profile import ProfiledOrt, Timing
from inr_runtime.errors import UsageError
from inr_runtime.format import NvbReader
from inr_runtime.lower import lower
from inr_runtime.tiles import draw_picture, feed_at

RUNS = 6
"""Frames that are decoded; the first is not counted."""


@dataclass(frozen=True)
class OperatorTime:
    """All operators of one type: milliseconds per frame, their share of the whole, how many there are."""

    op: str
    ms: float
    share: float
    count: int


@dataclass(frozen=True)
class LayerTime:
    """One operator of the graph that the engine runs. name: of the edge it makes, as far as it is the file's."""

    name: str
    op: str
    shape: list[int]
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """What `inr-play --profile --json` prints. ms_per_frame: of all operators; convolutions: their share of it."""

    ms_per_frame: float
    convolutions: float
    operators: list[OperatorTime]
    layers: list[LayerTime]
    backend: str
    target: str
    threads: int
    frames: int


def profile(
    path: str, target: str = "auto", threads: int = 0, progress: Callable[[int, int], None] | None = None
) -> Profile:
    """Decode some frames of the first segment with ONNX Runtime's clock in it; arguments as of `open_video`.

    The fastest run of every operator counts, so what else the machine does is left out. progress: told the frames done
    and their number. Raises what `open_video` raises, `UsageError` for sound.
    """
    with tempfile.TemporaryDirectory() as folder, NvbReader(path) as reader:
        header, segment = reader.header, reader.segment(0)
        if header.media == "audio":
            raise UsageError(f"{reader.path} holds sound; --profile is for pictures")
        graph, tensors = header.graphs[segment.graph], segment.time_tensors
        (chosen,), _ = choose_targets(header, "cpu", target)
        with reader.naming():
            engine = ProfiledOrt(
                lower(graph, segment.weights, chosen, header.ranges.get(segment.graph)), threads, Path(folder)
            )
            for i in range(RUNS):
                t = float(i % segment.frame_count)
                if graph.role == "tile":
                    size = (header.info.width, header.info.height)
                    draw_picture(lambda feed: engine.run(feed)[0], graph, tensors, t, size)
                else:
                    engine.run(feed_at(graph, tensors, t))
                if progress:
                    progress(i + 1, RUNS)
            timings, name = engine.timings(), engine.name
            engine.close()
    return _sum_up(timings, name, chosen.name, threads or available_cores())


def _sum_up(timings: list[Timing], backend: str, target: str, threads: int) -> Profile:
    """Milliseconds per frame from the runs' seconds; a frame of tiles has as many runs as tiles."""
    ms = [1000 * min(t.seconds) * len(t.seconds) / RUNS for t in timings]
    total = max(sum(ms), 1e-9)
    by_op: dict[str, list[float]] = {}
    for timing, each in zip(timings, ms, strict=True):
        by_op.setdefault(timing.op, []).append(each)
    operators = [OperatorTime(op, sum(each), sum(each) / total, len(each)) for op, each in by_op.items()]
    layers = [LayerTime(t.name, t.op, list(t.shape), m, m / total) for t, m in zip(timings, ms, strict=True)]
    convolutions = sum(row.share for row in operators if "Conv" in row.op)
    operators.sort(key=lambda row: -row.ms)
    return Profile(total, convolutions, operators, layers, backend, target, threads, RUNS)
