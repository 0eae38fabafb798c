"""The bench of decoding speeds: rows have the keys that documentation reads, and what is finished is not run again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from inr_runtime.media import ReadOptions
from inr_train import Clip, fit
from inr_train.clip import EXCERPT

KEYS = {
    *("model", "engine", "precision", "fps", "fps_network", "ratio_to_best_torch", "ratio_to_torch_fp32", "ms_p50"),
    *("ms_p99", "gmac_per_s", "share_of_peak", "psnr_db", "first_frame_ms", "seek_ms", "peak_memory_bytes", "open_ms"),
}


def test_rows_of_a_small_model_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.bench.decode_speed.__main__ as program
    from tests.bench.decode_speed import measure
    from tests.bench.decode_speed.files import Case
    from tests.bench.decode_speed.table import decode_table

    monkeypatch.setattr(program, "MODELS", {"edge-5": Case("edge-5", (64, 48))})
    monkeypatch.setattr(measure, "COLD_RUNS", 1)
    arguments = ["--model", "edge-5", "--engine", "NCHW", "--engine", "cpu-int8", "--threads", "1", "--seconds", "0.1"]
    arguments += ["--work", str(tmp_path)]
    done = CliRunner().invoke(program.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    kept = json.loads((tmp_path / "edge-5-1.json").read_text())
    usual, ours = kept["rows"]
    assert all(row.keys() >= KEYS for row in (usual, ours))
    assert usual["ratio_to_torch_fp32"] == usual["ratio_to_best_torch"] == 1
    assert ours["gmac_per_s"] == pytest.approx(ours["fps_network"] * ours["gmac_per_frame"])
    assert ours["peak_memory_bytes"] > 1e7
    about = {"hardware": "here", "commit": "x", "date": "today", "protocol": "one run."}
    assert "| edge-5 | ONNX Runtime | int8 |" in decode_table([{**about, "rows": kept["rows"]}])
    written = (tmp_path / "edge-5-1.json").stat().st_mtime_ns
    time.sleep(0.01)
    assert CliRunner().invoke(program.main, arguments).exit_code == 0
    assert (tmp_path / "edge-5-1.json").stat().st_mtime_ns == written


def test_trained_models_have_a_quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.bench.decode_speed.__main__ as program
    from tests.bench.decode_speed import files, measure

    clip = Clip.read(EXCERPT, ReadOptions(size=(40, 24)))
    fit(clip, "edge-5", epochs=2, output=tmp_path / "edge-5.pt", threads=1)
    monkeypatch.setattr(program, "MODELS", {"edge-5": files.Case("edge-5", (40, 24))})
    monkeypatch.setattr(files, "FRAMES", len(clip))
    monkeypatch.setattr(program, "FRAMES", len(clip))
    monkeypatch.setattr(measure, "COLD_RUNS", 1)
    arguments = ["--model", "edge-5", "--engine", "NCHW", "--engine", "cpu-int8", "--threads", "1", "--seconds", "0.1"]
    arguments += ["--work", str(tmp_path / "work"), "--trained", str(tmp_path), "--video", str(EXCERPT)]
    done = CliRunner().invoke(program.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    usual, ours = json.loads((tmp_path / "work" / "edge-5-1.json").read_text())["rows"]
    assert 10 < ours["psnr_db"] <= usual["psnr_db"] + 0.2 < 60
    monkeypatch.setattr(program, "MODELS", {"edge-5": files.Case("edge-5", (64, 48))})
    wrong = CliRunner().invoke(program.main, [*arguments, "--work", str(tmp_path / "other")])
    assert "is not edge-5 of" in str(wrong.exception)
