"""Networks of coordinates: f(x, y) for a picture, f(x, y, t) for video, f(t) for sound; drawn pixel by pixel.

    x ─► encoding ─► 1x1 ─┐  (h, 1, w)                        picture of any size, in tiles of one size
    y ─► encoding ─► 1x1 ─┼► + ─► act ─► [ 1x1 ─► act ] x (depth - 1) ─► 1x1 ─► (3, th, tw), or sound (channels, 1, tw)
    t ─► encoding ─► 1x1 ─┘  (h, 1, 1)

SIREN (Sitzmann et al., NeurIPS 2020): coordinates as they are, act = sin(omega z), and its initialization. NeRF
(Mildenhall et al., ECCV 2020): coordinates encoded as sines and cosines of frequencies 2^k pi, act = ReLU.

A layer that reads all coordinates is the sum of one layer per axis: so the first one costs a row and a column of a
tile, and nothing inside the graph depends on the size of the picture. In training, each pixel is a tile of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inr_runtime.graph import RESULTS
from inr_runtime.tiles import count_tiles
from inr_train.models.base import Places, TimeInput, VideoModel, time_tensor

PART = 1 << 14
"""Pixels that are computed at once outside of training."""
CALIBRATION_PARTS = 16
TABLE_PLACES = 1 << 16
"""An axis of at most as many places is encoded once; of a longer one, a sound's, only what a step draws."""


