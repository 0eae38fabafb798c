"""Playing on TensorRT: one engine a graph, built once, refitted for each segment; and everything that can go wrong."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import make_nvb
from fakes.tensorrt import FakeTensorRt

from inr_player.cli import main
from inr_runtime import open_video
from inr_runtime.backends import building, driver
from inr_runtime.backends.trtbuild import make_log
from inr_runtime.cli import StatusLine
from inr_runtime.errors import BackendError, MissingExtraError

Install = Callable[..., FakeTensorRt]


def differs(path: Path, target: str = "auto", backend: str = "auto") -> tuple[str, int]:
    """What ran, and the largest difference from float32 on the CPU over all frames, in code values."""
    with open_video(path, target="cpu-fp32") as exact, open_video(path, backend=backend, target=target) as video:
        difference = int(np.abs(video[:].astype(int) - exact[:]).max())
        return video.backend, difference


def engines(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "tensorrt").glob("trt-*.engine"))


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9", "10.16.2.10", "11.4.0.106"])
def test_one_engine_is_built_and_takes_every_segments_weights(
    jetson: Install, version: str, tmp_path: Path, tiny_nvb_two_segments: Path
) -> None:
    trt = jetson(version)
    assert differs(tiny_nvb_two_segments) == (f"tensorrt {version} trt-fp16 on Fake Orin", 1)
    assert (trt.builds, trt.refits) == (1, 1)
    config = trt.configs[0]
    assert {flag.name for flag in config.set} == {"REFIT"}, "TF32 would make float32 as coarse as float16"
    assert 0 < config.room < 1 << 30
    with open_video(tiny_nvb_two_segments) as again:
        again.frame(8)
        again.frame(0)
    assert (trt.builds, trt.refits, len(engines(tmp_path))) == (1, 3, 1)
    assert (trt.cuda.held, trt.cuda.streams) == ({}, set()), "nothing is left on the GPU"


def test_the_next_weights_are_decoded_while_an_engine_plays(
    jetson: Install, tiny_nvb_two_segments: Path, lowered_by: list[str]
) -> None:
    """Only to put them into the engine waits for the last frame of the segment before."""
    trt = jetson()
    with open_video(tiny_nvb_two_segments) as video:
        played = [frame.pixels for frame in video.frames()]
        assert lowered_by == ["main", "other"]
        assert (trt.builds, trt.refits) == (1, 1)
        for i in (0, len(video) - 1):
            np.testing.assert_array_equal(video[i], played[i])


def test_engines_are_kept_where_nobody_else_can_write(jetson: Install, tmp_path: Path, tiny_nvb: Path) -> None:
    jetson()
    differs(tiny_nvb)
    (path,) = engines(tmp_path)
    assert os.name == "nt" or path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o755)
    if os.name != "nt":
        with pytest.raises(BackendError, match=r"closed to others.*chmod 700 .*INR_CACHE_DIR"):
            open_video(tiny_nvb, backend="tensorrt")


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "of another version"])
def test_an_engine_that_cannot_be_used_is_built_anew(
    how: str, jetson: Install, tmp_path: Path, tiny_nvb: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jetson("10.3.0")
    differs(tiny_nvb)
    (path,) = engines(tmp_path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-9], "flipped": data[:-9] + b"x" + data[-8:], "empty": b""}.get(how, data))
    trt = jetson("10.3.0")
    if how == "of another version":  # which its number does not tell
        trt.tag = "10.3.0, another build"
    assert differs(tiny_nvb)[1] == 1
    assert (trt.builds, len(engines(tmp_path))) == (1, 1)
    assert how == "empty" or "building it anew" in caplog.text


def test_another_version_or_driver_builds_its_own_engine(jetson: Install, tmp_path: Path, tiny_nvb: Path) -> None:
    for version in ("10.3.0", "10.13.3"):
        jetson(version)
        differs(tiny_nvb)
    new = jetson("10.13.3")
    new.cuda.version = 13010
    differs(tiny_nvb)
    assert (new.builds, len(engines(tmp_path))) == (1, 3)


FAULTS = {
    "driver": r"10\.13\.3\.9 could not make its runtime with the driver for CUDA 13\.0 on Fake Orin: .*error: 35$",
    "parse": r"cannot read the graph: UNSUPPORTED_NODE: Conv$",
    "build": r"TensorRT built no engine: Could not find any implementation",
    "memory": r"no memory left to build an engine \(CUDA out of memory\); .*--backend cpu",
    "context": r"no memory left to run this video",
    "run": r"TensorRT failed on a frame",
    "wrong": r"decodes to a wrong picture with tensorrt",
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_faults_are_one_line_and_auto_takes_the_next_engine(fault: str, jetson: Install, tiny_nvb: Path) -> None:
    jetson().fault = fault
    with pytest.raises(BackendError, match=FAULTS[fault]) as raised:
        open_video(tiny_nvb, backend="tensorrt")
    assert "\n" not in str(raised.value)
    with open_video(tiny_nvb) as video:
        assert video.backend.startswith("onnxruntime")
        assert list(video.failed) == ["tensorrt"]
        assert str(raised.value) == video.failed["tensorrt"]
        assert set(video.missing) >= {"cuda", "openvino"}


@pytest.mark.parametrize("fault", ["refit", "missing"])
def test_where_weights_cannot_be_replaced_each_segment_has_its_engine(
    fault: str, jetson: Install, tmp_path: Path, tiny_nvb_two_segments: Path
) -> None:
    trt = jetson()
    trt.fault = fault
    assert differs(tiny_nvb_two_segments)[1] == 1
    assert differs(tiny_nvb_two_segments)[1] == 1
    assert (trt.refits, trt.builds, len(engines(tmp_path))) == (0, 2, 2)


def test_an_engine_that_dies_while_playing_is_replaced(jetson: Install, tiny_nvb_two_segments: Path) -> None:
    trt = jetson()
    with open_video(tiny_nvb_two_segments, target="cpu-int8") as exact, open_video(tiny_nvb_two_segments) as video:
        video.frame(2)
        trt.fault = "run"
        assert np.array_equal(video[3:9], exact[3:9])
        assert video.target.name == "cpu-int8"
        assert "failed on a frame" in video.failed["tensorrt"]


def test_an_engine_that_dies_while_the_next_segment_is_read_is_replaced(
    jetson: Install, tiny_nvb_two_segments: Path
) -> None:
    """The next engine is opened for what was being read, and nothing is built for the one that failed."""
    trt = jetson()
    with open_video(tiny_nvb_two_segments, target="cpu-int8") as exact, open_video(tiny_nvb_two_segments) as video:
        frames = video.frames()
        next(frames)
        trt.fault = "run"
        played = [frame.pixels for frame in frames]
        assert np.array_equal(played, exact[1:])
        assert (video.target.name, trt.builds) == ("cpu-int8", 1)
        assert "failed on a frame" in video.failed["tensorrt"]


@pytest.mark.parametrize("room", [0, 300, 4000])
def test_a_full_gpu_is_said_and_nothing_is_left_there(room: int, jetson: Install, tiny_nvb: Path) -> None:
    trt = jetson()
    trt.cuda.room = room
    with pytest.raises(BackendError, match=r"the GPU has no memory left for this video; .*--backend cpu"):
        open_video(tiny_nvb, backend="tensorrt")
    assert trt.cuda.held == {}


def test_int8_is_taken_on_demand_and_not_refitted(jetson: Install, tiny_nvb_two_segments: Path) -> None:
    trt = jetson()
    name, difference = differs(tiny_nvb_two_segments, "trt-int8")
    assert name.startswith("tensorrt 10.13.3.9 trt-int8")
    assert 1 < difference < 40
    assert (trt.builds, trt.refits, trt.configs[0].set) == (2, 0, set())


def test_progress_is_told_and_a_listener_can_stop_the_build(jetson: Install, tiny_nvb: Path) -> None:
    trt, told = jetson(), list[tuple[str, int, int]]()
    with building(lambda *step: told.append(step)):
        open_video(tiny_nvb, backend="tensorrt").close()
    assert told == [("Building Engine", done, 2) for done in (0, 1, 2, 2)]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    jetson("10.3.0")
    with building(stop), pytest.raises(KeyboardInterrupt):
        open_video(tiny_nvb, backend="tensorrt")
    assert trt.cuda.held == {}


def test_without_a_place_to_keep_engines_it_plays_all_the_same(
    jetson: Install, tmp_path: Path, tiny_nvb: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trt = jetson()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INR_CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert differs(tiny_nvb)[1] == 1
    assert (trt.builds, "will be built again" in caplog.text) == (1, True)


def test_what_is_missing_is_said_with_the_way_to_it(
    gpu: object, jetson: Install, tiny_nvb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'inr-video\[tensorrt\]'.*JetPack"):
        open_video(tiny_nvb, backend="tensorrt")
    jetson("8.6.2")
    with pytest.raises(BackendError, match=r"TensorRT 8\.6\.2 is too old; 10\.3 or newer"):
        open_video(tiny_nvb, backend="tensorrt")
    trt = jetson()
    trt.cuda.fails = {"cuInit": 100}
    with pytest.raises(BackendError, match=r"no CUDA-capable device is detected \(cuInit, code 100\)"):
        open_video(tiny_nvb, backend="tensorrt")
    monkeypatch.undo()
    driver.open_driver.cache_clear()


def test_prepared_ahead_it_plays_at_once(
    jetson: Install, tiny_nvb: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trt, told = jetson(), list[tuple[str, dict[str, str]]]()
    monkeypatch.setattr(StatusLine, "update", lambda self, done, total, unit, **facts: told.append((unit, facts)))
    for arguments in ["--prepare"], ["--vo", "null"]:
        monkeypatch.setattr(sys, "argv", ["inr-play", str(tiny_nvb), *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code, trt.builds) == (0, 1)
        assert "tensorrt 10.13.3.9 trt-fp16 on Fake Orin" in capfd.readouterr().err
    assert told.count(("building the engine", {"phase": "Building Engine"})) == 4, "only the first run builds"


def test_a_file_of_many_segments_is_prepared_once(jetson: Install, tmp_path: Path) -> None:
    trt = jetson()
    with open_video(make_nvb(tmp_path / "three.nvb", lengths=[4, 4, 4])) as video:
        video.prepare()
    assert (trt.builds, trt.refits) == (1, 0)


def test_the_stand_in_is_as_strict_as_the_bindings(jetson: Install) -> None:
    trt = jetson()
    wrong: list[Callable[[], object]] = [
        lambda: trt.Builder(object()),
        lambda: trt.Weights([1.0]),
        lambda: trt.Weights(np.zeros(4)[::2]),
        lambda: trt.Builder(make_log(trt)).create_network(trt.NetworkDefinitionCreationFlag["STRONGLY_TYPED"]),
        lambda: trt.Builder(make_log(trt)).create_builder_config().set_flag("REFIT"),
        lambda: trt.Runtime(make_log(trt)).deserialize_cuda_engine(Path("engine")),
    ]
    for call in wrong:
        with pytest.raises((TypeError, ValueError)):
            call()
