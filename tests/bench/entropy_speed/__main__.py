"""Speed and overhead of the entropy coder: `python -m tests.bench.entropy_speed [--record]`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tests.bench.record import write_results

from inr_runtime.entropy import decode_tensors, encode_tensors

PROTOCOL = (
    "One int8 tensor of 64 rows, discretised Gaussians on -127 ... 127 with standard deviations from 0.3 to 40 in "
    "equal ratios, through encode_tensors and decode_tensors on one thread; best of 3 runs in one process. Overhead is "
    "against the ideal code length of the chosen models, over_entropy against that of the distributions drawn from."
)
ROWS = 64
RUNS = 3
SYMBOLS = np.arange(-127, 128)
T = TypeVar("T")


def densities(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (64, 255) probabilities of -127 ... 127 in each row."""
    weights = np.exp(-(SYMBOLS**2) / (2 * sigmas[:, None] ** 2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def make_tensor(symbols: int, probabilities: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return (64, symbols / 64) int8."""
    rng = np.random.default_rng(0)
    return np.array([rng.choice(SYMBOLS, symbols // ROWS, p=row) for row in probabilities], np.int8)


def information_bits(tensor: NDArray[np.int8], probabilities: NDArray[np.float64]) -> float:
    """Return what the tensor costs under the distributions that it was drawn from."""
    drawn = np.take_along_axis(probabilities, tensor.astype(np.int64) + 127, axis=1)
    return float(-np.log2(drawn).sum())


def best_time(run: Callable[[], T]) -> tuple[float, T]:
    """Return the least wall time of some runs in seconds, and the last result."""
    seconds = []
    for _ in range(RUNS):
        start = perf_counter()
        result = run()
        seconds.append(perf_counter() - start)
    return min(seconds), result


def measure(symbols: int) -> dict[str, Any]:
    """Return one row of results."""
    probabilities = densities(np.geomspace(0.3, 40, ROWS))
    tensor = make_tensor(symbols, probabilities)
    encode_seconds, encoded = best_time(lambda: encode_tensors([tensor], [0]))
    decode_seconds, decoded = best_time(lambda: decode_tensors(encoded.data, [tensor.shape], [0]))
    assert np.array_equal(decoded[0], tensor)
    ideal = sum(encoded.bits)
    return {
        "codec": "inr_runtime.entropy",
        "model": encoded.models[0],
        "symbols": tensor.size,
        "bytes": len(encoded.data),
        "bits_per_symbol": round(8 * len(encoded.data) / tensor.size, 4),
        "overhead_percent": round(100 * (8 * len(encoded.data) / ideal - 1), 3),
        "over_entropy_percent": round(100 * (8 * len(encoded.data) / information_bits(tensor, probabilities) - 1), 3),
        "encode_msym_per_s": round(tensor.size / encode_seconds / 1e6, 2),
        "decode_msym_per_s": round(tensor.size / decode_seconds / 1e6, 2),
    }


def main() -> None:
    """Measure three sizes, print the rows and, with --record, write them into the repository."""
    rows = [measure(symbols) for symbols in (20_480, 204_800, 3_000_000)]
    for row in rows:
        print(row)
    if "--record" in sys.argv:
        print(write_results("entropy_speed", PROTOCOL, rows))


if __name__ == "__main__":
    main()
