"""A model as a file holds it, in PyTorch: its integers, and not what the model's own weights would be rounded to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inr_runtime.int8plan import Range
from inr_runtime.tensors import QuantTensor
from inr_train.bits import Bits
from inr_train.models import VideoModel
from inr_train.quantization import QuantizedModel
from inr_train.trace import Trace


class StoredModel(QuantizedModel):
    """The imitation of a file. weights: one for each of the graph's. ranges: of activations; float without them."""

    def __init__(
        self,
        model: VideoModel,
        traced: Trace,
        bits: Bits,
        weights: Sequence[QuantTensor],
        ranges: Mapping[str, Range] | None = None,
    ) -> None:
        super().__init__(model, traced, bits, ranges)
        self.stored = [torch.from_numpy(w.dequantize()) for w in weights]

    def quantized_weights(self) -> list[Tensor]:
        """What the file holds."""
        return self.stored
