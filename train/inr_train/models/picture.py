"""From a network's last feature map to a picture: what every representation of whole frames ends with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OUTPUTS = ("tanh", "sigmoid", "linear")
"""Output functions; `linear` leaves clipping to [0, 1] to the player."""


def start_grey(head: nn.Conv2d, output: str) -> None:
    """Begin in the middle of [0, 1] where no output function does that."""
    if output == "linear":
        assert head.bias is not None
        nn.init.constant_(head.bias, 0.5)


def to_picture(x: Tensor, output: str) -> Tensor:
    """The head's result, any shape, through the output function of that name; tanh is (tanh x + 1) / 2."""
    if output == "tanh":
        return (torch.tanh(x) + 1) * 0.5
    return torch.sigmoid(x) if output == "sigmoid" else x


def cut(x: Tensor, height: int, width: int) -> Tensor:
    """(B, C, H, W) without what strides made beyond the frame."""
    return x if x.shape[2:] == (height, width) else x[:, :, :height, :width]
