"""HNeRV (Chen et al. 2023): an encoder learns a small embedding per frame, the decoder draws the frame from it.

    frame ─encoder (training only)─► embedding d x h x w ─1x1 conv─► C0 ─┬─► block ─► ... ─► block ─► 3x3 conv ─► frame
           ConvNeXt blocks           one row per frame, in the file      └ conv k x k, GELU, pixel shuffle

Kernels grow (1, 3, 5, 5, 5) and widths shrink slowly (by 1.2 a stage), so parameters are spread over the stages evenly.
The activation stands before the shuffle, with which it commutes. Between frames the embeddings are blended.

A conditional decoder (Boosting-NeRV, Zhang et al. 2024) also knows the time: its encoding gives every stage a scale
and a shift of its channels, before a sine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_train.models.base import TimeInput, VideoModel
from inr_train.models.convnext import ConvNeXtEncoder
from inr_train.models.picture import OUTPUTS, cut, start_grey, to_picture

ENCODE_BATCH = 8
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "sine": torch.sin}


@dataclass(frozen=True)
class HNeRVConfig:
    """Everything that defines an HNeRV.

    height, width, frames: of the clip. strides: of encoder and decoder; what their product exceeds the frame by is cut
    off. embedding: channels d of the embedding. channels: C0, the decoder's first width. reduction: a stage's width is
    the one before divided by this, at least `lower_width`. kernels: of the first stages, the last one for all that
    follow. encoder_width: of all stages of the encoder but the last. output: tanh (its half plus a half), sigmoid or
    linear. activation: gelu or sine. time_width: hidden units between the encoding of time and the stages' scales and
    shifts, 0 for none of these. Raises `ValueError` on contradictions.
    """

    height: int
    width: int
    frames: int
    strides: tuple[int, ...] = (5, 4, 4, 2, 2)
    channels: int = 68
    embedding: int = 16
    reduction: float = 1.2
    lower_width: int = 12
    kernels: tuple[int, ...] = (1, 3, 5)
    encoder_width: int = 64
    output: str = "tanh"
    activation: str = "gelu"
    time_width: int = 0
    encoding_base: float = 1.25
    encoding_levels: int = 80

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        object.__setattr__(self, "kernels", tuple(self.kernels))
        counts = (self.height, self.width, self.frames, self.channels, self.embedding, self.lower_width)
        small = (*self.strides, *self.kernels, self.encoder_width)
        if min(*counts, *small) < 1 or max(counts) > 1 << 20 or max(small) > 4096 or math.prod(self.strides) > 4096:
            raise ValueError("sizes, widths, strides and kernels must be positive and not absurd")
        if not self.strides or not self.kernels or len(self.strides) > 16 or any(k % 2 == 0 for k in self.kernels):
            raise ValueError("there are 1 to 16 strides, and kernels are odd")
        if not 1 <= self.reduction <= 16 or self.output not in OUTPUTS:
            raise ValueError("the reduction lies in 1 to 16, the output is tanh, sigmoid or linear")
        if self.activation not in ACTIVATIONS or not 0 <= self.time_width <= 1 << 12:
            raise ValueError("the activation is gelu or sine, the time has at most 4096 hidden units")
        if not 1 <= self.encoding_levels <= 1024 or not 1 <= self.encoding_base <= 1024:
            raise ValueError("the encoding of time has 1 to 1024 levels, its base lies in 1 to 1024")
        if self.encoding_levels * math.log2(self.encoding_base) > 500:
            raise ValueError("the last frequency of the encoding of time lies below 2^500")

    @property
    def base(self) -> tuple[int, int]:
        """Height and width of the embedding: the frame's, divided by all strides and rounded up."""
        factor = math.prod(self.strides)
        return -(-self.height // factor), -(-self.width // factor)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels after each stage."""
        widths = [self.channels]
        for _ in self.strides:
            widths.append(max(round(widths[-1] / self.reduction), self.lower_width))
        return tuple(widths[1:])

    @property
    def stage_kernels(self) -> tuple[int, ...]:
        """Kernel of each stage."""
        return tuple(self.kernels[min(i, len(self.kernels) - 1)] for i in range(len(self.strides)))


class HNeRV(VideoModel):
    """An HNeRV; see the module's drawing."""

    name = "hnerv"
    config_type = HNeRVConfig
    edges = ("stem.", "head.", "time.", "affine.")

    def __init__(self, config: HNeRVConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Parameter(0.1 * torch.randn(config.frames, config.embedding, *config.base))
        self.stem = nn.Conv2d(config.embedding, config.channels, 1)
        widths = (config.channels, *config.stage_widths)
        self.blocks = nn.ModuleList(
            nn.Conv2d(a, b * s * s, k, padding=k // 2)
            for (a, b), s, k in zip(itertools.pairwise(widths), config.strides, config.stage_kernels, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)
        if config.time_width:
            self.time = nn.Conv2d(2 * config.encoding_levels, config.time_width, 1)
            self.affine = nn.ModuleList(nn.Conv2d(config.time_width, 2 * width, 1) for width in widths[1:])
            for parameter in self.affine.parameters():
                nn.init.zeros_(parameter)
        self.encoder: ConvNeXtEncoder | None = None
        start_grey(self.head, config.output)

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        """The embedding, between two frames a blend of theirs; and the encoded time of a conditional decoder."""
        c: HNeRVConfig = self.config
        embedding = TimeInput("lerp", c.frames, grid="embeddings")
        time = TimeInput("encoding", c.frames, base=c.encoding_base, levels=c.encoding_levels)
        return (embedding, time) if c.time_width else (embedding,)

    def decode(self, *inputs: Tensor) -> Tensor:
        """(B, d, h, w), and perhaps (B, 2 levels, 1, 1), to (B, 3, H, W)."""
        c: HNeRVConfig = self.config
        activation = ACTIVATIONS[c.activation]
        x = activation(self.stem(inputs[0]))
        moment = F.gelu(self.time(inputs[1])) if c.time_width else None
        for stage, (block, stride) in enumerate(zip(self.blocks, c.strides, strict=True)):
            x = block(x) if moment is not None else activation(block(x))
            x = F.pixel_shuffle(x, stride) if stride > 1 else x
            if moment is not None:
                change = self.affine[stage](moment)
                x = activation(x + x * change[:, : x.shape[1]] + change[:, x.shape[1] :])
        return cut(to_picture(self.head(x), c.output), c.height, c.width)

    def forward(self, times: Sequence[float], frames: Tensor | None = None) -> Tensor:
        """RGB (B, 3, H, W): while there is an encoder from its embeddings of `frames`, else from those of the file."""
        if self.encoder is None or frames is None:
            return super().forward(times)
        return self.decode(self._encode(frames), *self.sample(times)[1:])

    def prepare(self) -> None:
        """Add the encoder."""
        c: HNeRVConfig = self.config
        encoder = ConvNeXtEncoder(c.strides, c.encoder_width, c.embedding)
        # The layout decides the order of sums: it must be the same whether training begins or resumes.
        self.encoder = encoder.to(self.embeddings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def settle(self, frames: Tensor) -> None:
        """Write what the encoder gives for every frame, uint8 (T, 3, H, W), into the embeddings; drop the encoder."""
        if self.encoder is None:
            return
        batches = [self._encode(part.float() / 255) for part in frames.split(ENCODE_BATCH)]
        self.embeddings.copy_(torch.cat(batches))
        self.encoder = None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """With or without the encoder, as the weights are."""
        if not any(name.startswith("encoder.") for name in state_dict):
            self.encoder = None
        elif self.encoder is None:
            self.prepare()
        return super().load_state_dict(state_dict, strict, assign)

    def _encode(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, d, h, w); what is cut off of the decoder's output repeats the border here."""
        assert self.encoder is not None
        c: HNeRVConfig = self.config
        factor = math.prod(c.strides)
        missing = (c.base[1] * factor - c.width, c.base[0] * factor - c.height)
        if any(missing):
            frames = F.pad(frames, (0, missing[0], 0, missing[1]), mode="replicate")
        result: Tensor = self.encoder(frames)
        return result


def solve_channels(parameters: int, config: HNeRVConfig) -> int:
    """C0 for a wanted number of transmitted parameters, as HNeRV's code finds it.

    The larger root of a x^2 + b x = parameters - embeddings, where a counts the stages' convolutions without rounding
    and lower bound, and b is the 1x1 convolution's, nine times too large as in the code; that of time is ours. Raises
    `ValueError` where the embeddings of all frames leave too little for a network.
    """
    q = 1 / config.reduction
    kernels = config.stage_kernels
    a = q * sum(q ** (2 * i) * s * s * k * k for i, (s, k) in enumerate(zip(config.strides, kernels, strict=True)))
    b = 9.0 * config.embedding
    left = parameters - config.frames * config.embedding * math.prod(config.base)
    left -= config.time_width * (2 * config.encoding_levels + 1) if config.time_width else 0
    b += 2 * (config.time_width + 1) * sum(q**i for i in range(1, len(config.strides) + 1)) if config.time_width else 0
    found = int((-b + math.sqrt(b * b + 4 * a * max(left, 0))) / (2 * a))
    if found < config.lower_width:
        raise ValueError(
            f"of {parameters:,} numbers the embeddings of {config.frames} frames leave too few for a network; take a "
            "larger preset, or fewer --frames"
        )
    return found
