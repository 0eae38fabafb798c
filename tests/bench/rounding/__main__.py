"""What rounding weights costs: one by one, so that errors cancel, and after steps that imitate it.

    python -m tests.bench.rounding [--video FILE --size WxH] [--epochs 30] [--record]

A float model of each preset is rounded to fewer and fewer bits in both ways. Beside them, a run of as many steps whose
last tenth imitates integers: what training for it is worth. Float activations, grids at the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table
from tests.bench.record import clip_of, described, write_results

from inr_train import Checkpoint, Clip, fit
from inr_train.bits import Bits
from inr_train.compensation import compensate
from inr_train.evaluate import evaluate
from inr_train.quantization import QuantizedModel
from inr_train.recipe import TAIL_SHARE, Phase
from inr_train.recipes import EDGE_RECIPE
from inr_train.trace import trace

MODELS = ("edge-10", "nerv-xs", "hnerv-0.35m")
BITS = (8, 7, 6, 5, 4)
TRAINED_BITS = (8, 6, 4)
BIAS_BITS = 10
TAIL = (Phase("fit", 1 - TAIL_SHARE), Phase("weights", TAIL_SHARE, quantize="weights"))


@click.command()
@click.option("--video", help="Clip (default: the embedded excerpt).")
@click.option("--size", help="Scale to WxH.")
@click.option("--epochs", default=30.0, show_default=True)
@click.option("--model", "models", multiple=True, help="Only this preset; may be repeated.")
@click.option("--threads", default=1, show_default=True)
@click.option("--record", is_flag=True, help="Write the results into the repository.")
def main(
    video: str | None, size: str | None, epochs: float, models: tuple[str, ...], threads: int, record: bool
) -> None:
    """Train, round, print one table."""
    clip = clip_of(video, size)
    rows = []
    for model in models or MODELS:
        for row in points(clip, model, epochs, threads):
            rows.append(row)
            click.echo(f"{model} {row['bits']} bits: {row}", err=True)
    show(rows)
    if record:
        protocol = (
            f"{described(clip)}, {epochs:g} epochs of the recipe "
            f"edge, seed 0, {threads} thread(s). Losses against the float model of the same run, all frames, float "
            f"activations. trained_db: PSNR after as many steps of which the last {TAIL_SHARE:.0%} imitate integers, "
            "then rounded in the better of both ways."
        )
        print(write_results("rounding", protocol, rows))


def points(clip: Clip, preset: str, epochs: float, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each number of bits."""
    recipe = replace(EDGE_RECIPE, epochs=epochs, dtype="bf16", threads=threads)
    exact = fit(clip, preset, recipe=recipe, quantize="none")
    for bits in BITS:
        row = {"model": preset, "bits": bits, "psnr_float_db": exact.report["psnr_db"], **losses(exact, clip, bits)}
        if bits in TRAINED_BITS:
            tuned = replace(recipe, phases=TAIL, weight_bits=bits, float_bits=bits)
            row["trained_db"] = fit(clip, preset, recipe=tuned).report["psnr_db"]
        yield row


def losses(checkpoint: Checkpoint, clip: Clip, bits: int) -> dict[str, float]:
    """Decibels lost by rounding one by one, and by rounding together."""
    model = checkpoint.build()
    frames, traced, all_bits = torch.from_numpy(clip.frames).permute(0, 3, 1, 2), trace(model), Bits(bits, BIAS_BITS)
    found = {}
    for key in ("one_by_one_loss_db", "together_loss_db"):
        if key == "together_loss_db":
            model.load_state_dict(compensate(model, traced, all_bits, len(clip)), strict=False)
        quality = evaluate(QuantizedModel(model, traced, all_bits), frames)
        found[key] = checkpoint.report["psnr_db"] - quality.psnr_db
    return found


def show(rows: list[dict[str, Any]]) -> None:
    """A line per model and number of bits."""
    table = Table("model", "bits", "float", "one by one", "together", "trained for", box=None)
    for r in rows:
        trained = f"{r['trained_db']:.2f} dB" if "trained_db" in r else ""
        lost = (f"-{r['one_by_one_loss_db']:.2f} dB", f"-{r['together_loss_db']:.2f} dB")
        table.add_row(r["model"], str(r["bits"]), f"{r['psnr_float_db']:.2f} dB", *lost, trained)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
