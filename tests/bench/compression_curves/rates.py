"""What a .nvb file costs, and what the papers' own rates would count of it.

None of NeRV, HNeRV and HiNeRV counts all that a decoder needs. Their rules, applied to the integers of our file:

- NeRV (its README and code): Huffman code lengths of the weights that are not zero. Left out: where the zeros are,
  scales, the code's table, everything else.
- HNeRV (code): Huffman code lengths of all integers under one code, plus 16 bits per scale. Left out: the table, and
  everything else.
- HiNeRV (code): real files with masks, scales and tables. Left out: the network's configuration and the frame geometry,
  so here: our file without graph and header.
"""

from __future__ import annotations

import heapq
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_runtime.format import NvbReader
from inr_runtime.segment import segment_cost


def file_rates(path: Path) -> dict[str, Any]:
    """Bytes of a file of one segment by what they are for, and the papers' rates in bits per pixel."""
    with NvbReader(path) as reader:
        segment, cost = reader.segment(0), segment_cost(reader.segment(0), reader.header)
        info, size = reader.header.info, reader.video_bytes
    values = [w.values.ravel() for w in segment.weights]
    everything = np.concatenate(values)
    survivors = everything[everything != 0]
    biases = sum(t.bits - t.scale_bits for t in cost.tensors if len(t.shape) == 1)
    scales = sum(len(w.scale_codes) for w in segment.weights)
    container = size - cost.coded_bytes
    bits = {
        "nerv": huffman_bits(survivors),
        "hnerv": huffman_bits(everything) + 16 * scales,
        "hinerv": 8 * cost.coded_bytes,
        "": 8 * size,
    }
    pixels = info.width * info.height * info.frame_count
    return {
        "bytes": size,
        **{f"{name}_bits_per_pixel".lstrip("_"): count / pixels for name, count in bits.items()},
        "mask_bytes": sum(mask_bits(v) for v in values) / 8,
        "scale_bytes": sum(t.scale_bits for t in cost.tensors) / 8,
        "table_bytes": sum(t.table_bits for t in cost.tensors) / 8,
        "bias_bytes": biases / 8,
        "container_bytes": container,
        "coded_over_ideal_percent": 100 * (cost.coded_bytes / cost.ideal_bytes - 1),
        "coders": sorted({t.coder for t in cost.tensors if len(t.shape) > 1}),
    }


def mask_bits(values: NDArray[np.int32]) -> float:
    """The entropy of which of the values are zero."""
    share = float(np.mean(values == 0))
    return 0.0 if share in (0.0, 1.0) else -len(values) * (share * log2(share) + (1 - share) * log2(1 - share))


def huffman_bits(values: NDArray[np.int32]) -> int:
    """Length of `values` under their own optimal prefix code (Huffman 1952), the code itself not counted."""
    counts = np.unique(values, return_counts=True)[1].tolist()
    if len(counts) < 2:
        return len(values)
    heapq.heapify(counts)
    total = 0
    while len(counts) > 1:
        merged = heapq.heappop(counts) + heapq.heappop(counts)
        total += merged
        heapq.heappush(counts, merged)
    return int(total)
