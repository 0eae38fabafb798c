"""The bench of decoding speeds: rows have the keys that documentation reads, and say what they are figures of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from inr_runtime.errors import UsageError
from inr_runtime.media import ReadOptions
from inr_train import Clip, fit
from inr_train.clip import EXCERPT

KEYS = {
    *("model", "engine", "precision", "fps", "fps_network", "ratio_to_best_torch", "ratio_to_torch_fp32", "ms_p50"),
    *("ms_p99", "gmac_per_s", "psnr_db", "first_frame_ms", "seek_ms", "peak_memory_bytes", "open_ms", "loss_db"),
}
Bench = Callable[..., Any]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run the bench for edge-5 in a small size, on one thread, with little time; slices come in `work`."""
    import tests.bench.decode_speed.__main__ as program
    from tests.bench.decode_speed import files, measure, slices

    def run(*arguments: str, size: tuple[int, int] = (64, 48), frames: int = 132, model: str = "edge-5") -> Any:
        monkeypatch.setattr(program, "MODELS", {"edge-5": files.Case("edge-5", size)})
        monkeypatch.setattr(files, "FRAMES", frames)
        monkeypatch.setattr(slices, "FRAMES", frames)
        monkeypatch.setattr(measure, "COLD_RUNS", 1)
        monkeypatch.setattr(measure, "SIDE", 256)
        few = ["--engine", "NCHW", "--threads", "1", "--seconds", "0.1", "--work", "work"]
        monkeypatch.chdir(tmp_path)
        return CliRunner().invoke(program.main, ["--model", model, *few, *arguments], catch_exceptions=False)

    return run


def test_rows_of_a_small_model_and_resuming(bench: Bench, tmp_path: Path) -> None:
    from tests.bench.decode_speed.kept import read_slice

    assert bench("--engine", "cpu-int8").exit_code == 0
    path = tmp_path / "work" / "edge-5-1.json"
    kept = json.loads(path.read_text())
    usual, ours = kept["rows"]
    assert all(row.keys() >= KEYS for row in kept["rows"])
    assert usual["ratio_to_torch_fp32"] == usual["ratio_to_best_torch"] == 1
    assert ours["gmac_per_s"] == pytest.approx(ours["fps_network"] * ours["gmac_per_frame"])
    assert ours["peak_memory_bytes"] > 1e7
    assert (usual["played_frames"], ours["played_frames"]) == (None, 132)
    written = path.stat().st_mtime_ns
    time.sleep(0.01)
    assert bench().exit_code == 0
    assert path.stat().st_mtime_ns == written
    # What an older bench kept had another meaning of fps, and does not tell where it comes from.
    assert read_slice(path) == kept
    path.write_text(json.dumps({k: kept[k] for k in ("rows", "peaks", "commit")}))
    assert read_slice(path) is None


def test_trained_models_have_a_quality_and_x265_gets_the_same(bench: Bench, tmp_path: Path) -> None:
    size = Clip.read(EXCERPT).info
    clip = Clip.read(EXCERPT, ReadOptions(size=(40, 24)))
    fit(clip, "edge-5", epochs=2, output=tmp_path / "edge-5.pt", threads=1)
    arguments = ("--trained", str(tmp_path), "--video", str(EXCERPT))
    assert bench("--engine", "cpu-", *arguments, size=(40, 24), frames=len(clip)).exit_code == 0
    path = tmp_path / "work" / "edge-5-1.json"
    kept = json.loads(path.read_text())
    usual, ours, exact = kept["rows"]
    assert 10 < ours["psnr_db"] <= usual["psnr_db"] + 0.2 < 60
    assert (usual["loss_db"], exact["loss_db"], ours["psnr_frames"]) == (None, 0, len(clip))
    assert ours["loss_db"] == exact["psnr_db"] - ours["psnr_db"]

    assert bench(*arguments, model="x265").exit_code == 0
    stream = tmp_path / "work" / "x265-1.json"
    assert json.loads(stream.read_text())["rows"][0]["model"] == "x265 crf 27"  # pictures of another size
    kept["rows"][1] |= {"size": [size.width, size.height], "psnr_db": 30.0}
    path.write_text(json.dumps(kept))
    assert bench(*arguments, model="x265").exit_code == 0
    (row,) = json.loads(stream.read_text())["rows"]
    assert 30 <= row["psnr_db"] < 30.5

    with pytest.raises(UsageError, match="is not edge-5 of"):
        bench(*arguments, "--again")


