"""Somebody hands over a video file; its frames and its facts come out right."""

from __future__ import annotations

import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from inr_runtime.errors import MediaError, UsageError
from inr_runtime.media import MediaWarning, Position, ReadOptions, open_media, parse_position


def picture(index: int, width: int, height: int) -> np.ndarray:
    """A smooth picture that tells its index by its brightness and its corners by its colours."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 150 // width + index, y * 150 // height + 2 * index, x * 0 + 60], -1).astype(np.uint8)


def make(
    path: Path,
    count: int = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: Fraction | int = 25,
    pts: list[int] | None = None,
    options: dict[str, str] | None = None,
    **tags: int,
) -> Path:
    """Encode `count` pictures; `pts` in milliseconds, `tags` are attributes of the codec."""
    quality = {"crf": "1", "preset": "fast", "g": "5"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, fps, quality)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        base = Fraction(1, 1000) if pts else 1 / Fraction(fps)
        stream.codec_context.time_base = base
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = (pts[index] if pts else index), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Put a display matrix into an .mp4 file, as a phone held sideways does."""
    data = path.read_bytes()
    one, end = 1 << 16, (0, 0, 0, 1 << 30)
    plain = struct.pack(">9i", one, 0, 0, 0, one, *end)
    turned = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, *end)
    place = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])


