"""The script for boards and GPUs, on the engine that is here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES = {"fps", "open_ms", "open_again_ms", "first_frame_ms", "seek_ms_p50", "peak_memory_bytes", "psnr_db"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.device", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_every_engine_is_a_row_that_can_be_committed(tiny_nvb: Path, tmp_path: Path) -> None:
    done = run("--video", tiny_nvb, "--json", tmp_path / "out.json", "--frames", 8, "--threads", 1)
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads((tmp_path / "out.json").read_text())
    assert set(record) >= {"bench", "hardware", "versions", "commit", "date", "protocol", "rows"}
    rows = {row["target"]: row for row in record["rows"]}
    assert len(rows) == 8
    for target in ("cpu-fp32", "cpu-int8"):
        assert rows[target]["result"] == "passed"
        assert set(rows[target]) >= FIGURES
    assert rows["cpu-fp32"]["psnr_db"] is None, "nothing differs from itself"
    assert 25 < rows["cpu-int8"]["psnr_db"] < 70
    assert all(row["reason"] for row in rows.values() if row["result"] == "not here")


def test_an_engine_that_fails_is_a_row_and_an_exit_code(tmp_path: Path, tiny_nvb: Path) -> None:
    broken = tmp_path / "broken.nvb"
    data = bytearray(tiny_nvb.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    done = run("--video", broken)
    assert done.returncode == 1
    assert "cpu-fp32       FAILED: " in done.stdout
