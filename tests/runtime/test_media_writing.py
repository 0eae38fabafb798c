"""What is played can be kept: as a video, as images, or down a pipe."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from inr_runtime.errors import InrError, UsageError
from inr_runtime.frame import Frame
from inr_runtime.info import VideoInfo
from inr_runtime.media import ReadOptions, open_media, open_writer


def pictures(count: int, width: int, height: int) -> list[np.ndarray]:
    y, x = np.mgrid[:height, :width]
    still = np.stack([60 + x * 80 // width, 50 + y * 80 // height, 90 + 0 * x], -1).astype(np.uint8)
    return [still + np.uint8(index) for index in range(count)]


def put(target: str, info: VideoInfo, **options: object) -> list[np.ndarray]:
    """Write smooth pictures to `target`; return them."""
    pixels = pictures(info.frame_count, info.width, info.height)
    with open_writer(target, info, **options) as writer:  # type: ignore[arg-type]
        for index, each in enumerate(pixels):
            writer.write(Frame(index, info.time_of(index), each, info.matrix_used))
    return pixels


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
@pytest.mark.parametrize("size", [(64, 48), (33, 17)])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_a_video_file_keeps_pictures_clock_and_colours(
    tmp_path: Path, suffix: str, size: tuple[int, int], matrix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    aspect = Fraction(1) if suffix == ".webm" else Fraction(4, 3)
    info = VideoInfo(*size, 5, Fraction(30000, 1001), pixel_aspect=aspect, matrix_used=matrix)
    pixels = put(str(path), info)
    reader = open_media(path)
    read = list(reader)
    assert len(read) == 5
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(read, pixels, strict=True)) < 2.5
    assert (reader.info.width, reader.info.height) == size
    assert (reader.info.fps, reader.info.pts) == (info.fps, None)
    assert (reader.info.pixel_aspect, reader.info.matrix_used) == (aspect, matrix)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_rate_is_kept(tmp_path: Path, suffix: str) -> None:
    pts = (0, 40, 80, 200, 240)
    put(str(tmp_path / f"v{suffix}"), VideoInfo(64, 48, 5, Fraction(50, 3), pts))
    info = open_media(tmp_path / f"v{suffix}").info
    assert [info.time_of(i) for i in range(5)] == pytest.approx([p / 1000 for p in pts])


@pytest.mark.parametrize("size", [(64, 48), (321, 181)])
@pytest.mark.parametrize("pix_fmt", [None, "yuv420p", "yuv444p"])
def test_y4m_is_read_back_by_everybody(tmp_path: Path, size: tuple[int, int], pix_fmt: str | None) -> None:
    path = tmp_path / "out.y4m"
    info = VideoInfo(*size, 3, Fraction(24000, 1001), pixel_aspect=Fraction(16, 15))
    pixels = put(str(path), info, pix_fmt=pix_fmt)
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == (pix_fmt or "yuv420p")
    reader = open_media(path)
    assert all(np.abs(a.astype(int) - b).max() <= 5 for a, b in zip(reader, pixels, strict=True))
    assert (reader.info.fps, reader.info.pixel_aspect) == (info.fps, Fraction(16, 15))


def test_raw_files_hold_nothing_but_pixels(tmp_path: Path) -> None:
    info = VideoInfo(33, 17, 3)
    pixels = put(str(tmp_path / "out.rgb"), info)
    assert (tmp_path / "out.rgb").read_bytes() == b"".join(p.tobytes() for p in pixels)
    put(str(tmp_path / "out.yuv"), info)
    read = list(open_media(tmp_path / "out.yuv", ReadOptions(size=(33, 17))))
    assert np.abs(read[2].astype(int) - pixels[2]).max() <= 3
    put(str(tmp_path / "any.name"), info, format="raw", pix_fmt="yuv444p")
    assert (tmp_path / "any.name").stat().st_size == 3 * 33 * 17 * 3


def test_numbered_images_are_exact_and_their_folder_is_made(tmp_path: Path) -> None:
    target = tmp_path / "new" / "frames" / "%05d.png"
    pixels = put(str(target), VideoInfo(33, 17, 12))
    assert sorted(p.name for p in target.parent.iterdir()) == [f"{n:05d}.png" for n in range(1, 13)]
    assert all(np.array_equal(a, b) for a, b in zip(open_media(target), pixels, strict=True))
    with pytest.raises(UsageError, match=r"00001\.png exists"):
        put(str(target), VideoInfo(33, 17, 2))
    put(str(target), VideoInfo(33, 17, 2), overwrite=True)


def test_one_image_holds_one_frame(tmp_path: Path) -> None:
    [pixels] = put(str(tmp_path / "one.png"), VideoInfo(33, 17, 1))
    assert np.array_equal(next(iter(open_media(tmp_path / "one.png"))), pixels)
    with pytest.raises(UsageError, match=r"one image cannot hold 2 frames; write %05d\.png"):
        put(str(tmp_path / "two.png"), VideoInfo(33, 17, 2))


class Pipe(io.TextIOBase):
    """A stdout that counts what it gets, and may break."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.buffer, self.limit = self, limit
        self.data = b""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if len(self.data) + len(data) > self.limit:
            raise BrokenPipeError
        self.data += data
        return len(data)


def test_a_pipe_gets_y4m_or_raw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = VideoInfo(16, 8, 2)
    monkeypatch.setattr("sys.stdout", pipe := Pipe())
    put("-", info)
    assert pipe.data.startswith(b"YUV4MPEG2 W16 H8 F25:1")
    (tmp_path / "piped.y4m").write_bytes(pipe.data)
    assert len(list(open_media(tmp_path / "piped.y4m"))) == 2
    monkeypatch.setattr("sys.stdout", pipe := Pipe())
    pixels = put("-", info, format="raw")
    assert pipe.data == b"".join(p.tobytes() for p in pixels)


