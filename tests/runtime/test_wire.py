"""Small binary fields: what is written is read, and bytes that nobody wrote are refused."""

from __future__ import annotations

import tracemalloc
import zlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_runtime.errors import FormatError, LimitError, NvbError, TruncatedError
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.wire import MAX_FRACTION_PART, MAX_VARINT, Reader, Writer, deflate, inflate

QUICK = settings(deadline=None, max_examples=100)
PARTS = st.integers(1, MAX_FRACTION_PART)


def reader(writer: Writer) -> Reader:
    return Reader(writer.bytes_(), "test")


@QUICK
@given(st.lists(st.integers(0, MAX_VARINT)))
def test_unsigned_numbers_round_trip(values: list[int]) -> None:
    writer = Writer()
    for value in values:
        writer.varint(value)
    r = reader(writer)
    assert [r.varint() for _ in values] == values
    r.end()


@QUICK
@given(st.integers(-(1 << 61), (1 << 61) - 1))
def test_signed_numbers_round_trip(value: int) -> None:
    assert reader(Writer().signed(value)).signed() == value


@QUICK
@given(PARTS, PARTS)
def test_fractions_round_trip_in_lowest_terms(numerator: int, denominator: int) -> None:
    assert reader(Writer().fraction(Fraction(numerator, denominator))).fraction() == Fraction(numerator, denominator)


@QUICK
@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.floats(allow_nan=False))
def test_texts_blobs_and_doubles_round_trip(text: str, data: bytes, number: float) -> None:
    r = reader(Writer().text(text).blob(data).float64(number))
    assert (r.text(10_000), r.blob(10_000), r.float64()) == (text, data, number)
    r.end()


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (MAX_VARINT, b"\x80" * 8 + b"\x40")],
)
def test_numbers_take_seven_bits_a_byte(value: int, data: bytes) -> None:
    assert Writer().varint(value).bytes_() == data


def test_a_writer_refuses_what_no_reader_takes() -> None:
    for value in (-1, MAX_VARINT + 1):
        with pytest.raises(ValueError, match=str(value)):
            Writer().varint(value)
    for fraction in (Fraction(0), Fraction(-1, 2), Fraction(MAX_FRACTION_PART + 1), Fraction(1, MAX_FRACTION_PART + 1)):
        with pytest.raises(ValueError, match="fraction"):
            Writer().fraction(fraction)


@QUICK
@given(st.integers(0, MAX_VARINT), st.data())
def test_a_number_that_is_cut_off_is_noticed(value: int, data: st.DataObject) -> None:
    written = Writer().varint(value).bytes_()
    with pytest.raises(TruncatedError, match="expected 1 more bytes, found 0"):
        Reader(written[: data.draw(st.integers(0, len(written) - 1))], "test").varint()


@pytest.mark.parametrize("data", [b"\x80" * 9 + b"\x01", b"\xff" * 10, b"\xff" * 1000])
def test_a_number_without_end_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="too long"):
        Reader(data, "test").varint()


def test_a_number_above_its_top_is_refused() -> None:
    assert Reader(b"\x05", "test").varint(5) == 5
    for data, top in ((b"\x06", 5), (b"\xff" * 8 + b"\x7f", MAX_VARINT)):
        with pytest.raises(FormatError, match=f"above {top}"):
            Reader(data, "test").varint(top)


@pytest.mark.parametrize("data", [b"\0\x01", b"\x01\0", b"\x81\x80\x80\x80\x10\x01"])
def test_fractions_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        Reader(data, "test").fraction()


def test_a_text_must_be_utf8_and_end_where_its_field_does() -> None:
    with pytest.raises(FormatError, match="UTF-8"):
        Reader(b"\x02\xff\xfe", "test").text(10)
    with pytest.raises(FormatError, match="above 1"):
        Reader(b"\x02ab", "test").text(1)
    with pytest.raises(TruncatedError, match="test: expected 200 more bytes, found 1"):
        Reader(b"\xc8\x01a", "test").blob(1000)
    with pytest.raises(FormatError, match="2 bytes too many"):
        Reader(b"ab", "test").end()


@QUICK
@given(st.binary(max_size=3000))
def test_compressed_data_round_trips(data: bytes) -> None:
    assert inflate(deflate(data), "chunk_bytes", DEFAULT_LIMITS, "test") == data


def packed(claimed: int, data: bytes, tail: bytes = b"") -> bytes:
    return Writer().varint(claimed).raw(zlib.compress(data)).raw(tail).bytes_()


BOMBS = {
    "smaller than it claims": packed(2000, bytes(1000)),
    "larger than it claims": packed(1000, bytes(50_000_000)),
    "claims nothing": packed(0, bytes(50_000_000)),
    "with a tail": packed(1000, bytes(1000), b"tail"),
    "with a second stream": packed(1000, bytes(1000), zlib.compress(bytes(1000))),
    "cut off": packed(1000, bytes(1000))[:-5],
    "empty": b"\x00",
    "without a size": b"",
    "garbage": b"\x0agarbage123",
}


@pytest.mark.parametrize("name", BOMBS)
def test_data_that_is_not_what_its_size_says_is_refused_in_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NvbError, match="test: "):
            inflate(BOMBS[name], "chunk_bytes", DEFAULT_LIMITS, "test")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_size_above_the_limit_is_refused_before_anything_is_unpacked() -> None:
    with pytest.raises(LimitError, match=r"test: 1000 is above the limit of 999 \(graph_bytes\)"):
        inflate(packed(1000, bytes(1000)), "graph_bytes", Limits(graph_bytes=999), "test")
