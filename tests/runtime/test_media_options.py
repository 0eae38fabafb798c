"""What people type on a command line is understood, or refused with an example."""

from __future__ import annotations

from fractions import Fraction

import pytest

from inr_runtime.errors import UsageError
from inr_runtime.media import Position, ReadOptions, parse_crop, parse_position, parse_size


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
