"""Decoding ahead: the same frames, bounded memory, and errors where they belong."""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LEVELS, make_nvb, random_weights, tiny_graph

from inr_player.benchmark import benchmark
from inr_player.playback import frames_at_rate
from inr_player.selection import Selection
from inr_runtime import open_video
from inr_runtime.backends import open_backend
from inr_runtime.backends.ort import OrtBackend
from inr_runtime.background import Background, ahead
from inr_runtime.errors import BackendError
from inr_runtime.lower import TARGETS, lower
from inr_runtime.sample import TimeTensor


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


def test_a_second_ctrl_c_waits_for_the_frame_that_is_being_drawn() -> None:
    """It freed the weights that the thread was reading."""
    drawing, drawn = threading.Event(), list[int]()

    def slow() -> Iterator[int]:
        yield 0
        drawing.set()
        time.sleep(0.3)
        drawn.append(1)
        yield 1

    items = ahead(slow())
    assert next(items) == 0
    assert drawing.wait(10)
    main = threading.get_ident()
    threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        items.close()
    assert drawn == [1]


def test_an_engine_that_is_closed_while_it_draws_keeps_its_weights_until_it_has_drawn() -> None:
    graph = tiny_graph()
    engine: Any = open_backend(lower(graph, random_weights(graph, 0), TARGETS["cpu-fp32"]), threads=1)
    weights, session = weakref.ref(next(iter(engine._weights.values()))[1]), engine._session

    class Closing:
        def run(self, *given: Any) -> Any:
            engine.close()
            assert weights() is not None
            return session.run(*given)

    engine._session = Closing()
    feed = TimeTensor("encoding", 12, levels=LEVELS).sample(0.0)
    assert engine.run({graph.inputs[0].name: feed}).shape == (1, 32, 48, 3)
    with pytest.raises(BackendError, match="closed"):
        engine.run({})


def test_an_engine_that_was_asked_for_and_draws_a_wrong_picture_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept its memory for as long as the error was kept."""
    path, closed = make_nvb(tmp_path / "v.nvb"), list[str]()
    close = OrtBackend.close
    monkeypatch.setattr(OrtBackend, "run", lambda self, inputs: np.zeros((1, 32, 48, 3), np.uint8))
    monkeypatch.setattr(OrtBackend, "close", lambda self: (closed.append(self.name), close(self))[1])
    with pytest.raises(BackendError, match="wrong picture"):
        open_video(path, target="cpu-fp32")
    assert len(closed) == 1
