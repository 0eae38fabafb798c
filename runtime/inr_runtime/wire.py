"""Bounded reading and writing of small binary fields; little-endian; varints are LEB128."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

from inr_runtime.errors import FormatError, TruncatedError
from inr_runtime.limits import Limits

MAX_VARINT = 1 << 62
MAX_FRACTION_PART = 1 << 32


class Writer:
    """Appends fields to a growing buffer."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def bytes_(self) -> bytes:
        """What was written."""
        return bytes(self._parts)

    def raw(self, data: bytes) -> Writer:
        """Bytes as they are."""
        self._parts += data
        return self

    def varint(self, value: int) -> Writer:
        """An unsigned integer of at most `MAX_VARINT`, seven bits a byte."""
        if not 0 <= value <= MAX_VARINT:
            raise ValueError(f"a varint holds 0 to 2**62, not {value}")
        while value > 0x7F:
            self._parts.append(value & 0x7F | 0x80)
            value >>= 7
        self._parts.append(value)
        return self

    def signed(self, value: int) -> Writer:
        """A signed integer: zigzag, then varint."""
        return self.varint(2 * value if value >= 0 else -2 * value - 1)

    def float64(self, value: float) -> Writer:
        """An IEEE double."""
        return self.raw(struct.pack("<d", value))

    def fraction(self, value: Fraction) -> Writer:
        """A positive fraction whose numerator and denominator are at most 2**32."""
        if value <= 0 or max(value.numerator, value.denominator) > MAX_FRACTION_PART:
            raise ValueError(f"{value} is not a positive fraction of 32-bit parts")
        return self.varint(value.numerator).varint(value.denominator)

    def blob(self, data: bytes) -> Writer:
        """Bytes after their length."""
        return self.varint(len(data)).raw(data)

    def text(self, value: str) -> Writer:
        """UTF-8 after its length in bytes."""
        return self.blob(value.encode())


class Reader:
    """Takes fields from bytes; raises `TruncatedError` past the end and `FormatError` on impossible values.

    what: names the part of the file in errors.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._position, self.what = data, 0, what

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._position

    def raw(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.left:
            raise TruncatedError(f"{self.what}: expected {count} more bytes, found {self.left}")
        start, self._position = self._position, self._position + count
        return self._data[start : self._position]

    def varint(self, top: int = MAX_VARINT) -> int:
        """An unsigned integer of at most `top`."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.raw(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        else:
            raise FormatError(f"{self.what}: a number is too long")
        if value > top:
            raise FormatError(f"{self.what}: {value} is above {top}")
        return value

    def signed(self) -> int:
        """A signed integer."""
        value = self.varint()
        return value // 2 if value % 2 == 0 else -(value // 2) - 1

    def float64(self) -> float:
        """An IEEE double; may be NaN or infinite, the caller checks."""
        return float(struct.unpack("<d", self.raw(8))[0])

    def fraction(self) -> Fraction:
        """A positive fraction."""
        numerator, denominator = self.varint(MAX_FRACTION_PART), self.varint(MAX_FRACTION_PART)
        if numerator == 0 or denominator == 0:
            raise FormatError(f"{self.what}: a fraction is {numerator}/{denominator}, expected a positive one")
        return Fraction(numerator, denominator)

    def blob(self, top: int) -> bytes:
        """Bytes after their length, which is at most `top`."""
        return self.raw(self.varint(top))

    def text(self, top: int) -> str:
        """UTF-8 of at most `top` bytes."""
        try:
            return self.blob(top).decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.what}: a text is not UTF-8") from error

    def end(self) -> None:
        """Raise `FormatError` if anything is left."""
        if self.left:
            raise FormatError(f"{self.what}: {self.left} bytes too many")


def deflate(data: bytes) -> bytes:
    """zlib at its best level, after the original length."""
    return Writer().varint(len(data)).raw(zlib.compress(data, 9)).bytes_()


def inflate(data: bytes, limit: str, limits: Limits, what: str) -> bytes:
    """Inverse of `deflate`; never allocates more than the stated length, which the limit called `limit` bounds."""
    reader = Reader(data, what)
    size = limits.check(limit, reader.varint(), what)
    decompressor = zlib.decompressobj()
    try:
        result = decompressor.decompress(reader.raw(reader.left), size + 1)
    except zlib.error as error:
        raise FormatError(f"{what}: compressed data is damaged") from error
    if len(result) != size or not decompressor.eof or decompressor.unused_data:
        raise FormatError(f"{what}: expected {size} bytes after decompression, found another length")
    return result
