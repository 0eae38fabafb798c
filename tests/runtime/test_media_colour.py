"""Colours come out as the file means them, and as everybody else's tools show them."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from inr_runtime.errors import MediaError
from inr_runtime.frame import Frame
from inr_runtime.media import MediaWarning, ReadOptions, open_media
from inr_runtime.media.colour import planes_of

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
TAGS = {"bt601": 6, "bt709": 1, "bt2020": 9}


def random_yuv(width: int = 48, height: int = 32, pix_fmt: str = "yuv444p") -> av.VideoFrame:
    """A frame of smooth random planes, in the legal limited range."""
    frame = av.VideoFrame(width, height, pix_fmt)
    random = np.random.default_rng(3)
    for plane, (low, high) in zip(planes_of(frame), ((60, 180), (90, 160), (90, 160)), strict=True):
        coarse = random.uniform(low, high, (4, 4))
        y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
        plane[:] = coarse[y * 4 // plane.shape[0], x * 4 // plane.shape[1]]
    return frame


def store(path: Path, frame: av.VideoFrame, codec: str = "ffv1", **tags: int) -> Path:
    """Write one frame losslessly, with attributes of the codec as colour tags."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
            if name in ("colorspace", "color_range"):
                setattr(frame, name, value)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def by_hand(frame: av.VideoFrame, matrix: str, full_range: bool) -> np.ndarray:
    """The textbook conversion of a 4:4:4 frame."""
    kr, kb = WEIGHTS[matrix]
    y, u, v = (plane.astype(float) for plane in planes_of(frame))
    y, u, v = (
        (y / 255, (u - 128) / 255, (v - 128) / 255)
        if full_range
        else (
            (y - 16) / 219,
            (u - 128) / 224,
            (v - 128) / 224,
        )
    )
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], -1) * 255, 0, 255)


def only(path: Path, options: ReadOptions | None = None) -> np.ndarray:
    [pixels] = open_media(path, options)
    return pixels


@pytest.mark.parametrize(("tag", "matrix"), [(2, "bt601"), (5, "bt601"), (6, "bt601"), (1, "bt709"), (9, "bt2020")])
@pytest.mark.parametrize("full_range", [False, True])
def test_a_tagged_matrix_and_range_are_honoured(tmp_path: Path, tag: int, matrix: str, full_range: bool) -> None:
    frame = random_yuv()
    path = store(tmp_path / "t.mkv", frame, colorspace=tag, color_range=2 if full_range else 1)
    info = open_media(path).info
    assert (info.matrix_tag, info.matrix_used, info.full_range) == (tag, matrix, full_range)
    expected = by_hand(frame, matrix, full_range)
    assert np.abs(only(path) - expected).max() < 2.5
    scaled = only(path, ReadOptions(size=(24, 16)))
    assert np.abs(scaled - expected[::2, ::2]).mean() < 8
    assert abs(scaled.mean() - expected.mean()) < 1.5


def test_an_untagged_hd_file_is_what_libswscale_makes_of_it(tmp_path: Path) -> None:
    frame = random_yuv(1280, 720, "yuv420p")
    path = store(tmp_path / "hd.mkv", frame)
    assert np.array_equal(only(path), frame.to_ndarray(format="rgb24"))
    scaled = frame.reformat(320, 180, format="yuv420p", interpolation="BICUBIC")
    assert np.array_equal(only(path, ReadOptions(size=(320, 180))), scaled.to_ndarray(format="rgb24"))


def test_a_matrix_that_nobody_can_convert_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "ycgco.mkv", random_yuv(), colorspace=8)
    with pytest.raises(MediaError, match="colour matrix 8"):
        open_media(path)


def test_other_tags_are_carried_along(tmp_path: Path) -> None:
    info = open_media(store(tmp_path / "t.mkv", random_yuv(), color_primaries=5, color_trc=13)).info
    assert (info.primaries, info.transfer) == (5, 13)


@pytest.mark.parametrize(
    ("trc", "words"), [(2, "10-bit video is read as 8 bits"), (16, r"HDR \(PQ\)"), (18, r"HDR \(HLG\)")]
)
def test_ten_bits_and_hdr_are_reduced_with_one_warning(tmp_path: Path, trc: int, words: str) -> None:
    frame = random_yuv()
    path = store(tmp_path / "ten.mkv", frame.reformat(format="yuv444p10le"), color_trc=trc, colorspace=9)
    with pytest.warns(MediaWarning, match=words) as caught:
        pixels = only(path)
    assert len(caught) == 1
    assert np.abs(pixels - by_hand(frame, "bt2020", False)).max() < 3


@pytest.mark.parametrize("pix_fmt", ["gbrp", "bgra", "bgr0"])
def test_rgb_video_is_never_bent_through_yuv(tmp_path: Path, pix_fmt: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pix_fmt)
    name, codec = ("rgb.avi", "utvideo") if pix_fmt == "gbrp" else ("rgb.mkv", "ffv1")
    path = store(tmp_path / name, frame, codec)
    assert np.array_equal(only(path), pixels)
    assert np.array_equal(only(path, ReadOptions(crop=(20, 11, 3, 5))), pixels[5:16, 3:23])
    half = only(path, ReadOptions(size=(22, 15))).astype(float)
    assert np.abs(half.mean((0, 1)) - pixels.mean((0, 1))).max() < 3


def test_grey_is_three_equal_channels(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = store(tmp_path / "grey.mkv", av.VideoFrame.from_ndarray(grey, "gray"))
    assert np.array_equal(only(path), np.stack([grey] * 3, -1))


def test_transparent_pixels_are_drawn_over_black_with_one_warning(tmp_path: Path) -> None:
    rgba = np.full((8, 8, 4), 200, np.uint8)
    rgba[:4, :, 3], rgba[4:, :, 3] = 255, 0
    path = store(tmp_path / "alpha.mkv", av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="bgra"))
    with pytest.warns(MediaWarning, match="transparent") as caught:
        pixels = only(path)
    assert len(caught) == 1
    assert (pixels[:4] == 200).all()
    assert (pixels[4:] == 0).all()


def test_interlaced_video_is_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "tv.mpg"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", 25, {"flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        frame = random_yuv(48, 32, "yuv420p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.warns(MediaWarning, match="interlaced"):
        open_media(path)


@pytest.mark.parametrize("size", [(64, 48), (33, 17), (1, 1)])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_a_frame_gives_yuv_that_comes_back_as_itself(tmp_path: Path, size: tuple[int, int], matrix: str) -> None:
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([40 + x * 2, 50 + y * 2, 90 + x + y], -1).astype(np.uint8)
    frame = Frame(0, 0.0, pixels, matrix)
    planes = frame.to_yuv420()
    half = ((height + 1) // 2, (width + 1) // 2)
    assert [plane.shape for plane in planes] == [(height, width), half, half]
    assert all(plane.dtype == np.uint8 for plane in planes)
    assert frame.to_rgb() is pixels
    kr, kb = WEIGHTS[matrix]
    luma = 16 + 219 / 255 * (pixels @ np.array([kr, 1 - kr - kb, kb]))
    assert np.abs(planes[0] - luma).max() < 1
    again = av.VideoFrame(width, height, "yuv420p")
    for target, plane in zip(planes_of(again), planes, strict=True):
        target[:] = plane
    path = store(tmp_path / "r.mkv", again, colorspace=TAGS[matrix])
    assert np.abs(only(path).astype(int) - pixels).max() <= 4


def test_plain_files_warn_of_nothing(tmp_path: Path) -> None:
    path = store(tmp_path / "plain.mkv", random_yuv())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        only(path)