class Clockwork:
    """A contestant that gives grey frames, or fails as compilers do."""

    precision = "fp32"

    def __init__(self, engine: str, fault: str = "") -> None:
        self.engine, self.fault, self.opened = engine, fault, 0

    def open(self) -> None:
        self.opened += 1

    def frame(self, index: int) -> Any:
        if self.fault:
            raise RuntimeError(self.fault)
        return np.zeros((4, 4, 3), np.uint8)

    def close(self) -> None:
        self.opened -= 1


def test_who_cannot_be_compiled_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """One of them ended the run, and an hour of figures with it."""
    from tests.bench.decode_speed.measure import interleaved

    fighters = [Clockwork("compiled", "no C++ compiler\nmany lines"), Clockwork("eager"), Clockwork("short")]
    visits: list[int] = []
    (first, row), _ = interleaved(fighters, 3, 0.01, lambda: visits.append(0))
    assert first.engine == "eager"
    assert row["timed_frames"] < 12
    assert row["ms_p99"] is None
    assert len(visits) == 4
    assert [f.opened for f in fighters] == [0, 0, 0]
    assert capsys.readouterr().err == "compiled fp32 is left out: no C++ compiler\n"
    with pytest.raises(UsageError, match="nobody"):
        interleaved(fighters[:1], 3, 0.01)


def a_slice(commit: str, date: str, peak: float, *models: str, **versions: str) -> dict[str, Any]:
    row = {"engine": "cpu", "precision": "int8", "gmac_per_s": 100.0, "fps": 3.0, "frames": 132, "played_frames": 40}
    rows = [{"model": model, **row, "psnr_db": None} for model in models]
    return {"rows": rows, "peaks": {"int8": peak}, "commit": commit, "date": date, "versions": versions, "seconds": 6}


def test_a_record_of_slices_says_where_each_comes_from_and_has_one_peak() -> None:
    """Every slice had its own peak, half of the others' on a busy day, and all had the commit of the recording."""
    from tests.bench.decode_speed.kept import origin_of, quality_to_match, rows_of
    from tests.bench.decode_speed.table import decode_all_table

    slices = [
        a_slice("aaa", "2026-11-01", 1000.0, "edge-5", onnxruntime="1.23.2"),
        a_slice("bbb", "2026-11-02", 500.0, "edge-10", "edge-20", onnxruntime="1.31.1", torch="2.13.0"),
    ]
    rows = rows_of(slices)
    assert [(row["share_of_peak"], row["commit"]) for row in rows] == [(0.1, "aaa"), (0.1, "bbb"), (0.1, "bbb")]
    origin = origin_of(slices)
    assert (origin["commit"], origin["date"]) == ("bbb", "2026-11-02")
    assert origin["versions"] == {"onnxruntime": "1.23.2, 1.31.1", "torch": "2.13.0"}
    table = decode_all_table([{"hardware": "here", "protocol": "one run.", "rows": rows, **origin}])
    assert "| edge-5 (commit aaa) | ONNX Runtime | int8 | 3.0 (40 frames) |" in table
    assert "| edge-10 | ONNX Runtime |" in table
    assert "lost" not in table
    assert quality_to_match(slices) is None
    for part, decibels in zip(slices, (31.0, 32.0), strict=True):
        part["rows"][0]["psnr_db"] = decibels
    matched = quality_to_match(slices)
    assert matched is not None
    assert matched["model"] == "edge-10"
