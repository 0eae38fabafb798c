"""What the options of `inr-train` and `inr-export` mean: which frames to read, which recipe, which config."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from inr_runtime.errors import UsageError
from inr_runtime.media import ReadOptions, parse_crop, parse_position, parse_rate, parse_size
from inr_train.models import MODELS
from inr_train.recipe import Recipe, with_noise
from inr_train.recipes import RECIPES


def reading_options(function: Any) -> Any:
    """What to read of the video: shared by `inr-train` and `inr-export`."""
    options = [
        click.option("--size", metavar="WxH", help="Scale to this size; for raw .yuv, the size of its frames."),
        click.option("--crop", metavar="WxH[+X+Y]", help="Cut this out first (default: centred)."),
        click.option("--start", metavar="POS", help="First frame: seconds, [[hh:]mm:]ss, 12% or 120f."),
        click.option("--end", metavar="POS", help="First frame left out."),
        click.option("--frames", type=click.IntRange(1), help="At most this many frames."),
        click.option("--pix-fmt", metavar="FMT", help="ffmpeg's pixel format, for raw .yuv."),
        click.option("--fps", metavar="N", help="Frames per second, for raw .yuv and images."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def pop_reading(given: dict[str, Any]) -> dict[str, Any]:
    """Take the values of `reading_options` out of a command's arguments."""
    return {name: given.pop(name) for name in ("size", "crop", "start", "end", "frames", "pix_fmt", "fps")}


def read_options(**given: Any) -> ReadOptions:
    """`ReadOptions` from the texts of `reading_options`; raises `UsageError`."""
    return ReadOptions(
        start=parse_position(given["start"]) if given["start"] else None,
        end=parse_position(given["end"]) if given["end"] else None,
        frames=given["frames"],
        crop=parse_crop(given["crop"]) if given["crop"] else None,
        size=parse_size(given["size"]) if given["size"] else None,
        pix_fmt=given["pix_fmt"],
        fps=parse_rate(given["fps"]) if given["fps"] else None,
    )


_RECIPE_FIELDS = {"lr": "learning_rate", "bits": "weight_bits"}
"""Fields of the recipe by the options that set them, where the names differ."""
_RECIPE = "recipe."
"""What `--set` has before the name of a field of the recipe."""
_FIXED = ("name", "phases", "epochs", "every")
"""Fields of a recipe that `--set` leaves alone, beside what is measured."""


def changed_recipe(recipe: Recipe, given: dict[str, Any]) -> Recipe | None:
    """The preset's or the named recipe with what the command line changes; None where it changes nothing.

    `--lr` takes Muon's rate with it, in proportion.
    """
    named = _named_recipe(given["recipe"]) if given["recipe"] else recipe
    options = ("batch_size", "lr", "loss", "alpha", "bits", "prune_power", "until_psnr", "candidates")
    changed = {_RECIPE_FIELDS.get(o, o): given[o] for o in options if given[o] is not None}
    if given["bits"] is not None:
        changed |= {"float_bits": given["bits"], "grid_bits": ()}
    if given["compile"]:
        changed["compiled"] = True
    if given["amp"] != "auto":
        changed["dtype"] = "fp32" if given["amp"] == "off" else given["amp"]
    kinds = {k: v for k, v in _kinds(Recipe).items() if k not in _FIXED and not k.startswith("ms_per_")}
    pairs = [pair.removeprefix(_RECIPE) for pair in given["overrides"] if pair.startswith(_RECIPE)]
    changed |= _parsed(kinds, pairs, _RECIPE)
    if given["lr"] is not None and changed.get("optimizer", named.optimizer) == "muon":
        changed.setdefault("muon_rate", named.muon_rate * given["lr"] / named.learning_rate)
    try:
        if given["quant_noise"] is not None:
            named = with_noise(named, given["quant_noise"])
        return replace(named, **changed) if changed or named is not recipe else None
    except ValueError as error:
        raise UsageError(str(error)) from error


def _named_recipe(name: str) -> Recipe:
    """A recipe of `RECIPES`, or that of a JSON file: a recipe itself, or an object with one as its `recipe`."""
    if name in RECIPES:
        return RECIPES[name]
    try:
        data = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--recipe {name}: neither one of {', '.join(RECIPES)} nor a JSON file that can be read"
        ) from error
    if not isinstance(data, dict):
        raise UsageError(f"--recipe {name}: expected a JSON object")
    return Recipe.from_dict(data.get("recipe", data))


def parse_overrides(family: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Fields of a family's config from `--set KEY=VALUE`, those of the recipe left out; raises `UsageError`."""
    return _parsed(_kinds(MODELS[family].config_type), [p for p in pairs if not p.startswith(_RECIPE)])


def _kinds(owner: Any) -> dict[str, str]:
    """Types of a dataclass's fields, as written."""
    # Annotations are texts or types, as the module of the dataclass has them.
    return {f.name: getattr(f.type, "__name__", str(f.type)) for f in fields(owner)}


def _parsed(kinds: Mapping[str, str], pairs: Sequence[str], prefix: str = "") -> dict[str, Any]:
    """Values of fields from texts KEY=VALUE. prefix: what messages put before them."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in kinds or not text:
            known = ", ".join(prefix + kind for kind in kinds)
            raise UsageError(f"--set {prefix}{pair}: expected KEY=VALUE with a KEY of {known}")
        try:
            values[name] = _parse(kinds[name], text)
        except (ValueError, KeyError) as error:
            raise UsageError(f"--set {prefix}{pair}: expected a value of type {kinds[name]}") from error
    return values


def _parse(kind: str, text: str) -> Any:
    if kind.startswith("tuple"):
        number = float if "float" in kind else int
        return tuple(number(part) for part in text.split(","))
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()]
    return {"int": int, "float": float}.get(kind, str)(text)


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `10m`, `1.5h` or `1h30m`; raises `UsageError`."""
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    seconds = sum(float(n or 0) * unit for n, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0.0
    if not 0 < seconds < 1e9:
        raise UsageError(f"{text!r} is not a time like 90s, 10m or 1h30m")
    return seconds
