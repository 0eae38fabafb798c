"""The coder: round trips, integrity of the stream, and its overhead."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_runtime.errors import ChecksumError, FormatError, NvbError, TruncatedError
from inr_runtime.rans import MAX_LANES, TOTAL, FrequencyTables, decode_symbols, encode_symbols

QUICK = settings(deadline=None, max_examples=60)


def random_tables(rng: np.random.Generator, tables: int, alphabet: int, minimum: int) -> FrequencyTables:
    weights = rng.integers(0, 1 << 32, (tables, alphabet), dtype=np.int64) >> rng.integers(0, 33, (tables, alphabet))
    weights[:, 0] |= 1
    return FrequencyTables.from_weights(weights, minimum)


def random_symbols(rng: np.random.Generator, tables: FrequencyTables, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows uniformly and symbols as their table says."""
    rows = rng.integers(0, len(tables.counts), n)
    symbols = (np.cumsum(tables.counts, axis=1)[rows] <= rng.integers(0, TOTAL, (n, 1))).sum(axis=1)
    return symbols + tables.minimum, rows


def example(
    n: int, seed: int = 0, tables: int = 5, alphabet: int = 9
) -> tuple[np.ndarray, np.ndarray, FrequencyTables]:
    rng = np.random.default_rng(seed)
    built = random_tables(rng, tables, alphabet, -3)
    return *random_symbols(rng, built, n), built


@QUICK
@given(st.integers(0, 3000), st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 300))
def test_round_trip(n: int, seed: int, tables: int, alphabet: int) -> None:
    symbols, rows, built = example(n, seed, tables, alphabet)
    decoded = decode_symbols(encode_symbols(symbols, rows, built), rows, built)
    assert decoded.dtype == np.int32
    assert np.array_equal(decoded, symbols)


@pytest.mark.parametrize("n", [300_001, 1_100_003])
def test_round_trip_of_many_lanes(n: int) -> None:
    symbols, rows, tables = example(n)
    data = encode_symbols(symbols, rows, tables)
    assert data[0] >= 3
    assert np.array_equal(decode_symbols(data, rows, tables), symbols)


def test_improbable_symbols_round_trip() -> None:
    tables = FrequencyTables(np.array([[1, TOTAL - 2, 1]]), 0)
    symbols = np.tile([0, 2, 2, 1], 500)
    rows = np.zeros(len(symbols), int)
    data = encode_symbols(symbols, rows, tables)
    assert np.array_equal(decode_symbols(data, rows, tables), symbols)
    assert len(data) * 8 <= 1500 * 14 + 100


def test_a_certain_symbol_costs_nothing() -> None:
    tables = FrequencyTables(np.array([[0, TOTAL, 0]]), -1)
    rows = np.zeros(1000, int)
    data = encode_symbols(rows, rows, tables)
    assert len(data) == 5
    assert not decode_symbols(data, rows, tables).any()
    with pytest.raises(ValueError, match="count of 0"):
        encode_symbols(rows + 1, rows, tables)


def test_overhead_is_small() -> None:
    for n, promise in ((20_000, 0.004), (400_000, 0.0025)):
        symbols, rows, tables = example(n, alphabet=64)
        ideal = tables.code_lengths()[rows, symbols + 3].sum()
        assert len(encode_symbols(symbols, rows, tables)) * 8 <= ideal * (1 + promise)


def test_no_symbols_are_no_bytes() -> None:
    _, rows, tables = example(0)
    assert encode_symbols(rows, rows, tables) == b""
    assert decode_symbols(b"", rows, tables).shape == (0,)
    with pytest.raises(FormatError):
        decode_symbols(b"\0", rows, tables)


