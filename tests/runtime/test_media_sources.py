"""Frames also come as folders of images, numbered patterns, single images and raw bytes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from inr_runtime.chunks import Header, decode_info, encode_info
from inr_runtime.errors import MediaError, UsageError
from inr_runtime.limits import DEFAULT_LIMITS
from inr_runtime.media import MediaWarning, Position, ReadOptions, open_media


def noise(seed: int, width: int = 21, height: int = 13) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, pix_fmt: str = "rgb24") -> None:
    """Write one image file."""
    store(path, av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pix_fmt), "png")


def store(path: Path, frame: av.VideoFrame, codec: str) -> None:
    encoder = av.VideoCodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def test_a_folder_of_images_is_a_video_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 100):
        save(tmp_path / f"frame {number} 100%d.png", noise(number))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._frame 1.png").write_bytes(b"what file managers leave behind")
    reader = open_media(tmp_path)
    assert all(np.array_equal(a, noise(n)) for a, n in zip(reader, (1, 2, 9, 10, 100), strict=True))
    info = reader.info
    assert (info.width, info.height, info.frame_count, info.fps, info.pts) == (21, 13, 5, 25, None)
    slow = open_media(tmp_path, ReadOptions(fps=Fraction(10), start=Position(0.2), frames=2))
    assert slow.info.fps == 10
    assert all(np.array_equal(a, noise(n)) for a, n in zip(slow, (9, 10), strict=True))


def test_a_pattern_begins_at_the_lowest_number_that_exists(tmp_path: Path) -> None:
    for number in (7, 8, 9, 11):
        save(tmp_path / f"f{number:05d}.png", noise(number))
    reader = open_media(tmp_path / "f%05d.png")
    assert all(np.array_equal(a, noise(n)) for a, n in zip(reader, (7, 8, 9, 11), strict=True))
    with pytest.raises(MediaError, match="no file matches"):
        open_media(tmp_path / "g%05d.png")
    with pytest.raises(MediaError, match="no file matches"):
        open_media(tmp_path / "gone" / "%d.png")


def test_a_single_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    save(tmp_path / "one.png", noise(0))
    reader = open_media(tmp_path / "one.png")
    assert [frame.shape for frame in reader] == [(13, 21, 3)]
    assert reader.info.frame_count == 1


def test_a_jpeg_is_full_range(tmp_path: Path) -> None:
    yuv = np.full((3, 16, 16), 128, np.uint8)
    yuv[0, :, :8], yuv[0, :, 8:] = 0, 255
    store(tmp_path / "bw.jpg", av.VideoFrame.from_ndarray(yuv, "yuvj444p"), "mjpeg")
    reader = open_media(tmp_path / "bw.jpg")
    [read] = reader
    assert reader.info.full_range
    assert (read[:, :4].max(), read[:, 12:].min()) == (0, 255)


def test_deep_images_are_reduced_with_a_warning(tmp_path: Path) -> None:
    save(tmp_path / "deep.png", noise(0), pix_fmt="rgb48be")
    with pytest.warns(MediaWarning, match="16-bit"):
        [pixels] = open_media(tmp_path / "deep.png")
    assert np.abs(pixels.astype(int) - noise(0)).max() <= 1


def test_folders_that_are_no_video_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no images in this folder"):
        open_media(tmp_path)
    save(tmp_path / "1.png", noise(1))
    save(tmp_path / "2.png", noise(2, 20, 13))
    with pytest.raises(MediaError, match=r"2\.png: 20x13, but 1\.png is 21x13"):
        list(open_media(tmp_path))
    (tmp_path / "2.png").write_bytes(b"broken")
    with pytest.raises(MediaError, match=r"2\.png: not an image"):
        list(open_media(tmp_path))


def planar(count: int, width: int, height: int) -> bytes:
    """Raw yuv420p frames, grey levels rising by 10."""
    chroma = (width + 1) // 2 * ((height + 1) // 2)
    return b"".join(bytes([50 + 10 * i]) * (width * height) + b"\x80" * 2 * chroma for i in range(count))


@pytest.mark.parametrize("size", [(32, 16), (321, 181)])
def test_a_raw_file_is_read_when_its_shape_is_told(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "clip.yuv"
    path.write_bytes(planar(4, *size))
    reader = open_media(path, ReadOptions(size=size, pix_fmt="yuv420p", fps=Fraction(30), start=Position(1, "f")))
    frames = list(reader)
    assert (reader.info.frame_count, reader.info.fps) == (3, 30)
    assert [frame.shape for frame in frames] == [(size[1], size[0], 3)] * 3
    assert all(abs(int(frame[0, 0, 0]) - grey) <= 1 for frame, grey in zip(frames, (51, 63, 75), strict=True))
    assert len(list(open_media(path, ReadOptions(size=size, crop=(8, 8))))) == 4


def test_a_raw_file_without_its_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.yuv"
    path.write_bytes(planar(4, 32, 16))
    with pytest.raises(UsageError, match="--size WxH --pix-fmt yuv420p --fps 25"):
        open_media(path)
    with pytest.raises(MediaError, match="not a whole number of 33x16 yuv420p frames"):
        open_media(path, ReadOptions(size=(33, 16)))
    with pytest.raises(UsageError, match="no such pixel format"):
        open_media(path, ReadOptions(size=(32, 16), pix_fmt="yuv42"))
    path.write_bytes(b"")
    with pytest.raises(MediaError):
        open_media(path, ReadOptions(size=(32, 16)))


def test_a_pixel_format_is_only_for_raw_files(tmp_path: Path) -> None:
    save(tmp_path / "one.png", noise(0))
    with pytest.raises(UsageError, match="--pix-fmt is for raw"):
        open_media(tmp_path / "one.png", ReadOptions(pix_fmt="yuv420p"))


def test_a_picture_of_floats_counts_as_16_bits_which_a_file_can_tell(tmp_path: Path) -> None:
    """Its 32 bits were written into a file that no reader took, after the training."""
    store(tmp_path / "deep.exr", av.VideoFrame.from_ndarray(noise(0), "rgb24").reformat(format="gbrpf32le"), "exr")
    with pytest.warns(MediaWarning, match="16-bit"):
        info = open_media(tmp_path / "deep.exr").info
    assert decode_info(encode_info(Header(info, "m", bytes(16))), DEFAULT_LIMITS).info == info
    with pytest.raises(ValueError, match="a bit depth lies in 1 to 16, not 32"):
        encode_info(Header(replace(info, bit_depth=32), "m", bytes(16)))
