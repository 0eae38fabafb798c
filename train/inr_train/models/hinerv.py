"""HiNeRV (Kwan et al., NeurIPS 2023): learned grids, few channels at high resolution, bilinear upscaling.

    base grids ─► blend in time ─► 3x3 ─► [ stage ] x strides ─► 1x1 ─► sigmoid ─► frame
    (T_g, C_g, h, w), (T_g/2, 2 C_g, h, w)     │ (C, h, w)             (3, H, W)
                                               └ norm ─► bilinear x s ─► + local encoding ─► blocks
                                                                          │                   └ see `hinerv_parts.py`
        local grids (T, C_l, s, s), (T/2, 2 C_l, s, s), ... ─► blend ─► 1x1, one s x s tile for all the frame

A frame can be drawn in patches, each with the margin that its convolutions look at: the same pixels as in the whole
frame, so training may use either. The frame is cut to its size in the graph where strides do not divide it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inr_train.models.base import TimeInput, VideoModel
from inr_train.models.hinerv_parts import BLOCKS, ENCODINGS, UPSCALES, HiNeRVStage, new_grid
from inr_train.models.hinerv_patches import Window
from inr_train.models.picture import OUTPUTS, cut, start_grey, to_picture


@dataclass(frozen=True)
class HiNeRVConfig:
    """Everything that defines a HiNeRV.

    height, width, frames: of the clip. strides: upscaling of each stage. channels: after the first stage; each later
    one has half of it. depths, expansions: blocks of each stage, and how much wider they are inside.
    base_frames, base_channels, base_levels: T_g and C_g of the first base grid; each further one has half the slices
    and twice the channels. local_channels, local_levels: likewise the local grids of the first stage, whose slices are
    the clip's frames; each later stage has half the channels. kernel, stem_kernel: odd.
    upscale, encoding, block: see `hinerv_parts.py`; upscale_norm: normalize before upscaling. fourier_levels: of the
    Fourier encodings. output: sigmoid, tanh (its half plus a half) or linear. Raises `ValueError` on contradictions.
    """

    height: int
    width: int
    frames: int
    strides: tuple[int, ...] = (5, 2, 2, 2)
    channels: int = 136
    depths: tuple[int, ...] = (3, 3, 3, 1)
    expansions: tuple[int, ...] = (4, 4, 4, 1)
    base_frames: int = 40
    base_channels: int = 2
    base_levels: int = 2
    local_channels: int = 4
    local_levels: int = 3
    kernel: int = 3
    stem_kernel: int = 3
    upscale: str = "bilinear"
    upscale_norm: bool = True
    encoding: str = "hierarchical"
    fourier_levels: int = 8
    block: str = "convnext"
    output: str = "sigmoid"

    def __post_init__(self) -> None:
        for name in ("strides", "depths", "expansions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        known = {"upscale": UPSCALES, "encoding": ENCODINGS, "block": BLOCKS, "output": OUTPUTS}
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(names)}")
        counts = (self.height, self.width, self.frames, self.channels, self.base_frames, self.base_channels)
        small = (*self.strides, *self.depths, *self.expansions, self.local_channels, self.fourier_levels)
        levels = (self.base_levels, self.local_levels, self.kernel, self.stem_kernel)
        if min(*counts, *small, *levels) < 1 or max(counts) > 1 << 20 or max(small) > 1024 or max(levels) > 15:
            raise ValueError("sizes, widths, depths, levels and strides must be positive and not absurd")
        if not len(self.strides) == len(self.depths) == len(self.expansions) or len(self.strides) > 16:
            raise ValueError("strides, depths and expansions have one number for each stage, of 1 to 16 stages")
        if math.prod(self.strides) > 4096 or max(self.depths) > 64 or self.kernel % 2 == 0 or self.stem_kernel % 2 == 0:
            raise ValueError("strides multiply to at most 4096, a stage has at most 64 blocks, kernels are odd")

    @property
    def factor(self) -> int:
        """Pixels per cell of the base grids, in both directions."""
        return math.prod(self.strides)

    @property
    def base(self) -> tuple[int, int]:
        """Height and width of the base grids: the frame's divided by all strides, rounded up."""
        return -(-self.height // self.factor), -(-self.width // self.factor)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels after each stage."""
        widths = [self.channels]
        for _ in self.strides[1:]:
            widths.append(max(1, widths[-1] // 2))
        return tuple(widths)

    @property
    def margins(self) -> tuple[int, ...]:
        """Cells that a patch needs around it in the base grids and after each stage's upscaling, from coarse to fine.

        From the last stage backwards: what the blocks look at, plus, in the coarser map, the rounded share of that and
        one cell more for the interpolation. That is enough: with p fine cells to fill, stride s and half-pixel centres,
        interpolation reaches ceil(p/s + 1/2 - 1/(2s)) coarse cells, which is at most round(p/s) + 1; so do the other
        ways of upscaling, but for a 3x3 convolution, which gets one more.
        """
        reach = 0 if self.block == "mlp" else self.kernel // 2
        margins, needed = [], 0
        for stride, depth in zip(reversed(self.strides), reversed(self.depths), strict=True):
            margins.append(needed + depth * reach)
            needed = round(margins[-1] / stride) + (stride > 1) + (self.upscale == "subconv3")
        return (needed + self.stem_kernel // 2, *reversed(margins))


class HiNeRV(VideoModel):
    """A HiNeRV; see the module's drawing."""

    name = "hinerv"
    config_type = HiNeRVConfig

    def __init__(self, config: HiNeRVConfig) -> None:
        super().__init__(config)
        levels = range(config.base_levels)
        self.base_grids = nn.ParameterList(
            new_grid(max(1, config.base_frames >> i), config.base_channels << i, *config.base) for i in levels
        )
        inputs = sum(config.base_channels << i for i in levels)
        kernel = config.stem_kernel
        self.stem = nn.Conv2d(inputs, config.channels, kernel, padding=kernel // 2)
        widths = (config.channels, *config.stage_widths)
        pairs = enumerate(itertools.pairwise(widths))
        self.stages = nn.ModuleList(HiNeRVStage(number, before, after, config) for number, (before, after) in pairs)
        self.head = nn.Conv2d(widths[-1], 3, 1)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
        start_grey(self.head, config.output)

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        """The base grids, then the encodings of each stage."""
        c: HiNeRVConfig = self.config
        grids = [(f"base_grids.{i}", grid) for i, grid in enumerate(self.base_grids)]
        for number, stage in enumerate(self._stages):
            grids += [(f"stages.{number}.encoding.{name}", grid) for name, grid in stage.grids]
        inputs = [_half_pixel(name, len(grid), c.frames) for name, grid in grids]
        if "fourier" in c.encoding:
            inputs.append(TimeInput("encoding", c.frames, 0.5, base=2.0, levels=c.fourier_levels))
        return tuple(inputs)

    @property
    def prunable(self) -> tuple[str, ...]:
        """The kernels but those of the head and of the local encodings, as in the paper's code."""
        return tuple(name for name in super().prunable if ".encoding." not in name)

    def decode(self, *inputs: Tensor) -> Tensor:
        """Slices of the grids, each (B, C, h, w), to (B, 3, H, W)."""
        c: HiNeRVConfig = self.config
        return cut(self._draw(inputs, None), c.height, c.width)

    def forward_patches(
        self, times: Sequence[float], places: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> Tensor:
        """RGB (B, 3, *size): a patch of each moment; the same pixels as in the whole frame.

        places: row and column of each patch's first pixel; they and size (height, width) are multiples of the strides'
        product. Where strides do not divide the frame, patches at its end reach over it. Raises `ValueError` on others.
        """
        c: HiNeRVConfig = self.config
        corners, cells = torch.tensor(places) // c.factor, torch.tensor(size) // c.factor
        whole = torch.equal(corners * c.factor, torch.tensor(places)) and torch.equal(
            cells * c.factor, torch.tensor(size)
        )
        inside = bool((corners >= 0).all() and (corners + cells <= torch.tensor(c.base)).all() and (cells > 0).all())
        if len(places) != len(times) or not whole or not inside:
            raise ValueError(f"patches lie at multiples of {c.factor} in the frame, found {size} at {places}")
        corners = corners.to(self.base_grids[0].device)
        coarse = Window(corners, (size[0] // c.factor, size[1] // c.factor), c.base, c.margins[0])
        x = self._draw(self.sample(times), coarse)
        margin = c.margins[-1]
        return x[:, :, margin : margin + size[0], margin : margin + size[1]]

    @property
    def _stages(self) -> list[HiNeRVStage]:
        return [stage for stage in self.stages if isinstance(stage, HiNeRVStage)]

    def _draw(self, inputs: Sequence[Tensor], window: Window | None) -> Tensor:
        """All the frame, or the windows with their margins."""
        c: HiNeRVConfig = self.config
        rest = iter(inputs[c.base_levels :])
        x = torch.cat(list(inputs[: c.base_levels]), dim=1)
        x = self.stem(x if window is None else window.cut(x))
        x = x if window is None else window.keep(x)
        for stage, margin in zip(self._stages, c.margins[1:], strict=True):
            finer = window.finer(stage.stride, margin) if window else None
            samples = [next(rest) for _ in stage.grids]
            x = stage(x, [*samples, *([inputs[-1]] if "fourier" in c.encoding else [])], window, finer)
            window = finer
        return to_picture(self.head(x), c.output)


def _half_pixel(grid: str, length: int, frames: int) -> TimeInput:
    """Blend `length` slices to `frames` moments; both are cells of equal size, a moment stands in its cell's middle."""
    stride = frames / length
    return TimeInput("lerp", length, 0.5 - 0.5 * stride, stride, grid=grid)
