"""`make demo`: the whole chain on the embedded clip, through the commands a user types.

Leaves in demo/: bunny.pt, bunny.nvb, bunny.mp4, pictures, and report.json; prints one table. Exits 4 where the demo
misses what it is meant to reach.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.bench.anchors import x265_at_psnr
from tests.bench.demo.pictures import contact_sheet, loss_curve, psnr_per_frame
from tests.bench.record import processor_name, write_results

import inr_train.clip
from inr_runtime import open_video
from inr_train.checkpoint import Checkpoint

FOLDER = Path("demo")
CLIP = Path(inr_train.clip.__file__).parent / "assets" / "bunny_180p.mp4"
PRESET, EPOCHS = "edge-10", 60
PROTOCOL = (
    "make demo on the embedded excerpt (48 frames, 320x180). psnr_model_db: float model after as many steps without "
    "quantization, in training, its frames in 8 bits as the file's are; the other PSNRs: the file decoded by the "
    "runtime. Seconds and fps are wall clock. x265: medium, tune=psnr, keyint 250, default threads, elementary-stream "
    "bytes of the smallest stream of at least that PSNR."
)


def main() -> None:
    """Run the chain and write everything."""
    begin = time.monotonic()
    FOLDER.mkdir(exist_ok=True)
    model, file, movie = FOLDER / "bunny.pt", FOLDER / "bunny.nvb", FOLDER / "bunny.mp4"
    options = ("--preset", PRESET, "--epochs", EPOCHS, "--log", FOLDER / "train.jsonl", "-y")
    run("inr-train", CLIP, "-o", model, *options)
    exported = run("inr-export", model, "-o", file, "--int8", "-y", "--json")
    run("inr-play", file, "-o", movie, "-y")
    played = run("inr-play", file, "--benchmark", "--json")
    compared = run("inr-play", file, "--compare", CLIP, "--json")
    checkpoint, clip = Checkpoint.load(model), inr_train.clip.excerpt()
    with open_video(file) as video:
        decoded = video[:]
    contact_sheet(clip.frames, decoded, FOLDER / "contact_sheet.png")
    psnr_per_frame(checkpoint.report["per_frame_db"], compared["per_frame_psnr_db"], FOLDER / "psnr_per_frame.png")
    loss_curve(checkpoint.report["curve"], FOLDER / "loss_curve.png")
    anchor = x265_at_psnr(CLIP, clip, compared["psnr_db"])
    report = summarize(checkpoint, exported, played, compared, anchor)
    report["demo_seconds"] = time.monotonic() - begin
    (FOLDER / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    if "--record" in sys.argv:
        path = write_results("demo", PROTOCOL, [report])
        shutil.copy(FOLDER / "contact_sheet.png", path.parent)
    show(report)
    missed = [promise for promise, kept in promises(report).items() if not kept]
    if missed:
        print(f"not reached: {'; '.join(missed)}", file=sys.stderr)
        sys.exit(4)


def promises(r: dict[str, Any]) -> dict[str, bool]:
    """What this demo is meant to reach, and whether it did."""
    return {
        "at least 32 dB": r["psnr_file_db"] >= 32,
        "int8 weights within 0.05 dB of the float model": r["psnr_model_db"] - r["psnr_file_fp32_db"] <= 0.05,
        "all int8 within 0.3 dB of the float model": r["psnr_model_db"] - r["psnr_file_db"] <= 0.3,
        "at most 4 minutes": r["demo_seconds"] <= 240,
    }


def run(command: str, *arguments: object) -> dict[str, Any]:
    """One console script of this environment; its words pass through, its JSON comes back."""
    script = Path(sys.executable).parent / command
    done = subprocess.run([script, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout) if "--json" in arguments else {}


def summarize(
    checkpoint: Checkpoint,
    exported: dict[str, Any],
    played: dict[str, Any],
    compared: dict[str, Any],
    anchor: dict[str, Any],
) -> dict[str, Any]:
    """One flat row with units in its keys."""
    by_target = {t["target"]: t["psnr_db"] for t in exported["targets"]}
    return {
        "preset": checkpoint.report["preset"],
        "epochs": checkpoint.recipe["epochs"],
        "parameters": exported["parameters"],
        "gmac_per_frame": exported["gmac_per_frame"],
        "bytes": exported["bytes"],
        "bits_per_pixel": exported["bits_per_pixel"],
        "psnr_model_db": checkpoint.report["psnr_float_8bit_db"],
        "psnr_file_db": compared["psnr_db"],
        "psnr_file_fp32_db": by_target["cpu-fp32"],
        "ms_ssim": compared["ms_ssim"],
        "psnr_yuv_db": compared["psnr_yuv_db"],
        "decode_fps": played["fps"],
        "fps_network": played["fps_network"],
        "first_frame_ms": played["first_frame_ms"],
        "train_seconds": checkpoint.report["train_seconds"],
        "x265_bytes_at_psnr": anchor["bytes"],
        "x265_psnr_db": anchor["psnr_db"],
        "x265_crf": anchor["crf"],
        "hardware": processor_name(),
        "backend": played["backend"],
    }


def show(r: dict[str, Any]) -> None:
    """The table."""
    table = Table(
        "", "inr", "x265 of at least that PSNR", title="Big Buck Bunny, 48 frames of 320x180", title_justify="left"
    )
    table.add_row("parameters", f"{r['parameters']:,}", "")
    table.add_row("bytes", f"{r['bytes']:,}", f"{r['x265_bytes_at_psnr']:,}")
    x265_rate = r["bits_per_pixel"] * r["x265_bytes_at_psnr"] / r["bytes"]
    table.add_row("bits per pixel", f"{r['bits_per_pixel']:.3f}", f"{x265_rate:.3f}")
    table.add_row("PSNR, float model", f"{r['psnr_model_db']:.2f} dB", "")
    table.add_row("PSNR, int8 weights", f"{r['psnr_file_fp32_db']:.2f} dB", "")
    table.add_row("PSNR, file as played (int8)", f"{r['psnr_file_db']:.2f} dB", f"{r['x265_psnr_db']:.2f} dB")
    table.add_row("decode, end to end", f"{r['decode_fps']:.0f} fps", "")
    table.add_row("training", f"{r['train_seconds']:.0f} s", "")
    table.add_row("the whole demo", f"{r['demo_seconds']:.0f} s", "")
    Console(width=100).print(table)
    print(f"demo/: {', '.join(sorted(p.name for p in FOLDER.iterdir()))}")


if __name__ == "__main__":
    main()
