"""The encoder of HNeRV: strided convolutions with a ConvNeXt block after each. Needed for training only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6


class ConvNeXtEncoder(nn.Module):
    """Frames (B, 3, H, W) to embeddings (B, d, H / prod(strides), W / prod(strides)).

    Weights are drawn from a normal distribution of deviation 0.02, cut at two deviations of 1; biases are zero.
    """

    def __init__(self, strides: Sequence[int], width: int, embedding: int) -> None:
        super().__init__()
        widths = [3, *[width] * (len(strides) - 1), embedding]
        stages: list[nn.Module] = []
        for i, stride in enumerate(strides):
            down = nn.Conv2d(widths[i], widths[i + 1], stride, stride)
            norm = ChannelNorm(widths[i + 1] if i == 0 else widths[i])
            stages += [down, norm] if i == 0 else [norm, down]
            stages.append(ConvNeXtBlock(widths[i + 1]))
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        result: Tensor = self.stages(frames)
        return result


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, norm, 1x1 to four times the width, GELU, 1x1 back, a learned scale, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = ChannelNorm(width)
        self.widen, self.narrow = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        y = self.norm(self.depthwise(x))
        result: Tensor = x + self.scale * self.narrow(F.gelu(self.widen(y)))
        return result


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of (B, C, h, w), with scale and bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, EPSILON)
        return y.permute(0, 3, 1, 2)
