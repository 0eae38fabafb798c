"""A clip is a video in memory, and it says no before memory does."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from inr_runtime.errors import MediaError, UsageError
from inr_runtime.frame import Frame
from inr_runtime.info import VideoInfo
from inr_runtime.media import Position, ReadOptions, open_media, open_writer
from inr_train import clip as clip_module
from inr_train.clip import Clip, excerpt

EXCERPT_SHA256 = "a17ae21aee0d71fd57cacc0a57a1bbf802da994f9d8b3825c05bb3e50ab4bb59"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mkv"
    with open_writer(str(path), VideoInfo(32, 16, 10)) as writer:
        for index in range(10):
            writer.write(Frame(index, index / 25, np.full((16, 32, 3), 20 * index, np.uint8)))
    return path


def test_a_clip_holds_all_frames_and_their_facts(video: Path) -> None:
    clip = Clip.read(video)
    assert len(clip) == 10
    assert clip.frames.shape == (10, 16, 32, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.flags.c_contiguous
    assert clip.info == VideoInfo(32, 16, 10, Fraction(25), matrix_tag=6)
    assert clip.source == str(video)
    assert all(np.array_equal(a, b) for a, b in zip(clip.frames, open_media(video), strict=True))


def test_a_clip_can_be_one_frame(video: Path) -> None:
    clip = Clip.read(video, ReadOptions(start=Position(3, "f"), frames=1))
    assert len(clip) == clip.info.frame_count == 1
    assert abs(int(clip.frames[0, 0, 0, 0]) - 60) < 3


def test_what_does_not_fit_is_refused_before_decoding(video: Path) -> None:
    frame_bytes = 32 * 16 * 3
    with pytest.raises(UsageError, match=r"at most 4 frames of 32x16 fit .* --frames 4 or a smaller --size"):
        Clip.read(video, max_bytes=5 * frame_bytes - 1)
    assert len(Clip.read(video, ReadOptions(frames=4), max_bytes=4 * frame_bytes)) == 4
    assert len(Clip.read(video, ReadOptions(size=(16, 8)), max_bytes=3 * frame_bytes)) == 10
    with pytest.raises(UsageError, match=r"not one frame .* a smaller --size"):
        Clip.read(video, max_bytes=frame_bytes - 1)


class Understated:
    """A container that announces fewer frames than it holds."""

    info = VideoInfo(4, 2, 1)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(np.full((7, 2, 4, 3), 9, np.uint8))


def test_a_container_that_understates_is_read_or_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_module, "open_media", lambda path, options: Understated())
    clip = Clip.read("any.mkv")
    assert (len(clip), int(clip.frames.min())) == (7, 9)
    with pytest.raises(UsageError, match="--frames 3"):
        Clip.read("any.mkv", max_bytes=3 * 4 * 2 * 3)


def test_the_excerpt_is_the_reference_clip() -> None:
    with av.open(str(clip_module.EXCERPT)) as container:
        planes = b"".join(frame.to_ndarray().tobytes() for frame in container.decode(video=0))
    assert hashlib.sha256(planes).hexdigest() == EXCERPT_SHA256
    clip = excerpt()
    assert clip.frames.shape == (48, 180, 320, 3)
    assert clip.info == VideoInfo(320, 180, 48, Fraction(25))
    assert clip.source == "bunny_180p.mp4"


def test_an_altered_excerpt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = tmp_path / "bunny_180p.mp4"
    altered.write_bytes(clip_module.EXCERPT.read_bytes() + b"!")
    monkeypatch.setattr(clip_module, "EXCERPT", altered)
    with pytest.raises(MediaError, match="not the excerpt"):
        excerpt()
