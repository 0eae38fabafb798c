"""NeRV's ways of upscaling: multiply-accumulates and milliseconds of the exported graph.

Compute at low resolution and shuffle late, against upsampling first and computing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from time import process_time
from typing import Any

import torch
from tests.bench.paper_tables.rows import PAPER

from inr_runtime.backends import open_backend
from inr_runtime.lower import lower, target_named
from inr_train.bits import Bits
from inr_train.models import NeRV, count_parameters
from inr_train.models.nerv import UPSCALES
from inr_train.presets import preset_named
from inr_train.quantization import quantize_weights
from inr_train.trace import trace

TABLE = "upscaling_speed"
SIZES = ((160, 90), (320, 180))
ROUNDS = 20


def measure_upscaling(rounds: int = ROUNDS, sizes: Sequence[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """A row for each size and way: least milliseconds over all rounds, in which all ways take turns.

    Of processor time, one thread: other programs on the machine count less."""
    return [row for size in sizes for row in _of_size(*size, rounds)]


def _of_size(width: int, height: int, rounds: int) -> list[dict[str, Any]]:
    target, rows = target_named("cpu-fp32"), []
    shape = preset_named("nerv-xs").config(height, width, 24)
    with ExitStack() as stack:
        engines = []
        for upscale in UPSCALES:
            torch.manual_seed(0)
            model = NeRV(replace(shape, **PAPER, upscale=upscale)).eval()
            traced = trace(model)
            backend = open_backend(lower(traced.graph, quantize_weights(model, traced, Bits(8, 10)), target), threads=1)
            stack.callback(backend.close)
            feed = {f"x{i}": x.detach().numpy() for i, x in enumerate(model.sample([1.0]))}
            engines.append((backend, feed))
            gmac, parameters = traced.graph.macs / 1e9, count_parameters(model)
            rows.append({"table": TABLE, "row": upscale, "width": width, "height": height, "protocol": "reduced"})
            rows[-1] |= {"model": "nerv-xs", "device": "cpu", "parameters": parameters, "gmac_per_frame": gmac}
        times: list[list[float]] = [[] for _ in engines]
        for _ in range(rounds + 1):
            for taken, (backend, feed) in zip(times, engines, strict=True):
                begin = process_time()
                backend.run(feed)
                taken.append(process_time() - begin)
    fastest = [1e3 * min(taken[1:]) for taken in times]
    ratios = [ms / fastest[0] for ms in fastest]
    return [{**row, "ms": ms, "ms_ratio": r} for row, ms, r in zip(rows, fastest, ratios, strict=True)]
