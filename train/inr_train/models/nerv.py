"""NeRV: Neural Representations for Videos (Chen et al., NeurIPS 2021), with the alternatives of its ablations.

    t ─► encoding ─► 1x1 ─► act ─► 1x1 ─► act ─► reshape ─► [ block ] x stages ─► 1x1 ─► output
         (1, 2l)         stem width        (C, h, w)        │                     (3, H, W)
                                                            └ 3x3 conv to C' s² ─► act ─► pixel shuffle s

The activation stands before the shuffle: both orders give the same numbers, and here int8 engines fuse it. The frame
is cut to its size in the graph where strides do not divide it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_train.models.base import TimeInput, VideoModel
from inr_train.models.picture import OUTPUTS, cut, start_grey, to_picture


class BoundedSiLU(nn.Module):
    """SiLU of what is first limited to -2.5 .. 1.5, where nearly all of it lies: 256 steps are then fine enough.

    The limits cost nothing in integers, where the convolution before saturates at them.
    """

    LIMITS = (-2.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return F.silu(F.hardtanh(x, *self.LIMITS))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "silu": nn.SiLU,
    "bounded_silu": BoundedSiLU,
    "gelu": nn.GELU,
}
UPSCALES = ("pixel_shuffle", "transposed", "bilinear")


@dataclass(frozen=True)
class NeRVConfig:
    """Everything that defines a NeRV.

    height, width: frame size. frames: count. base_height, base_width, channels: the stem's feature map.
    strides: upscaling of each stage. encoding_base, encoding_levels: b and l of the positional encoding, 0 levels for
    none. stem_width, stem_depth: hidden stem layers. expansion: channel factor of the first stage; reduction: divisor
    of later ones, never below lower_width. blocks_per_stage: 1 in the paper. upscale, activation, output: one of the
    names above; `linear` leaves clipping to [0, 1] to the player and is exact in 8 bits. Raises `ValueError` on
    contradictions.
    """

    height: int
    width: int
    frames: int
    base_height: int
    base_width: int
    strides: tuple[int, ...]
    channels: int
    encoding_base: float = 1.25
    encoding_levels: int = 40
    stem_width: int = 512
    stem_depth: int = 1
    expansion: float = 1.0
    reduction: int = 2
    lower_width: int = 96
    blocks_per_stage: int = 1
    upscale: str = "pixel_shuffle"
    activation: str = "silu"
    output: str = "tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        for value, known in ((self.activation, ACTIVATIONS), (self.upscale, UPSCALES), (self.output, OUTPUTS)):
            if value not in known:
                raise ValueError(f"{value!r} is not one of {', '.join(known)}")
        factor = math.prod(self.strides)
        cover = (self.base_height * factor, self.base_width * factor)
        if cover[0] < self.height or cover[1] < self.width:
            raise ValueError(
                f"strides {self.strides} make {cover[1]}x{cover[0]} pixels, less than {self.width}x{self.height}"
            )
        counts = (self.height, self.width, self.frames, self.channels, self.stem_width, self.reduction, *self.strides)
        if not 0 < self.encoding_base <= 1024 or self.encoding_levels * math.log2(max(1.0, self.encoding_base)) > 500:
            raise ValueError("the base of the encoding lies in 0 to 1024, and its last frequency below 2^500")
        depths = (len(self.strides), self.stem_depth, self.blocks_per_stage)
        if min(counts) < 1 or max(counts) > 1 << 20 or factor > 4096 or not 0 <= self.encoding_levels <= 1024:
            raise ValueError("sizes, widths, levels and strides must be positive and not absurd")
        if min(depths) < 0 or max(depths) > 16 or self.blocks_per_stage < 1 or not 0 < self.expansion <= 64:
            raise ValueError("depths lie in 1 to 16, expansion in 0 to 64")

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels after each stage."""
        widths = [int(self.channels * self.expansion)]
        for stride in self.strides[1:]:
            divisor = self.reduction if stride > 1 else 1
            widths.append(max(widths[-1] // divisor, self.lower_width))
        return tuple(widths)


class NeRV(VideoModel):
    """A NeRV; see the module's drawing."""

    name = "nerv"
    config_type = NeRVConfig

    def __init__(self, config: NeRVConfig) -> None:
        super().__init__(config)
        inputs = max(1, 2 * config.encoding_levels)
        widths = [inputs, *[config.stem_width] * config.stem_depth]
        widths.append(config.channels * config.base_height * config.base_width)
        self.stem = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        blocks, width = [], config.channels
        for stride, new_width in zip(config.strides, config.stage_widths, strict=True):
            blocks.append(NeRVBlock(width, new_width, stride, config))
            blocks += [NeRVBlock(new_width, new_width, 1, config) for _ in range(config.blocks_per_stage - 1)]
            width = new_width
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(width, 3, 1)
        self.activation = ACTIVATIONS[config.activation]()
        start_grey(self.head, config.output)

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        """The positional encoding of t / frames."""
        c: NeRVConfig = self.config
        return (TimeInput("encoding", c.frames, base=c.encoding_base, levels=c.encoding_levels),)

    def decode(self, *inputs: Tensor) -> Tensor:
        """(B, 2l, 1, 1) to (B, 3, H, W)."""
        c: NeRVConfig = self.config
        (x,) = inputs
        for layer in self.stem:
            x = self.activation(layer(x))
        x = x.reshape(x.shape[0], c.channels, c.base_height, c.base_width)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x)
        return cut(to_picture(self.head(x), c.output), c.height, c.width)


class NeRVBlock(nn.Module):
    """One upscaling step and its activation."""

    def __init__(self, width: int, new_width: int, stride: int, config: NeRVConfig) -> None:
        super().__init__()
        self.stride, self.upscale = stride, config.upscale if stride > 1 else "pixel_shuffle"
        self.activation = ACTIVATIONS[config.activation]()
        if self.upscale == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(width, new_width, stride, stride)
        elif self.upscale == "bilinear":
            self.conv = nn.Conv2d(width, new_width, 2 * stride + 1, padding=stride)
        else:
            self.conv = nn.Conv2d(width, new_width * stride**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h*s, w*s)."""
        if self.upscale == "bilinear":
            x = F.interpolate(x, scale_factor=float(self.stride), mode="bilinear", align_corners=True)
        x = self.activation(self.conv(x))
        return F.pixel_shuffle(x, self.stride) if self.upscale == "pixel_shuffle" and self.stride > 1 else x
