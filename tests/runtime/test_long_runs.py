"""A player that is left alone for days: memory and threads stay as they were after the first round."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from builders import INFO, make_nvb

from inr_player.playback import play
from inr_runtime import open_video
from inr_runtime.decoder import Decoder
from inr_runtime.media import open_writer

MEMORY = Path("/proc/self/statm")
LENGTHS = [n for n in range(20, 50) if n % 3]
ROUNDS = 3
GROWTH = 30 << 20
"""Bytes; the frames of all rounds, or their engines, are more."""

pytestmark = pytest.mark.skipif(not MEMORY.exists(), reason="this system does not tell what a process holds")


def held_bytes() -> int:
    """What this process holds now."""
    gc.collect()
    return int(MEMORY.read_text().split()[1]) * 4096


@pytest.fixture(scope="module")
def many_segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred frames in segments of unequal lengths, each of which opens an engine of its own."""
    info = replace(INFO, width=128, height=96, frame_count=sum(LENGTHS))
    return make_nvb(tmp_path_factory.mktemp("long") / "many.nvb", info=info, lengths=LENGTHS)


def play_through(video: Decoder) -> None:
    with open_writer("null", video.info) as writer:
        play(video.frames(), writer)


def test_playing_on_and_on_needs_no_more_memory_and_no_more_threads(many_segments: Path) -> None:
    """Engines that outlive their segment, frames that a thread keeps, threads that nobody waits for."""
    with open_video(many_segments, threads=1) as video:
        play_through(video)
        held, threads = held_bytes(), threading.active_count()
        for _ in range(ROUNDS):
            play_through(video)
        assert held_bytes() - held < GROWTH
        assert threading.active_count() == threads


def test_seeking_and_leaving_early_needs_no_more_memory_and_no_more_threads(many_segments: Path) -> None:
    """The segment that was made ready for nothing has an engine too."""
    threads, rounds = threading.active_count(), []
    with open_video(many_segments, threads=1) as video:
        for _ in range(ROUNDS):
            for index in range(0, len(video), 29):
                next(video.frames(index))
            rounds.append(held_bytes())
    assert rounds[-1] - rounds[0] < GROWTH
    assert threading.active_count() == threads
