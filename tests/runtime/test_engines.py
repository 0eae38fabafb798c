"""Which engine plays a file: OpenVINO, CUDA, the choice between all, and what is said where one cannot."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from builders import make_nvb, norm_graph, random_weights, tiny_graph
from fakes.libcuda import FakeCuda
from fakes.ort import FakeCpuOrt, FakeOrt
from fakes.tensorrt import FakeTensorRt

from inr_runtime import Limits, open_video
from inr_runtime.backends import BACKENDS, choice, look_for, open_backend, ort
from inr_runtime.errors import BackendError, InrError, LimitError, MissingExtraError, UsageError
from inr_runtime.format import NvbReader
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.lower import TARGETS, lower
from inr_runtime.lower_half import full_nodes
from inr_runtime.tensors import quantize


@pytest.mark.parametrize("amx", [False, True])
def test_openvino_takes_the_fastest_arithmetic_of_the_cpu(
    amx: bool, ort_openvino: FakeOrt, tiny_nvb: Path, tiny_nvb_float: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "has_bf16_matrices", lambda: amx)
    for path, exact in ((tiny_nvb, "int8"), (tiny_nvb_float, "fp32")):
        precision = "bf16" if amx and exact == "fp32" else exact
        with open_video(path, threads=1) as video, open_video(path, target=f"cpu-{exact}", threads=1) as cpu:
            assert video.backend == f"openvino 1.8.1 openvino-{precision}"
            assert np.abs(video[:].astype(int) - cpu[:]).max() <= (40 if precision == "bf16" else 0)
        given = json.loads(ort_openvino.sessions[-1].devices[0][1]["load_config"])["CPU"]
        hint = {"bf16": "bf16"}.get(precision, "f32")
        assert given == {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": "1"}


def test_openvino_says_what_is_wrong(ort_openvino: FakeOrt, tiny_nvb: Path) -> None:
    ort_openvino.capabilities = "FP32 INT8"
    with pytest.raises(BackendError, match="no bfloat16 arithmetic; use --target openvino-int8"):
        open_video(tiny_nvb, target="openvino-bf16")
    ort_openvino.fault = "cpu"
    with pytest.raises(BackendError, match="runs on CPUExecutionProvider, not on OpenVINO"):
        open_video(tiny_nvb, target="openvino-int8")


def test_a_plugin_that_cannot_be_loaded_is_passed_over(ort_openvino: FakeOrt, tiny_nvb: Path) -> None:
    ort_openvino.fault = "plugin"
    with open_video(tiny_nvb) as video:
        assert video.target.name == "cpu-int8"
        assert video.missing["openvino"].endswith("libopenvino.so.2641: cannot open shared object file")


def test_cuda_plays_in_float16_and_keeps_stdout_clean(
    ort_cuda: FakeOrt, tiny_nvb_two_segments: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_video(tiny_nvb_two_segments) as video, open_video(tiny_nvb_two_segments, target="cpu-fp32") as exact:
        assert video.backend.endswith("cuda-fp16 on Fake Orin")
        frames = video[:]
        assert np.abs(frames.astype(int) - exact[:]).max() <= 1
        assert not np.array_equal(frames[0], frames[11]), "every frame is an array of its own"
    assert capfd.readouterr().out == ""


CUDA_FAULTS = {
    "cpu": r"could not start CUDA: onnxruntime [\d.]+, driver for CUDA 13\.0, Fake Orin$",
    "memory": r"the GPU has no memory left for this video \(.*size 99\); .*--backend cpu$",
    "run": r"CUDA failed on a frame: CUDA failure 700: an illegal memory access$",
}


@pytest.mark.parametrize("fault", list(CUDA_FAULTS))
def test_faults_of_cuda_are_one_line_and_auto_goes_on(fault: str, ort_cuda: FakeOrt, tiny_nvb: Path) -> None:
    ort_cuda.fault = fault
    with pytest.raises(BackendError, match=CUDA_FAULTS[fault]):
        open_video(tiny_nvb, backend="cuda")
    with open_video(tiny_nvb) as video:
        assert (video.target.name, list(video.failed)) == ("cpu-int8", ["cuda"])


def test_a_wheel_without_cuda_says_how_to_change_it(gpu: FakeCuda, tiny_nvb: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip uninstall onnxruntime && pip install 'inr-video\[cuda\]'"):
        open_video(tiny_nvb, backend="cuda")


@pytest.fixture
def ort_cpu(nothing: None, monkeypatch: pytest.MonkeyPatch) -> FakeCpuOrt:
    """A machine with ONNX Runtime on the CPU alone, whose sessions can be made to fail."""
    module = FakeCpuOrt()
    monkeypatch.setattr(ort, "import_onnxruntime", lambda: module)
    return module


def test_without_memory_a_graph_is_not_opened_again(ort_cpu: FakeCpuOrt, tiny_nvb: Path) -> None:
    """It was, without optimizations, which takes more memory still."""
    with open_video(tiny_nvb, target="cpu-fp32") as video:
        ort_cpu.fault, opened = "memory", ort_cpu.opened
        with pytest.raises(BackendError, match=r"no memory is left for this video; close other programs, .*has$"):
            video[3]
        assert ort_cpu.opened == opened
        ort_cpu.fault = ""
        assert video[3].shape == (32, 48, 3)


def test_a_graph_that_runs_only_as_it_is_says_that_it_is_slower(
    ort_cpu: FakeCpuOrt, tiny_nvb: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_video(tiny_nvb, target="cpu-fp32") as video:
        before, ort_cpu.fault, opened = video[:], "optimized", ort_cpu.opened
        assert np.abs(video[:].astype(int) - before).max() <= 1
        assert ort_cpu.opened == opened + 1
    (line,) = caplog.messages
    assert line.endswith("(Could not find an implementation for Resize(19)); it now runs without, which is slower")


def test_what_fails_either_way_is_tried_once_more_and_no_more(
    ort_cpu: FakeCpuOrt, tiny_nvb: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_video(tiny_nvb, target="cpu-fp32") as video:
        ort_cpu.fault, opened = "run", ort_cpu.opened
        for _ in range(3):
            with pytest.raises(BackendError, match=r"ONNX Runtime failed on a frame: Could not find an implem.*\)$"):
                video[0]
        assert ort_cpu.opened == opened + 1
    assert caplog.messages == []


def broken_module(how: str) -> ModuleType | SimpleNamespace | None:
    return {
        "missing": None,
        "hollow": ModuleType("onnxruntime"),
        "old": SimpleNamespace(__version__="1.9.0", SessionOptions=object),
    }[how]


BROKEN_INSTALLS = {
    "missing": r"no inference engine is installed; run: pip install 'inr-video\[cpu\]'$",
    "hollow": r"cannot be loaded \(.*SessionOptions.*\); run: pip uninstall onnxruntime onnxruntime-gpu && pip install",
    "old": r"onnxruntime 1\.9\.0 is too old; run: pip install 'inr-video\[cpu\]' --upgrade$",
}


@pytest.mark.parametrize("how", list(BROKEN_INSTALLS))
def test_a_broken_onnxruntime_is_one_line(
    how: str, nothing: None, tiny_nvb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", broken_module(how))
    with pytest.raises(InrError, match=BROKEN_INSTALLS[how]) as caught:
        open_video(tiny_nvb)
    assert "\n" not in str(caught.value)
    assert not look_for("cpu").available


def test_a_library_that_onnxruntime_lacks_does_not_make_it_missing(
    nothing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told to install it had it."""
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    with pytest.raises(BackendError, match=r"cannot be loaded \(libgomp\.so\.1: cannot open .*\); run: pip"):
        ort.import_onnxruntime()


