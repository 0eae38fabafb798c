"""The contract of every representation: `decode(*sample(t))` is the frame at time t."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from inr_runtime.sample import RULES, WITHOUT_DATA, TimeTensor, encode, input_shape


@dataclass(frozen=True)
class TimeInput:
    """One input of `decode`: how it follows from time. Rules and fields are those of `inr_runtime.sample.TimeTensor`.

    grid: name of the parameter, of shape (length, *slice), that the rules `row` and `lerp` read; "" for the others.
    """

    rule: str
    length: int
    offset: float = 0.0
    stride: float = 1.0
    base: float = 1.25
    levels: int = 0
    grid: str = ""

    def __post_init__(self) -> None:
        if self.rule not in RULES or self.rule == "window" or bool(self.grid) == (self.rule in WITHOUT_DATA):
            raise ValueError(f"a time input follows an encoding or an axis, or `row` or `lerp` and a grid, not {self}")

    def slices(self, time: float) -> tuple[int, int, float]:
        """The two slices around a moment and the weight of the second."""
        position = min(max((time + self.offset) / self.stride, 0.0), self.length - 1.0)
        if self.rule == "row":
            nearest = math.floor(position + 0.5)
            return nearest, nearest, 0.0
        low = int(position)
        return low, min(low + 1, self.length - 1), position - low


Places = Any
"""What a network is asked for: moments, a sequence of floats; of networks that draw pixel by pixel, their numbers; or
patches of a HiNeRV."""


class VideoModel(nn.Module):
    """A video as a network. Bring your own by subclassing.

    A subclass has a `name`, a frozen dataclass `config_type` as its only constructor argument, `time_inputs`, and
    `decode`. `decode` must be traceable to the operators of `inr_runtime.ops` with static shapes; use 1x1
    convolutions rather than linear layers. The host samples the time inputs; no network ever sees time itself.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]
    pixelwise: ClassVar[bool] = False
    """Whether the model learns from pixels drawn at random, and not from whole frames."""
    needs_float32: ClassVar[bool] = False
    """Whether 16-bit floats are too coarse to learn with: they are, where arguments of sines span many turns."""
    edges: ClassVar[tuple[str, ...]] = ("stem.", "head.")
    """Beginnings of the names of first and last layers: what Adam moves where Muon moves the rest."""
    role: ClassVar[str] = "frame"
    """What `decode` draws with inputs of `input_shapes`, as in `inr_runtime.graph.ROLES`."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        """What `decode` takes, in order."""
        raise NotImplementedError

    def decode(self, *inputs: Tensor) -> Tensor:
        """Sampled inputs, each (B, ...), to RGB (B, 3, H, W), nominally in [0, 1]; not clipped."""
        raise NotImplementedError

    def forward(self, times: Sequence[float], frames: Tensor | None = None) -> Tensor:
        """RGB (B, 3, H, W) at some moments, in frames from the clip's start.

        frames: (B, 3, H, W), the frames to be fitted; only models that learn with an encoder look at them.
        """
        return self.decode(*self.sample(times))

    def sample(self, times: Sequence[float], grids: Mapping[str, Tensor] | None = None) -> tuple[Tensor, ...]:
        """Inputs of `decode` for some moments; float32 (len(times), ...), with gradients to the grids.

        grids: in place of the parameters of these names.
        """
        device = next(self.parameters()).device
        return tuple(
            _blend(t, grids[t.grid] if grids else self.get_parameter(t.grid), times)
            if t.grid
            else placed(_encode(t, times), device)
            for t in self.time_inputs
        )

    @property
    def result(self) -> str:
        """What `decode` gives, as in `inr_runtime.graph.RESULTS`."""
        return "rgb8"

    @property
    def floats_per_pixel(self) -> int:
        """Numbers that a training step keeps for each pixel, about: for estimates of memory."""
        return 200

    @classmethod
    def count_items(cls, shape: Sequence[int]) -> int:
        """What an epoch passes over, in units of the recipe's batch size: frames of a clip of `shape` (T, C, H, W)."""
        return shape[0]

    def draw(self, frames: Tensor, size: int, seed: int, step: int) -> tuple[Places, Tensor]:
        """The batch of a step: places, and what is to be seen there, (B, C, H, W) of the clip's own type.

        frames: (T, C, H, W), the whole clip. size: items. Derived from seed and step alone. Here: whole frames in a
        fresh order every epoch.
        """
        count = len(frames)
        epoch, place = divmod(step, max(1, count // size))
        size = min(size, count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        index = [int(i) for i in order[place * size : (place + 1) * size]]
        return index, frames[placed(torch.tensor(index), frames.device)]

    def draw_traced(self, frames: Tensor, size: int, seed: int, step: int) -> tuple[Places, Tensor]:
        """The batch of a step that runs the traced graph, to imitate integers: only places that `decode` can draw."""
        return self.draw(frames, size, seed, step)

    @property
    def patch_size(self) -> tuple[int, int] | None:
        """Height and width of what `draw` gives where that is not whole frames."""
        return None

    @property
    def untraceable(self) -> str:
        """Why no file can hold this model, and the way out; empty where one can."""
        return ""

    def parts(self, index: float) -> Sequence[Places]:
        """The places that make up frame `index`: what they give, joined along the width, is the frame in any shape."""
        return ([float(index)],)

    def calibration(self, times: Sequence[float]) -> Sequence[Places]:
        """Places at which activation ranges are measured, for some moments: here all of these."""
        return [[float(t)] for t in times]

    @property
    def runs_per_frame(self) -> int:
        """Runs of `decode` that a player needs for a frame in its own size."""
        return 1

    def prepare(self) -> None:
        """Add what is only needed for learning, an encoder say: called once before training from random weights."""

    def settle(self, frames: Tensor) -> None:
        """Put what was only needed for learning away: called before quantization, and when training ends.

        frames: uint8 (T, 3, H, W), the whole clip. A model with an encoder writes what it gives into its grids here;
        the second call does nothing.
        """

    def confine(self) -> None:
        """Put parameters back to where they may lie: called behind every training step. Here they may lie anywhere."""

    @property
    def grids(self) -> tuple[str, ...]:
        """Names of the parameters that `time_inputs` read."""
        return tuple(t.grid for t in self.time_inputs if t.grid)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the parameters that `decode` uses, in order: all but the grids and those of an `encoder`."""
        grids = set(self.grids)
        return tuple(n for n, _ in self.named_parameters() if n not in grids and not n.startswith("encoder."))

    @property
    def precise(self) -> tuple[str, ...]:
        """Names of the weights that are stored with the bits of biases: few, and everything hangs on them."""
        parameters = dict(self.named_parameters())
        return tuple(n for n in self.weights if parameters[n].ndim < 2)

    @property
    def prunable(self) -> tuple[str, ...]:
        """Names of the parameters that pruning may thin out; by default every weight but biases and the `head`."""
        parameters = dict(self.named_parameters())
        return tuple(n for n in self.weights if parameters[n].ndim > 1 and not n.startswith("head."))

    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the inputs of `decode` for one moment."""
        parameters = dict(self.named_parameters())
        slices = [tuple(parameters[t.grid].shape[1:]) if t.grid else () for t in self.time_inputs]
        pairs = zip(self.time_inputs, slices, strict=True)
        return tuple(input_shape(t.rule, t.levels, 1, s, t.length) for t, s in pairs)


def placed(small: Tensor, device: torch.device) -> Tensor:
    """A tensor that was made on the CPU, on a device: a step that copies it to a GPU does not wait for that."""
    # A copy from memory that may be paged out waits until the GPU has done all before it.
    return small.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else small.to(device)


def _blend(time_input: TimeInput, grid: Tensor, times: Sequence[float]) -> Tensor:
    """Slices of a grid (length, *slice), blended: (len(times), *slice)."""
    low, high, share = zip(*(time_input.slices(float(t)) for t in times), strict=True)
    near = grid.index_select(0, placed(torch.tensor(low), grid.device))
    if not any(share):
        return near
    far = grid.index_select(0, placed(torch.tensor(high), grid.device))
    weight = placed(torch.tensor(share, dtype=grid.dtype), grid.device).reshape(-1, *[1] * (grid.ndim - 1))
    return near + weight * (far - near)


def _encode(time_input: TimeInput, times: Sequence[float]) -> Tensor:
    t = time_input
    if t.rule != "encoding":
        return torch.cat([torch.from_numpy(time_tensor(t).sample(float(time))) for time in times])
    return torch.cat([_encoding(float(time), t.offset, t.length, t.base, t.levels) for time in times])


@lru_cache(maxsize=8192)
def _encoding(time: float, offset: float, length: int, base: float, levels: int) -> Tensor:
    return torch.from_numpy(encode(float(np.clip((time + offset) / length, 0.0, 1.0)), base, levels))


def time_tensor(time_input: TimeInput, **data: Any) -> TimeTensor:
    """The runtime's counterpart of a time input; data: its quantized grid."""
    t = time_input
    return TimeTensor(t.rule, t.length, t.offset, t.stride, t.base, t.levels, **data)
