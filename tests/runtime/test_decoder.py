"""An open .nvb video: frames by number, slice, order and time, the same from every direction."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from builders import INFO, LEVELS, make_nvb, random_weights, tiny_graph

from inr_runtime import Frame, InrError, Limits, open_video
from inr_runtime.backends import open_backend
from inr_runtime.builder import OUTPUT
from inr_runtime.chunks import Header
from inr_runtime.errors import BackendError, ChecksumError, GraphError, InputError, LimitError, UsageError
from inr_runtime.format import NvbReader, write_nvb
from inr_runtime.lower import CPU_TARGETS, TARGETS, lower
from inr_runtime.sample import TimeTensor


def test_a_video_tells_what_it_is(tiny_nvb: Path) -> None:
    with open_video(tiny_nvb) as video:
        assert video.info == INFO
        assert len(video) == 12
        assert video.reader.path == tiny_nvb
        assert video.backend == f"onnxruntime {onnxruntime.__version__} cpu-int8"


def test_frames_by_number_and_by_slice(tiny_nvb: Path) -> None:
    with open_video(tiny_nvb) as video:
        every = video[:]
        assert every.shape == (12, 32, 48, 3)
        assert every.dtype == np.uint8
        assert video[3].shape == (32, 48, 3)
        assert np.array_equal(video[3], every[3])
        assert np.array_equal(video[-1], every[11])
        assert np.array_equal(video[2:9:3], every[2:9:3])
        assert np.array_equal(video[::-1], every[::-1])
        assert video[5:5].shape == (0, 32, 48, 3)
        assert video[10:99].shape[0] == 2


@pytest.mark.parametrize("index", [12, -13, 1000])
def test_a_number_outside_is_an_index_error(tiny_nvb: Path, index: int) -> None:
    with open_video(tiny_nvb) as video, pytest.raises(IndexError, match=f"frame {index} .* 12 frames"):
        video[index]


def test_frames_are_fresh_arrays(tiny_nvb: Path) -> None:
    """A caller may keep a frame and paint on it."""
    with open_video(tiny_nvb) as video:
        first = video[0]
        before = first.copy()
        video[1]
        assert np.array_equal(first, before)
        first[:] = 0
        assert np.array_equal(video[0], before)


def test_frames_in_order_with_their_times(tiny_nvb: Path) -> None:
    with open_video(tiny_nvb) as video:
        frames = list(video.frames(4, 7))
        assert [(f.index, f.pts, f.matrix) for f in frames] == [(i, i / 24, "bt601") for i in (4, 5, 6)]
        assert len(list(video.frames())) == 12
        assert len(list(video.frames(-2))) == 2
        assert np.array_equal(frames[1].to_rgb(), video[5])
        assert [plane.shape for plane in frames[0].to_yuv420()] == [(32, 48), (16, 24), (16, 24)]


@pytest.mark.parametrize(("t", "index"), [(-5.0, 0), (0.0, 0), (1 / 24, 1), (1.9 / 24, 1), (0.49, 11), (1e9, 11)])
def test_the_frame_shown_at_a_time(tiny_nvb: Path, t: float, index: int) -> None:
    with open_video(tiny_nvb) as video:
        frame = video.at(t)
        assert isinstance(frame, Frame)
        assert (frame.index, frame.pts) == (index, index / 24)


@pytest.mark.parametrize("t", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("interpolate", [False, True])
def test_no_time_is_refused(tiny_nvb: Path, t: float, interpolate: bool) -> None:
    with open_video(tiny_nvb) as video, pytest.raises(ValueError, match="finite"):
        video.at(t, interpolate=interpolate)


def test_a_moment_between_two_frames(tiny_nvb: Path) -> None:
    with open_video(tiny_nvb, target="cpu-fp32") as video:
        between = video.at(4.5 / 24, interpolate=True)
        assert (between.index, between.pts) == (4, 4.5 / 24)
        near, far = (np.abs(video[i].astype(int) - between.pixels).mean() for i in (4, 8))
        assert 0 < near < far
        assert np.abs(video.at(4 / 24, interpolate=True).pixels.astype(int) - video[4]).max() <= 1


def test_times_follow_the_timestamps_of_a_variable_rate(tmp_path: Path) -> None:
    info = replace(INFO, frame_count=4, pts=(0, 100, 500, 600))
    with open_video(make_nvb(tmp_path / "vfr.nvb", info=info)) as video:
        assert video.info.pts == info.pts
        assert [video.at(t).index for t in (0.0, 0.099, 0.1, 0.499, 0.5, 9.0)] == [0, 0, 1, 1, 2, 3]
        assert [f.pts for f in video.frames()] == [0.0, 0.1, 0.5, 0.6]


def test_two_segments_are_one_video(tiny_nvb_two_segments: Path) -> None:
    with open_video(tiny_nvb_two_segments) as video, open_video(tiny_nvb_two_segments) as other:
        every = video[:]
        assert every.shape[0] == 12
        assert np.abs(every[6].astype(int) - every[7]).mean() > 10  # other weights begin
        for index in (11, 0, 7, 6, 3, 8):
            assert np.array_equal(other[index], every[index])
        assert [video.at(t / 24).index for t in (6.9, 7.0)] == [6, 7]


def test_int8_is_close_to_float(tiny_nvb: Path) -> None:
    with open_video(tiny_nvb) as fast, open_video(tiny_nvb, target="cpu-fp32") as exact:
        difference = np.abs(fast[:].astype(int) - exact[:])
        assert 0 < difference.mean() < 1
        assert difference.max() <= 6
        assert exact.backend.endswith("cpu-fp32")


def test_auto_is_float_where_the_file_was_not_made_for_int8(tiny_nvb_float: Path) -> None:
    with open_video(tiny_nvb_float) as video:
        assert video.backend.endswith("cpu-fp32")
    with pytest.raises(GraphError, match="no activation ranges"):
        open_video(tiny_nvb_float, target="cpu-int8")


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_the_number_of_threads_changes_no_pixel(tiny_nvb: Path, target: str) -> None:
    with open_video(tiny_nvb, threads=1, target=target) as one, open_video(tiny_nvb, threads=2, target=target) as two:
        assert np.array_equal(one[:], two[:])


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_the_engine_keeps_its_weights_alive(target: str) -> None:
    """Sessions read weights in place: had they died with the caller's references, most pixels would be wrong."""
    graph, time = tiny_graph(), TimeTensor("encoding", 12, levels=LEVELS)
    ranges = dict.fromkeys(graph.shapes, (-4.0, 4.0))
    feed = {"x0": time.sample(3.0)}
    lowered = lower(graph, random_weights(graph, 0), TARGETS[target], ranges)
    embedded = onnxruntime.InferenceSession(lowered.embedded().SerializeToString(), providers=["CPUExecutionProvider"])
    engine = open_backend(lowered)
    sizes = [array.nbytes for array in lowered.initializers.values()]
    del lowered
    gc.collect()
    litter = [np.full(size, 77, np.int8) for size in sizes * 50]  # lands where freed weights would have been
    assert np.array_equal(engine.run(feed)[0], embedded.run([OUTPUT], feed)[0][0])
    engine.close()
    del litter


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_an_engine_owns_its_weights_until_it_is_closed(target: str) -> None:
    """Some versions of ONNX Runtime copy them and some do not, so pixels alone do not tell."""
    graph, time = tiny_graph(), TimeTensor("encoding", 12, levels=LEVELS)
    lowered = lower(graph, random_weights(graph, 0), TARGETS[target], dict.fromkeys(graph.shapes, (-4.0, 4.0)))
    engine = open_backend(lowered, threads=1)
    arrays = [weakref.ref(array) for array in lowered.initializers.values()]
    assert len(arrays) >= 6
    del lowered
    gc.collect()
    assert all(array() is not None for array in arrays)
    engine.close()
    gc.collect()
    assert all(array() is None for array in arrays)
    with pytest.raises(BackendError):
        engine.run({"x0": time.sample(3.0)})


