"""What people type on a command line is understood, or refused with an example."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_runtime.errors import UsageError
from inr_runtime.media import Position, ReadOptions, parse_crop, parse_position, parse_rate, parse_size

QUICK = settings(deadline=None, max_examples=200)
WHOLE = st.integers(0, 10**10 - 1)
TYPED = st.text(st.sampled_from("0123456789x+-:.%f٣²e "), max_size=30) | st.text(max_size=30)


def test_times_are_written_as_in_mpv() -> None:
    assert parse_position("90") == parse_position("1:30") == parse_position("0:01:30.0") == Position(90.0)
    assert parse_position("12.5%") == Position(12.5, "%")
    assert parse_position("120f") == Position(120, "f")
    assert parse_size("1280x720") == (1280, 720)
    assert parse_crop("1280x640") == (1280, 640)
    assert parse_crop("1280x640+0+40") == (1280, 640, 0, 40)
    for wrong in ("", "f", "-3", "1:2:3:4", "101%", "3s", "1e3"):
        with pytest.raises(UsageError):
            parse_position(wrong)
    with pytest.raises(UsageError, match="WxH"):
        parse_size("1280*720")
    with pytest.raises(UsageError, match="WxH"):
        parse_crop("10x10+1")
    for options in ({"frames": 0}, {"size": (0, 4)}, {"crop": (4, 0)}, {"fps": Fraction(0)}):
        with pytest.raises(UsageError):
            ReadOptions(**options)


@QUICK
@given(WHOLE, WHOLE, WHOLE, WHOLE)
def test_sizes_and_crops_are_what_was_typed(width: int, height: int, x: int, y: int) -> None:
    assert parse_size(f"{width}x{height}") == (width, height)
    assert parse_crop(f"{width}x{height}") == (width, height)
    assert parse_crop(f"{width}x{height}+{x}+{y}") == (width, height, x, y)


@QUICK
@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_times_are_what_was_typed(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    position = parse_position(f"{hours}:{minutes:02}:{seconds:02}.{thousandths:03}")
    assert position.unit == "s"
    assert position.value == pytest.approx(3600 * hours + 60 * minutes + seconds + thousandths / 1000)


@pytest.mark.parametrize("parse", [parse_position, parse_size, parse_crop])
@QUICK
@given(text=TYPED)
def test_anything_else_is_wrong_usage(parse: Callable[[str], object], text: str) -> None:
    try:
        value = parse(text)
    except UsageError:
        return
    assert not isinstance(value, Position) or math.isfinite(value.value)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "9" * 400 + "f", "1:" + "9" * 400, "9" * 400 + "%", "٣:٣"])
def test_numbers_without_end_are_no_times(text: str) -> None:
    """They would be infinite, or refuse to become a number."""
    with pytest.raises(UsageError, match="is not a time"):
        parse_position(text)


@pytest.mark.parametrize("text", ["9" * 5000 + "x1", "1x" + "9" * 5000, "٣x٣"])
def test_numbers_without_end_are_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)
    with pytest.raises(UsageError, match="is not a crop"):
        parse_crop(text)


def test_a_rate_in_decimals_has_terms_that_every_file_can_hold() -> None:
    assert parse_rate("29.97002997") == Fraction(30000, 1001)
    assert [parse_rate(text) for text in ("25", "29.97", "30000/1001", "0.5")] == [
        25,
        Fraction("29.97"),
        Fraction(30000, 1001),
        Fraction(1, 2),
    ]
    for wrong in ("0", "0.0000000001", "1/0", "1001", "-5", "25 fps", "9" * 400):
        with pytest.raises(UsageError, match="is not a rate"):
            parse_rate(wrong)
