"""The runs that are compared, and how one is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.bench.kept import keep, kept, kept_path
from tests.bench.record import commit, described

from inr_export import export
from inr_player.benchmark import available_cores
from inr_train import Clip, fit
from inr_train.models import build_model, config_dict, count_macs
from inr_train.presets import PRESETS
from inr_train.recipe import Recipe
from inr_train.recipes import EDGE_RECIPE, MUON_RECIPE, NERV_RECIPE


@dataclass(frozen=True)
class Point:
    """recipe: `paper` (the preset's own; for Edge, which has no paper, NeRV's) or `ours` (see `OURS`).

    rate: times the recipe's learning rates. compiled: the steps. change: what differs in the network, in words and as
    fields of its config.
    """

    preset: str
    recipe: str
    rate: float = 1.0
    bits: int = 8
    compiled: bool = False
    change: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people and files."""
        return f"{self.preset}, {self.label}"

    @property
    def label(self) -> str:
        """The recipe, with what is changed in it."""
        rate = f" x{self.rate:g}" if self.rate != 1 else ""
        bits = f"{self.bits} bits" if self.bits != 8 else ""
        return ", ".join(filter(None, (self.recipe + rate, bits, "compiled" * self.compiled, self.change)))


POINTS = (
    Point("edge-5", "ours"),
    Point("edge-10", "ours"),
    Point("edge-10", "ours", change="smaller grids", config={"grid_channels": (2, 4, 2, 3)}),
    Point("edge-10", "paper", 4.0),
    Point("edge-10", "ours", compiled=True),
    Point("edge-20", "ours"),
    Point("edge-20", "ours", compiled=True),
    Point("nerv-s", "paper"),
    Point("nerv-s", "paper", 4.0),
    Point("nerv-s", "ours"),
    Point("nerv-s", "ours", bits=6),
    Point("nerv-s", "ours", bits=5),
    Point("hnerv-0.35m", "paper"),
    Point("hnerv-0.35m", "paper", 4.0),
    Point("hnerv-0.35m", "ours"),
    Point("hnerv-0.35m", "ours", change="conditional", config={"activation": "sine", "time_width": 32}),
    Point("hnerv-boost-1.5m", "ours"),
    Point("hinerv-bunny-xxs", "paper"),
    Point("hinerv-bunny-xxs", "ours"),
    Point("hinerv-bunny-b-xxs", "paper"),
    Point("hinerv-bunny-b-xxs", "paper", 4.0),
    Point("hinerv-bunny-b-xxs", "ours"),
    Point("siren-xs", "paper"),
    Point("nerf-xs", "paper"),
)
"""Each architecture with both recipes."""
OURS = {"edge": EDGE_RECIPE, "hinerv": EDGE_RECIPE, "nerv": MUON_RECIPE, "hnerv": MUON_RECIPE}
"""By family: the same but for learning rates, with those that `tests.bench.rates` found better."""
INT8 = ("edge", "nerv")
"""Families of which all activations run on integers too."""


def measured(point: Point, clip: Clip, minutes: float, seed: int, work: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The result of a point, from `work` where the same was measured before."""
    preset, recipe = PRESETS[point.preset], _recipe(point)
    config = replace(preset.config(clip.info.height, clip.info.width, len(clip)), **point.config)
    asked = [config_dict(config), recipe.to_dict(), clip.digest, given]
    path = kept_path(work, f"{point.name}-{minutes:g}-{seed}", asked)
    if known := kept(path):
        return {"clip": described(clip), **known}
    work.mkdir(parents=True, exist_ok=True)
    begin, begin_of_process = time.monotonic(), time.process_time()
    options = {"recipe": recipe, "config": point.config, "quantize": "weights", "seed": seed, **given}
    checkpoint = fit(clip, point.preset, seconds=60 * minutes, **options)
    seconds, process_seconds = time.monotonic() - begin, time.process_time() - begin_of_process
    file, int8 = path.with_suffix(".nvb"), preset.family in INT8
    report = export(checkpoint, file, reference=clip, max_loss_db=100.0, int8=int8, overwrite=True)
    played = {v.target: v.source_db for v in report.verified}
    result = {
        "clip": described(clip),
        "model": point.preset,
        "recipe": point.label,
        "minutes": minutes,
        "seed": seed,
        "psnr_float_db": checkpoint.report["psnr_float_db"],
        "psnr_float_8bit_db": checkpoint.report["psnr_float_8bit_db"],
        "psnr_db": played["cpu-fp32"],
        "psnr_int8_db": played.get("cpu-int8"),
        "evaluated_frames": checkpoint.report["evaluated_frames"],
        "bytes": report.bytes,
        "parameters": report.parameters,
        "kmac_per_pixel": _kmac(checkpoint.model, checkpoint.config, clip),
        "epochs": checkpoint.recipe["epochs"],
        "ms_per_step": checkpoint.recipe["ms_per_step"],
        "threads": checkpoint.recipe["threads"],
        "cores": available_cores(),
        "device": checkpoint.report["device"].partition(":")[0],
        "seconds": seconds,
        "process_seconds": process_seconds,
        "commit": commit(),
    }
    return keep(path, result)


def _recipe(point: Point) -> Recipe:
    preset = PRESETS[point.preset]
    paper = NERV_RECIPE if preset.family == "edge" else preset.recipe
    recipe = OURS[preset.family] if point.recipe == "ours" else paper
    rates = {k: getattr(recipe, k) * point.rate for k in ("learning_rate", "muon_rate")}
    return replace(recipe, weight_bits=point.bits, compiled=point.compiled, **rates)


def _kmac(name: str, config: Any, clip: Clip) -> float:
    return count_macs(build_model(name, config)) / 1e3 / (clip.info.width * clip.info.height)
