"""The contract of every representation: `decode(sample(t))` is the frame at time t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inr_runtime.sample import TimeTensor


class VideoModel(nn.Module):
    """A video as a network. Bring your own by subclassing.

    A subclass has a `name`, a frozen dataclass `config_type` as its only constructor argument, `time_tensors`, and
    `decode`. `decode` must be traceable to the operators of `inr_runtime.ops` with static shapes; use 1x1
    convolutions rather than linear layers. The host samples the time tensors; no network ever sees time itself.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def time_tensors(self) -> tuple[TimeTensor, ...]:
        """What `sample` reads, one per input of `decode`."""
        raise NotImplementedError

    @property
    def prunable(self) -> tuple[str, ...]:
        """Names of the parameters that pruning may thin out; by default every weight but biases and the `head`."""
        return tuple(n for n, p in self.named_parameters() if p.ndim > 1 and not n.startswith("head."))

    def decode(self, *inputs: Tensor) -> Tensor:
        """Sampled inputs, each (B, ...), to RGB (B, 3, H, W), nominally in [0, 1]; not clipped."""
        raise NotImplementedError

    def sample(self, times: Sequence[float]) -> tuple[Tensor, ...]:
        """Inputs of `decode` for some moments, in frames from the clip's start; float32 (len(times), ...), CPU."""
        rows = [[torch.from_numpy(t.sample(float(time))) for t in self.time_tensors] for time in times]
        return tuple(torch.cat(column) for column in zip(*rows, strict=True))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Same as `decode`."""
        return self.decode(*inputs)
