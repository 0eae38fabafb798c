"""Who decodes: our runtime by engine, PyTorch running the same network, and ffmpeg's x265 decoder.

All give frame after frame as uint8 RGB (H, W, 3), from the file on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import av
import numpy as np
import torch
from numpy.typing import NDArray

from inr_player.playback import play
from inr_runtime import open_video
from inr_runtime.backends import look_for
from inr_runtime.lower import target_named
from inr_runtime.media import open_writer
from inr_train import Checkpoint


class Contestant(Protocol):
    """A way to decode one video. Between `open` and `close` it gives any frame."""

    engine: str
    precision: str

    def open(self) -> None:
        """From the file to where frames can be asked for."""
        ...

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`."""
        ...

    def close(self) -> None:
        """Give all memory back."""
        ...


@dataclass
class Ours:
    """A .nvb file in one of the engines."""

    path: Path
    target: str
    threads: int

    def __post_init__(self) -> None:
        chosen = target_named(self.target)
        self.engine, self.precision = chosen.backend, chosen.precision

    def open(self) -> None:
        self._decoder = open_video(self.path, target=self.target, threads=self.threads)

    def frame(self, index: int) -> NDArray[np.uint8]:
        return self._decoder.frame(index).pixels

    def close(self) -> None:
        self._decoder.close()

    def play(self, frames: int) -> None:
        """The first `frames` of the file, opened anew, as `inr-play` plays them, the next decoded meanwhile."""
        video = open_video(self.path, target=self.target, threads=self.threads)
        with video, open_writer("null", video.info) as nowhere:
            play(video.frames(0, frames), nowhere)


@dataclass
class Torch:
    """A checkpoint in PyTorch. layout: `NCHW`, as research code runs it, or `channels last`."""

    path: Path
    precision: str
    layout: str
    threads: int
    compiled: bool = False

    def __post_init__(self) -> None:
        self.engine = f"torch {'compiled' if self.compiled else 'eager'}, {self.layout}"
        self._type = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self._format = torch.channels_last if self.layout == "channels last" else torch.contiguous_format

    def open(self) -> None:
        torch.set_num_threads(self.threads)
        self._model = Checkpoint.load(self.path).build().to(self._type).to(memory_format=self._format)
        self._decode: Any = torch.compile(self._model.decode) if self.compiled else self._model.decode

    @torch.inference_mode()
    def frame(self, index: int) -> NDArray[np.uint8]:
        torch.set_num_threads(self.threads)
        sampled = [x.to(self._type) for x in self._model.sample([float(index)])]
        maps = [x.contiguous(memory_format=self._format) if x.ndim == 4 else x for x in sampled]
        picture = self._decode(*maps)[0].permute(1, 2, 0)
        return np.asarray(picture.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous().numpy())

    def close(self) -> None:
        del self._model, self._decode
        torch.compiler.reset()


@dataclass
class Ffmpeg:
    """An x265 stream in ffmpeg's software decoder; any frame but the next one is decoded from the key frame on."""

    path: Path
    threads: int
    engine: str = "ffmpeg"
    precision: str = "8-bit"

    def open(self) -> None:
        self._container, self._next = av.open(str(self.path)), 0
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = self.threads
        self._stream.codec_context.thread_type = "AUTO"
        self._frames = self._container.decode(self._stream)
        rate, base = self._stream.average_rate, self._stream.time_base
        self._ticks = 1 / (rate or 1) / (base or 1)

    def frame(self, index: int) -> NDArray[np.uint8]:
        if index != self._next:
            self._container.seek(round(index * self._ticks), stream=self._stream)
            self._frames = self._container.decode(self._stream)
        for frame in self._frames:
            assert frame.pts is not None
            if round(frame.pts / self._ticks) >= index:
                break
        self._next = index + 1
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)

    def close(self) -> None:
        self._container.close()

    def play(self, frames: int) -> None:
        """The first `frames` of the file, opened anew."""
        anew = Ffmpeg(self.path, self.threads)
        anew.open()
        for index in range(frames):
            anew.frame(index)
        anew.close()


def contestants(model: Path, video: Path, threads: int, compiled: bool, only: tuple[str, ...]) -> list[Contestant]:
    """All that can run here, the usual PyTorch first; only: parts of an engine's or target's name."""
    layouts = (("fp32", "NCHW"), ("fp32", "channels last"), ("bf16", "channels last"))
    found: list[Contestant] = [Torch(model, p, layout, threads) for p, layout in layouts]
    found += [Torch(model, p, "channels last", threads, True) for p in ("fp32", "bf16") if compiled]
    targets = ["cpu-int8", "cpu-fp32"]
    if look_for("openvino").available:
        targets += ["openvino-int8", "openvino-bf16"]
    found += [Ours(video, target, threads) for target in targets]
    return [c for c in found if not only or any(part in name_of(c) for part in only)]


def name_of(contestant: Contestant) -> str:
    """For people: our targets, or engine and arithmetic."""
    return contestant.target if isinstance(contestant, Ours) else f"{contestant.engine} {contestant.precision}"


def seconds_of(run: Any, *arguments: Any) -> float:
    """Wall time of one call."""
    begin = perf_counter()
    run(*arguments)
    return perf_counter() - begin
