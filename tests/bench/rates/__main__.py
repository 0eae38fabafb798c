"""The learning rates that a network wants of the recipe `edge`: pairs of Adam's and Muon's, at equal epochs.

    python -m tests.bench.rates --video bigbuckbunny.mp4 --size 320x180 --preset nerv-s --epochs 4 [--record]

The recipe's own rates were chosen for Edge; to be compared fairly, another network is given its best ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from tests.bench.kept import keep, kept, kept_path
from tests.bench.record import clip_of, commit, described, gpu_name, with_recorded, write_results

from inr_train import Clip, fit
from inr_train.recipe import Phase
from inr_train.recipes import EDGE_RECIPE
from inr_train.start import choose_device

PROTOCOL = (
    "The recipe edge with other rates of Adam and Muon, {threads} thread(s), bf16. psnr_db: of the float model at the "
    "end of a run of so many epochs, all frames."
)
KEYS = ("clip", "model", "epochs", "adam", "muon")


@click.command()
@click.option("--video", help="Clip (default: the embedded excerpt).")
@click.option("--size", help="Scale to WxH.")
@click.option("--preset", "presets", multiple=True, default=("nerv-s",), show_default=True)
@click.option("--epochs", default=4.0, show_default=True)
@click.option("--adam", multiple=True, type=float, default=(2.5e-3, 5e-3, 1e-2), show_default=True)
@click.option("--muon", multiple=True, type=float, default=(8e-3, 1.6e-2, 3.2e-2), show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/rates"), show_default=True)
@click.option("--record", is_flag=True, help="Write the results into the repository, with those already there.")
def main(
    video: str | None,
    size: str | None,
    presets: Sequence[str],
    adam: Sequence[float],
    muon: Sequence[float],
    record: bool,
    **given: Any,
) -> None:
    """Train every pair; those that are in --work are not trained again."""
    commit()  # remembered: what runs is what is checked out now
    clip = clip_of(video, size)
    pairs = list(itertools.product(presets, adam, muon))
    rows = [measured(*each, clip, **given) for each in track(pairs, "pairs", console=Console(stderr=True))]
    for row in rows:
        print(f"{row['model']:20} Adam {row['adam']:g}, Muon {row['muon']:g}: {row['psnr_db']:.2f} dB")
    if record:
        gpu = gpu_name(given["device"])
        every = with_recorded("rates", rows, KEYS, gpu)
        print(write_results("rates", PROTOCOL.format(threads=given["threads"]), every, gpu))


def measured(
    preset: str, adam: float, muon: float, clip: Clip, epochs: float, threads: int, device: str, work: Path
) -> dict[str, Any]:
    """The row of a pair, from `work` where the same was measured before."""
    rates = {"learning_rate": adam, "muon_rate": muon}
    recipe = replace(EDGE_RECIPE, epochs=epochs, dtype="bf16", phases=(Phase("fit", 1.0),), **rates)
    asked = [preset, recipe.to_dict(), clip.digest, threads, str(choose_device(device))]
    path = kept_path(work, f"{preset}-{epochs:g}-{adam:g}-{muon:g}", asked)
    if known := kept(path):
        return known
    checkpoint = fit(clip, preset, recipe=recipe, threads=threads, device=device)
    row = {"clip": described(clip), "model": preset, "epochs": epochs, "adam": adam, "muon": muon}
    row |= {"psnr_db": checkpoint.report["psnr_float_db"], "commit": commit()}
    return keep(path, row)


if __name__ == "__main__":
    main()
