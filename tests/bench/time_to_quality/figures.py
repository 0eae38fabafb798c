"""Quality against time, and against work and bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

Rows = Sequence[dict[str, Any]]


def draw(rows: Rows, folder: Path) -> None:
    """Write time.png, and work.png of the longest time that every model has."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (model, recipe), chosen in _grouped(rows).items():
        times = sorted({r["minutes"] for r in chosen})
        means = [statistics.mean(r["psnr_float_db"] for r in chosen if r["minutes"] == t) for t in times]
        axes.plot(times, means, marker="o", ms=4, ls="-" if recipe == "ours" else "--", label=f"{model}, {recipe}")
    axes.set(xlabel="minutes, start-up included", ylabel="PSNR of the float model (dB)", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(folder / "time.png", dpi=110)
    plt.close(figure)
    _draw_work(rows, folder)


def _draw_work(rows: Rows, folder: Path) -> None:
    common = set.intersection(*({r["minutes"] for r in chosen} for chosen in _grouped(rows).values()))
    if not common:
        return
    minutes = max(common)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for (model, recipe), chosen in _grouped(rows).items():
        here = [r for r in chosen if r["minutes"] == minutes]
        quality = statistics.mean(r["psnr_db"] for r in here)
        mark = "o" if recipe.startswith("ours") else "x"
        for axes, x in ((left, here[0]["kmac_per_pixel"]), (right, statistics.mean(r["bytes"] for r in here) / 1e3)):
            axes.plot([x], [quality], mark, label=f"{model}, {recipe}")
    left.set(xlabel="kMAC per pixel", ylabel=f"PSNR of the file as played (dB), {minutes:g} min", xscale="log")
    right.set(xlabel="bytes of the file (kB)", xscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    right.legend(fontsize=7)
    figure.savefig(folder / "work.png", dpi=110)
    plt.close(figure)


def _grouped(rows: Rows) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r["model"], r["recipe"]), []).append(r)
    return groups
