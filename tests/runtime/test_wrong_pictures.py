"""Engines that go wrong in silence: one frame of every segment is compared with the file's own thumbnail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import make_nvb
from numpy.typing import NDArray
from onnx import numpy_helper

from inr_runtime import open_video, opened
from inr_runtime.backends import Backend, open_backend, ort
from inr_runtime.chunks import Header
from inr_runtime.errors import BackendError, ChecksumError, FormatError, GraphError
from inr_runtime.format import NvbReader, write_nvb
from inr_runtime.graph import Node, Port, renumber
from inr_runtime.info import VideoInfo
from inr_runtime.lower import CPU_TARGETS, TARGETS, Lowered, lower
from inr_runtime.sample import TimeTensor
from inr_runtime.segment import Segment, make_thumbnail
from inr_runtime.tensors import QuantTensor

Open = Callable[[Lowered, str, int], Backend]


def test_weights_of_another_segment_are_noticed_and_the_segment_named(
    tiny_nvb_two_segments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that was kept where it should have been built anew."""
    kept: list[Lowered] = []

    def stale(lowered: Lowered, name: str, threads: int) -> Backend:
        kept.append(lowered)
        return open_backend(kept[0], name, threads)

    monkeypatch.setattr(opened, "open_backend", stale)
    with open_video(tiny_nvb_two_segments) as video:
        assert video[6].shape == (32, 48, 3)
        for _ in range(2):
            with pytest.raises(BackendError, match=r"two\.nvb: segment 1 decodes to a wrong picture .*thumbnail"):
                video[7]
    assert len(kept) == 3  # refused, asked again, refused again: nothing wrong was kept


def mixed_up(lowered: Lowered, name: str, threads: int) -> Backend:
    """Every weight of more than one channel in the wrong order."""
    wrong = {key: np.ascontiguousarray(array[::-1]) for key, array in lowered.initializers.items()}
    return open_backend(replace(lowered, initializers=wrong), name, threads)


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_weights_in_the_wrong_order_are_noticed(tiny_nvb: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "open_backend", mixed_up)
    with pytest.raises(BackendError, match=r"tiny\.nvb: segment 0 decodes to a wrong picture"):
        open_video(tiny_nvb, target=target)


def test_the_picture_of_every_segment_is_checked_whenever_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_nvb(tmp_path / "three.nvb", lengths=[4, 4, 4])
    with open_video(path) as video:
        checked: list[int] = []
        check = video._check
        monkeypatch.setattr(video, "_check", lambda number: (checked.append(number), check(number)))
        for index in (0, 5, 6, 11, 4, 3):
            video[index]
    assert checked == [1, 2, 1, 0]


def saturating_sums(x: NDArray[np.int64], w: NDArray[np.int64], saturates: bool) -> NDArray[np.int64]:
    """uint8 (C, H, W) times int8 (M, C): as CPUs without VNNI do it, pairs of products are clipped to 16 bits."""
    pairs = np.einsum("mkp,kphw->mkhw", w.reshape(len(w), -1, 2), x.reshape(-1, 2, *x.shape[1:]))
    return (np.clip(pairs, -32768, 32767) if saturates else pairs).sum(axis=1)