@pytest.mark.parametrize("n", [1, 40, 4000])
def test_every_truncation_raises(n: int) -> None:
    symbols, rows, tables = example(n)
    data = encode_symbols(symbols, rows, tables)
    for size in range(0, len(data), max(1, n // 100)):
        with pytest.raises(TruncatedError):
            decode_symbols(data[:size], rows, tables)


def test_trailing_bytes_raise() -> None:
    symbols, rows, tables = example(100)
    data = encode_symbols(symbols, rows, tables)
    with pytest.raises(FormatError, match="left"):
        decode_symbols(data + b"\0\0", rows, tables)
    with pytest.raises(TruncatedError):
        decode_symbols(data + b"\0", rows, tables)


def test_altered_bytes_are_noticed() -> None:
    symbols, rows, tables = example(300)
    data = bytearray(encode_symbols(symbols, rows, tables))
    for position in range(len(data)):
        data[position] ^= 16
        with pytest.raises(NvbError):
            decode_symbols(bytes(data), rows, tables)
        data[position] ^= 16


def test_a_lane_in_the_wrong_state_raises() -> None:
    tables = FrequencyTables(np.array([[TOTAL]]), 0)
    with pytest.raises(ChecksumError):
        decode_symbols(bytes([0, 1, 0, 1, 0]), np.zeros(3, int), tables)


@QUICK
@given(st.binary(max_size=400), st.integers(0, 200))
def test_any_bytes_end_well(data: bytes, n: int) -> None:
    _, rows, tables = example(n)
    with contextlib.suppress(NvbError):
        assert decode_symbols(data, rows, tables).shape == (n,)


@pytest.mark.parametrize("lanes_log2", [2, 11, 63, 255])
def test_lane_counts_are_bounded(lanes_log2: int) -> None:
    _, rows, tables = example(3)
    with pytest.raises(FormatError, match="lanes"):
        decode_symbols(bytes([lanes_log2]) + bytes(8 * MAX_LANES), rows, tables)


def test_a_few_bytes_cannot_keep_a_reader_busy_for_hours() -> None:
    """Certain symbols cost nothing; in one lane, the 200 million that a file may hold would take an hour."""
    tables = FrequencyTables(np.array([[TOTAL]]), 0)
    data = encode_symbols(np.zeros(4, int), np.zeros(4, int), tables)
    assert len(data) == 5
    with pytest.raises(FormatError, match=r"2\*\*0 lanes for 200000000 symbols"):
        decode_symbols(data, np.broadcast_to(np.uint16(0), 200_000_000), tables)


@pytest.mark.parametrize("n", [1, 8191, 8192, 16_384, 16_385, 100_000, 1 << 20])
def test_what_is_written_has_lanes_enough_to_be_read(n: int) -> None:
    """However cheap the symbols are."""
    tables, zeros = FrequencyTables(np.array([[TOTAL]]), 0), np.zeros(n, int)
    assert decode_symbols(encode_symbols(zeros, zeros, tables), zeros, tables).shape == (n,)


def test_symbols_outside_their_table_are_refused() -> None:
    _, _, tables = example(0)
    for symbol, row in ((-4, 0), (6, 0), (0, 5), (0, -1)):
        with pytest.raises(ValueError, match="outside"):
            encode_symbols(np.array([symbol]), np.array([row]), tables)


@QUICK
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 255))
def test_weights_become_counts(seed: int, tables: int, alphabet: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, (1 << 32) + 1, (tables, alphabet)) >> rng.integers(0, 33, (tables, alphabet))
    weights[:, -1] |= 1
    counts = FrequencyTables.from_weights(weights, 0).counts
    assert (counts.sum(axis=1) == TOTAL).all()
    assert np.array_equal(counts > 0, weights > 0)
    for row, count in zip(weights, counts, strict=True):
        assert (np.diff(count[np.argsort(-row, kind="stable")]) <= 0).all()


def test_counts_must_fill_the_total() -> None:
    for counts in ([[TOTAL - 1]], [[TOTAL + 1, -1]], [TOTAL]):
        with pytest.raises(ValueError, match="sum to"):
            FrequencyTables(np.array(counts), 0)


def test_the_format_is_frozen() -> None:
    number = np.arange(60_000) * 2654435761 % (1 << 32)
    tables = FrequencyTables.from_weights(np.outer([1, 5, 3], [9, 1 << 20, 77, 0, 1234]).astype(np.int64), -2)
    symbols = np.array([-2, -1, -1, 0, 2])[number % 5]
    data = encode_symbols(symbols, number // 5 % 3, tables)
    assert hashlib.sha256(data).hexdigest() == "71667ee2a92899c7e6b16b8d16287bde3cead798a20c7be21cce8f8b8206da7f"
