"""The stage of a HiNeRV, and what the paper's ablations put in place of its parts.

    stage                                            block (convnext)
    x ─► norm ─► upscale ─► + encoding ─► blocks     x ─► depthwise 3x3 ─► norm ─► 1x1 ─► GELU ─► 1x1 ─► + x

Norm is a layer normalization over channels with neither scale nor bias. A block that changes the width (the first of a
stage) adds nothing. Kernels of blocks have no bias.
- upscale: `bilinear`, `nearest`; `subconv1`, `subconv3`: a convolution to s² as many channels and a pixel shuffle;
- encoding: `hierarchical`: grids of s x s cells, repeated over the frame, at several rates in time; `local_grid`: one
  such grid; `local_fourier`: sines of the place in the cell and of time; `fourier`: of the place in the frame; `none`;
- block: `convnext`; `mlp`: without the depthwise convolution; `conv3`: norm, one 3x3 convolution and GELU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_train.models.hinerv_patches import Window, interpolate

UPSCALES = ("bilinear", "nearest", "subconv1", "subconv3")
ENCODINGS = ("hierarchical", "none", "fourier", "local_fourier", "local_grid")
BLOCKS = ("convnext", "mlp", "conv3")
EPSILON = 1e-6


class StageConfig(Protocol):
    """What a stage reads of `HiNeRVConfig`."""

    @property
    def base(self) -> tuple[int, int]: ...
    @property
    def frames(self) -> int: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def depths(self) -> tuple[int, ...]: ...
    @property
    def expansions(self) -> tuple[int, ...]: ...
    @property
    def kernel(self) -> int: ...
    @property
    def local_channels(self) -> int: ...
    @property
    def local_levels(self) -> int: ...
    @property
    def fourier_levels(self) -> int: ...
    @property
    def upscale(self) -> str: ...
    @property
    def upscale_norm(self) -> bool: ...
    @property
    def encoding(self) -> str: ...
    @property
    def block(self) -> str: ...


def new_grid(*shape: int) -> nn.Parameter:
    """A grid as learning begins: uniform within a thousandth of zero."""
    return nn.Parameter(torch.empty(shape).uniform_(-1e-3, 1e-3))


def channel_norm(x: Tensor) -> Tensor:
    """Each cell's channels to mean 0 and variance 1; (B, C, h, w).

    Over the last axis of a channels-last view, which is the fastest of what was measured, and one operator in ONNX.
    """
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=EPSILON).permute(0, 3, 1, 2)


class HiNeRVStage(nn.Module):
    """Stage `number` of a network: (B, C, h, w) to (B, C', h*s, w*s)."""

    def __init__(self, number: int, width: int, new_width: int, config: StageConfig) -> None:
        super().__init__()
        c, stride = config, config.strides[number]
        self.stride, self.norm, self.upscale = stride, c.upscale_norm, c.upscale
        kernel = 3 if c.upscale == "subconv3" else 1
        self.shuffled = (
            nn.Conv2d(width, width * stride**2, kernel, padding=kernel // 2) if "subconv" in c.upscale else None
        )
        fine = math.prod(c.strides[: number + 1])
        self.encoding: nn.Module | None = None
        if "fourier" in c.encoding:
            size = (c.base[0] * fine, c.base[1] * fine) if c.encoding == "fourier" else (stride, stride)
            self.encoding = FourierEncoding(size, c.fourier_levels, width)
        elif c.encoding != "none":
            levels = c.local_levels if c.encoding == "hierarchical" else 1
            self.encoding = LocalEncoding(c.frames, stride, max(c.local_channels >> number, 1), levels, width)
        widths = [width, *[new_width] * c.depths[number]]
        self.blocks = nn.ModuleList(
            HiNeRVBlock(widths[i], new_width, c.expansions[number] * new_width, c.kernel, c.block)
            for i in range(c.depths[number])
        )

    @property
    def grids(self) -> list[tuple[str, Tensor]]:
        """Names within `encoding` and values of the grids that `forward` takes slices of."""
        return [(n, p) for n, p in self.encoding.named_parameters() if "grids." in n] if self.encoding else []

    def forward(self, x: Tensor, samples: Sequence[Tensor], window: Window | None, finer: Window | None) -> Tensor:
        """samples: what the encoding takes. window, finer: of x and of the result, None for whole frames."""
        x = self._upscale(channel_norm(x) if self.norm else x, window, finer)
        if self.encoding is not None:
            x = add_pattern(x, self.encoding(*samples), finer)
        x = x if finer is None else finer.keep(x)
        for block in self.blocks:
            x = block(x, finer)
        return x

    def _upscale(self, x: Tensor, window: Window | None, finer: Window | None) -> Tensor:
        if self.shuffled is not None:
            x = F.pixel_shuffle(self.shuffled(x), self.stride)
            return x if window is None or finer is None else window.crop(x, finer)
        if window is None or finer is None:
            return interpolate(x, self.stride, self.upscale)
        return window.upscale(x, finer, lambda part: interpolate(part, self.stride, self.upscale))


def add_pattern(x: Tensor, pattern: Tensor, window: Window | None) -> Tensor:
    """x (B, C, h, w) plus a pattern (B, C, s, s) repeated over it, or plus one as large as the whole map."""
    if window is not None:
        return x + (window.cut(pattern) if pattern.shape[2:] == window.frame else window.tile(pattern))
    batch, channels, height, width = x.shape
    side = pattern.shape[2:]
    if side == x.shape[2:]:
        return x + pattern
    # A strip as wide as the map, then whole strips: engines add long rows many times faster than rows of s numbers.
    strip = pattern.repeat(1, 1, 1, width // side[1]).contiguous(memory_format=torch.channels_last)
    strips = x.reshape(batch, channels, height // side[0], side[0] * width)
    strips = strips + strip.reshape(batch, channels, 1, side[0] * width)
    return strips.reshape(batch, channels, height, width)


class LocalEncoding(nn.Module):
    """Slices of grids of s x s cells to one pattern (B, width, s, s)."""

    def __init__(self, frames: int, side: int, channels: int, levels: int, width: int) -> None:
        super().__init__()
        shapes = [(max(1, frames >> i), channels << i) for i in range(levels)]
        self.grids = nn.ParameterList(new_grid(length, count, side, side) for length, count in shapes)
        self.mix = nn.Conv2d(sum(count for _, count in shapes), width, 1)

    def forward(self, *samples: Tensor) -> Tensor:
        """samples: (B, C, s, s) of each grid."""
        result: Tensor = self.mix(torch.cat(samples, dim=1))
        return result


class FourierEncoding(nn.Module):
    """Sines and cosines of row, column and time to a pattern (B, width, *size).

    Those of rows and columns are fixed grids of one slice; a graph may hold no large constants.
    """

    def __init__(self, size: tuple[int, int], levels: int, width: int) -> None:
        super().__init__()
        rows, columns = (_waves(n, levels) for n in size)
        maps = (rows[None, :, :, None], columns[None, :, None, :])
        self.grids = nn.ParameterList(nn.Parameter(m, requires_grad=False) for m in maps)
        self.rows = nn.Conv2d(2 * levels, width, 1, bias=False)
        self.columns = nn.Conv2d(2 * levels, width, 1, bias=False)
        self.time = nn.Conv2d(2 * levels, width, 1)

    def forward(self, rows: Tensor, columns: Tensor, time: Tensor) -> Tensor:
        """rows (B, 2l, h, 1), columns (B, 2l, 1, w), time (B, 2l, 1, 1)."""
        result: Tensor = self.rows(rows) + self.columns(columns) + self.time(time)
        return result


def _waves(count: int, levels: int) -> Tensor:
    """(2 levels, count): sin and cos of pi 2^k x at the middles x of `count` equal parts of [0, 1]."""
    angles = math.pi * 2.0 ** torch.arange(levels)[:, None] * ((torch.arange(count) + 0.5) / count)
    return torch.cat([torch.sin(angles), torch.cos(angles)])


class HiNeRVBlock(nn.Module):
    """One block; kind: one of `BLOCKS`. inner: channels between the two 1x1 convolutions."""

    def __init__(self, width: int, new_width: int, inner: int, kernel: int, kind: str) -> None:
        super().__init__()
        self.residual, self.kind = width == new_width, kind
        if kind == "conv3":
            self.conv = nn.Conv2d(width, new_width, kernel, padding=kernel // 2, bias=False)
            return
        if kind == "convnext":
            self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.widen = nn.Conv2d(width, inner, 1, bias=False)
        self.narrow = nn.Conv2d(inner, new_width, 1, bias=False)

    def forward(self, x: Tensor, window: Window | None) -> Tensor:
        """(B, C, h, w) to (B, C', h, w). window: of x, None for whole frames."""
        if self.kind == "conv3":
            y = F.gelu(self.conv(channel_norm(x)))
        else:
            y = channel_norm(self.depthwise(x) if self.kind == "convnext" else x)
            y = self.narrow(F.gelu(self.widen(y)))
        y = y if window is None else window.keep(y)
        return x + y if self.residual else y
