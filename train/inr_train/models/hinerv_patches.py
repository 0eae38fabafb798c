"""Where patches lie in a feature map, with the margin that convolutions look at.

A window holds cells outside the frame as well. They are zero before every convolution (`keep`), as a whole frame's
padding is, and repeat the border before interpolation (`upscale`), as a whole frame's interpolation does.

    frame
    ┌────────────────┐
    │       ┌ ─ ─ ─ ─ ─ ┐ window = patch + margin
    │         ┌──────┐
    │       │ │patch │  │
    │         └──────┘
    └───────└ ─ ─ ─ ─ ─ ┘

In training (`draw_patches`) the patches tile the frames, and each is drawn once an epoch. Where they do not divide the
frame, the last ones reach over its end; what is drawn there is replaced by what is asked for, and teaches nothing. So
every pixel counts the same, whatever the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from inr_train.models.base import placed


@dataclass(frozen=True)
class Patches:
    """Places that a network learns from: a patch of each moment. Corners are multiples of the patches' size.

    times: in frames. corners: int64 (B, 2), row and column of each patch's first pixel. size: height and width in
    pixels. frame: those of the frame; patches may reach over its end.
    """

    times: Sequence[float]
    corners: Tensor
    size: tuple[int, int]
    frame: tuple[int, int]

    @cached_property
    def pixels(self) -> tuple[Tensor, Tensor]:
        """Rows (B, h) and columns (B, w); some may lie beyond the frame."""
        rows, columns = (self.corners[:, i : i + 1] + torch.arange(n) for i, n in enumerate(self.size))
        return rows, columns

    def cut(self, frames: Tensor) -> Tensor:
        """The patches of whole frames, (T, C, H, W) to (B, C, h, w), the border repeated beyond the frame."""
        device, sides = frames.device, zip(self.pixels, self.frame, strict=True)
        rows, columns = (placed(p.clamp(max=n - 1), device) for p, n in sides)
        times = placed(torch.tensor([int(t) for t in self.times]), device)
        return frames.permute(0, 2, 3, 1)[times[:, None, None], rows[:, :, None], columns[:, None, :]].permute(
            0, 3, 1, 2
        )

    def within(self, x: Tensor, beyond: Tensor) -> Tensor:
        """x within the frame, `beyond` elsewhere, both (B, C, h, w)."""
        if all(n % m == 0 for n, m in zip(self.frame, self.size, strict=True)):
            return x
        rows, columns = (placed(p < n, x.device) for p, n in zip(self.pixels, self.frame, strict=True))
        return torch.where(rows[:, None, :, None] & columns[:, None, None, :], x, beyond)


def tiling(frame: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches of a size that cover a frame."""
    return -(-frame[0] // size[0]), -(-frame[1] // size[1])


def draw_patches(frames: Tensor, patch: tuple[int, int], size: int, seed: int, step: int) -> tuple[Patches, Tensor]:
    """The batch of a step: places, and what is to be seen there, (B, C, *patch) of the clip's own type.

    frames: (T, C, H, W), the whole clip. size: frames; a step has as many patches as cover so many. They come from the
    whole clip, in a fresh order every epoch that follows from seed and step alone.
    """
    count, frame = len(frames), (frames.shape[2], frames.shape[3])
    rows, columns = tiling(frame, patch)
    epoch, place = divmod(step, max(1, count // size))
    order = torch.randperm(count * rows * columns, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    batch = min(size, count) * rows * columns
    chosen = order[place * batch : (place + 1) * batch]
    corners = torch.stack([chosen // columns % rows * patch[0], chosen % columns * patch[1]], dim=1)
    patches = Patches((chosen // (rows * columns)).tolist(), corners, patch, frame)
    return patches, patches.cut(frames)


@dataclass(frozen=True)
class Window:
    """One window for each picture of a batch, all of the same size.

    corners: (B, 2), row and column of the patches' first cells. patch: their height and width without margin. frame:
    height and width of the whole feature map.
    """

    corners: Tensor
    patch: tuple[int, int]
    frame: tuple[int, int]
    margin: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width with margin."""
        return self.patch[0] + 2 * self.margin, self.patch[1] + 2 * self.margin

    def finer(self, stride: int, margin: int) -> Window:
        """The same patches after upscaling, with another margin."""
        patch, frame = ((n * stride, m * stride) for n, m in (self.patch, self.frame))
        return Window(self.corners * stride, patch, frame, margin)

    @cached_property
    def cells(self) -> tuple[Tensor, Tensor]:
        """Rows (B, h) and columns (B, w) in the whole map; some lie outside."""
        rows, columns = (torch.arange(n, device=self.corners.device) - self.margin for n in self.size)
        return self.corners[:, :1] + rows, self.corners[:, 1:] + columns

    @cached_property
    def inner_cells(self) -> tuple[Tensor, Tensor]:
        """`cells`, those outside replaced by the nearest inside."""
        return self.cells[0].clamp(0, self.frame[0] - 1), self.cells[1].clamp(0, self.frame[1] - 1)

    @cached_property
    def mask(self) -> Tensor:
        """(B, 1, h, w): 1 inside the frame, 0 outside."""
        rows, columns = ((inner == cell).float() for inner, cell in zip(self.inner_cells, self.cells, strict=True))
        return rows[:, None, :, None] * columns[:, None, None, :]

    def keep(self, x: Tensor) -> Tensor:
        """(B, C, h, w) with zeros outside the frame."""
        return x * self.mask.to(x.dtype)

    def cut(self, x: Tensor) -> Tensor:
        """The windows of a whole map: (B, C, H, W) to (B, C, h, w), zero outside the frame."""
        return self.keep(_pick(x, *self.inner_cells))

    def repeat_border(self, x: Tensor) -> Tensor:
        """(B, C, h, w) with what lies outside the frame replaced by the nearest inside."""
        rows, columns = (inner - cell[:, :1] for inner, cell in zip(self.inner_cells, self.cells, strict=True))
        return _pick(x, rows, columns)

    def upscale(self, x: Tensor, finer: Window, resize: Callable[[Tensor], Tensor]) -> Tensor:
        """Resize with the border repeated, then keep the finer windows: (B, C, h, w) to (B, C, h', w')."""
        return self.crop(resize(self.repeat_border(x)), finer)

    def crop(self, x: Tensor, finer: Window) -> Tensor:
        """The finer windows of these windows, upscaled already."""
        stride = finer.patch[0] // self.patch[0]
        first = self.margin * stride - finer.margin
        return x[:, :, first : first + finer.size[0], first : first + finer.size[1]]

    def tile(self, pattern: Tensor) -> Tensor:
        """Repeat a pattern (B, C, s, s) that begins at the frame's corner over the windows: (B, C, h, w).

        The patches' corners are multiples of s.
        """
        side = pattern.shape[-1]
        shifted = pattern.roll((self.margin % side, self.margin % side), (2, 3))
        tiles = [-(-n // side) for n in self.size]
        return shifted.repeat(1, 1, *tiles)[:, :, : self.size[0], : self.size[1]]


def _pick(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, C, h, w) at rows (B, m) and columns (B, n): (B, C, m, n)."""
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def interpolate(x: Tensor, stride: int, mode: str) -> Tensor:
    """(B, C, h, w) to (B, C, h*s, w*s), `bilinear` between cells' centres or `nearest`."""
    size = [n * stride for n in x.shape[2:]]
    return F.interpolate(x, size, mode=mode, align_corners=False if mode == "bilinear" else None)
