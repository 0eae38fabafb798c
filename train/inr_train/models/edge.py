"""Edge: a decoder for real time. Work at low resolution, grids for what changes, one late pixel shuffle.

    grids(t) ─► resize ─► 3x3 ─► act ─► [ 3x3 ─► act ] x depth ─► 1x1 ─► pixel shuffle 2 ─┐
    blended in                          │                                                 + ─► act ─► [ ... ] ─► 3x3
    time                                └ W + I from the beginning       grids(t) ─► 3x3 ─┘                       │
                                                                               (B, 3, H, W) ◄─ pixel shuffle 4 ◄──┘

Every stage has twice the resolution of the one before, the last a quarter of the frame's: no convolution runs on many
positions with few channels, which is what engines are slow at. Between the sampled grids and the picture are only
convolutions, sums and activations, all of which run on integers.

A 3x3 convolution begins as identity plus noise. To learn W + I from there is to learn a residual connection around W
(Muon and Adam take the same steps; what the recipe's weight decay takes of both is little), and the stored graph has
none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_train.models.base import TimeInput, VideoModel
from inr_train.models.nerv import ACTIVATIONS as NERV_ACTIVATIONS
from inr_train.models.picture import cut, start_grey


class Square(nn.Module):
    """The square of what is first limited to -1/2 .. 1, less a quarter.

    With inputs around a half this is x + x^2 of what is added to the half: a line with a bend, zero on average. For
    integers it is one product: they saturate at the limits, and the quarter is where the result's zero lies.
    """

    LIMITS, MIDDLE = (-0.5, 1.0), 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        x = F.hardtanh(x, *self.LIMITS)
        return x * x - self.MIDDLE**2


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {**NERV_ACTIVATIONS, "square": Square}
BLOCKS = ("dense", "depthwise")
GRID_DEVIATION = 0.01
"""Of new grids: small, so that what is drawn comes from learning."""
HEAD_DEVIATION = 0.02
NOISE = 0.5
"""Deviation of a new 3x3 convolution's weights around the identity, as a share of 1 / sqrt(inputs)."""
SQUARE_GAIN = 0.6
"""Of new weights that read squares, whose slope is 1 where that of other activations is a half."""
BIAS_MARGIN = 0.1
"""How far the biases of what is squared stay from the limits while they are learned."""
GRID_LIMIT = 1.5
"""Of the numbers of limited grids. Few want to be larger, and for them all others would have coarser steps."""


