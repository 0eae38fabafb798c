"""The search behind the Edge family: one change at a time, at equal epochs, with the processor time of each.

    python -m tests.bench.edge_search --video bigbuckbunny.mp4 --size 320x180 [--epochs 12] [--seeds 1] [--record]

Finished variants are kept in --work, so that a stopped search goes on where it was. The clip that a network is chosen
on flatters it: --video repeats the search on another, whose rows stand beside those of the first in the record.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tests.bench.edge_search.variants import VARIANTS, Variant
from tests.bench.kept import keep, kept, kept_path
from tests.bench.record import clip_of, commit, described, gpu_name, with_recorded, write_results

from inr_export import export
from inr_train import Clip, fit
from inr_train.models import build_model, config_dict, count_macs
from inr_train.presets import PRESETS
from inr_train.start import choose_device

PRESET = "edge-10"
KEYS = ("clip", "epochs", "model", "seed")


@click.command()
@click.option("--video", help="Clip (default: the embedded excerpt).")
@click.option("--size", help="Scale to WxH.")
@click.option("--epochs", default=12.0, show_default=True)
@click.option("--seeds", default=1, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--only", multiple=True, help="Only this group or variant; may be repeated.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/edge_search"), show_default=True)
@click.option("--record", is_flag=True, help="Write the results into the repository.")
def main(video: str | None, size: str | None, only: Sequence[str], record: bool, work: Path, **given: Any) -> None:
    """Train every variant, print one table."""
    commit()  # remembered: what runs is what is checked out now
    clip = clip_of(video, size)
    chosen = [v for v in VARIANTS if not only or v.group in only or v.name in only]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("variants", total=len(chosen) * given["seeds"])
        for variant in chosen:
            for seed in range(given["seeds"]):
                progress.update(task, description=variant.name)
                rows.append(measured(variant, clip, seed, work, given))
                progress.advance(task)
    show(rows)
    if record:
        protocol = (
            f"The recipe of {PRESET}, one change at a time, {given['threads']} thread(s). psnr_db: best evaluation, "
            "all frames, float32; psnr_8bit_db: its frames in 8 bits, as the file's are. psnr_int8_db: the file in "
            "cpu-int8, all frames, whatever int8 loses. step_cpu_ms: processor time of the whole run (measuring the "
            "machine, evaluations and rounding too) for each of its steps."
        )
        gpu = gpu_name(given["device"])
        print(write_results("edge_search", protocol, with_recorded("edge_search", rows, KEYS, gpu), gpu))


def measured(variant: Variant, clip: Clip, seed: int, work: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The result of a variant, from `work` where the same was measured before."""
    recipe = replace(PRESETS[PRESET].recipe, epochs=given["epochs"], dtype="bf16", **variant.recipe)
    config = replace(PRESETS[PRESET].config(clip.info.height, clip.info.width, len(clip)), **variant.config)
    asked = [config_dict(config), recipe.to_dict(), clip.digest, given["threads"], str(choose_device(given["device"]))]
    path = kept_path(work, f"{variant.name}-{clip.info.width}-{given['epochs']:g}-{seed}", asked)
    if known := kept(path):
        return known
    begin = time.process_time()
    options = {"seed": seed, "threads": given["threads"], "device": given["device"]}
    checkpoint = fit(clip, PRESET, recipe=recipe, config=variant.config, **options)
    seconds = time.process_time() - begin
    work.mkdir(parents=True, exist_ok=True)
    everything = {"max_loss_db": 100.0, "int8_budget_db": math.inf, "overwrite": True}
    exported = export(checkpoint, path.with_suffix(".nvb"), reference=clip, int8=True, **everything)
    played = {v.target: v.source_db for v in exported.verified}
    model, pixels = build_model(checkpoint.model, checkpoint.config), clip.info.width * clip.info.height
    result = {
        "clip": described(clip),
        "model": variant.name,
        "group": variant.group,
        "seed": seed,
        "psnr_db": checkpoint.report["psnr_float_db"],
        "psnr_8bit_db": checkpoint.report["psnr_float_8bit_db"],
        "psnr_int8_db": played["cpu-int8"],
        "bytes": exported.bytes,
        "parameters": checkpoint.report["parameters"],
        "kmac_per_pixel": count_macs(model) / 1e3 / pixels,
        "step_cpu_ms": 1e3 * seconds / recipe.steps(len(clip)),
        "epochs": given["epochs"],
        "train_seconds": checkpoint.report["train_seconds"],
        "commit": commit(),
    }
    return keep(path, result)


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A line per run."""
    table = Table("compared", "variant", "seed", "PSNR", "all int8", "parameters", "kMAC/pixel", "run/steps", box=None)
    for r in rows:
        quality = (f"{r['psnr_db']:.2f}", f"{r['psnr_int8_db']:.2f}")
        numbers = (*quality, f"{r['parameters']:,}", f"{r['kmac_per_pixel']:.1f}")
        table.add_row(r["group"], r["model"], str(r["seed"]), *numbers, f"{r['step_cpu_ms']:.0f} ms")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
