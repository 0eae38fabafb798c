"""The two families of tables: the shipped constants, their pinned counts, and what rounding costs."""

from __future__ import annotations

import hashlib
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_runtime import gaussian
from inr_runtime.gaussian import LEVELS, LIMITS, REACH, eighth_power, gaussian_bits, gaussian_tables
from inr_runtime.histogram import MAX_LOG, fit_histogram, histogram_table
from inr_runtime.rans import TOTAL

SYMBOLS = np.arange(-REACH, REACH + 1)


def density(level: int) -> np.ndarray:
    """The exact distribution of a level on its own symbols."""
    sigma = 2 ** ((level - 19) / 8)
    weights = np.where(np.abs(SYMBOLS) <= LIMITS[level], np.exp(-(SYMBOLS**2) / (2 * sigma**2)), 0)
    return weights / weights.sum()


def test_constants_are_those_of_the_formula() -> None:
    with localcontext() as context:
        context.prec = 60
        for level, word in enumerate(gaussian._Q.split(), start=1):
            variance = Decimal(2) ** (Decimal(level - 19) / 4)
            assert int(word, 16) == int(((-1 / (2 * variance)).exp() * 2**62).to_integral_value())
    assert level == LEVELS - 1


def test_limits() -> None:
    assert LIMITS[0] == 0
    assert LIMITS[-1] == REACH
    assert (np.diff(LIMITS) >= 0).all()


def test_every_level_codes_the_symbols_up_to_its_limit() -> None:
    assert np.array_equal(gaussian_tables().counts > 0, np.abs(SYMBOLS) <= LIMITS[:, None])


def test_counts_are_pinned() -> None:
    digest = hashlib.sha256(gaussian_tables().counts.astype("<u4").tobytes()).hexdigest()
    assert digest == "6e8850d506ac07e5d087c199961b6cc82285a9f8520d72d62a83095fe9d85915"


@pytest.mark.parametrize("level", range(11, LEVELS, 4))
def test_rounding_costs_little(level: int) -> None:
    exact = density(level)
    codable = exact > 0
    exact = exact[codable]
    entropy = -(exact * np.log2(exact)).sum()
    length = (exact * gaussian_tables().code_lengths()[level][codable]).sum()
    assert length <= entropy * 1.0025


def test_bits_are_those_of_the_tables() -> None:
    rows = np.array([[0, 0, 0], [1, -2, 3], [127, 0, -127]])
    lengths = gaussian_tables().code_lengths()
    expected = lengths[:, rows + REACH].sum(axis=2).T
    assert np.array_equal(gaussian_bits(rows), expected)
    assert np.isfinite(gaussian_bits(rows)[:, -1]).all()


def test_bits_of_many_rows_do_not_depend_on_their_number() -> None:
    rows = np.random.default_rng(1).integers(-9, 10, (9000, 3))
    assert np.array_equal(gaussian_bits(rows)[8999], gaussian_bits(rows[8999:])[0])


@given(st.integers(0, 300))
def test_eighth_power_is_a_floor(exponent: int) -> None:
    power = eighth_power(exponent)
    assert power**8 <= 2**exponent < (power + 1) ** 8


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-REACH, REACH), min_size=1, max_size=300))
def test_histograms_code_what_they_were_fitted_to(values: list[int]) -> None:
    symbols = np.array(values)
    low, logs = fit_histogram(symbols)
    assert low == symbols.min()
    assert low + len(logs) - 1 == symbols.max()
    assert 0 <= logs.min() <= logs.max() <= MAX_LOG
    counts = histogram_table(low, logs).counts[0]
    assert set(SYMBOLS[counts > 0]) == set(values)


@pytest.mark.parametrize("level", [19, 35, 59])
def test_histograms_cost_little(level: int) -> None:
    exact = density(level)
    symbols = np.repeat(SYMBOLS, np.rint(exact * 1_000_000).astype(int))
    frequency = np.bincount(symbols + REACH, minlength=len(SYMBOLS)) / len(symbols)
    present = frequency > 0
    entropy = -(frequency[present] * np.log2(frequency[present])).sum()
    lengths = histogram_table(*fit_histogram(symbols)).code_lengths()[0]
    assert (frequency[present] * lengths[present]).sum() <= entropy * 1.001


def test_a_histogram_of_one_symbol_is_certain() -> None:
    assert histogram_table(-REACH, np.array([1])).counts[0, 0] == TOTAL
