"""`--info`, `--benchmark` and `--list-backends`, for people and for machines."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from builders import INFO, make_nvb
from commands import Call, inr_play
from tiles import make_picture

from inr_player.benchmark import WARM_UP, benchmark, peak_memory
from inr_player.inspect import describe
from inr_player.selection import Selection
from inr_runtime import VideoInfo
from inr_runtime.format import NvbReader
from inr_runtime.lower import TARGETS
from inr_runtime.segment import Segment

BENCHMARK_KEYS = {
    "fps",
    "fps_network",
    "ms_p50",
    "ms_p99",
    "first_frame_ms",
    "open_ms",
    "peak_memory_bytes",
    "backend",
    "target",
    "frames",
    "threads",
    "bytes",
    "bits_per_pixel",
    "parameters",
    "gmac_per_frame",
}


def test_info_for_machines(tiny_nvb: Path) -> None:
    facts = json.loads(inr_play(tiny_nvb, "--info", "--json").stdout)
    size = tiny_nvb.stat().st_size
    assert (facts["width"], facts["height"], facts["frames"], facts["fps"]) == (48, 32, 12, 24.0)
    assert (facts["bytes"], facts["model"], facts["meta"]) == (size, "tiny nerv", {"made by": "tests"})
    assert 0 < facts["video_bytes"] < size
    assert facts["bits_per_pixel"] == facts["video_bytes"] * 8 / (48 * 32 * 12)
    assert facts["parameters"] == 576 * 12 + 576 + 64 * 54 + 64 + 12 + 3
    macs = 576 * 12 + 64 * 54 * 96 + 12 * 48 * 32
    assert facts["gmac_per_frame"] == pytest.approx(macs / 1e9)
    assert facts["targets"] == list(TARGETS)
    assert [s["frames"] for s in facts["segments"]] == [12]
    assert [t["shape"] for t in facts["tensors"]][:3] == [[576, 12, 1, 1], [576], [64, 6, 3, 3]]
    assert 0.9 * size < sum(t["bits"] for t in facts["tensors"]) / 8 < size
    assert all(t["name"] and t["coder"] for t in facts["tensors"])


def test_info_for_people(call: Call, tiny_nvb: Path, tiny_nvb_two_segments: Path) -> None:
    code, text, err = call(tiny_nvb, "--info")
    assert (code, err) == (0, "")
    for word in ("48x32", "12 at 24 fps", "tiny nerv", "11023 parameters", "cpu-int8", "64x6x3x3", "bits per symbol"):
        assert word in text
    assert "segment 0" in call(tiny_nvb_two_segments, "--info")[1]


@pytest.mark.parametrize("text", ["clip [draft]", "[/]", "[link=https://x.y]z[/link]", ":warning: \\"])
def test_texts_of_a_file_are_printed_as_they_are(call: Call, tmp_path: Path, text: str) -> None:
    """What stands in brackets vanished, and some of it was an error or reached the terminal as a link."""
    path = make_nvb(tmp_path / "[v1].nvb", meta={f"[b]{text}": text})
    code, shown, err = call("[v1].nvb", "--info")
    assert (code, err) == (0, "")
    lines = shown.splitlines()
    assert lines[0].split() == ["file", path.name]
    assert any(line.startswith(f"meta [b]{text}") and line.rstrip().endswith(text) for line in lines)


def test_info_of_two_segments_lists_both(tiny_nvb_two_segments: Path) -> None:
    with NvbReader(tiny_nvb_two_segments) as reader:
        facts = describe(reader)
    assert [(s["first_frame"], s["frames"]) for s in facts["segments"]] == [(0, 7), (7, 5)]
    assert facts["parameters"] == 2 * facts["segments"][0]["parameters"]
    assert {t["segment"] for t in facts["tensors"]} == {0, 1}


def test_info_says_where_int8_is_missing(tiny_nvb_float: Path) -> None:
    with NvbReader(tiny_nvb_float) as reader:
        assert [t for t in describe(reader)["targets"] if t.endswith("int8")] == []


def test_benchmark_for_machines(tiny_nvb: Path) -> None:
    done = inr_play(tiny_nvb, "--benchmark", "--json", "--threads", "1", "--target", "cpu-fp32")
    figures = json.loads(done.stdout)
    assert set(figures) == BENCHMARK_KEYS
    assert (figures["frames"], figures["threads"], figures["target"]) == (12, 1, "cpu-fp32")
    assert figures["backend"].startswith("onnxruntime")
    assert (figures["bytes"], figures["parameters"]) == (tiny_nvb.stat().st_size, 11023)
    assert 0 < figures["open_ms"] < figures["first_frame_ms"]
    assert 0 < figures["fps"] < figures["fps_network"]


def test_benchmark_for_people(call: Call, tiny_nvb: Path) -> None:
    code, text, _ = call(tiny_nvb, "--benchmark")
    assert code == 0
    assert text.count("\n") == 1
    for word in (" fps", "p99 ", "onnxruntime", "threads"):
        assert word in text


@pytest.mark.parametrize("frames", [1, WARM_UP, WARM_UP + 1])
def test_benchmark_of_a_clip_as_short_as_the_warm_up(tiny_nvb: Path, frames: int) -> None:
    told: list[tuple[int, int]] = []
    result = benchmark(str(tiny_nvb), Selection(frames=frames), progress=lambda *at: told.append(at))
    assert (result.frames, told[-1]) == (frames, (frames, frames))
    assert 0 < result.ms_p50 <= result.ms_p99


def test_a_benchmark_in_another_size_counts_the_work_of_that_size(call: Call, tmp_path: Path) -> None:
    make_picture(tmp_path / "p.nvb", VideoInfo(64, 64, 1), (32, 32))
    work = [
        json.loads(call("p.nvb", "--benchmark", "--json", *size)[1])["gmac_per_frame"]
        for size in ([], ["--size", "128x64"])
    ]
    assert work[1] == 2 * work[0] > 0


def test_opening_a_segment_is_no_network_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_nvb(tmp_path / "two.nvb", lengths=[14, 6], info=replace(INFO, frame_count=20))
    segment, seconds = NvbReader.segment, 0.5

    def slow(reader: NvbReader, number: int) -> Segment:
        time.sleep(seconds * number)
        return segment(reader, number)

    monkeypatch.setattr(NvbReader, "segment", slow)
    result = benchmark(str(path), Selection())
    assert 20 / result.fps > seconds
    assert result.ms_p99 < 1000 * seconds / 2


def test_a_clip_of_nothing_but_openings_has_figures_of_its_last_frame(tmp_path: Path) -> None:
    path = make_nvb(tmp_path / "many.nvb", lengths=[1] * 4, info=replace(INFO, frame_count=4))
    result = benchmark(str(path), Selection())
    assert result.ms_p50 == result.ms_p99 == pytest.approx(1000 / result.fps_network)
    assert result.ms_p50 > 0


def test_peak_memory_is_known_on_unix() -> None:
    assert (peak_memory() or 0) > 10_000_000 or os.name == "nt"


def test_engines_are_listed_without_a_file(call: Call) -> None:
    rows = json.loads(call("--list-backends", "--json")[1])
    assert [row["backend"] for row in rows] == ["tensorrt", "cuda", "openvino", "cpu"]
    assert all((row["version"] is None) == (row["reason"] is not None) for row in rows)
    assert rows[-1]["available"] is True
    assert "tensorrt" in call("--backends")[1]


def test_engines_are_tried_on_a_file(call: Call, tiny_nvb: Path, tmp_path: Path) -> None:
    rows = json.loads(call(tiny_nvb, "--backends", "--json")[1])
    assert rows[-1]["plays"].endswith("cpu-int8")
    assert all(row["plays"] or row["reason"] for row in rows)
    assert "cpu-int8" in call(tiny_nvb, "--backends")[1]
    broken = tmp_path / "broken.nvb"
    broken.write_bytes(tiny_nvb.read_bytes()[:-40])
    assert call(broken, "--backends")[0] == 3


@pytest.mark.parametrize("backend", ["tensorrt", "cuda", "openvino"])
def test_an_engine_that_is_not_here_is_named_with_the_way_to_it(
    backend: str, call: Call, tiny_nvb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tensorrt", "onnxruntime_ep_openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    code, _, err = call(tiny_nvb, "--vo", "null", "--backend", backend)
    assert (code, err.count("\n")) == (1, 1)
    assert f"pip install 'inr-video[{backend}]'" in err
    assert f"pip install 'inr-video[{backend}]'" in " ".join(call("--backends")[1].split()), "brackets are no markup"
    assert call(tiny_nvb, "--vo", "null", "--backend", backend, "--target", "cpu-fp32")[0] == 2


def test_the_engine_is_named_with_the_reasons_against_others(call: Call, tiny_nvb: Path) -> None:
    quiet, loud = (call(tiny_nvb, "--vo", "null", *flags)[2].splitlines()[0] for flags in ([], ["-v"]))
    assert "not " not in quiet
    assert "; not cuda: " in loud


def test_an_engine_is_prepared_ahead(call: Call, tiny_nvb: Path) -> None:
    code, out, err = call(tiny_nvb, "--prepare", "--json", "--backend", "cpu")
    report = json.loads(out)
    assert (code, report["target"], set(report)) == (0, "cpu-int8", {"backend", "target", "seconds"})
    assert report["backend"] in err
    assert "ready in " in call(tiny_nvb, "--prepare")[2]
    assert call(tiny_nvb, "--prepare", "--info")[0] == 2
    assert call(tiny_nvb, "--prepare", "-o", "out.mp4")[0] == 2


def test_profile_says_where_the_time_goes(tiny_nvb: Path) -> None:
    facts = json.loads(inr_play(tiny_nvb, "--profile", "--json", "--threads", "1").stdout)
    assert sum(row["ms"] for row in facts["operators"]) == pytest.approx(facts["ms_per_frame"])
    assert sum(row["ms"] for row in facts["layers"]) == pytest.approx(facts["ms_per_frame"])
    assert 0 < facts["convolutions"] < 1
    assert facts["target"] == "cpu-int8"
    assert next(row for row in facts["layers"] if row["op"] == "QLinearConv")["shape"] == [1, 8, 12, 64]
    text = inr_play(tiny_nvb, "--profile").stdout.decode()
    assert "of it convolutions" in text
    assert inr_play(tiny_nvb, "--profile", "--benchmark").returncode == 2
    elsewhere = inr_play(tiny_nvb, "--profile", "--target", "openvino-int8")
    assert elsewhere.returncode == 2
    assert b"--target cpu-fp32 or cpu-int8" in elsewhere.stderr or b"--target cpu-int8 or cpu-fp32" in elsewhere.stderr
