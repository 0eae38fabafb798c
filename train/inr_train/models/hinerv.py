"""HiNeRV (Kwan et al., NeurIPS 2023): learned grids, few channels at high resolution, bilinear upscaling.

    base grids ─► blend in time ─► 3x3 ─► [ stage ] x strides ─► 1x1 ─► sigmoid ─► frame
    (T_g, C_g, h, w), (T_g/2, 2 C_g, h, w)     │ (C, h, w)             (3, H, W)
                                               └ norm ─► bilinear x s ─► + local encoding ─► blocks
                                                                          │                   └ see `hinerv_parts.py`
        local grids (T, C_l, s, s), (T/2, 2 C_l, s, s), ... ─► blend ─► 1x1, one s x s tile for all the frame

A frame can be drawn in patches, each with the margin that its convolutions look at: the same pixels as in the whole
frame, so training may use either (`patch`). The frame is cut to its size in the graph where strides do not divide it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inr_train.models.base import Places, TimeInput, VideoModel, placed
from inr_train.models.hinerv_parts import BLOCKS, ENCODINGS, UPSCALES, HiNeRVStage, new_grid
from inr_train.models.hinerv_patches import Patches, Window, draw_patches, tiling
from inr_train.models.picture import OUTPUTS, cut, start_grey, to_picture

CONTEXTS = ("margin", "none")
"""What a patch sees around it: what its convolutions look at, or nothing."""


@dataclass(frozen=True)
class HiNeRVConfig:
    """Everything that defines a HiNeRV.

    height, width, frames: of the clip. strides: upscaling of each stage. channels: after the first stage; each later
    one has half of it. depths, expansions: blocks of each stage, and how much wider they are inside.
    base_frames, base_channels, base_levels: T_g and C_g of the first base grid; each further one has half the slices
    and twice the channels. local_channels, local_levels: likewise the local grids of the first stage, whose slices are
    the clip's frames; each later stage has half the channels. kernel, stem_kernel: odd.
    upscale, encoding, block: see `hinerv_parts.py`; upscale_norm: normalize before upscaling. fourier_levels: of the
    Fourier encodings. output: sigmoid, tanh (its half plus a half) or linear.
    patch: height and width in pixels of what a training step draws, one number for squares, 0 for whole frames;
    multiples of the strides' product. Steps that imitate integers draw whole frames anyway. patch_context: `margin`: a
    patch is a piece of the frame; `none`: a picture of its own, which no file can hold (the paper's V10). Raises
    `ValueError` on contradictions.
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
    patch: tuple[int, ...] = (0,)
    patch_context: str = "margin"

    def __post_init__(self) -> None:
        for name in ("strides", "depths", "expansions", "patch"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        known = {"upscale": UPSCALES, "encoding": ENCODINGS, "block": BLOCKS, "output": OUTPUTS}
        known["patch_context"] = CONTEXTS
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
        self._check_patch()

    def _check_patch(self) -> None:
        size, step = self.patch_size, self.factor
        most = [n * step for n in self.base]
        if len(self.patch) not in (1, 2) or (
            size and any(n % step or not 0 < n <= m for n, m in zip(size, most, strict=True))
        ):
            sides = f"multiples of {step} (the product of its strides), at most {most[0]} high and {most[1]} wide"
            raise ValueError(f"the sides of a patch are {sides}, or 0 for whole frames, not {self.patch}")
        if self.patch_context == "none" and size is None:
            raise ValueError("patches that see nothing around them need a size: patch is 0")

    @property
    def patch_size(self) -> tuple[int, int] | None:
        """Height and width of a patch, None for whole frames."""
        return None if self.patch == (0,) else (self.patch[0], self.patch[-1])

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
        if self.patch_context == "none":
            return (0,) * (len(self.strides) + 1)
        reach = 0 if self.block == "mlp" else self.kernel // 2
        margins, needed = [], 0
        for stride, depth in zip(reversed(self.strides), reversed(self.depths), strict=True):
            margins.append(needed + depth * reach)
            needed = round(margins[-1] / stride) + (stride > 1) + (self.upscale == "subconv3")
        return (needed + self.stem_kernel // 2, *reversed(margins))

    @property
    def patch_overhead(self) -> float:
        """Numbers that the blocks compute for all patches of a frame, margins included, against those of the frame."""
        if self.patch_size is None:
            return 1.0
        count, (height, width) = math.prod(tiling((self.height, self.width), self.patch_size)), self.patch_size
        frame, patches, fine = 0, 0, 1
        for i, stride in enumerate(self.strides):
            fine, numbers, margin = fine * stride, self.stage_widths[i] * self.depths[i], 2 * self.margins[i + 1]
            size = (height * fine // self.factor + margin, width * fine // self.factor + margin)
            frame += numbers * math.prod(self.base) * fine**2
            patches += numbers * count * math.prod(size)
        return patches / frame


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
        x = self._draw(inputs, None) if c.patch_context == "margin" else self._draw_apart(inputs)
        return cut(x, c.height, c.width)

    def forward(self, times: Places, frames: Tensor | None = None) -> Tensor:
        """RGB (B, 3, H, W) at some moments, or (B, 3, h, w) of patches: beyond the frame's end, those of `frames`."""
        if not isinstance(times, Patches):
            return super().forward(times, frames)
        x = self._draw_patches(times)
        return x if frames is None else times.within(x, frames)

    @property
    def patch_size(self) -> tuple[int, int] | None:
        """As configured."""
        size: tuple[int, int] | None = self.config.patch_size
        return size

    @property
    def untraceable(self) -> str:
        """Patches apart from each other are no picture that one graph draws."""
        apart = self.config.patch_context == "none"
        return "no file can hold patches without context: use patch_context=margin, or --quantize none" if apart else ""

    @property
    def floats_per_pixel(self) -> int:
        """As of whole frames, and for the margins of patches."""
        c: HiNeRVConfig = self.config
        return round(super().floats_per_pixel * c.patch_overhead)

    def draw(self, frames: Tensor, size: int, seed: int, step: int) -> tuple[Places, Tensor]:
        """Whole frames, or as many pixels in patches from the whole clip."""
        if self.patch_size is None:
            return super().draw(frames, size, seed, step)
        return draw_patches(frames, self.patch_size, size, seed, step)

    def draw_traced(self, frames: Tensor, size: int, seed: int, step: int) -> tuple[Places, Tensor]:
        """Whole frames."""
        return super().draw(frames, size, seed, step)

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
        return self._draw_patches(Patches(times, torch.tensor(places), size, (c.height, c.width)))

    def _draw_patches(self, patches: Patches) -> Tensor:
        return self._draw_pieces(self.sample(patches.times), patches.corners, patches.size)

    def _draw_apart(self, inputs: Sequence[Tensor]) -> Tensor:
        """All the frame, put together from patches."""
        c: HiNeRVConfig = self.config
        assert c.patch_size is not None
        (height, width), batch = c.patch_size, len(inputs[0])
        rows, columns = tiling((c.height, c.width), c.patch_size)
        places = [(y * height, x * width) for y in range(rows) for x in range(columns)]
        repeated = [x.repeat_interleave(len(places), dim=0) for x in inputs]
        pieces = self._draw_pieces(repeated, torch.tensor(places * batch), c.patch_size)
        grid = pieces.reshape(batch, rows, columns, 3, height, width).permute(0, 3, 1, 4, 2, 5)
        return grid.reshape(batch, 3, rows * height, columns * width)

    def _draw_pieces(self, inputs: Sequence[Tensor], corners: Tensor, size: tuple[int, int]) -> Tensor:
        """A piece of each input's frame: (B, 3, *size). corners: (B, 2), in pixels."""
        c: HiNeRVConfig = self.config
        cells = placed(corners // c.factor, self.base_grids[0].device)
        coarse = Window(cells, (size[0] // c.factor, size[1] // c.factor), c.base, c.margins[0])
        x, margin = self._draw(inputs, coarse), c.margins[-1]
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
