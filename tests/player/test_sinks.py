"""A .nvb file becomes an ordinary video, images, or a stream down a pipe."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from builders import make_nvb
from commands import Call, inr_play

from inr_player.playback import play
from inr_runtime import open_video
from inr_runtime.media import ReadOptions, open_media, open_writer

Y4M_FRAME = len(b"FRAME\n") + 48 * 32 * 3 // 2


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov", "out.webm", "out.y4m", "out.yuv"])
def test_every_video_format_holds_every_frame(call: Call, tiny_nvb: Path, tmp_path: Path, name: str) -> None:
    code, out, err = call(tiny_nvb, "-o", tmp_path / name)
    assert (code, out) == (0, "")
    assert f"wrote {tmp_path / name}: 12 frames, 48x32" in err
    options = ReadOptions(size=(48, 32)) if name.endswith(".yuv") else None
    reader = open_media(tmp_path / name, options)
    assert [frame.shape for frame in reader] == [(32, 48, 3)] * 12
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_numbered_images_are_the_decoded_pixels(tiny_nvb: Path, tmp_path: Path) -> None:
    done = inr_play(tiny_nvb, "-o", tmp_path / "frames/%05d.png")
    assert done.returncode == 0
    assert len(list((tmp_path / "frames").iterdir())) == 12
    with open_video(tiny_nvb) as video:
        assert np.array_equal(np.stack(list(open_media(tmp_path / "frames"))), video[:])


def test_raw_rgb_is_the_decoded_pixels(call: Call, tiny_nvb: Path, tmp_path: Path) -> None:
    assert call(tiny_nvb, "-o", "out.rgb")[0] == 0
    with open_video(tiny_nvb) as video:
        assert (tmp_path / "out.rgb").read_bytes() == video[:].tobytes()


def test_a_pipe_carries_y4m_and_nothing_else(tiny_nvb: Path) -> None:
    done = inr_play(tiny_nvb, "-o", "-")
    header, _, rest = done.stdout.partition(b"\n")
    assert header.startswith(b"YUV4MPEG2 W48 H32 F24:1")
    assert len(rest) == 12 * Y4M_FRAME
    assert b"wrote the pipe" in done.stderr


def test_rgb_down_a_pipe_is_raw(tiny_nvb: Path) -> None:
    done = inr_play(tiny_nvb, "-o", "-", "--pix-fmt", "rgb24", "--frames", "2", "-q")
    with open_video(tiny_nvb) as video:
        assert done.stdout == video[:2].tobytes()
    assert done.stderr == b""


def test_a_part_in_mpvs_words(tiny_nvb_two_segments: Path, tmp_path: Path) -> None:
    """Frames 5 to 8 lie on both sides of the border between the segments."""
    done = inr_play(tiny_nvb_two_segments, "--start", "5f", "--length", "4f", "-o", tmp_path / "%d.png", "--json")
    report = json.loads(done.stdout)
    assert (report["output"], report["frames"]) == (str(tmp_path / "%d.png"), 4)
    with open_video(tiny_nvb_two_segments) as video:
        assert np.array_equal(np.stack(list(open_media(tmp_path / "%d.png"))), video[5:9])


def test_nothing_is_a_sink_too(call: Call, tiny_nvb: Path) -> None:
    code, out, err = call(tiny_nvb, "--vo", "null")
    assert (code, out) == (0, "")
    assert "cpu-int8, " in err
    assert "12 frames" in err


def test_play_in_python_reports_progress(tiny_nvb: Path) -> None:
    told: list[int] = []
    with open_video(tiny_nvb) as video, open_writer("null", video.info) as writer:
        play(video.frames(3, 9), writer, told.append)
    assert told == [1, 2, 3, 4, 5, 6]


def test_a_rate_in_decimals_is_played(call: Call, tiny_nvb: Path, tmp_path: Path) -> None:
    """Its ten digits did not fit into the 32 bits of a video file."""
    assert call(tiny_nvb, "--fps", "29.97002997", "-o", "out.mp4")[0] == 0
    assert open_media(tmp_path / "out.mp4").info.fps == Fraction(30000, 1001)


def test_a_score_that_is_no_score_says_nothing(call: Call, tmp_path: Path) -> None:
    """A file of a stranger ended in a RecursionError."""
    make_nvb(tmp_path / "v.nvb", meta={"heldout": "[" * 60_000})
    code, _, err = call("v.nvb", "--fps", "48", "-o", "out.y4m")
    assert code == 0
    assert "it has no score for moments between frames" in err
