"""Coordinate networks without PyTorch: any size, any rate, no seams, and files that lie about their tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiles import axis_tensors, make_picture, make_sound, picture_of, sound_of, tile_graph

from inr_runtime import Limits, VideoInfo, open_audio, open_video
from inr_runtime.chunks import Header
from inr_runtime.errors import BackendError, NvbError, UsageError
from inr_runtime.format import NvbReader, write_nvb
from inr_runtime.sample import TimeTensor
from inr_runtime.segment import Segment

PICTURE = VideoInfo(50, 37, 1)
VIDEO = VideoInfo(50, 37, 5, Fraction(10))


@pytest.mark.parametrize("info", [PICTURE, VIDEO], ids=["picture", "video"])
@pytest.mark.parametrize("size", [(50, 37), (100, 74), (17, 5), (1, 1), (131, 40)])
def test_any_size_is_the_network_at_those_coordinates(info: VideoInfo, size: tuple[int, int], tmp_path: Path) -> None:
    weights = make_picture(tmp_path / "p.nvb", info, (16, 8))
    with open_video(tmp_path / "p.nvb", size=size, threads=1) as video:
        assert (video.info.width, video.info.height) == size
        for number in range(info.frame_count):
            expected = picture_of(weights, info, number, size).astype(int)
            assert np.abs(video[number] - expected).max() <= 1
        between = video.at(0.25, interpolate=True).pixels.astype(int)
        assert np.abs(between - picture_of(weights, info, min(2.5, info.frame_count - 1), size)).max() <= 1


def test_tiles_leave_no_seams(tmp_path: Path) -> None:
    shown = []
    for tile in ((7, 3), (16, 8), (50, 37), (64, 64)):
        make_picture(tmp_path / "p.nvb", PICTURE, tile)
        with open_video(tmp_path / "p.nvb", threads=1) as video:
            shown.append(video[0].astype(int))
    assert max(np.abs(other - shown[0]).max() for other in shown) <= 1
    assert shown[0].std() > 10


def test_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    needed = set()
    for info in (PICTURE, VideoInfo(2000, 1500, 1)):
        make_picture(tmp_path / "p.nvb", info, (32, 32))
        with NvbReader(tmp_path / "p.nvb") as reader:
            needed.add(reader.header.graphs[0].activation_bytes)
    assert len(needed) == 1
    assert needed.pop() < 1 << 18


def test_another_size_keeps_the_shape_of_the_picture(tmp_path: Path) -> None:
    make_picture(tmp_path / "p.nvb", replace(PICTURE, pixel_aspect=Fraction(4, 3)), (64, 64))
    with open_video(tmp_path / "p.nvb", size=(100, 37)) as video:
        assert video.info.pixel_aspect == Fraction(2, 3)


def test_a_size_is_refused_where_it_cannot_be(tiny_nvb: Path, tmp_path: Path) -> None:
    make_picture(tmp_path / "p.nvb", PICTURE, (64, 64))
    with pytest.raises(UsageError, match="draws 48x32 and no other size"):
        open_video(tiny_nvb, size=(96, 64))
    with open_video(tiny_nvb, size=(48, 32)) as video:
        assert video[0].shape == (32, 48, 3)
    with pytest.raises(UsageError, match="no size"):
        open_video(tmp_path / "p.nvb", size=(0, 5))
    with pytest.raises(NvbError, match="pixels"):
        open_video(tmp_path / "p.nvb", size=(1 << 20, 1 << 20))


@pytest.mark.parametrize("rate", [None, 1000, 300, 2500, 44100, 999.5])
def test_sound_at_any_rate_is_the_network_at_those_moments(rate: float | None, tmp_path: Path) -> None:
    lengths = [300, 150]
    weights = make_sound(tmp_path / "s.nvb", lengths)
    with open_audio(tmp_path / "s.nvb", threads=1) as sound:
        assert (sound.info.channels, sound.info.samples, sound.info.duration) == (2, 450, 0.45)
        found = sound.samples(rate=rate)
        places = np.arange(sound.count_at(rate)) * 1000 / (rate or 1000)
        inside = places < 300
        first, second = sound_of(weights[0], places[inside], 300), sound_of(weights[1], places[~inside] - 300, 150)
        assert (found.shape, found.dtype) == ((len(places), 2), np.float32)
        assert np.abs(found - np.concatenate([first, second])).max() < 1e-4
        assert np.array_equal(sound.samples(7, 20, rate), found[7:20])
        assert np.array_equal(sound.samples(-9, None, rate), found[-9:])
        assert sound.samples(5, 5, rate).shape == (0, 2)


def test_a_wrong_sound_is_noticed(tmp_path: Path) -> None:
    make_sound(tmp_path / "s.nvb", [300])
    with NvbReader(tmp_path / "s.nvb") as reader:
        header, segment = reader.header, reader.segment(0)
    longer = np.zeros((2, 64, 3), np.uint8)
    for wrong, text in ((255 - segment.thumbnail, "wrong sound"), (longer, "thumbnail is longer")):
        write_nvb(tmp_path / "wrong.nvb", header, [replace(segment, thumbnail=wrong)])
        with pytest.raises(BackendError, match=text):
            open_audio(tmp_path / "wrong.nvb")


def test_sound_and_pictures_are_told_apart(tmp_path: Path) -> None:
    make_sound(tmp_path / "s.nvb", [300])
    make_picture(tmp_path / "p.nvb", PICTURE, (64, 64))
    with pytest.raises(UsageError, match="holds sound, not pictures; open it with open_audio"):
        open_video(tmp_path / "s.nvb")
    with pytest.raises(UsageError, match="no sound; open it with open_video"):
        open_audio(tmp_path / "p.nvb")
    with open_audio(tmp_path / "s.nvb") as sound, pytest.raises(ValueError, match="sample rate"):
        sound.samples(rate=0)


Bend = Callable[[Header, Segment], tuple[Header, Segment]]


def _time(number: int, **changes: object) -> Bend:
    def bend(header: Header, segment: Segment) -> tuple[Header, Segment]:
        tensors = list(segment.time_tensors)
        tensors[number] = replace(tensors[number], **changes)  # type: ignore[arg-type]
        return header, replace(segment, time_tensors=tuple(tensors))

    return bend


def _header(**changes: object) -> Bend:
    return lambda header, segment: (replace(header, **changes), segment)  # type: ignore[arg-type]


def _graph(**changes: object) -> Bend:
    def bend(header: Header, segment: Segment) -> tuple[Header, Segment]:
        graph = header.graphs[0]
        object.__setattr__(graph, next(iter(changes)), next(iter(changes.values())))
        return replace(header, graphs=(graph,)), segment

    return bend


HOSTILE_PICTURES: dict[str, tuple[Bend, str]] = {
    "an axis longer than its tile": (_time(0, length=17), "sampling gives"),
    "rows in the place of columns": (_time(0, rule="y"), "sampling gives"),
    "more levels than channels": (_time(0, levels=3), "sampling gives"),
    "a tile that is called a frame": (_graph(role="frame"), "the header says otherwise"),
    "a tile that is called a sound": (_graph(result="pcm_f32"), "role 1 and output 2"),
    "a reserved output": (_graph(result="yuv420p8"), "role 1 and output 1"),
    "an image of five frames": (_header(media="image"), "no image has 5 frames"),
    "a video that is called a sound": (_header(media="audio"), "no audio has"),
    "more tiles than a reader draws": (_header(info=VideoInfo(8192, 4000, 5)), "tiles"),
}


@pytest.mark.parametrize("name", HOSTILE_PICTURES)
def test_a_picture_in_tiles_is_refused_for(name: str, tmp_path: Path) -> None:
    bend, reason = HOSTILE_PICTURES[name]
    make_picture(tmp_path / "p.nvb", VIDEO, (16, 8))
    with NvbReader(tmp_path / "p.nvb") as reader:
        header, segment = bend(reader.header, reader.segment(0))
    write_nvb(tmp_path / "bent.nvb", header, [segment])
    with pytest.raises(NvbError, match=reason) as caught:
        open_video(tmp_path / "bent.nvb", limits=Limits(tiles=30_000))
    assert str(tmp_path / "bent.nvb") in str(caught.value)


HOSTILE_SOUNDS: dict[str, tuple[Bend, str]] = {
    "other channels": (_header(info=VideoInfo(1, 1, 300)), "2 channels, the header says otherwise"),
    "channels without end": (_header(info=VideoInfo(5000, 1, 300)), "no audio has"),
    "rows of sound": (_header(info=VideoInfo(2, 2, 300)), "no audio has"),
    "samples without end": (_header(info=VideoInfo(2, 1, 1 << 50)), "samples"),
    "samples at times of their own": (_header(info=VideoInfo(2, 1, 300, pts=tuple(range(300)))), "constant rate"),
    "sound that is called a picture": (_header(media="video"), "role 1 and output 2"),
    "sound along time": (_time(0, rule="t"), "sampling gives"),
}


@pytest.mark.parametrize("name", HOSTILE_SOUNDS)
def test_a_sound_is_refused_for(name: str, tmp_path: Path) -> None:
    bend, reason = HOSTILE_SOUNDS[name]
    make_sound(tmp_path / "s.nvb", [300])
    with NvbReader(tmp_path / "s.nvb") as reader:
        header, segment = bend(reader.header, reader.segment(0))
    write_nvb(tmp_path / "bent.nvb", header, [segment])
    with pytest.raises(NvbError, match=reason):
        open_audio(tmp_path / "bent.nvb")


def test_a_frame_takes_no_axes_and_an_axis_is_as_long_as_the_tile(tmp_path: Path) -> None:
    graph = tile_graph("xy", (1, 8))
    object.__setattr__(graph, "role", "frame")
    weights = make_picture(tmp_path / "p.nvb", PICTURE, (64, 64))
    segment = Segment(0, 0, 1, weights, axis_tensors(graph, "xy", 1), np.zeros((1, 1, 3), np.uint8))
    write_nvb(tmp_path / "bent.nvb", Header(VideoInfo(1, 8, 1), "m", bytes(16), (graph,)), [segment])
    with pytest.raises(NvbError, match="an axis x of 1 does not fit a frame"):
        open_video(tmp_path / "bent.nvb")


def test_an_axis_is_sampled_along_it_and_time_is_not() -> None:
    axis, time = TimeTensor("y", 4, base=2.0, levels=3), TimeTensor("t", 4)
    assert axis.along(np.linspace(-1, 1, 4)).shape == axis.input_shape == (1, 6, 4, 1)
    assert [time.sample(t).item() for t in (0, 1.5, 3)] == [-0.75, 0.0, 0.75]
    for wrong in (lambda: axis.sample(0.0), lambda: time.along(np.zeros(4)), lambda: axis.along(np.zeros(5))):
        with pytest.raises(ValueError, match=r"axis|takes no"):
            wrong()
