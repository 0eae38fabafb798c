"""Which frames `--start --end --length --frames` choose."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from inr_player.selection import Selection, part_of
from inr_runtime.errors import UsageError
from inr_runtime.info import VideoInfo
from inr_runtime.media import parse_position

STEADY = VideoInfo(48, 32, 100, Fraction(25))
UNSTEADY = VideoInfo(48, 32, 5, Fraction(5), pts=(0, 100, 500, 600, 1000))


def chosen(words: dict[str, str], info: VideoInfo = STEADY) -> range:
    positions = {word: parse_position(text) for word, text in words.items() if word != "frames"}
    return Selection(frames=int(words.get("frames", 0)) or None, **positions).of(info)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, range(100)),
        ({"start": "1"}, range(25, 100)),
        ({"start": "10f", "end": "20f"}, range(10, 20)),
        ({"start": "50%", "length": "10%"}, range(50, 60)),
        ({"start": "2", "length": "0.4"}, range(50, 60)),
        ({"start": "90f", "frames": "50"}, range(90, 100)),
        ({"end": "3", "length": "1", "frames": "7"}, range(7)),
        ({"end": "1:00"}, range(100)),
    ],
)
def test_words_choose_frames(words: dict[str, str], expected: range) -> None:
    assert chosen(words) == expected


def test_the_allowance_for_rounded_times_is_less_than_a_sample() -> None:
    sound = VideoInfo(1, 1, 441_000, Fraction(44_100))
    assert chosen({"start": "0.5", "length": "1"}, sound) == range(22_050, 66_150)
    assert chosen({"start": "1.234", "end": "1.236"}, sound) == range(54_419, 54_508)
    assert chosen({"start": "0.333", "length": "0.033"}, replace(STEADY, fps=Fraction(30))) == range(10, 11)


def test_seconds_follow_the_timestamps_of_a_variable_rate() -> None:
    assert chosen({"start": "0.5"}, UNSTEADY) == range(2, 5)
    assert chosen({"start": "0.1", "length": "0.5"}, UNSTEADY) == range(1, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"start": "100f"}, "beyond the end; the video has 100 frames, 4.00 s"),
        ({"start": "10f", "end": "10f"}, "between --start 10f and --end 10f"),
        ({"length": "0"}, "no frame"),
    ],
)
def test_an_empty_choice_is_refused(words: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(words)


def test_a_choice_is_bounded_when_its_end_was_given() -> None:
    assert not Selection(start=parse_position("1")).bounded
    assert Selection(frames=1).bounded
    assert Selection(end=parse_position("1")).bounded
    assert Selection(length=parse_position("1")).bounded


def test_a_part_has_a_clock_of_its_own() -> None:
    assert part_of(STEADY, range(10, 30)).frame_count == 20
    part = part_of(UNSTEADY, range(1, 4))
    assert (part.frame_count, part.pts) == (3, (0, 400, 500))