@dataclass(frozen=True)
class EdgeConfig:
    """Everything that defines an Edge decoder.

    height, width, frames: of the clip. widths, depths: channels, and 3x3 convolutions, of each stage, coarse to fine.
    grid_rows, grid_channels, grid_strides: of each grid: cells from top to bottom (as many across as the frame's shape
    asks for), numbers in a cell, frames from one slice to the next. A grid enters the first stage that has its rows;
    the first grid enters the first stage. shuffle: of the head. kernel: of the stages, odd. activation: `square`, or
    one of NeRV's. block: `dense`, or `depthwise` (a kernel for each channel, 1x1 to twice the width, activation, 1x1
    back, added). modulation: numbers a frame from which scale and shift of every stage follow; 0 for none. limited:
    parts of a sum that is squared are limited as the sum is, and grids to ±`GRID_LIMIT` while they are learned, so that
    8 bits lose little; false with other activations. Raises `ValueError` on contradictions.
    """

    height: int
    width: int
    frames: int
    widths: tuple[int, ...] = (48, 48)
    depths: tuple[int, ...] = (1, 5)
    grid_rows: tuple[int, ...] = (9, 23, 45)
    grid_channels: tuple[int, ...] = (8, 2, 1)
    grid_strides: tuple[int, ...] = (1, 4, 16)
    shuffle: int = 4
    kernel: int = 3
    activation: str = "leaky_relu"
    block: str = "dense"
    modulation: int = 0
    limited: bool = False

    def __post_init__(self) -> None:
        for name in ("widths", "depths", "grid_rows", "grid_channels", "grid_strides"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.activation not in ACTIVATIONS or self.block not in BLOCKS:
            raise ValueError(f"activations are {', '.join(ACTIVATIONS)}, blocks {', '.join(BLOCKS)}")
        object.__setattr__(self, "limited", self.limited and self.activation == "square")
        stages, grids = len(self.widths), len(self.grid_rows)
        if not 1 <= stages <= 6 or len(self.depths) != stages:
            raise ValueError("widths and depths have one number for each stage, of 1 to 6 stages")
        if not 1 <= grids <= 16 or not grids == len(self.grid_channels) == len(self.grid_strides):
            raise ValueError("grid rows, channels and strides have one number for each grid, of 1 to 16 grids")
        counts = (self.height, self.width, self.frames, *self.widths, *self.grid_rows, *self.grid_channels)
        if min(*counts, *self.grid_strides) < 1 or max(*counts, *self.grid_strides) > 1 << 20:
            raise ValueError("sizes, widths, rows, channels and strides must be positive and not absurd")
        if not 0 <= min(self.depths) <= max(self.depths) <= 64 or not 0 <= self.modulation <= 1 << 12:
            raise ValueError("a stage has at most 64 convolutions, a modulation at most 4096 numbers")
        if not 1 <= self.shuffle <= 16 or self.kernel % 2 == 0 or not 1 <= self.kernel <= 15:
            raise ValueError("the head's shuffle lies in 1 to 16, kernels are odd, up to 15")
        if not self.entering[0]:
            raise ValueError(f"no grid enters the first stage, which has {self.stage_size(0)[0]} rows")

    def stage_size(self, stage: int) -> tuple[int, int]:
        """Height and width of a stage's feature map."""
        factor = self.shuffle * 2 ** (len(self.widths) - 1 - stage)
        return -(-self.height // factor), -(-self.width // factor)

    def grid_shape(self, grid: int) -> tuple[int, int, int, int]:
        """Slices, channels, rows and columns of a grid."""
        rows = min(self.grid_rows[grid], self.height)
        columns = min(max(1, round(rows * self.width / self.height)), self.width)
        return self.grid_length(grid), self.grid_channels[grid], rows, columns

    def grid_length(self, grid: int) -> int:
        """Slices of a grid: the last is at or behind the last frame."""
        return -(-(self.frames - 1) // self.grid_strides[grid]) + 1

    @property
    def entering(self) -> tuple[tuple[int, ...], ...]:
        """The grids that enter each stage."""
        stages = range(len(self.widths))
        rows = [self.stage_size(s)[0] for s in stages]
        first = [next((s for s in stages if rows[s] >= r), stages[-1]) for r in self.grid_rows]
        return tuple(tuple(i for i, s in enumerate(first) if s == stage) for stage in stages)


class Edge(VideoModel):
    """An Edge decoder; see the module's drawing."""

    name = "edge"
    config_type = EdgeConfig
    edges = ("modulate.",)

    def __init__(self, config: EdgeConfig) -> None:
        super().__init__(config)
        c, pad = config, config.kernel // 2
        for i in range(len(c.grid_rows)):
            self.register_parameter(f"grid{i}", nn.Parameter(GRID_DEVIATION * torch.randn(c.grid_shape(i))))
        counts = [sum(c.grid_channels[i] for i in grids) for grids in c.entering]
        self.enter = nn.ModuleDict({str(s): nn.Conv2d(n, c.widths[s], 3, padding=1) for s, n in enumerate(counts) if n})
        self.ups = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in itertools.pairwise(c.widths))
        make = _near_identity if c.block == "dense" else DepthwiseBlock
        self.stages = nn.ModuleList(
            nn.ModuleList(make(width, c.kernel) for _ in range(depth))
            for width, depth in zip(c.widths, c.depths, strict=True)
        )
        if c.modulation:
            self.moments = nn.Parameter(GRID_DEVIATION * torch.randn(c.frames, c.modulation, 1, 1))
            self.modulate = nn.Conv2d(c.modulation, 2 * sum(c.widths), 1)
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)  # type: ignore[arg-type]
        self.head = nn.Conv2d(c.widths[-1], 3 * c.shuffle**2, c.kernel, padding=pad)
        nn.init.normal_(self.head.weight, std=HEAD_DEVIATION)
        self.activation = ACTIVATIONS[c.activation]()
        start_grey(self.head, "linear")
        if c.activation == "square":
            self._start_squares()

    @torch.no_grad()
    def _start_squares(self) -> None:
        """Weights that read squares begin smaller, and what is squared begins around a half."""
        dense = self._dense()
        for convolution in (*dense, *self.ups, self.head):
            convolution.weight.mul_(SQUARE_GAIN)
        for convolution in dense:
            convolution.bias.add_(Square.MIDDLE)  # type: ignore[operator,union-attr]
        for parts in self._parts():
            for convolution in parts:
                convolution.bias.add_(Square.MIDDLE / len(parts))  # type: ignore[union-attr,operator]

    @torch.no_grad()
    def confine(self) -> None:
        """Limited grids to their limits, and biases to where a square still has a slope.

        Of a channel beyond the limits everywhere nothing is learned any more, and in a run of an hour most channels of
        the first stage got there. Where weights decay, as by the recipe `edge`, a bias inside brings it back.
        """
        if self.config.limited:
            for name in self.grids:
                self.get_parameter(name).clamp_(-GRID_LIMIT, GRID_LIMIT)
        if self.config.activation == "square":
            low, high = Square.LIMITS[0] + BIAS_MARGIN, Square.LIMITS[1] - BIAS_MARGIN
            for parts in (*self._parts(), *([convolution] for convolution in self._dense())):
                for convolution in parts:
                    convolution.bias.clamp_(low / len(parts), high / len(parts))  # type: ignore[union-attr]

    def _parts(self) -> list[list[nn.Conv2d]]:
        """The convolutions whose sum is activated where a stage begins."""
        found = []
        for stage in range(len(self.stages)):
            parts = [self.enter[str(stage)]] if str(stage) in self.enter else []
            parts += [self.ups[stage - 1]] if stage and (self.config.limited or not parts) else []
            found.append(parts)
        return found  # type: ignore[return-value]

    def _dense(self) -> list[nn.Conv2d]:
        """The convolutions of all stages whose results are activated."""
        return [c for stage in self.stages for c in stage if isinstance(c, nn.Conv2d)]  # type: ignore[attr-defined]

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        """Every grid, blended between its slices, and the numbers that modulate."""
        c: EdgeConfig = self.config
        grids = tuple(
            TimeInput("lerp", c.grid_length(i), stride=float(stride), grid=f"grid{i}")
            for i, stride in enumerate(c.grid_strides)
        )
        return (*grids, TimeInput("lerp", c.frames, grid="moments")) if c.modulation else grids

    def decode(self, *inputs: Tensor) -> Tensor:
        """Sampled grids, each (B, channels, rows, columns), to (B, 3, H, W)."""
        c: EdgeConfig = self.config
        change, done = self.modulate(inputs[-1]) if c.modulation else None, 0
        x = self._entered(0, inputs)
        for stage, convolutions in enumerate(self.stages):
            # Where nothing is added, the activation comes before the shuffle, as engines want it: the same numbers.
            early = stage > 0 and change is None and not c.entering[stage]
            if stage:
                x = self.ups[stage - 1](x)
                x = self.activation(x) if early else self._part(x)
                x = cut(F.pixel_shuffle(x, 2), *c.stage_size(stage))
                x = x + self._part(self._entered(stage, inputs)) if c.entering[stage] else x
            if change is not None:
                middle, end = done + c.widths[stage], done + 2 * c.widths[stage]
                x, done = x + x * change[:, done:middle] + change[:, middle:end], end
            x = x if early else self.activation(x)
            for convolution in convolutions:  # type: ignore[attr-defined]
                x = self.activation(convolution(x)) if c.block == "dense" else convolution(x)
        return cut(F.pixel_shuffle(self.head(x), c.shuffle), c.height, c.width)

    def _part(self, x: Tensor) -> Tensor:
        """A part of a sum that is squared."""
        return F.hardtanh(x, *Square.LIMITS) if self.config.limited else x

    def _entered(self, stage: int, inputs: Sequence[Tensor]) -> Tensor:
        """What the grids of a stage add to its feature map: (B, width, *stage size)."""
        size = self.config.stage_size(stage)
        grids = [inputs[i] for i in self.config.entering[stage]]
        grids = [g if g.shape[2:] == size else F.interpolate(g, size, mode="bilinear") for g in grids]
        result: Tensor = self.enter[str(stage)](torch.cat(grids, 1) if len(grids) > 1 else grids[0])
        return result


class DepthwiseBlock(nn.Module):
    """A kernel for each channel, 1x1 to twice the width, LeakyReLU, 1x1 back, added to the input."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.widen, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        result: Tensor = x + self.narrow(F.leaky_relu(self.widen(self.depthwise(x)), 0.1))
        return result


def _near_identity(width: int, kernel: int) -> nn.Conv2d:
    """A convolution that passes its input on, but for noise."""
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)
    identity = nn.init.dirac_(torch.empty_like(conv.weight))
    nn.init.normal_(conv.weight, std=NOISE / math.sqrt(width * kernel**2))
    with torch.no_grad():
        conv.weight.add_(identity)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
