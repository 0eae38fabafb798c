"""Decoding ahead: the same frames, bounded memory, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import make_nvb

from inr_player.benchmark import benchmark
from inr_player.playback import frames_at_rate
from inr_player.selection import Selection
from inr_runtime import open_video
from inr_runtime.background import Background, ahead


def counting(made: list[int], stop: int = 100) -> Iterator[int]:
    for i in range(stop):
        made.append(i)
        yield i


def test_items_come_in_order_and_never_more_than_asked_for_ahead() -> None:
    made: list[int] = []
    for used, item in enumerate(ahead(counting(made), 3), 1):
        assert item == used - 1
        assert len(made) <= used + 3
    assert made == list(range(100))


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("spoiled")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="spoiled"):
        next(items)
    with pytest.raises(ValueError, match="spoiled"):
        Background(lambda: int("spoiled")).result()


def test_closing_early_ends_the_thread() -> None:
    threads, made = threading.active_count(), list[int]()
    items = ahead(counting(made))
    next(items)
    items.close()
    assert threading.active_count() == threads
    assert len(made) <= 3


def test_segments_made_ready_in_the_background_are_those_opened_by_hand(tmp_path: Path) -> None:
    path = make_nvb(tmp_path / "three.nvb", lengths=[4, 5, 3])
    with open_video(path, threads=1) as video:
        apart = [video.frame(i).pixels for i in (11, 0, 5, 3, 4)]
        together = [frame.pixels for frame in video.frames()]
    assert len(together) == 12
    for pixels, i in zip(apart, (11, 0, 5, 3, 4), strict=True):
        np.testing.assert_array_equal(pixels, together[i])


def test_leaving_a_video_while_the_next_segment_is_made_ready_leaves_no_thread(tmp_path: Path) -> None:
    path, threads = make_nvb(tmp_path / "two.nvb", lengths=[6, 6]), threading.active_count()
    with open_video(path, threads=1) as video:
        next(video.frames())
        video.frame(0)
        video.frame(8)
        next(video.frames())
    assert threading.active_count() == threads


def test_every_way_of_playing_makes_the_next_segment_ready_meanwhile(tmp_path: Path, lowered_by: list[str]) -> None:
    """At another rate and in benchmarks the next segment was opened between two frames once."""
    path = make_nvb(tmp_path / "two.nvb", lengths=[6, 6])
    with open_video(path, threads=1) as video:
        usual = [frame.pixels for frame in video.frames()]
    assert lowered_by == ["main", "other"]
    with open_video(path, threads=1) as video:
        halved = list(frames_at_rate(video, range(12), video.info.fps / 2, interpolate=False))
    assert lowered_by[2:] == ["main", "other"]
    assert [frame.index for frame in halved] == list(range(6))
    for frame, pixels in zip(halved, usual[::2], strict=True):
        np.testing.assert_array_equal(frame.pixels, pixels)
    assert benchmark(str(path), Selection(), threads=1).frames == 12
    assert lowered_by[4:] == ["main", "other"]


def test_no_segment_is_made_ready_that_will_not_be_played(tmp_path: Path, lowered_by: list[str]) -> None:
    path = make_nvb(tmp_path / "two.nvb", lengths=[6, 6])
    with open_video(path, threads=1) as video:
        assert len(list(video.frames(0, 6))) == 6
        assert len(list(video.moments([0.0, video.info.time_of(5)], video.info.time_of(5)))) == 2
        assert video[2:5].shape[0] == 3
    assert lowered_by == ["main"]