def test_a_closed_video_says_so(tiny_nvb_two_segments: Path) -> None:
    with open_video(tiny_nvb_two_segments) as video:
        video[0]
    for index in (0, 11):
        with pytest.raises(BackendError, match="closed"):
            video[index]
    with pytest.raises(BackendError, match="closed"):
        print(video.backend)
    assert len(video) == 12
    video.close()


def test_unknown_names_list_the_known_ones(tiny_nvb: Path) -> None:
    with pytest.raises(UsageError, match="unknown target 'gpu'; known: cpu-int8, cpu-fp32"):
        open_video(tiny_nvb, target="gpu")
    with pytest.raises(UsageError, match="unknown backend 'gpu'; known: auto, tensorrt, cuda, openvino, cpu"):
        open_video(tiny_nvb, backend="gpu")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.nvb: No such file"):
        open_video(tmp_path / "nowhere.nvb")


def test_limits_are_the_callers(tiny_nvb: Path) -> None:
    with pytest.raises(LimitError, match=r"Limits\(pixels=\.\.\.\)"):
        open_video(tiny_nvb, limits=Limits(pixels=100))


def test_every_error_is_one_of_ours(tmp_path: Path, tiny_nvb: Path) -> None:
    data = bytearray(tiny_nvb.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.nvb").write_bytes(data)
    with pytest.raises(ChecksumError, match=r"bad\.nvb: segment 0: ") as caught:
        open_video(tmp_path / "bad.nvb")
    assert isinstance(caught.value, InrError)


def mislabelled(source: Path, path: Path) -> Path:
    """A copy whose second segment holds the thumbnail of another picture."""
    with NvbReader(source) as reader:
        first, second = reader.segment(0), reader.segment(1)
        header: Header = reader.header
    write_nvb(path, header, [first, replace(second, thumbnail=255 - second.thumbnail)])
    return path


def test_a_wrong_picture_is_never_shown_in_silence(tiny_nvb_two_segments: Path, tmp_path: Path) -> None:
    """Neither the first time nor when asked again."""
    with open_video(mislabelled(tiny_nvb_two_segments, tmp_path / "wrong.nvb")) as video:
        assert video[6].shape == (32, 48, 3)
        for _ in range(2):
            with pytest.raises(BackendError, match=r"segment 1 decodes to a wrong picture .*cpu-fp32"):
                video[7]
        assert video[0].shape == (32, 48, 3)
