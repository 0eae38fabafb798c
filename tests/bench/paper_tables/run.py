"""Train one row, in slices that can be stopped and go on.

A finished row is a model, `<name>.pt`, and what was measured of it, `<name>.json`. Both are believed only while the
model has the config and the recipe that the row asks for; a row that was changed is trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.paper_tables.played import played_file, step_cpu_ms
from tests.bench.paper_tables.quant_noise import tuning_recipe
from tests.bench.paper_tables.row import Row

from inr_runtime.errors import InrError
from inr_runtime.files import replacing
from inr_train import Checkpoint, Clip, Recipe, fit
from inr_train.models import MODELS, config_dict, count_macs
from inr_train.presets import preset_named
from inr_train.pruning import compress
from inr_train.recipe import with_goal
from inr_train.runlog import Progress
from inr_train.start import LEFT_OPEN, MEASURED, last_path

REDUCED_EPOCHS = 60
REDUCED_RATE = 2e-3
FOUND = (*MEASURED, *LEFT_OPEN, "batch_size")
"""Fields of a recipe that a run settles for itself."""


class _Deadline(KeyboardInterrupt):
    """Stops a run like Ctrl-C does: its state is saved."""


@dataclass(frozen=True)
class Protocol:
    """reduced: another network, clip and number of epochs; its numbers show directions only.

    read: decodes the clip, which is asked for only where something is left to do. sequence: its name, of a dataset.
    epochs: of the reduced protocol.
    """

    read: Callable[[], Clip]
    reduced: bool
    device: str
    threads: int
    work: Path
    sequence: str = ""
    epochs: int = REDUCED_EPOCHS


def measure(row: Row, seed: int, protocol: Protocol, deadline: float) -> dict[str, Any] | None:
    """The result of a row for one seed, or None where the deadline (of `time.monotonic`) came first."""
    path = _path(row, seed, protocol)
    checkpoint = _finished(row, protocol, path.with_suffix(".pt"))
    if checkpoint is None:
        path.unlink(missing_ok=True)
        checkpoint = None if time.monotonic() > deadline else _trained(row, seed, protocol, deadline)
    if checkpoint is None:
        return None
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(_measured(row, seed, protocol, checkpoint, path.with_suffix(".nvb"))))
    found = dict(json.loads(path.read_text()))
    return {**found, "published_psnr_db": row.published, "note": row.note, **_steps(checkpoint)}


def _path(row: Row, seed: int, protocol: Protocol) -> Path:
    kind = "reduced" if protocol.reduced else "full"
    kind += f"-{protocol.epochs}" if protocol.epochs != REDUCED_EPOCHS else ""
    text = "-".join(filter(None, (row.table, row.name, protocol.sequence)))
    return protocol.work / f"{kind}-{''.join(c if c.isalnum() or c in '-.' else '_' for c in text)}-{seed}.json"


def recipe_of(row: Row, protocol: Protocol) -> Recipe:
    """How a row is trained."""
    if row.tuning is not None:
        trained = recipe_of(row.tuning.base, protocol)
        return tuning_recipe(trained, row.tuning) if row.tuning.noise else replace(trained, weight_bits=row.tuning.bits)
    recipe = replace(preset_named(row.preset).recipe, epochs=row.epochs, **row.recipe)
    if protocol.reduced:
        own = {"epochs": protocol.epochs, "learning_rate": REDUCED_RATE}
        recipe = replace(recipe, **{**own, **row.reduced_recipe})
    if protocol.device == "cpu" and recipe.dtype == "":
        recipe = replace(recipe, dtype="bf16")
    return with_goal(recipe, row.quantize)


def _config_of(row: Row, protocol: Protocol) -> dict[str, Any]:
    return {**row.config, **(row.reduced_config if protocol.reduced else {})}


def _finished(row: Row, protocol: Protocol, path: Path) -> Checkpoint | None:
    """The model at `path` where it is what the row asks for."""
    if not path.exists():
        return None
    checkpoint = Checkpoint.load(path)
    preset, info = preset_named(row.reduced if protocol.reduced else row.preset), checkpoint.info
    config = replace(preset.config(info.height, info.width, info.frame_count), **_config_of(row, protocol))
    wanted, found = recipe_of(row, protocol), Recipe.from_dict(checkpoint.recipe)
    settled = {name: getattr(found, name) for name in FOUND}
    try:
        built = MODELS[checkpoint.model].config_type(**checkpoint.config)
    except (KeyError, TypeError, ValueError):
        return None
    # Through their types, so that a field that is new since then has its default.
    same = config_dict(built) == config_dict(config) and replace(wanted, **settled) == found
    return checkpoint if same else None


def _trained(row: Row, seed: int, protocol: Protocol, deadline: float) -> Checkpoint | None:
    path = _path(row, seed, protocol).with_suffix(".pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe, origin = recipe_of(row, protocol), None
    if row.tuning is not None:
        base = _path(row.tuning.base, seed, protocol).with_suffix(".pt")
        origin = _finished(row.tuning.base, protocol, base) or _trained(row.tuning.base, seed, protocol, deadline)
        if origin is None:
            return None
        if not row.tuning.noise:
            rounded = replace(compress(origin, row.tuning.bits), recipe=recipe.to_dict())
            rounded.save(path)
            return rounded
    options = {
        "recipe": recipe,
        "config": {} if origin else _config_of(row, protocol),
        "origin": origin,
        "seed": seed,
        "device": protocol.device,
        "threads": protocol.threads,
        "output": path,
        "overwrite": True,
        "progress": _stop_at(deadline),
    }
    preset = row.reduced if protocol.reduced else row.preset
    return _resumed(protocol.read(), preset, options)


def _resumed(clip: Clip, preset: str, options: dict[str, Any]) -> Checkpoint | None:
    """Go on where an unfinished run stands, unless it is one of another row's settings: then begin anew."""
    try:
        if last_path(options["output"]).exists():
            try:
                return fit(clip, preset, resume=True, **options)
            except InrError as error:
                print(f"{options['output']}: {error}; beginning anew")
        return fit(clip, preset, **options)
    except _Deadline:
        return None


def _stop_at(deadline: float) -> Callable[[Progress], None]:
    def check(_: Progress) -> None:
        if time.monotonic() > deadline:
            raise _Deadline

    return check


def _measured(row: Row, seed: int, protocol: Protocol, checkpoint: Checkpoint, file: Path) -> dict[str, Any]:
    result = {
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
    if protocol.sequence:
        result["sequence"] = protocol.sequence
    if row.file or row.tuning is not None:
        played = played_file(checkpoint, protocol.read(), file, protocol.threads)
        result |= played
        if "train_speed" in row.facts and protocol.device == "cpu":
            result["step_cpu_ms"] = step_cpu_ms(checkpoint, protocol.read())
        if row.tuning is not None or row.quantize != "none":
            result["psnr_db"] = played["psnr_file_db"]
    return result


def _steps(checkpoint: Checkpoint) -> dict[str, Any]:
    """Speed of a training step, which a run measures before it begins."""
    recipe, info = checkpoint.recipe, checkpoint.info
    pixelwise = checkpoint.model in ("siren", "nerf")
    items = info.frame_count * (info.width * info.height if pixelwise else 1)
    return {"ms_per_step": recipe["ms_per_step"], "steps_per_epoch": max(1, items // recipe["batch_size"])}
