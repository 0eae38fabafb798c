"""How many bits the weights of float layers and the grids need: measured once, where quantization begins.

Weights of int8 layers have at most 8 bits, and rounding them together makes up for most of it. A network whose sums
pass through sines, or that is far above 40 dB, cannot make up for all of it: there every bit counts, and each costs an
eighth more. Grids are the other extreme: a number of a grid is seen by few pixels, behind weights that are small, and
8 bits are more than anybody sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inr_train.bits import Bits
from inr_train.clip import spread
from inr_train.models import VideoModel
from inr_train.quantization import QuantizedModel
from inr_train.timing import warm_seconds
from inr_train.trace import Trace

CHOICES = (8, 9, 10, 11, 12, 14)
ROUNDING_DB = 0.25
"""What rounding the weights of float layers may cost before training for it."""
GRIDS_DB = 0.02
"""What rounding the grids may cost in all."""
LEAST_GRID_BITS, MOST_GRID_BITS = 4, 8
PROBE = 6
"""Bits of a grid where its noise is measured: enough that it is seen, few enough that nothing else happens."""
PLACES = 4


@torch.no_grad()
def settle_bits(
    model: VideoModel, trace: Trace, bits: Bits, frames: int, quality_db: float | None
) -> tuple[Bits, list[dict[str, Any]]]:
    """The fewest bits with which float layers and grids cost little, and what each of the former was found to.

    bits: of the int8 layers' weights, which other weights have at least, and of biases. frames: of the clip.
    quality_db: PSNR that the model has without rounding; None keeps the bits as they are, as do less than 8.
    """
    if quality_db is None or bits.weights < CHOICES[0]:
        return bits, []
    places = _places(model, frames)
    exact = _predictions(model, trace, replace(bits, floats=16), places)
    trade: list[dict[str, Any]] = []
    for choice in CHOICES:
        rounded = _predictions(model, trace, replace(bits, floats=choice), places)
        trade.append({"bits": choice, "loss_db": _loss(_noise(exact, rounded), quality_db)})
        if trade[-1]["loss_db"] <= ROUNDING_DB:
            break
    bits = replace(bits, floats=trade[-1]["bits"])
    grids = _grid_bits(model, trace, bits, places, quality_db) if model.grids else ()
    return replace(bits, grids=grids), trade


@torch.no_grad()
def settling_seconds(model: VideoModel, trace: Trace, bits: Bits, frames: int) -> float:
    """What `settle_bits` will take, about: one run of the network for each of its own; 0 where it keeps the bits."""
    if bits.weights < CHOICES[0]:
        return 0.0
    places, grids = _places(model, frames), len(model.grids)
    run = warm_seconds(lambda: _predictions(model, trace, bits, places[:1]), next(model.parameters()).device)
    return run * len(places) * (2 + (grids + 2 if grids else 0))


def _grid_bits(
    model: VideoModel, trace: Trace, bits: Bits, places: Sequence[Any], quality_db: float
) -> tuple[int, ...]:
    """Fewest bits of all grids together whose noise costs at most `GRIDS_DB`.

    A bit less is four times the noise, which is what they are chosen by: first where a number's noise is least. Where
    all of them together turn out to cost more, each gets a bit back.
    """
    sizes = [model.get_parameter(name).numel() for name in model.grids]
    chosen = [MOST_GRID_BITS] * len(sizes)

    def predicted(counts: Sequence[int]) -> list[Tensor]:
        return _predictions(model, trace, replace(bits, grids=tuple(counts)), places)

    exact = predicted(chosen)
    probes = [[PROBE if i == grid else b for i, b in enumerate(chosen)] for grid in range(len(sizes))]
    at_probe = [_noise(exact, predicted(probe)) for probe in probes]
    left = set(range(len(sizes)))
    while left:
        noise = [at_probe[grid] * 4.0 ** (PROBE - count) for grid, count in enumerate(chosen)]
        grid = min(left, key=lambda g: noise[g] / sizes[g])
        if chosen[grid] > LEAST_GRID_BITS and _loss(sum(noise) + 3 * noise[grid], quality_db) <= GRIDS_DB:
            chosen[grid] -= 1
        else:
            left.remove(grid)
    while set(chosen) - {MOST_GRID_BITS} and _loss(_noise(exact, predicted(chosen)), quality_db) > GRIDS_DB:
        chosen = [min(count + 1, MOST_GRID_BITS) for count in chosen]
    return tuple(chosen)


def _places(model: VideoModel, frames: int) -> list[Any]:
    """A few parts of what a network draws, spread evenly."""
    places = list(model.calibration(spread(frames, PLACES)))
    return [places[i * len(places) // PLACES] for i in range(PLACES)] if len(places) > PLACES else places


def _noise(exact: Sequence[Tensor], rounded: Sequence[Tensor]) -> float:
    """Mean squared difference, of the mean of all parts."""
    return float(torch.stack([(a - b).square().mean() for a, b in zip(exact, rounded, strict=True)]).mean())


def _loss(noise: float, quality_db: float) -> float:
    """Decibels that independent noise takes from a picture of this PSNR."""
    return 10 * math.log10(1 + noise * 10 ** (quality_db / 10))


def _predictions(model: VideoModel, trace: Trace, bits: Bits, places: Sequence[Any]) -> list[Tensor]:
    network = QuantizedModel(model, trace, bits)
    values = [network(part) for part in places]
    # As PSNR takes it: sound in [-1, 1] as half as large, and nothing beyond the range.
    if trace.graph.result == "pcm_f32":
        return [(v.clamp(-1, 1) + 1) / 2 for v in values]
    return [v.clamp(0, 1) for v in values]