@dataclass(frozen=True)
class CoordinateConfig:
    """What both kinds of coordinate networks have in common.

    height, width, frames: of the clip; a side of 1 is no axis. Of sound, width is the number of samples. hidden,
    depth: width and number of hidden layers. channels, result: 3 and rgb8, or those of sound and pcm_f32. tile_height,
    tile_width: what the graph in the file draws at once; 0 takes 64 x 64, and 4096 where the height is 1. Raises
    `ValueError` on contradictions.
    """

    height: int
    width: int
    frames: int
    hidden: int = 64
    depth: int = 4
    channels: int = 3
    result: str = "rgb8"
    tile_height: int = 0
    tile_width: int = 0

    def __post_init__(self) -> None:
        sides = (self.height, self.width, self.frames)
        if min(sides) < 1 or max(sides) > 1 << 30 or not (1 <= self.hidden <= 8192 and 1 <= self.depth <= 64):
            raise ValueError("sizes and widths must be positive and not absurd, the depth lies in 1 to 64")
        if not (0 <= self.tile_height <= 4096 and 0 <= self.tile_width <= 1 << 16):
            raise ValueError("a tile has at most 65536x4096 pixels")
        sound = self.result == "pcm_f32"
        if self.result not in RESULTS or not 1 <= self.channels <= 64 or (not sound and self.channels != 3):
            raise ValueError("pictures have 3 channels, sound 1 to 64")
        if sound and self.height * self.frames != 1:
            raise ValueError("sound is one row of samples")

    @property
    def axes(self) -> dict[str, int]:
        """Name and extent of the axes, in the order of the graph's inputs; x is always there."""
        return {"x": self.width} | {k: n for k, n in (("y", self.height), ("t", self.frames)) if n > 1}

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of a tile."""
        flat = self.height == 1
        return self.tile_width or (4096 if flat else 64), 1 if flat else self.tile_height or 64

    def for_sound(self, channels: int) -> Any:
        """The same for the samples of a sound."""
        return replace(self, channels=channels, result="pcm_f32")

    def levels_of(self, axis: str) -> int:
        """Levels of the encoding of an axis; 0 for the coordinate itself."""
        return 0


@dataclass(frozen=True)
class SirenConfig(CoordinateConfig):
    """A SIREN. omega_first, omega: of the first and of the other sines."""

    omega_first: float = 30.0
    omega: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.omega_first <= 1e6 and 0 < self.omega <= 1e3):
            raise ValueError("omega lies in 0 to 1000, that of the first layer in 0 to 1e6")

    def for_sound(self, channels: int) -> SirenConfig:
        """The same for the samples of a sound, which swings far more often than a picture has edges.

        As the paper's program: omega 3000 for the first layer of seven seconds at 44.1 kHz, and in proportion.
        """
        omega = max(self.omega_first, self.width / 100)
        return replace(self, channels=channels, result="pcm_f32", omega_first=omega)


@dataclass(frozen=True)
class NeRFConfig(CoordinateConfig):
    """A ReLU network of encoded coordinates. levels, time_levels: frequencies 2^0 to 2^(l-1) pi of x, y, and of t."""

    levels: int = 10
    time_levels: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.levels <= 32 and 0 <= self.time_levels <= 32):
            raise ValueError("levels lie in 0 to 32")

    def levels_of(self, axis: str) -> int:
        """Levels of the encoding of an axis."""
        return self.time_levels if axis == "t" else self.levels


class CoordinateNetwork(VideoModel):
    """What both kinds share; see the module's drawing.

    Places are numbers of pixels, int64 (N,), that count through a row, then the rows, then the frames; or those of a
    single frame and the moment, which may lie between frames.
    """

    pixelwise: ClassVar[bool] = True
    role: ClassVar[str] = "tile"
    edges: ClassVar[tuple[str, ...]] = ("first.", "head.")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        c: CoordinateConfig = config
        inputs = {axis: max(1, 2 * c.levels_of(axis)) for axis in c.axes}
        # One bias is enough for the sum; it belongs to the first axis.
        self.first = nn.ModuleDict({a: nn.Conv2d(n, c.hidden, 1, bias=a == "x") for a, n in inputs.items()})
        self.hidden = nn.ModuleList(nn.Conv2d(c.hidden, c.hidden, 1) for _ in range(c.depth - 1))
        self.head = nn.Conv2d(c.hidden, c.channels, 1)
        self._tables: dict[tuple[str, torch.device], Tensor] = {}
        self._initialize(sum(inputs.values()))
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, 0.0 if c.result == "pcm_f32" else 0.5)

    def _initialize(self, inputs: int) -> None:
        """Draw all weights; inputs: of the first layer, all axes together."""
        raise NotImplementedError

    def _activate(self, x: Tensor, layer: int) -> Tensor:
        raise NotImplementedError

    @property
    def result(self) -> str:
        """Pictures or sound."""
        return str(self.config.result)

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        """The axes: of a tile x and y, of the clip t."""
        c: CoordinateConfig = self.config
        lengths = {"x": c.tile[0], "y": c.tile[1], "t": c.frames}
        return tuple(TimeInput(axis, lengths[axis], base=2.0, levels=c.levels_of(axis)) for axis in c.axes)

    def decode(self, *inputs: Tensor) -> Tensor:
        """Encoded axes (1, C, 1, w), (1, C, h, 1), (1, C, 1, 1), or each of them (1, C, 1, N), to (1, 3, h, w)."""
        x, *others = (layer(axis) for layer, axis in zip(self.first.values(), inputs, strict=True))
        for other in others:
            x = x + other
        x = self._activate(x, 0)
        for number, layer in enumerate(self.hidden, 1):
            x = self._activate(layer(x), number)
        result: Tensor = self.head(x)
        return result

    def forward(self, times: Places, frames: Tensor | None = None) -> Tensor:
        """Values of some pixels: (1, channels, 1, N)."""
        return self.decode(*self.sample(times))

    def sample(self, times: Places, grids: Mapping[str, Tensor] | None = None) -> tuple[Tensor, ...]:
        """Encoded coordinates of some pixels, one tensor (1, C, 1, N) per axis."""
        c: CoordinateConfig = self.config
        device = self.head.weight.device
        index, moment = times if isinstance(times, tuple) else (times, None)
        index = index.to(device)
        places = {"x": index % c.width, "y": index // c.width % c.height, "t": index // (c.width * c.height)}
        inputs = {axis: self._encoded(axis, places[axis])[None, :, None] for axis in c.axes}
        if moment is not None and "t" in inputs:
            (time,) = (t for t in self.time_inputs if t.rule == "t")
            inputs["t"] = torch.from_numpy(time_tensor(time).sample(moment)).to(device)
        return tuple(inputs.values())

    @property
    def floats_per_pixel(self) -> int:
        """Argument, result and gradient of every hidden unit."""
        return int(3 * self.config.hidden * self.config.depth)

    @classmethod
    def count_items(cls, shape: Sequence[int]) -> int:
        """Pixels of the clip."""
        return shape[0] * shape[2] * shape[3]

    def draw(self, frames: Tensor, size: int, seed: int, step: int) -> tuple[Places, Tensor]:
        """Pixels at random from the whole clip, or all of them where the batch is as large: (1, C, 1, N)."""
        pixels = frames.permute(0, 2, 3, 1).reshape(-1, frames.shape[1])
        if size >= len(pixels):
            index = torch.arange(len(pixels), device=frames.device)
        else:
            generator = torch.Generator(frames.device).manual_seed(seed * 1_000_003 + step)
            index = torch.randint(len(pixels), (size,), generator=generator, device=frames.device)
        return index, pixels[index].t()[None, :, None]

    def parts(self, index: float) -> list[tuple[Tensor, float]]:
        """All pixels of a frame, some at a time."""
        return [(part, float(index)) for part in torch.arange(self.config.width * self.config.height).split(PART)]

    def calibration(self, times: Sequence[float]) -> list[Tensor]:
        """Pixels at random: some hundred thousand tell as much of a range as all."""
        c: CoordinateConfig = self.config
        count = c.width * c.height * c.frames
        if count <= CALIBRATION_PARTS * PART:
            return list(torch.arange(count).split(PART))
        generator = torch.Generator().manual_seed(0)
        return [torch.randint(count, (PART,), generator=generator) for _ in range(CALIBRATION_PARTS)]

    @property
    def runs_per_frame(self) -> int:
        """Tiles of a frame; of sound, of all."""
        return count_tiles((self.config.width, self.config.height), self.config.tile)

    @property
    def prunable(self) -> tuple[str, ...]:
        """The hidden layers."""
        return tuple(n for n in self.weights if n.startswith("hidden.") and n.endswith(".weight"))

    def _encoded(self, axis: str, places: Tensor) -> Tensor:
        """The encoding of some places of an axis, int64 (N,): (C, N)."""
        size, levels = self.config.axes[axis], self.config.levels_of(axis)
        if size > TABLE_PLACES:
            return _encode(places, size, levels)
        key = (axis, places.device)
        if key not in self._tables:
            self._tables[key] = _encode(torch.arange(size, device=places.device), size, levels)
        return self._tables[key].index_select(1, places)


def _encode(places: Tensor, size: int, levels: int) -> Tensor:
    """What `inr_runtime.sample.encode_positions` gives with base 2 for places of an axis, on their device."""
    coordinates = (2 * places.double() + 1) / size - 1
    if levels == 0:
        return coordinates[None].float()
    octaves = torch.arange(levels, dtype=torch.double, device=places.device)
    angle = (math.pi * 2.0**octaves)[:, None] * coordinates
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=1).flatten(0, 1).float()


class Siren(CoordinateNetwork):
    """A SIREN: sines of coordinates, initialized so that every layer's argument spreads alike (section 3.2, eq. 1)."""

    name = "siren"
    config_type = SirenConfig
    needs_float32 = True

    @property
    def precise(self) -> tuple[str, ...]:
        """Biases, and the first layer: its numbers are frequencies."""
        return tuple(n for n in self.weights if n.startswith("first.") or n.endswith(".bias"))

    @torch.no_grad()
    def _initialize(self, inputs: int) -> None:
        c: SirenConfig = self.config
        for layer in self.first.values():
            nn.init.uniform_(layer.weight, -1 / inputs, 1 / inputs)  # type: ignore[arg-type]
        bound = math.sqrt(6 / c.hidden) / c.omega
        for layer in (*self.hidden, self.head):
            nn.init.uniform_(layer.weight, -bound, bound)  # type: ignore[arg-type]

    def _activate(self, x: Tensor, layer: int) -> Tensor:
        c: SirenConfig = self.config
        return torch.sin((c.omega if layer else c.omega_first) * x)


class NeRF(CoordinateNetwork):
    """A ReLU network of encoded coordinates, with PyTorch's Kaiming initialization for ReLU."""

    name = "nerf"
    config_type = NeRFConfig

    @torch.no_grad()
    def _initialize(self, inputs: int) -> None:
        for layer in self.first.values():
            nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))  # type: ignore[arg-type]
        for layer in self.hidden:
            nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]

    def _activate(self, x: Tensor, layer: int) -> Tensor:
        return torch.relu(x)


def solve_hidden(parameters: int, config: CoordinateConfig) -> int:
    """The width of the hidden layers with which a network of this depth has about `parameters` numbers."""
    inputs = sum(max(1, 2 * config.levels_of(axis)) for axis in config.axes)
    a, b = max(1, config.depth - 1), inputs + config.depth + config.channels
    if config.depth == 1:
        return max(1, parameters // b)
    return max(1, round((-b + math.sqrt(b * b + 4 * a * parameters)) / (2 * a)))
