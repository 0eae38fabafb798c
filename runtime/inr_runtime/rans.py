"""Lane-interleaved range asymmetric numeral systems (rANS) over integer frequency tables.

Symbol i belongs to lane i mod N; the N lanes advance together, one vectorised step for N symbols. Everything
is integer arithmetic, so a stream decodes to the same symbols on every machine. Layout, little-endian:

    u8  log2 of N            at most 10; below 10, at most 2**14 symbols a lane; no symbols are no bytes at all
    u32 state of each lane   in the order of the lanes
    u16 words                in the order in which the decoder takes them

States live in [2**16, 2**32) and are refilled with 16-bit words. The encoder runs from the last symbol to the
first, from states of 2**16; the decoder must end in those states with no word left, which is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import ChecksumError, FormatError, TruncatedError

PRECISION = 14
TOTAL = 1 << PRECISION
MAX_LANES = 1024

_LOW = 1 << 16
_WORD_BITS = 16
_BLOCK = 1 << 17
_BYTES_PER_LANE = 1500
_FEW_LANES = 16
"""Up to here a symbol of plain Python costs less than its share of a step in numpy."""
_MAX_STEPS_LOG2 = 13
_MOST_STEPS = 2 << _MAX_STEPS_LOG2

Ints = NDArray[np.int64]
AnyInts = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """Rows of symbol frequencies.

    `counts` is (tables, alphabet) int64, each row summing to 2**14; a symbol of count 0 cannot be coded. Column j
    is the symbol `minimum + j`. Raises `ValueError` where the counts break these rules.
    """

    counts: Ints
    minimum: int

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or (self.counts < 0).any() or (self.counts.sum(axis=1) != TOTAL).any():
            raise ValueError(f"every row of a frequency table needs counts >= 0 that sum to {TOTAL}")

    @classmethod
    def from_weights(cls, weights: Ints, minimum: int) -> FrequencyTables:
        """Scale `weights`, (tables, alphabet) integers in [0, 2**32], to counts; each row needs a positive one.

        A symbol gets a count of at least 1 where its weight is positive and 0 where it is not. The rule is part of
        the format: count = max(1, round(weight * scale / 2**48)) with the largest integer scale for which no row
        exceeds its total; what is left is dealt, one each, in the order of falling weight.
        """
        scale = _largest(lambda trial: _scaled(weights, trial).sum(axis=1) <= TOTAL, (1 << 62) // weights.max(axis=1))
        counts = _scaled(weights, scale)
        rank = np.argsort(np.argsort(-weights, axis=1, kind="stable"), axis=1, kind="stable")
        counts += rank < TOTAL - counts.sum(axis=1, keepdims=True)
        return cls(counts, minimum)

    def code_lengths(self) -> NDArray[np.float64]:
        """Return the ideal bits of each symbol, (tables, alphabet), infinite where it cannot be coded.

        They are multiples of 2**-16, so sums of them are exact in any order.
        """
        bits = np.full(self.counts.shape, np.inf)
        codable = self.counts > 0
        bits[codable] = np.rint((PRECISION - np.log2(self.counts[codable])) * _LOW) / _LOW
        return bits

    def index(self, symbols: AnyInts, rows: AnyInts) -> Ints:
        """Return the position of each symbol in the flattened counts; `ValueError` if one cannot be coded."""
        column = np.subtract(symbols, self.minimum, dtype=np.int64)
        tables, alphabet = self.counts.shape
        if (column < 0).any() or (column >= alphabet).any() or (rows < 0).any() or (rows >= tables).any():
            raise ValueError("a symbol lies outside its frequency table")
        column += np.multiply(rows, alphabet, dtype=np.int64)
        if not self.counts.ravel()[column].all():
            raise ValueError("a symbol has a count of 0 in its frequency table")
        return column

    def slots(self, used: Ints) -> tuple[Ints, NDArray[np.int32]]:
        """Return the decoding step, count << 16 | offset, and the symbol of each of the 2**14 slots of `used` rows."""
        counts = self.counts[used].ravel()
        # Every row fills exactly 2**14 slots, so sums over the flattened counts are slot numbers.
        start = np.cumsum(counts) - counts
        steps = np.repeat((counts << _WORD_BITS) - start, counts) + np.arange(counts.sum())
        symbols = np.arange(self.counts.shape[1], dtype=np.int32) + np.int32(self.minimum)
        return steps, np.repeat(np.tile(symbols, len(used)), counts)


def encode_symbols(symbols: AnyInts, rows: AnyInts, tables: FrequencyTables) -> bytes:
    """Encode `symbols`, (n,) integers, each with the table that `rows`, (n,) integers, names for it.

    Raises `ValueError` if a symbol cannot be coded with its table.
    """
    n = len(symbols)
    if n == 0:
        return b""
    index = tables.index(symbols, rows)
    flat = tables.counts.ravel()
    counts, starts = flat[index], ((np.cumsum(flat) - flat) % TOTAL)[index]
    lanes = _choose_lanes(n, float(tables.code_lengths().ravel()[index].sum()))
    states = np.full(lanes, _LOW, np.int64)
    words, free = np.empty(n, "<u2"), n
    for first in range((n - 1) // lanes * lanes, -1, -lanes):
        spilled = _push(states, counts[first : first + lanes], starts[first : first + lanes])
        words[free - len(spilled) : free] = spilled
        free -= len(spilled)
    return bytes([lanes.bit_length() - 1]) + states.astype("<u4").tobytes() + words[free:].tobytes()


def decode_symbols(data: bytes, rows: AnyInts, tables: FrequencyTables) -> NDArray[np.int32]:
    """Return the (n,) int32 symbols that `encode_symbols` wrote with the same `rows` and `tables`.

    Raises `TruncatedError` where `data` is too short, `FormatError` where it is too long or its lane count is not
    allowed, `ChecksumError` where the lanes do not end in the state in which the encoder began.
    """
    n = len(rows)
    symbols = np.empty(n, np.int32)
    if n == 0:
        if data:
            raise FormatError(f"entropy-coded stream: {len(data)} bytes where no symbol is expected")
        return symbols
    states, words = _open_stream(data, n)
    used = np.flatnonzero(np.bincount(rows, minlength=len(tables.counts)))
    steps, symbol_of = tables.slots(used)
    first_slot = np.zeros(len(tables.counts), np.int64)
    first_slot[used] = np.arange(len(used)) << PRECISION
    block = _BLOCK // len(states) * len(states)
    pop = _pop_few if len(states) <= _FEW_LANES else _pop_block
    position = 0
    for first in range(0, n, block):
        slots = first_slot[rows[first : first + block]]
        position = pop(states, slots, steps, words, position)
        symbols[first : first + block] = symbol_of[slots]
    if position < len(words):
        raise FormatError(f"entropy-coded stream: {len(words) - position} words are left after the last symbol")
    if (states != _LOW).any():
        raise ChecksumError("entropy-coded stream: a lane ends in the wrong state, the bytes were altered")
    return symbols


def _push(states: Ints, counts: Ints, starts: Ints) -> Ints:
    """Encode one symbol in each of the first lanes, in place; return the words that spill, in lane order."""
    lane = states[: len(counts)]
    full = np.flatnonzero((lane >> (32 - PRECISION)) >= counts)
    spilled = lane[full]
    lane[full] = spilled >> _WORD_BITS
    lane += lane // counts * (TOTAL - counts) + starts
    return spilled & (_LOW - 1)


def _pop_block(states: Ints, slots: Ints, steps: Ints, words: NDArray[np.uint16], position: int) -> int:
    """Decode a block: add to `slots`, the first of each symbol's row, its slot; return the next word's position."""
    for first in range(0, len(slots), len(states)):
        slot = slots[first : first + len(states)]
        lane = states[: len(slot)]
        slot += lane & (TOTAL - 1)
        step = steps.take(slot)
        lane >>= PRECISION
        lane *= step >> _WORD_BITS
        lane += step & (_LOW - 1)
        empty = (lane < _LOW).nonzero()[0]
        refill = words[position : position + len(empty)]
        if len(refill) < len(empty):
            raise TruncatedError("entropy-coded stream: it ends before its last symbol")
        lane[empty] = (lane[empty] << _WORD_BITS) | refill
        position += len(empty)
    return position


def _pop_few(states: Ints, slots: Ints, steps: Ints, words: NDArray[np.uint16], position: int) -> int:
    """As `_pop_block`, one symbol after the other."""
    lanes, firsts, step_of = states.tolist(), slots.tolist(), steps.data
    refills, taken = words[position : position + len(slots)].tolist(), 0
    count = len(lanes)
    try:
        for first in range(0, len(firsts), count):
            for k, slot in enumerate(firsts[first : first + count]):
                state = lanes[k]
                slot += state & (TOTAL - 1)
                firsts[first + k] = slot
                step = step_of[slot]
                state = (state >> PRECISION) * (step >> _WORD_BITS) + (step & (_LOW - 1))
                if state < _LOW:
                    state = state << _WORD_BITS | refills[taken]
                    taken += 1
                lanes[k] = state
    except IndexError as error:
        raise TruncatedError("entropy-coded stream: it ends before its last symbol") from error
    states[:], slots[:] = lanes, firsts
    return position + taken


def _open_stream(data: bytes, n: int) -> tuple[Ints, NDArray[np.uint16]]:
    """Return the states and the words of a stream of `n` >= 1 symbols."""
    if not data:
        raise TruncatedError(f"entropy-coded stream: empty, but {n} symbols are expected")
    lanes = 1 << min(data[0], MAX_LANES.bit_length())
    # Symbols that are certain cost no bytes: few lanes could keep a reader busy for hours over a tiny file.
    if lanes > min(n, MAX_LANES) or (lanes < MAX_LANES and n > lanes * _MOST_STEPS):
        raise FormatError(f"entropy-coded stream: 2**{data[0]} lanes for {n} symbols")
    body = 1 + 4 * lanes
    if len(data) < body or (len(data) - body) % 2:
        raise TruncatedError(f"entropy-coded stream: {len(data)} bytes end within its states or a word")
    states = np.frombuffer(data, "<u4", lanes, 1).astype(np.int64)
    if (states < _LOW).any():
        raise FormatError("entropy-coded stream: a lane begins below the lowest state")
    return states, np.frombuffer(data, "<u2", offset=body)


def _choose_lanes(n: int, bits: float) -> int:
    """Return a power of two: as many lanes as cost 0.1 to 0.2 %, and more where there would be too many steps.

    A lane costs some 3 bytes. The second rule serves streams of few bits, at most 0.003 bit a symbol.
    """
    wanted = max(1, int(bits / 8) // _BYTES_PER_LANE, n >> _MAX_STEPS_LOG2)
    return min(MAX_LANES, 1 << (wanted.bit_length() - 1))


def _scaled(weights: Ints, scale: Ints) -> Ints:
    """Return the counts of `weights` times a `scale` per row, before what is left is dealt."""
    return np.where(weights > 0, np.maximum(1, (weights * scale[:, None] + (1 << 47)) >> 48), 0)


def _largest(accepts: Callable[[Ints], NDArray[np.bool_]], high: Ints) -> Ints:
    """Return for each entry the largest integer in [0, high] that a monotone predicate accepts, by bisection."""
    low = np.zeros_like(high)
    while (low < high).any():
        middle = high - ((high - low) >> 1)
        accepted = accepts(middle)
        low, high = np.where(accepted, middle, low), np.where(accepted, high, middle - 1)
    return low
