"""How good are the moments that a network never saw? Odd frames, scored after training on the even ones."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from inr_runtime.errors import UsageError
from inr_runtime.metrics import psnr
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.evaluate import frame_of
from inr_train.models import VideoModel

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class HeldOut:
    """Mean PSNR in dB of the frames that were held out.

    psnr_db: the network, asked for t + 1/2. repeat_db, blend_db: the network's own frames before it, and the mean of
    those before and after it, which is what a player can do without asking. source_blend_db, minterpolate_db: of the
    source's even frames, the mean of both neighbours, and ffmpeg's motion-compensated minterpolate (None where the
    frames are too small for it).
    """

    frames: int
    psnr_db: float
    repeat_db: float
    blend_db: float
    source_blend_db: float
    minterpolate_db: float | None

    @property
    def beats_blend(self) -> bool:
        """Whether asking the network is worth it."""
        return self.psnr_db > self.blend_db


def even_frames(clip: Clip) -> Clip:
    """What is trained on; raises `UsageError` where nothing would be held out between two frames."""
    if len(clip) < 3:
        raise UsageError(f"--heldout needs 3 frames or more, found {len(clip)}")
    return clip.thinned(2)


def score_heldout(checkpoint: Checkpoint, clip: Clip, progress: Callable[[int, int], None] | None = None) -> Checkpoint:
    """The checkpoint with its score on the odd frames of `clip` in its report, as `heldout`.

    progress: called after each of them with how many are done and how many there are.
    """
    model = checkpoint.build().to(str(checkpoint.report["device"]))
    even, size = clip.frames[::2], (clip.info.height, clip.info.width)
    odd = clip.frames[1 : 2 * (len(even) - 1) : 2]
    motion, before = _minterpolate(even), _decode(model, 0.0, size)
    rows: list[tuple[float, ...]] = []
    for i, frame in enumerate(odd):
        after, between = _decode(model, i + 1.0, size), _decode(model, i + 0.5, size)
        found = (between, before, _blend(before, after), _blend(even[i], even[i + 1]), *itertools.islice(motion, 1))
        rows.append(tuple(psnr(picture, frame) for picture in found))
        before = after
        if progress:
            progress(i + 1, len(odd))
    own, repeat, blend, source, *moved = (statistics.mean(column) for column in zip(*rows, strict=True))
    score = HeldOut(len(odd), own, repeat, blend, source, moved[0] if moved else None)
    facts: dict[str, Any] = {**asdict(score), "beats_blend": score.beats_blend}
    return replace(checkpoint, report={**checkpoint.report, "heldout": facts})


@torch.no_grad()
def _decode(model: VideoModel, t: float, size: tuple[int, int]) -> Picture:
    frame = frame_of(model, t, size)[0].clamp(0, 1)
    return np.ascontiguousarray(torch.round(frame * 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def _blend(a: Picture, b: Picture) -> Picture:
    return ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


def _minterpolate(even: NDArray[np.uint8]) -> Iterator[Picture]:
    """ffmpeg's frame between each two of `even`, uint8 (T, H, W, 3), by its motion-compensated interpolation.

    None where the frames are too small for its blocks.
    """
    graph = _minterpolate_graph(*even.shape[1:3])
    if graph is None:
        return
    places = range(1, 2 * (len(even) - 1), 2)
    # The filter looks two frames ahead: the last frame is repeated to push the rest out.
    for i, pixels in enumerate([*even, even[-1], even[-1]]):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = 2 * i, Fraction(1, 2)
        graph.vpush(frame)
        yield from (picture for place, picture in _pulled(graph) if place in places)
    graph.vpush(None)
    yield from (picture for place, picture in _pulled(graph) if place in places)


def _pulled(graph: av.filter.Graph) -> Iterator[tuple[int, Picture]]:
    """What the filter has ready, by twice its second."""
    with suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            out = graph.vpull()
            assert out.pts is not None
            assert out.time_base is not None
            yield round(out.pts * out.time_base * 2), np.asarray(out.to_ndarray(format="rgb24"), np.uint8)


def _minterpolate_graph(height: int, width: int) -> av.filter.Graph | None:
    """Takes a frame every second and gives two; None where the filter refuses the size."""
    graph = av.filter.Graph()
    form = av.VideoFormat("rgb24", width, height)
    source = graph.add_buffer(width=width, height=height, format=form, time_base=Fraction(1, 2))
    middle = (graph.add("minterpolate", "fps=2:mi_mode=mci"), graph.add("format", "rgb24"))
    for first, second in itertools.pairwise((source, *middle, graph.add("buffersink"))):
        first.link_to(second)
    try:
        graph.configure()
    except av.error.ArgumentError:
        return None
    return graph
