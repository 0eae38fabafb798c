"""Train one row, in slices that can be stopped and go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.paper_tables.rows import Row

from inr_runtime.files import replacing
from inr_train import Checkpoint, Clip, fit
from inr_train.models import count_macs
from inr_train.presets import preset_named
from inr_train.runlog import Progress
from inr_train.start import last_path

REDUCED_EPOCHS = 60
REDUCED_RATE = 2e-3


class _Deadline(KeyboardInterrupt):
    """Stops a run like Ctrl-C does: its state is saved."""


@dataclass(frozen=True)
class Protocol:
    """reduced: another network, clip and number of epochs; its numbers show directions only."""

    clip: Clip
    reduced: bool
    device: str
    threads: int
    work: Path


def measure(row: Row, seed: int, protocol: Protocol, deadline: float) -> dict[str, Any] | None:
    """The result of a row for one seed, or None where the deadline (of `time.monotonic`) came first."""
    kind = "reduced" if protocol.reduced else "full"
    name = "".join(c if c.isalnum() or c in "-." else "_" for c in f"{row.table}-{row.name}")
    path = protocol.work / f"{kind}-{name}-{seed}.json"
    if not path.exists():
        if time.monotonic() > deadline:
            return None
        checkpoint = _trained(row, seed, protocol, path.with_suffix(".pt"), _stop_at(deadline))
        if checkpoint is None:
            return None
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(_result(row, seed, protocol, checkpoint)))
    return dict(json.loads(path.read_text()))


def _trained(
    row: Row, seed: int, protocol: Protocol, path: Path, progress: Callable[[Progress], None]
) -> Checkpoint | None:
    if path.exists():
        return Checkpoint.load(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    preset = preset_named(row.reduced if protocol.reduced else row.preset)
    recipe = replace(preset_named(row.preset).recipe, epochs=row.epochs, **row.recipe)
    if protocol.reduced:
        recipe = replace(recipe, epochs=REDUCED_EPOCHS, learning_rate=REDUCED_RATE, **row.reduced_recipe)
    if protocol.device == "cpu":
        recipe = replace(recipe, dtype="bf16")
    try:
        return fit(
            protocol.clip,
            preset.name,
            recipe=recipe,
            config={**row.config, **(row.reduced_config if protocol.reduced else {})},
            quantize="none",
            seed=seed,
            device=protocol.device,
            threads=protocol.threads,
            output=path,
            resume=last_path(path).exists(),
            progress=progress,
        )
    except _Deadline:
        return None


def _stop_at(deadline: float) -> Callable[[Progress], None]:
    def check(_: Progress) -> None:
        if time.monotonic() > deadline:
            raise _Deadline

    return check


def _result(row: Row, seed: int, protocol: Protocol, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "table": row.table,
        "row": row.name,
        "protocol": "reduced" if protocol.reduced else "full",
        "model": checkpoint.report["preset"],
        "seed": seed,
        "published_psnr_db": row.published,
        "psnr_db": checkpoint.report["psnr_db"],
        "parameters": checkpoint.report["parameters"],
        "gmac_per_frame": count_macs(checkpoint.build()) / 1e9,
        "epochs": checkpoint.recipe["epochs"],
        "train_seconds": checkpoint.report["train_seconds"],
        "device": checkpoint.report["device"],
        "width": checkpoint.info.width,
        "height": checkpoint.info.height,
        "frames": checkpoint.info.frame_count,
    }