def differs(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def warned(path: Path, options: ReadOptions | None = None) -> list[str]:
    """Read everything, and return what was warned about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(open_media(path, options))
    assert all(issubclass(w.category, MediaWarning) for w in caught)
    return [str(w.message) for w in caught]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv444p"),
        ("a.mkv", "libx264", "yuv422p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.avi", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("b.mkv", "ffv1", "yuv420p"),
        ("a.y4m", "rawvideo", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_every_common_container_gives_its_frames(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    reader = open_media(make(tmp_path / name, codec=codec, pix_fmt=pix_fmt))
    frames = list(reader)
    info = reader.info
    assert (info.width, info.height, info.frame_count, info.fps, info.pts) == (64, 48, 12, 25, None)
    assert len(frames) == 12
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in frames)
    assert all(frame.flags.c_contiguous for frame in frames)
    assert differs(frames[7], picture(7, 64, 48)) < (30 if pix_fmt == "rgb8" else 3)
    assert warned(tmp_path / name) == []


@pytest.mark.parametrize("size", [(321, 181), (33, 18), (1, 1)])
def test_odd_sizes_work(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make(tmp_path / "odd.mkv", 3, size, "ffv1")
    assert [frame.shape for frame in open_media(path)] == [(size[1], size[0], 3)] * 3
    small = list(open_media(path, ReadOptions(size=(7, 5))))
    assert small[0].shape == (5, 7, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_ntsc_rates_are_exact(tmp_path: Path, suffix: str) -> None:
    info = open_media(make(tmp_path / f"n{suffix}", fps=Fraction(30000, 1001))).info
    assert (info.fps, info.pts) == (Fraction(30000, 1001), None)


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    pts = [0, 40, 80, 200, 240, 300, 340, 400]
    reader = open_media(make(tmp_path / "v.mkv", 8, pts=pts))
    list(reader)
    assert reader.info.pts == tuple(pts)
    assert reader.info.time_base == Fraction(1, 1000)
    assert reader.info.fps == Fraction(7, 1) / Fraction(400, 1000)
    part = open_media(tmp_path / "v.mkv", ReadOptions(start=Position(0.2), end=Position(0.35)))
    frames = list(part)
    assert part.info.pts == (0, 40, 100, 140)
    assert differs(frames[0], picture(3, 64, 48)) < 3


def test_a_rate_given_by_hand_replaces_the_clock(tmp_path: Path) -> None:
    path = make(tmp_path / "v.mkv", 4, pts=[0, 40, 200, 240])
    reader = open_media(path, ReadOptions(fps=Fraction(50)))
    assert len(list(reader)) == 4
    assert (reader.info.fps, reader.info.pts) == (50, None)


def test_missing_timestamps_become_a_constant_rate_with_one_warning(tmp_path: Path) -> None:
    path = make(tmp_path / "raw.h264")
    [text] = warned(path)
    assert "timestamps" in text
    assert "--fps" in text
    assert warned(path, ReadOptions(fps=Fraction(25))) == []
    frames = list(open_media(path, ReadOptions(start=Position(7, "f"), frames=1, fps=Fraction(25))))
    assert differs(frames[0], picture(7, 64, 48)) < 3


@pytest.mark.parametrize(
    ("start", "end", "frames", "indices"),
    [
        ("4f", None, 3, [4, 5, 6]),
        ("0:02", None, None, [10, 11]),
        (None, "25%", None, [0, 1, 2]),
        ("50%", "8f", None, [6, 7]),
        ("0.8", "00:00:01.2", 9, [4, 5]),
        ("10f", "99", None, [10, 11]),
    ],
)
@pytest.mark.parametrize("name", ["p.mp4", "p.ts", "p.avi"])
def test_a_part_is_the_same_frames(
    tmp_path: Path, name: str, start: str | None, end: str | None, frames: int | None, indices: list[int]
) -> None:
    path = make(tmp_path / name, fps=5)
    whole = list(open_media(path))
    first, last = (parse_position(text) if text else None for text in (start, end))
    reader = open_media(path, ReadOptions(start=first, end=last, frames=frames))
    assert reader.info.frame_count == len(indices)
    part = list(reader)
    assert len(part) == len(indices)
    assert all(np.array_equal(a, whole[i]) for a, i in zip(part, indices, strict=True))


def test_parts_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "p.mp4", 3)
    with pytest.raises(UsageError, match="--start 9f is beyond the end; it has 3 frames"):
        open_media(path, ReadOptions(start=Position(9, "f")))
    with pytest.raises(UsageError, match="nothing lies between"):
        open_media(path, ReadOptions(start=Position(2, "f"), end=Position(1, "f")))


@pytest.mark.parametrize(("matrix", "turns"), [((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2), ((0, 1, -1, 0), 3)])
def test_a_phone_video_comes_upright(tmp_path: Path, matrix: tuple[int, int, int, int], turns: int) -> None:
    path = make(tmp_path / "phone.mp4", 3, sample_aspect_ratio=Fraction(4, 3))
    turn(path, *matrix)
    reader = open_media(path)
    upright = np.rot90(picture(1, 64, 48), turns)
    assert (reader.info.height, reader.info.width) == upright.shape[:2]
    assert reader.info.pixel_aspect == (Fraction(4, 3) if turns == 2 else Fraction(3, 4))
    assert differs(list(reader)[1], upright) < 3
    height, width = upright.shape[:2]
    corner = list(open_media(path, ReadOptions(crop=(20, 10, 0, 4))))[1]
    assert differs(corner, upright[4:14, :20]) < 3
    half = list(open_media(path, ReadOptions(crop=(20, 10, 0, 4), size=(10, 5))))[1]
    assert differs(half, upright[4:14:2, :20:2]) < 6
    assert list(open_media(path, ReadOptions(size=(width // 2, height // 4))))[1].shape[:2] == (height // 4, width // 2)


def test_a_crop_is_cut_from_the_source_before_scaling(tmp_path: Path) -> None:
    path = make(tmp_path / "c.mkv", 1, (101, 61), "ffv1")
    [whole] = open_media(path)
    [centre] = open_media(path, ReadOptions(crop=(51, 31)))
    assert np.array_equal(centre, whole[15:46, 25:76])
    [scaled] = open_media(path, ReadOptions(crop=(50, 30, 20, 10), size=(25, 15)))
    assert differs(scaled, whole[10:40:2, 20:70:2]) < 3
    with pytest.raises(UsageError, match="--crop 102x61 reaches outside the 101x61 picture"):
        open_media(path, ReadOptions(crop=(102, 61)))
    with pytest.raises(UsageError, match=r"--crop 10x10\+95\+0"):
        open_media(path, ReadOptions(crop=(10, 10, 95, 0)))


def test_the_pixel_aspect_follows_the_size(tmp_path: Path) -> None:
    path = make(tmp_path / "dv.mp4", 1, (64, 48), sample_aspect_ratio=Fraction(16, 15))
    assert open_media(path).info.pixel_aspect == Fraction(16, 15)
    assert open_media(path, ReadOptions(size=(32, 24))).info.pixel_aspect == Fraction(16, 15)
    assert open_media(path, ReadOptions(size=(32, 48))).info.pixel_aspect == Fraction(32, 15)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi"])
def test_a_file_cut_short_gives_what_is_there(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "cut.mp4" else None
    path = make(tmp_path / name, 40, options=options)
    whole = list(open_media(path))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    [text] = warned(path)
    assert "cut short" in text
    with pytest.warns(MediaWarning):
        part = list(open_media(path))
    assert 10 < len(part) < 35
    assert all(np.array_equal(a, b) for a, b in zip(part[:10], whole, strict=False))
    assert warned(path, ReadOptions(frames=5)) == []


def test_damage_in_the_middle_is_stepped_over(tmp_path: Path) -> None:
    path = make(tmp_path / "bad.mov", 9, codec="png", pix_fmt="rgb24")
    data = path.read_bytes()
    places = [place for place in range(len(data)) if data.startswith(b"\x89PNG", place)]
    path.write_bytes(data[: places[4]] + bytes(64) + data[places[4] + 64 :])
    reader = open_media(path)
    with pytest.warns(MediaWarning, match="8 frames could be read"):
        frames = list(reader)
    assert np.array_equal(frames[4], picture(5, 64, 48))
    assert reader.info.frame_count == 8
    assert reader.info.time_of(4) == pytest.approx(0.2)


def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path) -> None:
    garbage, empty, text = (tmp_path / name for name in ("garbage.mp4", "empty.mkv", "notes.txt"))
    garbage.write_bytes(np.random.default_rng(0).bytes(5000))
    empty.write_bytes(b"")
    text.write_text("no video here\n" * 50)
    with pytest.raises(MediaError, match=r"gone\.mp4: no such file"):
        open_media(tmp_path / "gone.mp4")
    for path in (garbage, empty, text):
        with pytest.raises(MediaError, match=path.name) as caught:
            open_media(path)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 3


def test_sound_with_cover_art_is_no_video(tmp_path: Path) -> None:
    path, cover = tmp_path / "song.mp3", make(tmp_path / "cover.mov", 1, codec="png", pix_fmt="rgb24").read_bytes()
    with av.open(str(path), "w") as container:
        tone = container.add_stream("mp3", rate=16000)
        for _ in range(20):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 576), np.float32), "fltp", "mono")
            sound.sample_rate = 16000
            container.mux(tone.encode(sound))
        container.mux(tone.encode(None))
    image = b"\0image/png\0\3\0" + cover[cover.index(b"\x89PNG") :]
    frame = b"APIC" + len(image).to_bytes(4, "big") + b"\0\0" + image
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + size + frame + path.read_bytes())
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(MediaError, match="no video stream"):
        open_media(path)


def test_a_size_that_changes_midway_is_refused(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1.h264", 6), make(tmp_path / "2.h264", 6, (32, 32))
    (tmp_path / "both.h264").write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(MediaError, match="frame 6 is 32x32, the first one 64x48"):
        list(open_media(tmp_path / "both.h264"))


def test_a_reader_can_be_read_twice_and_left_early(tmp_path: Path) -> None:
    reader = open_media(make(tmp_path / "a.mp4"))
    first = next(iter(reader))
    again = list(reader)
    assert np.array_equal(first, again[0])
    assert len(again) == reader.info.frame_count == 12
