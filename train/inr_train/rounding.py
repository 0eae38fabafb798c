"""How many bits the weights of float layers need: measured once, where quantization begins.

Weights of int8 layers have at most 8 bits, and training with their rounding makes up for it. A network whose sums pass
through sines, or that is far above 40 dB, cannot make up for all of it: there every bit counts, and each costs an
eighth more. Before it is trained for, rounding costs about three times what it costs in the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from inr_train.models import VideoModel
from inr_train.quantization import QuantizedModel
from inr_train.trace import Trace

CHOICES = (8, 9, 10, 11, 12, 14)
ROUNDING_DB = 0.25
"""What rounding the weights of float layers may cost before training for it."""
PLACES = 4


@torch.no_grad()
def settle_float_bits(
    model: VideoModel, trace: Trace, bits: tuple[int, int], frames: int, quality_db: float | None
) -> tuple[int, list[dict[str, Any]]]:
    """The fewest bits with which the weights of float layers cost little, and what each number of bits was found to.

    bits: of the int8 layers' weights, which are the fewest, and of biases. frames: of the clip. quality_db: PSNR that
    the model has without rounding; None keeps the bits as they are, as do less than 8.
    """
    if quality_db is None or bits[0] < CHOICES[0]:
        return bits[0], []
    times = sorted({(2 * i + 1) * frames // (2 * PLACES) for i in range(PLACES)})
    places = model.calibration(times)
    places = [places[i * len(places) // PLACES] for i in range(PLACES)] if len(places) > PLACES else places
    exact = _predictions(model, trace, (*bits, 16), places)
    trade: list[dict[str, Any]] = []
    for choice in CHOICES:
        rounded = _predictions(model, trace, (*bits, choice), places)
        noise = torch.stack([(a - b).square().mean() for a, b in zip(exact, rounded, strict=True)]).mean()
        loss = 10 * math.log10(1 + float(noise) * 10 ** (quality_db / 10))
        trade.append({"bits": choice, "loss_db": loss})
        if loss <= ROUNDING_DB:
            break
    return trade[-1]["bits"], trade


def _predictions(
    model: VideoModel, trace: Trace, bits: tuple[int, int, int], places: Sequence[Any]
) -> list[torch.Tensor]:
    network = QuantizedModel(model, trace, bits)
    values = [network(part) for part in places]
    # As PSNR takes it: sound in [-1, 1] as half as large, and nothing beyond the range.
    if trace.graph.result == "pcm_f32":
        return [(v.clamp(-1, 1) + 1) / 2 for v in values]
    return [v.clamp(0, 1) for v in values]
