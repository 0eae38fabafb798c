"""A frequency table of a tensor's own: a histogram sent as logarithms in eighths of an octave.

A log of 0 says that the symbol does not occur; a log l in 1 … 113 stands for the weight 2**(l - 1)/8, so a count of
2**14 is 113 and the error of a rounded count costs less than 0.0005 bit a symbol. Neighbours differ by little, which
makes the logs cheap to send.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from inr_runtime.gaussian import ALPHABET, REACH, eighth_power
from inr_runtime.rans import PRECISION, TOTAL, AnyInts, FrequencyTables, Ints

MAX_LOG = 8 * PRECISION + 1

_FRACTION_BITS = 18


def fit_histogram(symbols: AnyInts) -> tuple[int, Ints]:
    """Return the smallest of `symbols`, (n,) integers in -127 … 127 with n >= 1, and the logs from it to the largest.

    The logs are (bins,) int64 in 0 … 113.
    """
    low = int(symbols.min())
    counts = np.bincount(np.subtract(symbols, low, dtype=np.int64))
    with np.errstate(divide="ignore"):
        logs = 1 + np.rint(8 * np.log2(counts * (TOTAL / len(symbols))))
    return low, np.where(counts > 0, np.clip(logs, 1, MAX_LOG), 0).astype(np.int64)


def histogram_table(low: int, logs: Ints) -> FrequencyTables:
    """Return the one table that the logs of the symbols from `low` stand for, over -127 … 127.

    `logs` is (bins,) in 0 … 113, at least one of them positive, and low + bins <= 128.
    """
    weights = np.zeros((1, ALPHABET), np.int64)
    weights[0, low + REACH : low + REACH + len(logs)] = _weights()[logs]
    return FrequencyTables.from_weights(weights, -REACH)


@lru_cache(maxsize=1)
def _weights() -> Ints:
    """Return the weight of each log: 0, then 2**((log - 1) / 8) with 18 fractional bits, up to 2**32."""
    return np.array([0] + [eighth_power(8 * _FRACTION_BITS + log) for log in range(MAX_LOG)], np.int64)
