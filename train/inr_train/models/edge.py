"""Edge: a decoder for real time. Work at low resolution, grids for what changes, one late pixel shuffle.

    grids(t) ─► resize ─► 3x3 ─► act ─► [ 3x3 ─► act ] x depth ─► 1x1 ─► pixel shuffle 2 ─► + ─► act ─► ... ─► 3x3 ─► pixel shuffle 4
    blended in    stage 0          stage 0, W+I                                    grids(t) ─► 3x3 ─┘        (3·4², h/4, w/4) = (3, h, w)
    time

Every stage has twice the resolution of the one before, the last a quarter of the frame's: no convolution ever runs on
many positions with few channels, which is what engines are slow at. Convolutions of one width begin as identity plus
noise (a residual connection that is folded from the beginning, so that the stored graph has none). Only convolutions,
sums and activations are left between the sampled grids and the picture, and all of them run on integers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_train.models.base import TimeInput, VideoModel
from inr_train.models.nerv import ACTIVATIONS
from inr_train.models.picture import cut, start_grey


@dataclass(frozen=True)
class EdgeConfig:
    """Everything that defines an Edge decoder.

    height, width, frames: of the clip. widths, depths: channels, and 3x3 convolutions, of each stage, coarse to fine.
    grid_rows, grid_channels, grid_strides: of each grid: cells from top to bottom (as many across as the frame's shape
    asks for), numbers a cell, frames from one slice to the next. A grid enters the first stage that has its rows.
    shuffle: of the head. kernel: of the stages. activation: see `models/nerv.py`. Raises `ValueError` on contradictions.
    """

    height: int
    width: int
    frames: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    grid_rows: tuple[int, ...]
    grid_channels: tuple[int, ...]
    grid_strides: tuple[int, ...]
    shuffle: int = 4
    kernel: int = 3
    grid_kernel: int = 3
    activation: str = "leaky_relu"
    embedding: int = 0
    local: int = 0
    gain: float = 0.5
    up_kernel: int = 1
    grid_gain: float = 1.0
    depthwise: int = 0

    def __post_init__(self) -> None:
        for name in ("widths", "depths", "grid_rows", "grid_channels", "grid_strides"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def stage_size(self, stage: int) -> tuple[int, int]:
        """Height and width of a stage's feature map."""
        factor = self.shuffle * 2 ** (len(self.widths) - 1 - stage)
        return -(-self.height // factor), -(-self.width // factor)

    def grid_size(self, grid: int) -> tuple[int, int]:
        """Rows and columns of a grid."""
        rows = self.grid_rows[grid]
        return rows, max(1, round(rows * self.width / self.height))

    def grid_stage(self, grid: int) -> int:
        """The first stage with at least the grid's rows."""
        fine = [s for s in range(len(self.widths)) if self.stage_size(s)[0] >= self.grid_rows[grid]]
        return fine[0] if fine else len(self.widths) - 1


class Edge(VideoModel):
    """An Edge decoder; see the module's drawing."""

    name = "edge"
    config_type = EdgeConfig

    def __init__(self, config: EdgeConfig) -> None:
        super().__init__(config)
        c = config
        k = c.kernel
        lengths = [-(-(c.frames - 1) // s) + 1 for s in c.grid_strides]
        for i, (length, channels) in enumerate(zip(lengths, c.grid_channels, strict=True)):
            rows, columns = c.grid_size(i)
            self.register_parameter(f"grid{i}", nn.Parameter(c.grid_gain*torch.randn(length, channels, rows, columns)))
        entering = [[i for i in range(len(c.grid_rows)) if c.grid_stage(i) == s] for s in range(len(c.widths))]
        self.entering = entering
        counts = [sum(c.grid_channels[i] for i in grids) for grids in entering]
        g = c.grid_kernel
        self.enter = nn.ModuleList(
            nn.Conv2d(n, w, g, padding=g // 2) if n else nn.Identity() for n, w in zip(counts, c.widths, strict=True)
        )
        u = c.up_kernel
        self.ups = nn.ModuleList(nn.Conv2d(a, 4 * b, u, padding=u // 2) for a, b in itertools.pairwise(c.widths))
        if c.depthwise:
            self.blocks = nn.ModuleList(nn.ModuleList(Separable(w, c.depthwise) for _ in range(d)) for w, d in zip(c.widths, c.depths, strict=True))
        else:
            self.blocks = nn.ModuleList(
                nn.ModuleList(_near_identity(w, k, c.gain) for _ in range(d)) for w, d in zip(c.widths, c.depths, strict=True)
            )
        if c.embedding == 1:
            n = sum(2 * w * d for w, d in zip(c.widths, c.depths))
            self.frame_code = nn.Parameter(torch.zeros(c.frames, n, 1, 1))
            self.modulate = nn.Identity()
        elif c.embedding:
            self.frame_code = nn.Parameter(torch.randn(c.frames, c.embedding, 1, 1)*0.1)
            n = sum(2 * w * d for w, d in zip(c.widths, c.depths))
            self.modulate = nn.Conv2d(c.embedding, n, 1)
            nn.init.normal_(self.modulate.weight, std=0.1); nn.init.zeros_(self.modulate.bias)
        if c.local:
            self.locals = nn.Parameter(torch.zeros(1, c.widths[-1], c.local, c.local))
        self.head = nn.Conv2d(c.widths[-1], 3 * c.shuffle**2, k, padding=k // 2)
        nn.init.normal_(self.head.weight, std=0.02)
        self.activation = ACTIVATIONS[c.activation]()
        start_grey(self.head, "linear")

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        """Every grid, blended between its slices."""
        c: EdgeConfig = self.config
        grids = tuple(
            TimeInput("lerp", -(-(c.frames - 1) // s) + 1, stride=float(s), grid=f"grid{i}")
            for i, s in enumerate(c.grid_strides)
        )
        if c.embedding:
            grids += (TimeInput("lerp", c.frames, grid="frame_code"),)
        return grids

    def decode(self, *inputs: Tensor) -> Tensor:
        """Sampled grids, each (B, channels, rows, columns), to (B, 3, H, W)."""
        c: EdgeConfig = self.config
        x: Tensor | None = None
        mods = None
        if c.embedding:
            mods = list(self.modulate(inputs[-1]).split([w for w, d in zip(c.widths, c.depths) for _ in range(2*d)], dim=1))
        for stage, grids in enumerate(self.entering):
            size = c.stage_size(stage)
            if x is not None:
                x = cut(F.pixel_shuffle(self.ups[stage - 1](x), 2), *size)
            if grids:
                entered = [inputs[i] for i in grids]
                entered = [v if v.shape[2:] == size else F.interpolate(v, size, mode="bilinear") for v in entered]
                v = self.enter[stage](torch.cat(entered, 1) if len(entered) > 1 else entered[0])
                x = v if x is None else x + v
            if c.local and stage == len(c.widths) - 1:
                n = [-(-s // c.local) for s in size]
                x = x + cut(self.locals.repeat(1, 1, *n), *size)
            x = self.activation(x)
            for conv in self.blocks[stage]:
                x = conv(x)
                if mods:
                    x = x * (1 + mods.pop(0)) + mods.pop(0)
                x = self.activation(x)
        return cut(F.pixel_shuffle(self.head(x), c.shuffle), c.height, c.width)


class Separable(nn.Module):
    def __init__(self, width, expand):
        super().__init__()
        self.dw = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.a = nn.Conv2d(width, width * expand, 1)
        self.b = nn.Conv2d(width * expand, width, 1)
    def forward(self, x):
        return x + self.b(F.leaky_relu(self.a(self.dw(x)), 0.1))


def _near_identity(width: int, kernel: int, gain: float) -> nn.Conv2d:
    """A convolution that passes its input on, plus noise of `gain` times the usual deviation."""
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)
    nn.init.normal_(conv.weight, std=gain / math.sqrt(width * kernel**2))
    nn.init.dirac_(extra := torch.empty_like(conv.weight))
    with torch.no_grad():
        conv.weight.add_(extra)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