def test_an_engine_that_dies_while_it_plays_is_replaced_and_that_is_said(
    ort_openvino: FakeOrt, tiny_nvb_two_segments: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames went on in silence, slower or rounded otherwise."""
    with open_video(tiny_nvb_two_segments, threads=1) as video:
        first = video.target.name
        assert first.startswith("openvino")
        list(video.frames(0, 3))
        assert caplog.messages == []
        ort_openvino.fault = "run"
        assert len(list(video.frames(3))) == 9
        assert (video.target.name, list(video.failed)) == ("cpu-int8", ["openvino"])
    (line,) = caplog.messages
    assert line.startswith(f"leaving {first} for cpu-int8: OpenVINO failed on a frame: CUDA failure 700")
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "cpu"])
def test_an_engine_that_was_asked_for_and_is_not_here_is_an_error(nothing: None, backend: str, tiny_nvb: Path) -> None:
    with pytest.raises(InrError, match=rf"pip install 'inr-video\[{backend}\]'") as raised:
        open_video(tiny_nvb, backend=backend)
    assert raised.value.exit_code == 1
    assert look_for(backend).reason is not None
    with open_video(tiny_nvb) as video:
        assert video.target.name == "cpu-int8"
        assert set(video.missing) == {"tensorrt", "cuda", "openvino"}
        assert video.failed == {}


def test_an_engine_plays_its_own_targets_only(tiny_nvb: Path) -> None:
    with pytest.raises(UsageError, match="target trt-int8 runs on tensorrt, not on cuda; leave out one"):
        open_video(tiny_nvb, backend="cuda", target="trt-int8")
    graph = tiny_graph()
    with pytest.raises(UsageError, match="cpu-fp32 runs on cpu, not on openvino"):
        open_backend(lower(graph, random_weights(graph, 0), TARGETS["cpu-fp32"]), "openvino")


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_too_large_is_refused_before_any_engine_is_asked(nothing: None, backend: str, tiny_nvb: Path) -> None:
    for limits in (Limits(macs_per_frame=1000), Limits(activation_bytes=1000)):
        with pytest.raises(LimitError, match=r"above the limit of 1000"):
            open_video(tiny_nvb, backend=backend, limits=limits)


def siren_graph() -> CanonicalGraph:
    """Coordinates, a sine, a hidden layer with a sine, a head; the first argument spans 60 radians."""
    nodes = [
        Node("Conv", ("x", "w0", "b0"), "a"),
        Node("Sin", ("a",), "sa"),
        Node("Conv", ("sa", "w1"), "b"),
        Node("Mul", ("b", "two"), "b2"),
        Node("Sin", ("b2",), "sb"),
        Node("Conv", ("sb", "w2"), "rgb"),
    ]
    weights = [Port("w0", (16, 2, 1, 1)), Port("b0", (16,)), Port("w1", (16, 16, 1, 1)), Port("w2", (3, 16, 1, 1))]
    return renumber([Port("x", (1, 2, 16, 16))], weights, {"two": np.float32(2).reshape(1)}, nodes, "rgb")


def test_sines_and_norms_stay_in_float32() -> None:
    rng, graph = np.random.default_rng(0), siren_graph()
    assert full_nodes(graph) == {0, 1, 2, 3, 4}
    sizes = (30.0, 1.0, 0.3, 0.1)
    weights = [quantize(rng.uniform(-s, s, p.shape), 8) for s, p in zip(sizes, graph.weights, strict=True)]
    feed = {graph.inputs[0].name: rng.uniform(-1, 1, (1, 2, 16, 16)).astype(np.float32)}
    exact, half = (run_on_cpu(graph, weights, target, feed) for target in ("cpu-fp32", "cuda-fp16"))
    assert exact.std() > 10
    assert np.abs(half.astype(int) - exact).max() <= 1
    assert len(full_nodes(norm_graph())) == 2


def test_bfloat16_is_for_what_would_be_float_but_sound_and_sines(
    nothing: None, monkeypatch: pytest.MonkeyPatch, tiny_nvb: Path
) -> None:
    monkeypatch.setattr(choice, "has_bf16_matrices", lambda: True)
    with NvbReader(tiny_nvb) as reader:
        plain = reader.header
    for header, wanted in (
        (plain, "openvino-int8"),
        (replace(plain, ranges={}), "openvino-bf16"),
        (replace(plain, graphs=(norm_graph(),)), "openvino-bf16"),
        (replace(plain, graphs=(norm_graph(),), media="audio"), "openvino-int8"),
        (replace(plain, media="audio"), "openvino-int8"),
        (replace(plain, graphs=(siren_graph(),), ranges={}), "openvino-fp32"),
    ):
        assert choice.best_target(header, "openvino").name == wanted


def run_on_cpu(graph: CanonicalGraph, weights: list, target: str, feed: dict) -> np.ndarray:  # type: ignore[type-arg]
    """A graph of any target as the CPU computes it, float16 too."""
    lowered = lower(graph, weights, TARGETS[target])
    return open_backend(replace(lowered, target=TARGETS["cpu-fp32"]), threads=1).run(feed)


@pytest.mark.parametrize("target", ["cuda-fp16", "trt-fp16"])
def test_what_float16_cannot_hold_is_refused(target: str) -> None:
    graph = tiny_graph()
    weights = list(random_weights(graph, 0))
    edge = graph.nodes[4].output
    with pytest.raises(BackendError, match=r"reaches 7e\+04, float16 ends at 65504; use a CPU engine"):
        lower(graph, weights, TARGETS[target], {edge: (-70000.0, 1.0)})
    weights[0] = quantize(weights[0].dequantize() * 1e6, 8, axis=0)
    with pytest.raises(BackendError, match="float16 ends at 65504"):
        lower(graph, weights, TARGETS[target])


def test_a_video_beyond_float16_plays_on_the_cpu_under_auto(
    ort_cuda: FakeOrt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inr_runtime.lower_half.HALF_MAX", 0.5)
    with open_video(make_nvb(tmp_path / "v.nvb")) as video:
        assert video.target.name == "cpu-int8"
        assert "float16 ends" in video.failed["cuda"]


def test_the_order_is_documented_and_kept(jetson: object, ort_cuda: FakeOrt, tiny_nvb: Path) -> None:
    assert BACKENDS == ("tensorrt", "cuda", "openvino", "cpu")
    trt: FakeTensorRt = jetson()  # type: ignore[operator]
    with open_video(tiny_nvb) as video:
        assert video.target.name == "trt-fp16"
    trt.fault = "driver"
    with open_video(tiny_nvb) as video:
        assert video.target.name == "cuda-fp16"
        assert list(video.failed) == ["tensorrt"]
