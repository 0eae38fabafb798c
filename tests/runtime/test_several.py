"""Several frames of a small network in one run: the very frames that single runs give, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import INFO, make_nvb

from inr_runtime import open_video, several
from inr_runtime.errors import BackendError
from inr_runtime.lower import TARGETS
from inr_runtime.several import Several, frames_at_once


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every stretch pays, and engines are waited for; the first frames of all runs for several."""
    first: list[int] = []
    draw = Several.draw

    def watched(self: Several, graph: Any, tensors: Any, begin: int) -> Any:
        first.append(begin)
        return draw(self, graph, tensors, begin)

    monkeypatch.setattr(several, "LEAST_FRAMES", 1)
    monkeypatch.setattr(Several, "ready", property(lambda self: self._opening.result() is not None))
    monkeypatch.setattr(Several, "draw", watched)
    return first


@pytest.fixture
def two_segments(tmp_path: Path) -> Path:
    return make_nvb(tmp_path / "two.nvb", lengths=[9, 6], info=dataclasses.replace(INFO, frame_count=15))


def test_they_are_the_single_frames(two_segments: Path, drawn: list[int]) -> None:
    with open_video(two_segments, target="cpu-int8") as video:
        single = list(video.frames(single=True))
        assert drawn == []
        at_once = list(video.frames())
        assert drawn == [0, 4, 0]
        part = list(video.frames(2, 8))
        assert drawn == [0, 4, 0, 2]
    assert [(f.index, f.pts) for f in at_once] == [(f.index, f.pts) for f in single]
    for frame, expected in zip([*at_once, *part], [*single, *single[2:8]], strict=True):
        np.testing.assert_array_equal(frame.pixels, expected.pixels)


def test_seeks_in_between_change_nothing(two_segments: Path, drawn: list[int]) -> None:
    with open_video(two_segments, target="cpu-int8") as video:
        expected = list(video.frames(single=True))
        for frame in video.frames():
            np.testing.assert_array_equal(frame.pixels, expected[frame.index].pixels)
            other = (frame.index * 7) % len(video)
            np.testing.assert_array_equal(video.frame(other).pixels, expected[other].pixels)
    assert len(drawn) == 3


def test_where_their_engine_fails_single_frames_go_on(
    two_segments: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Several, *_: object) -> Any:
        drawn.append(-1)
        raise BackendError("no memory is left")

    monkeypatch.setattr(Several, "draw", fails)
    with open_video(two_segments, target="cpu-int8") as video, caplog.at_level(logging.WARNING, "inr"):
        expected = list(video.frames(single=True))
        frames = list(video.frames())
    assert drawn == [-1]
    assert "single frames from here on" in caplog.text
    assert "no memory is left" in caplog.text
    for frame, alone in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.pixels, alone.pixels)


def test_frames_that_several_runs_draw_otherwise_are_not_shown(
    two_segments: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A network may mix what a batch holds; the last of the first few is compared with a run of its own."""
    draw = Several.draw
    monkeypatch.setattr(Several, "draw", lambda *given: draw(*given)[::-1])
    with open_video(two_segments, target="cpu-int8") as video, caplog.at_level(logging.WARNING, "inr"):
        expected = list(video.frames(single=True))
        frames = list(video.frames())
    assert drawn == [0]
    assert "differ" in caplog.text
    for frame, alone in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.pixels, alone.pixels)


def test_only_small_networks_in_integers_and_long_stretches(
    two_segments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(two_segments, target="cpu-int8") as video:
        graph = video.reader.header.graphs[0]
    many = several.LEAST_FRAMES
    assert frames_at_once(graph, TARGETS["cpu-int8"], many) == 4
    assert frames_at_once(graph, TARGETS["openvino-int8"], many) == 8
    assert frames_at_once(graph, TARGETS["cpu-int8"], many - 1) == 1
    assert frames_at_once(graph, TARGETS["cpu-fp32"], many) == 1
    for bound, found in (("MOST_MACS", graph.macs), ("MOST_BYTES", graph.activation_bytes)):
        with monkeypatch.context() as patch:
            patch.setattr(several, bound, found - 1)
            assert frames_at_once(graph, TARGETS["cpu-int8"], many) == 1


def test_a_video_that_is_closed_early_closes_their_engine(two_segments: Path, drawn: list[int]) -> None:
    video = open_video(two_segments, target="cpu-int8")
    next(video.frames())
    engine = video._several
    assert engine is not None
    video.close()
    with pytest.raises(BackendError, match="closed"):
        engine.draw(video.reader.header.graphs[0], video._segment.time_tensors, 0)