class OldCpu:
    """Runs the one convolution of `bright_nvb` in numpy."""

    name = "a CPU without VNNI"

    def __init__(self, lowered: Lowered, saturates: bool) -> None:
        self._saturates = saturates
        kinds = {"w": "0.q", "bias": ".b.q", "unit": ".b.s"}
        # Three channels are the picture's; those behind them were added for the sake of speed.
        self._weights = {
            kind: next(v[:3] for k, v in lowered.initializers.items() if k.endswith(end)) for kind, end in kinds.items()
        }
        constants = {t.name: numpy_helper.to_array(t) for t in lowered.model.graph.initializer if not t.external_data}
        quantize = next(n for n in lowered.model.graph.node if n.op_type == "QuantizeLinear")
        self._scale, self._zero = (constants[name].item() for name in quantize.input[1:3])

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
        x = np.clip(np.rint(inputs["x0"][0] / np.float32(self._scale)) + self._zero, 0, 255).astype(np.int64)
        w = self._weights["w"][:, :, 0, 0].astype(np.int64)
        sums = saturating_sums(x, w, self._saturates)
        sums += (self._weights["bias"].astype(np.int64) - self._zero * w.sum(axis=1))[:, None, None]
        picture = np.rint(sums * self._weights["unit"].astype(np.float64)[:, None, None] * 255)
        return np.clip(picture, 0, 255).astype(np.uint8).transpose(1, 2, 0)[None]

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def bright_nvb(tmp_path: Path) -> Path:
    """64 channels, large numbers, large weights: the sums that overflow 16 bits on some CPUs."""
    graph = renumber(
        [Port("x", (1, 64, 8, 12))],
        [Port("w", (3, 64, 1, 1)), Port("b", (3,))],
        {},
        [Node("Conv", ("x", "w", "b"), "e")],
        "e",
    )
    rng = np.random.default_rng(0)
    weights = QuantTensor(rng.integers(90, 128, (3, 64, 1, 1)).astype(np.int32), np.full(3, -64 * 13, np.int32), 0)
    bias = QuantTensor(np.full(3, 8, np.int32), np.array([-64 * 8], np.int32))
    values = rng.integers(60, 128, (2, 64, 8, 12)).astype(np.int32)
    time = TimeTensor("row", 2, data=QuantTensor(values, np.array([-64 * 7], np.int32)))
    ranges = {"x0": (0.0, 1.0)}
    engine = open_backend(lower(graph, (weights, bias), TARGETS["cpu-int8"], ranges), threads=1)
    picture = engine.run({"x0": time.sample(0.0)})[0]
    assert 60 < picture.mean() < 220
    engine.close()
    header = Header(VideoInfo(12, 8, 2), "bright", bytes(16), (graph,), {0: ranges})
    write_nvb(tmp_path / "bright.nvb", header, [Segment(0, 0, 2, (weights, bias), (time,), make_thumbnail(picture))])
    return tmp_path / "bright.nvb"


def on_old_cpu(saturates: bool) -> Open:
    return lambda lowered, name, threads: OldCpu(lowered, saturates)


