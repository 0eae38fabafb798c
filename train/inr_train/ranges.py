"""Activation ranges for int8: run every frame, then choose per edge what loses least.

Extremes are rare, and a range that holds them all spends most of its 256 steps on nothing. From a histogram of all
values of an edge, the range is searched whose rounding and clipping errors, as they come out of the LeakyRelu behind it
where there is one, have the smallest mean square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_runtime.graph import CanonicalGraph
from inr_runtime.int8plan import Range, plan_int8
from inr_runtime.units import activation_parameters, leaky_parameters, shifted_parameters
from inr_train.graph_runner import run_graph

BINS = 2048
SHRINK = np.linspace(0.2, 1.0, 33)
"""Candidate bounds, as shares of the extremes."""

Floats = NDArray[np.float64]


@torch.no_grad()
def measure_ranges(
    graph: CanonicalGraph,
    weights: Sequence[Tensor],
    samples: Sequence[tuple[Tensor, ...]],
    wanted: Sequence[str] | None = None,
) -> dict[str, Range]:
    """(low, high) of every edge that int8 needs. weights: one per graph weight. samples: inputs of every frame.

    wanted: edges in place of those, of the same graph.
    """
    plan = plan_int8(graph)
    edges = plan.ranged if wanted is None else tuple(wanted)
    if not edges:
        return {}
    extremes = _extremes(graph, edges, weights, samples)
    histograms = _histograms(graph, extremes, weights, samples)
    slopes, shifted = dict(plan.leaky.values()), plan.shifted
    return {
        edge: best_range(
            histograms[edge], extremes[edge], slopes.get(edge, 1.0), edge in plan.fused_relu, shifted.get(edge, 0.0)
        )
        for edge in edges
    }


def _extremes(
    graph: CanonicalGraph, edges: Sequence[str], weights: Sequence[Tensor], samples: Sequence[tuple[Tensor, ...]]
) -> dict[str, Range]:
    found: dict[str, Range] = dict.fromkeys(edges, (0.0, 0.0))

    def observe(edge: str, x: Tensor) -> Tensor:
        if edge in found:
            low, high = found[edge]
            found[edge] = (min(low, float(x.min())), max(high, float(x.max())))
        return x

    for inputs in samples:
        run_graph(graph, inputs, weights, observe)
    return found


def _histograms(
    graph: CanonicalGraph,
    extremes: dict[str, Range],
    weights: Sequence[Tensor],
    samples: Sequence[tuple[Tensor, ...]],
) -> dict[str, Floats]:
    counts = {edge: np.zeros(BINS) for edge in extremes}

    def observe(edge: str, x: Tensor) -> Tensor:
        if edge in counts:
            low, high = extremes[edge]
            if high > low:
                counts[edge] += torch.histc(x.float().flatten(), BINS, low, high).cpu().numpy()
        return x

    for inputs in samples:
        run_graph(graph, inputs, weights, observe)
    return counts


def best_range(
    histogram: Floats, extremes: Range, slope: float = 1.0, zero_based: bool = False, shift: float = 0.0
) -> Range:
    """The range with the smallest mean squared error behind a LeakyRelu of `slope` (1.0: none).

    histogram: counts of equal bins between the extremes. zero_based: of integers from 0. shift: of a square, the number
    that is taken from it, a whole number of its steps (0.0: none).
    """
    low, high = extremes
    edges = np.linspace(low, high, len(histogram) + 1)
    values = (edges[1:] + edges[:-1]) / 2
    wanted = np.where(values < 0, slope * values, values)
    if high <= low:
        return extremes
    if shift:
        candidates = _whole_ranges(low, high, shift)
    else:
        candidates = [(float(low * a), float(high * b)) for a in SHRINK for b in SHRINK]

    def error(candidate: Range) -> float:
        units = shifted_parameters(candidate[1], shift) if shift else activation_parameters(candidate, zero_based)
        return float(histogram @ np.square(_through_int8(values, *units, slope) - wanted))

    return min(candidates, key=error)


def _whole_ranges(low: float, high: float, shift: float) -> list[Range]:
    """Ranges of a square, as small as `SHRINK` has them, of which `shift` is a whole number of steps.

    The largest holds `high`: to saturate just below it would take from all large values alike, which adds up.
    """
    most, least = max(high, shift), max(high * float(SHRINK[0]), shift)
    steps = range(math.floor(255 * shift / most), math.ceil(255 * shift / least) + 1)
    return [(low, 255 * shift / n) for n in steps if n > 0]


def _through_int8(values: Floats, scale: np.float32, zero: int, slope: float) -> Floats:
    steps = np.clip(np.rint(values / scale) + zero, 0, 255) - zero
    if slope == 1.0:
        return np.asarray(steps * scale)
    behind = np.where(steps < 0, slope * steps, steps) * float(scale)
    fine, middle = leaky_parameters(scale, zero, slope)
    return np.asarray((np.clip(np.rint(behind / fine) + middle, 0, 255) - middle) * fine)
