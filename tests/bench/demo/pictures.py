"""What a person would rather look at than read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt

AMPLIFICATION = 4


def contact_sheet(source: NDArray[np.uint8], decoded: NDArray[np.uint8], path: Path, columns: int = 4) -> None:
    """Source, decoded and their difference (amplified around grey) of some frames. Frames: uint8 (T, H, W, 3)."""
    chosen = np.linspace(0, len(source) - 1, columns).round().astype(int)
    difference = 128 + AMPLIFICATION * (decoded[chosen].astype(np.int16) - source[chosen])
    rows = {
        "source": source[chosen],
        "decoded": decoded[chosen],
        f"difference x{AMPLIFICATION}": np.clip(difference, 0, 255).astype(np.uint8),
    }
    height, width = source.shape[1:3]
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(3.2 * columns, 3.2 * len(rows) * height / width), squeeze=False
    )
    for line, (name, frames) in zip(axes, rows.items(), strict=True):
        for axis, frame, index in zip(line, frames, chosen, strict=True):
            axis.imshow(frame)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"frame {index}" if name == "source" else "", fontsize=9)
        line[0].set_ylabel(name)
    _save(figure, path)


def psnr_per_frame(model: Sequence[float], file: Sequence[float], path: Path) -> None:
    """PSNR of every frame: as trained and as played."""
    figure, axis = plt.subplots(figsize=(7, 3))
    axis.plot(model, label="model in training (weights rounded)")
    axis.plot(file, label="file through the runtime", linestyle="--")
    axis.set(xlabel="frame", ylabel="PSNR (dB)")
    axis.legend()
    axis.grid(alpha=0.3)
    _save(figure, path)


def loss_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """PSNR and loss over training steps, a colour per phase."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3))
    for phase in dict.fromkeys(row["phase"] for row in rows):
        points = [row for row in rows if row["phase"] == phase]
        steps = [row["step"] for row in points]
        left.plot(steps, [row["loss"] for row in points], marker=".", label=phase)
        right.plot(steps, [row["psnr_db"] for row in points], marker=".", label=phase)
    left.set(xlabel="step", ylabel="loss", yscale="log")
    right.set(xlabel="step", ylabel="PSNR (dB)")
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