def test_a_reader_that_goes_away_is_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Pipe(limit=300))
    with pytest.raises(BrokenPipeError):
        put("-", VideoInfo(16, 8, 5))


def test_a_terminal_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", pipe := Pipe())
    monkeypatch.setattr(pipe, "isatty", lambda: True)
    with pytest.raises(UsageError, match="terminal"):
        put("-", VideoInfo(16, 8, 1))


def test_null_swallows_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("null", VideoInfo(16, 8, 3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["a.mp4", "a.y4m", "a.yuv", "a.png", "new/%03d.png", "new/er/%d.png"])
def test_what_fails_midway_leaves_nothing_behind(tmp_path: Path, target: str) -> None:
    info = VideoInfo(64, 48, 1)

    def play() -> None:
        with open_writer(str(tmp_path / target), info) as writer:
            writer.write(Frame(0, 0.0, pictures(1, 64, 48)[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.y4m", "a.png"])
def test_nothing_is_overwritten_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists; add -y"):
        put(str(tmp_path / name), VideoInfo(64, 48, 1))
    assert (tmp_path / name).read_bytes() == b"precious"
    put(str(tmp_path / name), VideoInfo(64, 48, 1), overwrite=True)
    assert len(list(open_media(tmp_path / name))) == 1


def test_a_video_of_no_frames_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(InrError, match="no frame"), open_writer(str(tmp_path / "a.mp4"), VideoInfo(64, 48, 1)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_targets_are_named(tmp_path: Path) -> None:
    info = VideoInfo(64, 48, 1)
    with pytest.raises(UsageError, match=r"cannot tell the format from '\.doc'; known are \.mp4"):
        put(str(tmp_path / "a.doc"), info)
    with pytest.raises(UsageError, match="rgb24 does not fit"):
        put(str(tmp_path / "a.mp4"), info, pix_fmt="rgb24")
    with pytest.raises(UsageError, match="not a folder"):
        put(str(tmp_path / "gone" / "a.mp4"), info)
    with pytest.raises(UsageError, match="cannot go to a pipe"):
        put("-", info, format="png")
    with (
        pytest.raises(ValueError, match="a frame of shape"),
        open_writer(str(tmp_path / "a.y4m"), info) as writer,
    ):
        writer.write(Frame(0, 0.0, np.zeros((8, 8, 3), np.uint8)))


BIG = 1 << 32
EXTREME = {
    "the fastest": VideoInfo(64, 48, 2, Fraction(BIG)),
    "the slowest": VideoInfo(64, 48, 2, Fraction(1, BIG)),
    "long terms": VideoInfo(64, 48, 2, Fraction(BIG - 1, BIG - 3)),
    "the widest": VideoInfo(64, 48, 2, pixel_aspect=Fraction(BIG)),
    "the narrowest": VideoInfo(64, 48, 2, pixel_aspect=Fraction(1, BIG)),
    "long ticks": VideoInfo(64, 48, 2, Fraction(25), (0, 1), Fraction(BIG)),
    "short ticks": VideoInfo(64, 48, 2, Fraction(25), (0, BIG), Fraction(1, BIG)),
    "the end of time": VideoInfo(64, 48, 2, Fraction(25), (0, 1 << 60), Fraction(BIG)),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".y4m"])
@pytest.mark.parametrize("name", EXTREME)
def test_a_strange_clock_or_shape_ends_in_a_file_or_one_line(tmp_path: Path, name: str, suffix: str) -> None:
    """A file of a stranger may hold terms of 32 bits; FFmpeg's have 31, and more were a traceback."""
    path, words = tmp_path / f"out{suffix}", ""
    try:
        put(str(path), EXTREME[name])
    except InrError as error:
        words = str(error)
    assert "\n" not in words
    assert words or len(list(open_media(path))) == 2
    assert [p.name for p in tmp_path.iterdir()] == ([] if words else [path.name])


def test_a_slide_of_an_hour_is_read_back(tmp_path: Path) -> None:
    """Its rate was rounded to nothing, and that divided by."""
    put(str(tmp_path / "slides.mkv"), VideoInfo(64, 48, 3, Fraction(1, 3600), (0, 3600, 9000), Fraction(1)))
    info = open_media(tmp_path / "slides.mkv").info
    assert [info.time_of(i) for i in range(3)] == [0, 3600, 9000]


def test_a_name_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("take-1:final.mp4", VideoInfo(64, 48, 2))
    assert len(list(open_media("take-1:final.mp4"))) == 2


def test_what_another_run_wrote_into_the_same_new_folder_stays(tmp_path: Path) -> None:
    def play() -> None:
        with open_writer(str(tmp_path / "new" / "frames" / "a%d.png"), VideoInfo(64, 48, 2)):
            put(str(tmp_path / "new" / "frames" / "b%d.png"), VideoInfo(64, 48, 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play()
    assert sorted(p.name for p in (tmp_path / "new" / "frames").iterdir()) == ["b1.png", "b2.png"]


def test_images_of_a_longer_video_are_kept_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(str(tmp_path / "%03d.png"), VideoInfo(64, 48, 5))
    assert caplog.messages == []
    put(str(tmp_path / "%03d.png"), VideoInfo(64, 48, 3), overwrite=True)
    assert caplog.messages == [
        f"{tmp_path / '%03d.png'}: 2 images, from 004.png on, were there before and are no part of this video"
    ]
    assert len(list(tmp_path.iterdir())) == 5
