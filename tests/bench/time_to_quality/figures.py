"""Quality against time, and against work and bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]
ENOUGH = 6
"""Models to be worth a comparison of work and bytes."""
COLORS = (*colormaps["tab20"].colors, *colormaps["tab20b"].colors)  # type: ignore[attr-defined]


def draw(rows: Rows, folder: Path, prefix: str = "", source_bytes: int = 0) -> None:
    """Write time.png, and work.png of the longest time that `ENOUGH` models have, with a prefix to their names.

    source_bytes: of the source's pictures, half of which is marked: above it bytes are nothing to boast of.
    """
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for color, ((model, recipe), chosen) in zip(COLORS, _grouped(rows).items(), strict=False):
        times = sorted({r["minutes"] for r in chosen})
        means = [statistics.mean(r["psnr_float_db"] for r in chosen if r["minutes"] == t) for t in times]
        axes.plot(times, means, _mark(recipe), ls="-", color=color, label=f"{model}, {recipe}")
    axes.set(xlabel="minutes, start-up included", ylabel="PSNR of the float model (dB)", xscale="log")
    _plain(axes, sorted({r["minutes"] for r in rows}))
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(folder / f"{prefix}time.png", dpi=110)
    plt.close(figure)
    _draw_work(rows, folder / f"{prefix}work.png", source_bytes)


def _draw_work(rows: Rows, path: Path, source_bytes: int) -> None:
    models = {t: {r["model"] for r in rows if r["minutes"] == t} for t in {r["minutes"] for r in rows}}
    minutes = max((t for t, found in models.items() if len(found) >= ENOUGH), default=max(models))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    for color, ((model, recipe), chosen) in zip(COLORS, _grouped(rows).items(), strict=False):
        here = [r for r in chosen if r["minutes"] == minutes]
        if not here:
            continue
        quality = statistics.mean(r["psnr_db"] for r in here)
        left.plot([here[0]["kmac_per_pixel"]], [quality], _mark(recipe), color=color, label=f"{model}, {recipe}")
        right.plot([statistics.mean(r["bytes"] for r in here) / 1e3], [quality], _mark(recipe), color=color)
    if source_bytes:
        right.axvline(source_bytes / 2e3, color="grey", ls=":", label="half of the source")
    left.set(xlabel="kMAC per pixel", ylabel=f"PSNR of the file as played (dB), {minutes:g} min", xscale="log")
    right.set(xlabel="bytes of the file (kB)", xscale="log")
    _plain(left, (5, 10, 20, 50, 100))
    _plain(right, (20, 50, 100, 200, 500, 1000, 2000))
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _mark(recipe: str) -> str:
    return "o" if recipe.startswith("ours") else "x"


def _plain(axes: Axes, places: Sequence[float]) -> None:
    """Name these places of a logarithmic axis by their numbers."""
    axes.set_xticks(places, [f"{x:g}" for x in places])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _grouped(rows: Rows) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r["model"], r["recipe"]), []).append(r)
    return groups
