"""How fast a .nvb file decodes here, with nothing shown and nothing waited for."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from inr_player.inspect import totals
from inr_player.selection import Selection
from inr_runtime.decoder import Decoder, open_video

WARM_UP = 10


@dataclass(frozen=True)
class Benchmark:
    """What `inr-play --benchmark --json` prints.

    fps: frames over the wall clock from opening the file to the last frame in RGB: reading, entropy decoding, engine,
    network, colour. fps_network, ms_p50, ms_p99: waiting for single frames (`inr-play` draws several of
    a small network at once), without the first `WARM_UP` and those that
    open a segment; the next segment is made ready meanwhile. first_frame_ms: from the call to the first picture.
    open_ms: its part before any frame was asked for. peak_memory_bytes: of the process, null where the system does not
    tell.
    """

    fps: float
    fps_network: float
    ms_p50: float
    ms_p99: float
    first_frame_ms: float
    open_ms: float
    peak_memory_bytes: int | None
    backend: str
    target: str
    frames: int
    threads: int
    bytes: int
    bits_per_pixel: float
    parameters: int
    gmac_per_frame: float


def benchmark(
    path: str,
    selection: Selection,
    *,
    backend: str = "auto",
    target: str = "auto",
    threads: int = 0,
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Benchmark:
    """Open `path`, decode the chosen frames once, in order, and measure; arguments as of `open_video`.

    progress: told the frames done and their number.
    """
    start = perf_counter()
    with open_video(path, backend=backend, target=target, threads=threads, size=size) as decoder:
        opened = perf_counter() - start
        frames = selection.of(decoder.info)
        seconds = _decode(decoder, frames, progress)
        total = perf_counter() - start
        memory = peak_memory()
        network = _steady(decoder, frames, seconds)
        reader = decoder.reader
        sums = totals(reader, (decoder.info.width, decoder.info.height))
        return Benchmark(
            fps=len(frames) / total,
            fps_network=1 / float(network.mean()),
            ms_p50=1000 * float(np.percentile(network, 50)),
            ms_p99=1000 * float(np.percentile(network, 99)),
            first_frame_ms=1000 * (opened + seconds[0]),
            open_ms=1000 * opened,
            peak_memory_bytes=memory,
            backend=decoder.backend,
            target=decoder.target.name,
            frames=len(frames),
            threads=threads or available_cores(),
            bytes=reader.size,
            bits_per_pixel=reader.bits_per_pixel,
            parameters=sums.parameters,
            gmac_per_frame=sums.gmac_per_frame,
        )


def _decode(decoder: Decoder, frames: range, progress: Callable[[int, int], None] | None) -> list[float]:
    """Decode all; the seconds that each frame took."""
    seconds, pictures = [], decoder.frames(frames.start, frames.stop, single=True)
    for done in range(1, len(frames) + 1):
        before = perf_counter()
        next(pictures)
        seconds.append(perf_counter() - before)
        if progress:
            progress(done, len(frames))
    return seconds


def _steady(decoder: Decoder, frames: range, seconds: list[float]) -> NDArray[np.float64]:
    """The times that count for the network; a clip shorter than the warm-up keeps its last frame."""
    opens = {entry.first_frame for entry in decoder.reader.index}
    kept = [s for i, s in zip(frames, seconds, strict=True) if i >= frames.start + WARM_UP and i not in opens]
    return np.array(kept or seconds[-1:])


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int | None:
    """The most memory this process has held, in bytes; None where the system does not tell."""
    # Linux hands a parent's ru_maxrss on to its children, so its own high-water mark is asked first.
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return 1024 * int(found[1])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
