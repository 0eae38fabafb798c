"""Scales and zero points of quantized edges, as engines, exporter and training all compute them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from inr_runtime.errors import GraphError
from inr_runtime.int8plan import Int8Plan, Range


def activation_parameters(limits: Range, zero_based: bool = False) -> tuple[np.float32, int]:
    """Scale and uint8 zero point that hold [low, high] and represent 0 exactly.

    zero_based: force the zero point to 0, for ranges that begin at 0. Raises `GraphError` on a range that is
    not finite or not ordered.
    """
    low, high = min(float(limits[0]), 0.0), max(float(limits[1]), 0.0)
    if not (math.isfinite(low) and math.isfinite(high)) or high - low > 1e30:
        raise GraphError(f"activation range {limits} is not finite")
    if zero_based:
        low = 0.0
    # What is always zero has no scale of its own; the bias of who reads it would not fit integers of a tiny one.
    scale = np.float32(max((high - low) / 255.0, 1e-30) if high > low else 1 / 255)
    return scale, int(np.clip(np.rint(-low / float(scale)), 0, 255))


def edge_parameters(plan: Int8Plan, ranges: Mapping[str, Range], edge: str) -> tuple[np.float32, int]:
    """Scale and zero point of any quantized edge; `ranges` holds at least `plan.ranged`."""
    source = plan.edges[edge]
    if source == plan.output_source:
        return np.float32(1 / 255), 0
    if source in plan.leaky:
        before, alpha = plan.leaky[source]
        return leaky_parameters(*edge_parameters(plan, ranges, before), alpha)
    if source in plan.shifts:
        before, number = plan.shifts[source]
        scale, _ = edge_parameters(plan, ranges, before)
        return scale, round(number / float(scale))
    low, high = ranges[source]
    if source in plan.shifted:
        return shifted_parameters(high, plan.shifted[source])
    if source in plan.clips:
        low, high = max(low, plan.clips[source][0]), min(high, plan.clips[source][1])
    return activation_parameters((low, high), zero_based=source in plan.fused_relu)


def leaky_parameters(scale: np.float32, zero: int, alpha: float) -> tuple[np.float32, int]:
    """Scale and zero point of a LeakyRelu's result from those of its input.

    The input's scale over a whole number, as large as 256 steps allow: then positive values pass without being rounded
    again, and negative ones, which shrink, are not rounded more than needed.
    """
    finer = max(1, int(255 // max(255 - zero + alpha * zero, 1.0)))
    return np.float32(scale / np.float32(finer)), round(finer * alpha * zero)


def shifted_parameters(high: float, number: float) -> tuple[np.float32, int]:
    """Scale and zero point of a square up to `high`, from which `number` > 0 is taken: a whole number of steps.

    Raises `GraphError` on a range that is not finite.
    """
    if not math.isfinite(high):
        raise GraphError(f"an activation range up to {high} is not finite")
    most = min(max(high, number), 255 * number)
    return np.float32(number / round(255 * number / most)), 0
