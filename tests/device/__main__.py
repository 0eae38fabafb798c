"""Check every engine of this machine on one video and write what was found.

    python -m tests.device --video clip.nvb --json out.json
    python -m tests.device --video clip.nvb --record      # tests/bench/results/device/<hardware>.json

Each engine runs in a process of its own (memory is then its own, and a crash is its own). An engine that is not here
is a row with the reason. Exit code 1 where an engine that is here fails or draws something else than float32 does.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from tests.bench.record import make_record, processor_name, write_results
from tests.device.measure import PROTOCOL

from inr_runtime.backends import look_for
from inr_runtime.chunks import Header
from inr_runtime.format import NvbReader
from inr_runtime.lower import TARGETS

LOWEST_DB = {"fp32": 60.0, "bf16": 35.0, "fp16": 40.0, "int8": 25.0}
"""PSNR against cpu-fp32 under which an engine counts as wrong, by precision."""
LIMIT_S = 3600.0


@click.command()
@click.option("--video", required=True, type=click.Path(exists=True, dir_okay=False), help="A .nvb of frames.")
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the result here.")
@click.option("--record", is_flag=True, help="Write it among the benchmarks' results, to be committed.")
@click.option("--frames", default=64, show_default=True, help="Frames that are compared and timed at most.")
@click.option("--threads", default=0, show_default=True, help="CPU threads; 0 = all.")
@click.option("--hardware", help="What this machine is called (default: its GPU, board or processor).")
def main(video: str, output: Path | None, record: bool, frames: int, threads: int, hardware: str | None) -> None:
    """See the module."""
    with NvbReader(video) as reader:
        header, about = reader.header, {"video": Path(video).name, "model": reader.header.model}
    rows = [{**about, **row} for row in check_all(header, video, frames, threads)]
    name, protocol = hardware or hardware_name(), PROTOCOL.format(frames=frames, threads=threads or "all")
    if output:
        text = json.dumps(make_record("device", protocol, rows, name), indent=2)
        output.write_text(text + "\n", encoding="utf-8")
    if record:
        click.echo(write_results("device", protocol, rows, name))
    for row in rows:
        click.echo(line_of(row))
    sys.exit(int(any(row["result"] == "failed" for row in rows)))


def check_all(header: Header, video: str, frames: int, threads: int) -> list[dict[str, Any]]:
    """One row a target, those that are not here last; cpu-fp32 is the first, since all are compared with it."""
    there, absent, looks = [], [], {b: look_for(b) for b in {t.backend for t in TARGETS.values()}}
    for name in sorted(TARGETS, key=lambda name: name != "cpu-fp32"):
        target, found = TARGETS[name], looks[TARGETS[name].backend]
        if target.precision == "int8" and not header.ranges:
            absent.append({"target": name, "result": "not here", "reason": "the file has no activation ranges"})
        elif not found.available:
            absent.append({"target": name, "result": "not here", "reason": found.reason})
        else:
            facts = {"target": name, "version": found.version, "device": found.device}
            there.append(facts | check_one(name, video, frames, threads))
    return [*there, *absent]


def check_one(target: str, video: str, frames: int, threads: int) -> dict[str, Any]:
    """What `tests.device.measure` prints of one target, with `result`: passed or failed, and then a reason."""
    command = [sys.executable, "-m", "tests.device.measure", target, video, str(frames), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"result": "failed", "reason": f"no answer in {LIMIT_S:.0f} s"}
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"result": "failed", "reason": words[-1]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    least, lowest = LOWEST_DB[TARGETS[target].precision], figures["psnr_worst_frame_db"]
    if lowest is not None and lowest < least:
        return {"result": "failed", "reason": f"a frame differs from cpu-fp32 ({lowest:.1f} dB)", **figures}
    return {"result": "passed", **figures}


def hardware_name() -> str:
    """The GPU where one is driven, else the board as its device tree calls it, else the processor."""
    gpu = look_for("tensorrt").device or look_for("cuda").device
    try:
        board = Path("/proc/device-tree/model").read_text(encoding="utf-8").strip("\0\n ")
    except OSError:
        board = ""
    return board or gpu or processor_name() or platform.machine()


def line_of(row: dict[str, Any]) -> str:
    """A row for people."""
    if row["result"] == "not here":
        return f"{row['target']:14} not here: {row['reason']}"
    if row["result"] == "failed":
        return f"{row['target']:14} FAILED: {row['reason']}"
    same = "identical" if row["psnr_db"] is None else f"{row['psnr_db']:.1f} dB"
    memory = f"{(row['peak_memory_bytes'] or 0) / 1e6:.0f} MB"
    return (
        f"{row['target']:14} {row['fps']:7.1f} fps  open {row['open_ms']:.0f} ms  again {row['open_again_ms']:.0f} ms  "
        f"first frame {row['first_frame_ms']:.0f} ms  seek {row['seek_ms_p50']:.1f} ms  {memory}  {same}"
    )


if __name__ == "__main__":
    main()
