"""How good are the moments that a network never saw? Odd frames, scored after training on the even ones."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
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


def score_heldout(checkpoint: Checkpoint, clip: Clip) -> Checkpoint:
    """The checkpoint with its score on the odd frames of `clip` in its report, as `heldout`."""
    model = checkpoint.build()
    even, odd = clip.frames[::2], clip.frames[1 : 2 * (len(clip.frames[::2]) - 1) : 2]
    size = (clip.info.height, clip.info.width)
    decoded = [_decode(model, float(i), size) for i in range(len(even))]
    motion = _minterpolate(even)
    score = HeldOut(
        frames=len(odd),
        psnr_db=_mean(odd, lambda i: _decode(model, i + 0.5, size)),
        repeat_db=_mean(odd, lambda i: decoded[i]),
        blend_db=_mean(odd, lambda i: _blend(decoded[i], decoded[i + 1])),
        source_blend_db=_mean(odd, lambda i: _blend(even[i], even[i + 1])),
        minterpolate_db=_mean(odd, motion.__getitem__) if motion else None,
    )
    facts: dict[str, Any] = {**asdict(score), "beats_blend": score.beats_blend}
    return replace(checkpoint, report={**checkpoint.report, "heldout": facts})


def _mean(odd: NDArray[np.uint8], picture: Callable[[int], Picture]) -> float:
    return statistics.mean(psnr(picture(i), frame) for i, frame in enumerate(odd))


@torch.no_grad()
def _decode(model: VideoModel, t: float, size: tuple[int, int]) -> Picture:
    frame = frame_of(model, t, size)[0].clamp(0, 1)
    return np.ascontiguousarray(torch.round(frame * 255).to(torch.uint8).permute(1, 2, 0).numpy())


def _blend(a: Picture, b: Picture) -> Picture:
    return ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


def _minterpolate(even: NDArray[np.uint8]) -> list[Picture]:
    """ffmpeg's frame between each two of `even`, uint8 (T, H, W, 3), by its motion-compensated interpolation.

    Empty where the frames are too small for its blocks.
    """
    graph = _minterpolate_graph(*even.shape[1:3])
    if graph is None:
        return []
    # The filter looks two frames ahead: the last frame is repeated to push the rest out.
    for i, pixels in enumerate([*even, even[-1], even[-1]]):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = 2 * i, Fraction(1, 2)
        graph.vpush(frame)
    graph.vpush(None)
    found: dict[int, Picture] = {}
    while True:
        try:
            out = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            break
        assert out.pts is not None
        assert out.time_base is not None
        found[round(out.pts * out.time_base * 2)] = np.asarray(out.to_ndarray(format="rgb24"), np.uint8)
    return [found[2 * i + 1] for i in range(len(even) - 1)]


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
