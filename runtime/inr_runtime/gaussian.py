"""A family of 80 discretised zero-mean Gaussians as integer frequency tables.

Level 0 holds the symbol 0 alone. Level k = 1 … 79 has P(x) ∝ exp(-x² / (2 σ²)) with σ = 2**((k - 19) / 8), from
0.21 to 181, on |x| <= `LIMITS[k]`. No floating point takes part: weights follow from one 62-bit constant a level,
q = exp(-1 / (2 σ²)), through q**((x+1)²) = q**(x²) * q**(2x+1), in integers of any width.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from inr_runtime.rans import AnyInts, FrequencyTables, Ints

LEVELS = 80
REACH = 127
ALPHABET = 2 * REACH + 1

_FIXED = 62
_BLOCK = 1 << 20

# round(2**62 * exp(-1 / (2 σ²))) of levels 1 … 79, hexadecimal
_Q = """
    00003330726F1746 000135B15FAE960F 00057F08410409EB 0013A06D40A18CCA 00393CC18C4BBAA1
    008CC8E4D1A9809A 012C155B8213CF47 023710C672735F02 03C863781F50245A 05EEC1517DAC3EBA
    08A95551DFC0E5D0 0BE814E594D61D60 0F8F397DE0564BD0 137C50959BBEE4EB 178B56362CEF37C7
    1B9ACEBDAAED720E 1F8E6FFC0E572FFC 235062658276291E 26D165F8DF2C13FD 2A083B2FBD261884
    2CF0A80A34C9F356 2F8A5C1B16878B22 31D7DF3D590415D1 33DDA2EA08DFCA2E 35A13FDC2C454E84
    3728E0948772B989 387AD449DB04430F 399D43A2C2B94798 3A9600299B2AF3EE 3B6A67F4E3780C4C
    3C1F57F78E05479D 3CB9288261C44B2C 3D3BB0855FAE1CB5 3DAA4D01CC33E131 3E07EAD5116BAF23
    3E571193E8AD4FC4 3E99EE9957396022 3ED25FBC5F615102 3F01FD57FDDF4925 3F2A23788580B3BE
    3F4BFA1C1A617E92 3F687C85737FDD44 3F807FAAD54449F3 3F94B7D16C2CBD6B 3FA5BD68452CD9D6
    3FB4113728EFCCC0 3FC01FF557FF778E 3FCA455B155BF071 3FD2CEBF6E3C5F32 3FD9FD51FD17CFDC
    3FE007FEAAD55111 3FE51D07C35EDF3F 3FE9636120DD76A5 3FECFBD5C1DEC43E 3FF001FFD557FFDE
    3FF28D1A23DBAB56 3FF4B0B0BDAB4DCF 3FF67D35F6E2788F 3FF8007FFAAAD554 3FF9463298F72565
    3FFA5818647D83D9 3FFB3E6DBD915DE8 3FFC001FFF555800 3FFCA302AD0D92BF 3FFD2BFC32F3C235
    3FFD9F2B8EE51BDE 3FFE0007FFEAAAD5 3FFE517BAE853D26 3FFE95FA1990816E 3FFECF92F36C3549
    3FFF0001FFFD5558 3FFF28BC6D3D79E1 3FFF4AFC0CCB14C6 3FFF67C8C4B2D5F8 3FFF80007FFFAAAB
    3FFF945DDC1CDB8E 3FFFA57DC665E4E5 3FFFB3E435186400 3FFFC0001FFFF555
"""


def eighth_power(exponent: int) -> int:
    """Return floor(2**(exponent / 8)) for an integer exponent >= 0, exactly."""
    return isqrt(isqrt(isqrt(1 << exponent)))


# About 8 σ: outliers stay codable, while the counts of 1 forced on the tails cost at most 0.2 %.
LIMITS = np.array([0] + [min(REACH, 4 + eighth_power(level + 5)) for level in range(1, LEVELS)])


@lru_cache(maxsize=1)
def gaussian_tables() -> FrequencyTables:
    """Return the family: counts (80, 255) int64, symbols -127 … 127, one row per level."""
    ratios = [0] + [int(word, 16) for word in _Q.split()]
    halves = np.array([_half_weights(level, ratio) for level, ratio in enumerate(ratios)], np.int64)
    return FrequencyTables.from_weights(np.hstack([halves[:, :0:-1], halves]), -REACH)


def gaussian_bits(rows: AnyInts) -> NDArray[np.float64]:
    """Return what each row of symbols costs at each level.

    `rows` is (r, m) integers in -127 … 127 with m >= 1; the result is (r, 80) in bits, infinite where the level
    cannot code the row. Exact to 2**-16 bit and the same on every machine, so encoders agree on their choices.
    """
    bits = gaussian_tables().code_lengths()
    prices = np.where(np.isfinite(bits), bits, 0).T
    result = np.empty((len(rows), LEVELS))
    size = _BLOCK // ALPHABET
    for first in range(0, len(rows), size):
        part = rows[first : first + size].astype(np.int64)
        reach = np.abs(part).max(axis=1, keepdims=True)
        result[first : first + size] = np.where(reach <= LIMITS, _histograms(part) @ prices, np.inf)
    return result


def _half_weights(level: int, ratio: int) -> list[int]:
    """Return the weights of 0 … 127 at a level of q = `ratio`: up to 2**32, at least 1 where codable, else 0."""
    weights = [1 << 32] + [0] * REACH
    power, odd, square = 1 << _FIXED, ratio, ratio * ratio >> _FIXED
    for x in range(1, int(LIMITS[level]) + 1):
        power, odd = power * odd >> _FIXED, odd * square >> _FIXED
        weights[x] = max(1, power >> (_FIXED - 32))
    return weights


def _histograms(rows: Ints) -> NDArray[np.float64]:
    """Count the symbols of each row, (r, m) to (r, 255)."""
    index = rows + REACH + ALPHABET * np.arange(len(rows))[:, None]
    return np.bincount(index.ravel(), minlength=len(rows) * ALPHABET).reshape(-1, ALPHABET).astype(np.float64)