def test_an_engine_in_numpy_plays_what_the_real_one_plays(bright_nvb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the next test refuses saturation and nothing else."""
    with open_video(bright_nvb) as video:
        frames = video[:]
    monkeypatch.setattr(opened, "open_backend", on_old_cpu(saturates=False))
    with open_video(bright_nvb) as video:
        assert np.abs(video[:].astype(int) - frames).max() <= 1


def test_sums_that_saturate_are_noticed(bright_nvb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "open_backend", on_old_cpu(saturates=True))
    with pytest.raises(BackendError, match=r"segment 0 decodes to a wrong picture with a CPU without VNNI .*cpu-fp32"):
        open_video(bright_nvb)


class OldSession:
    """ONNX Runtime's session on such a CPU, for the one convolution that the probe runs. saturates: of all of them."""

    saturates = True

    def __init__(self, model: bytes, **_: Any) -> None:
        tensors = onnx.ModelProto.FromString(model).graph.initializer
        self._constants = {t.name: numpy_helper.to_array(t) for t in tensors}

    def run(self, names: None, feed: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        w = self._constants["w"][:, :, 0, 0].astype(np.int64)
        sums = saturating_sums(feed["x"][0].astype(np.int64), w, self.saturates)
        return [np.clip(np.rint(sums / self._constants["sy"]), 0, 255).astype(np.uint8)[None]]


@pytest.mark.parametrize("saturates", [True, False])
def test_a_cpu_whose_sums_saturate_is_recognized(saturates: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    session = type("Session", (OldSession,), {"saturates": saturates})
    monkeypatch.setattr(ort, "import_onnxruntime", lambda: SimpleNamespace(InferenceSession=session))
    assert ort.int8_saturates.__wrapped__() is saturates


@pytest.mark.parametrize(("target", "exact"), [("cpu-int8", True), ("cpu-fp32", False)])
def test_such_a_cpu_is_set_to_exact_sums(
    tiny_nvb: Path, target: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(tiny_nvb, target=target) as video:
        frames = video[:]
    chosen: list[Any] = []
    options_of = ort._session_options
    monkeypatch.setattr(ort, "int8_saturates", lambda: True)
    monkeypatch.setattr(ort, "_session_options", lambda *given: chosen.append(options_of(*given)) or chosen[-1])
    with open_video(tiny_nvb, target=target) as video:
        assert np.array_equal(video[:], frames)
    if exact:
        assert chosen[0].get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="does not have"):
            chosen[0].get_session_config_entry("session.x64quantprecision")


@pytest.mark.parametrize("order", [(0, 1, 3, 2), (0, 2, 3, 1), (0, 3, 1, 2), (0, 3, 2, 1)])
def test_a_transposed_picture_is_resized_although_the_engine_optimizes_that_away(
    order: tuple[int, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime moves one order of axes behind a linear Resize, where it fails on the first frame."""
    shape = [0] * 4
    for axis, side in zip(order, (1, 3, 4, 6), strict=True):
        shape[axis] = side
    nodes = [
        Node("Transpose", ("x",), "t", (("perm", order),)),
        Node("Resize", ("t", "", "", "size"), "r", (("mode", "linear"),)),
    ]
    graph = renumber([Port("x", tuple(shape))], [], {"size": np.array([1, 3, 8, 12])}, nodes, "r")
    x = np.random.default_rng(0).random(shape, np.float32)
    engine = open_backend(lower(graph, [], TARGETS["cpu-fp32"]), threads=1)
    frames = [engine.run({"x0": x})[0] for _ in range(2)]
    engine.close()
    plain = onnxruntime.InferenceSession(graph.to_model().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.rint(plain.run(None, {"x0": x})[0][0].transpose(1, 2, 0) * 255)
    assert all(np.abs(frame - expected).max() <= 1 for frame in frames)
    assert "onnxruntime" not in capfd.readouterr().err


def damaged(source: Path, path: Path, *numbers: int) -> Path:
    """A copy with a wrong bit in these segments."""
    with NvbReader(source) as reader:
        places = [reader.index[number].offset + 100 for number in numbers]
    data = bytearray(source.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_damaged_segment_costs_its_own_frames_and_is_named(tmp_path: Path, bad: int) -> None:
    """Even the first one, and as often as it is asked for."""
    whole = make_nvb(tmp_path / "whole.nvb", lengths=[4, 4, 4])
    with open_video(whole) as video:
        every = video[:]
    with open_video(damaged(whole, tmp_path / "bad.nvb", bad)) as video:
        for index in (*range(12), *reversed(range(12))):
            if index // 4 == bad:
                with pytest.raises(ChecksumError, match=rf"bad\.nvb: segment {bad}: "):
                    video[index]
            else:
                assert np.array_equal(video[index], every[index])


def test_a_video_of_damaged_segments_is_refused_for_the_first(tmp_path: Path) -> None:
    whole = make_nvb(tmp_path / "whole.nvb", lengths=[4, 4, 4])
    with pytest.raises(ChecksumError, match=r"bad\.nvb: segment 0: "):
        open_video(damaged(whole, tmp_path / "bad.nvb", 0, 1, 2))


def test_what_int8_cannot_play_is_named_with_its_segment(tmp_path: Path) -> None:
    """Ranges that are too few, and weights that are too wide."""
    with NvbReader(make_nvb(tmp_path / "good.nvb")) as reader:
        header, segment = reader.header, reader.segment(0)
    path = tmp_path / "bad.nvb"
    write_nvb(path, replace(header, ranges={0: {}}), [segment])
    with pytest.raises(GraphError, match=r"bad\.nvb: segment 0: .*no activation ranges"):
        open_video(path)
    wide = tuple(replace(w, values=w.values * 300) for w in segment.weights)
    write_nvb(path, header, [replace(segment, weights=wide)])
    with pytest.raises(GraphError, match=r"bad\.nvb: segment 0: .*at most 8 bits"):
        open_video(path)


def test_a_frame_that_an_engine_cannot_make_is_named(tiny_nvb: Path) -> None:
    def fail(inputs: object) -> NDArray[np.uint8]:
        raise BackendError("out of memory")

    with open_video(tiny_nvb) as video:
        video._engine.run = fail  # type: ignore[union-attr,method-assign]
        with pytest.raises(BackendError, match=r"tiny\.nvb: .*out of memory"):
            video[3]


def test_a_segment_with_the_hash_of_another_is_refused(tiny_nvb_two_segments: Path, tmp_path: Path) -> None:
    from surgery import Chunk, take_apart, with_index

    chunks = take_apart(tiny_nvb_two_segments.read_bytes())[:-2]
    first, second = (c.payload for c in chunks if c.tag == b"SEGM")
    hash_at = slice(3 + 32, 3 + 48)
    mixed = second[:35] + first[hash_at] + second[51:]
    chunks[-1] = Chunk(b"SEGM", mixed)
    (tmp_path / "mixed.nvb").write_bytes(with_index(chunks, None, [7, 5]))
    with open_video(tmp_path / "mixed.nvb") as video:
        assert video[0].shape == (32, 48, 3)
        with pytest.raises((ChecksumError, FormatError), match="segment 1: decoded integers are not those"):
            video[7]
