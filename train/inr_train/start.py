"""What happens before the first step: choose preset, recipe and device, measure once, tell what it will cost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inr_runtime.errors import InputError, UsageError
from inr_train.budget import fit_into, left_ms
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.compiled import check_compiler
from inr_train.losses import POINTWISE, least_side
from inr_train.models import MODELS, VideoModel, config_dict, config_value, count_parameters, meta_model
from inr_train.presets import Preset, default_preset, estimate_bytes, preset_named
from inr_train.pruning import check_prunable, masks_of
from inr_train.recipe import Recipe, fine_tuning, with_goal
from inr_train.run import Run
from inr_train.sound import Sound
from inr_train.speed import measure_speed


@dataclass(frozen=True)
class Estimate:
    """What a run will cost: seconds of training, bytes of the file, bytes of memory."""

    frames: int
    preset: str
    parameters: int
    epochs: float
    seconds: float
    file_bytes: int
    memory_bytes: int

    @classmethod
    def of(cls, run: Run, frames: Tensor) -> Estimate:
        """From a run that has not taken its first step, or is about to go on."""
        recipe, parameters = run.recipe, int(run.report["parameters"])
        items = run.model.count_items(frames.shape)
        seconds = left_ms(run, items) / 1e3 if run.phase < len(recipe.phases) else 0.0
        pixels = frames.shape[0] * frames.shape[2] * frames.shape[3] // items
        # Weights, gradients and moments, those of a state that is good, of one that is saved, and of a branch's trunk;
        # activations: widths of the last stages.
        copies = 25 if any(phase.branch for phase in recipe.phases) else 13
        floats = copies * parameters + run.model.floats_per_pixel * pixels * recipe.batch_size
        memory = frames.numel() * frames.element_size() + 4 * floats
        preset, pruned = str(run.report["preset"]), max(phase.sparsity for phase in recipe.phases)
        file = estimate_bytes(parameters, recipe.weight_bits if recipe.rounds else 8, pruned)
        return cls(len(frames), preset, parameters, recipe.epochs, seconds, file, memory)


def choose_device(name: str) -> torch.device:
    """auto (CUDA where there is one), cpu or cuda[:N]; raises `UsageError` on anything that is not usable here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; use auto, cpu or cuda[:N]") from error
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= cuda):
        raise UsageError(f"device {name!r} is not usable here; use --device cpu")
    return device


def last_path(output: Path) -> Path:
    """Where the resume state of a run stands: `model.last.pt` beside `model.pt`."""
    return output.with_suffix(f".last{output.suffix}")


def best_path(output: Path) -> Path:
    """Where the best model of a run stands that went bad: `model.best.pt` beside `model.pt`."""
    return output.with_suffix(f".best{output.suffix}")


def choose_preset(clip: Clip, name: str, origin: Checkpoint | None = None) -> Preset:
    """The preset called `name`; for auto that of the model to start from, or the default of the clip's frame size."""
    if origin is not None:
        trained = str(origin.report["preset"])
        if name not in ("auto", trained):
            raise UsageError(f"the model to start from is a {trained}, not a {name}")
        return preset_named(trained)
    if isinstance(clip, Sound):
        preset = preset_named("siren-xs" if name == "auto" else name)
        if not MODELS[preset.family].pixelwise:
            raise UsageError(f"{name} draws pictures; for sound take a network of coordinates, --preset siren-xs say")
        return preset
    return default_preset(clip.info.height, clip.info.width) if name == "auto" else preset_named(name)


def default_recipe(preset: Preset, origin: Checkpoint | None) -> Recipe:
    """How a preset is trained: from random weights, or from a model."""
    return preset.recipe if origin is None else fine_tuning(preset.recipe)


Goal = tuple[str | None, float, bool]
"""quantize, sparsity and trained of `with_goal`."""


def choose_recipe(
    clip: Clip, family: type[VideoModel], recipe: Recipe, epochs: float | None, goal: Goal, threads: int = 0
) -> Recipe:
    """The recipe with other epochs and goal; raises `UsageError` on contradictions."""
    side = least_side(recipe.loss)
    if min(clip.info.width, clip.info.height) < side:
        raise UsageError(f"loss {recipe.loss} needs frames of at least {side}x{side} pixels; choose --loss l1_fft")
    if family.pixelwise and recipe.loss not in POINTWISE:
        raise UsageError(f"loss {recipe.loss} compares whole frames, a {family.name} learns from pixels; use --loss l2")
    if recipe.candidates > 1 and goal[2]:
        raise UsageError("--candidates are random beginnings, and a run that goes on from a model has none")
    items = family.count_items((len(clip), 3, clip.info.height, clip.info.width))
    try:
        recipe = replace(recipe, epochs=epochs or recipe.epochs, batch_size=min(recipe.batch_size, items))
        recipe = replace(recipe, threads=threads or recipe.threads)
        return with_goal(recipe, *goal)
    except ValueError as error:
        raise UsageError(str(error)) from error


def model_config(
    clip: Clip, preset: Preset, overrides: Mapping[str, Any], origin: Checkpoint | None = None
) -> dict[str, Any]:
    """The config of `origin`, or the preset's for this clip with some fields replaced.

    Raises `UsageError` on contradictions.
    """
    if origin is not None:
        found = (clip.info.width, clip.info.height, len(clip))
        if found != (origin.info.width, origin.info.height, origin.info.frame_count):
            size = f"{origin.info.frame_count} frames of {origin.info.width}x{origin.info.height}"
            raise UsageError(f"the model to start from has {size}, the clip {found[2]} of {found[0]}x{found[1]}")
        if _changed(origin.model, origin.config, overrides):
            raise UsageError("the config of the model to start from cannot be changed")
        return dict(origin.config)
    try:
        config = preset.config(clip.info.height, clip.info.width, len(clip))
        config = config.for_sound(clip.channels) if isinstance(clip, Sound) else config
        _refuse_dictated(MODELS[preset.family], config, overrides)
        config = replace(config, **overrides)
        meta_model(preset.family, config)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UsageError(f"preset {preset.name} cannot be built so: {error}") from error
    return config_dict(config)


def _refuse_dictated(family: type[VideoModel], config: Any, overrides: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a field would be other than the clip is."""
    dictated = ("height", "width", "frames", *(("channels", "result") if family.pixelwise else ()))
    for name in dictated:
        if overrides.get(name, getattr(config, name)) != getattr(config, name):
            raise ValueError(
                f"its {name} is the clip's, {getattr(config, name)}; see --size and --frames for other clips"
            )


def _changed(model: str, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that overrides would make others of, as they are; those of before have defaults."""
    kind = MODELS[model].config_type
    now = config_dict(kind(**config))
    try:
        asked = config_dict(kind(**{**config, **overrides}))
    except (TypeError, ValueError):  # a field that is not there, or a contradiction
        asked = {k: config_value(v) for k, v in overrides.items()}
    return {k: now.get(k) for k in overrides if k not in now or asked[k] != now[k]}


def start_run(
    clip: Clip,
    preset: Preset,
    config: dict[str, Any],
    recipe: Recipe,
    seed: int,
    device: torch.device,
    frames: Tensor,
    origin: Checkpoint | None = None,
    seconds: float = 0.0,
) -> Run:
    """A run at step 0 whose recipe holds the speed measured here.

    seconds: that training may take, what is measured here included, instead of the recipe's epochs; 0: those.
    Raises `UsageError` if patches are too small for the loss.
    """
    weights = origin.weights if origin else None
    begin = time.monotonic()
    run = Run.new(preset.family, config, recipe, seed, clip.digest, device, weights)
    _check_patch(run.model.patch_size, recipe.loss)
    if any(phase.sparsity for phase in recipe.phases):
        check_prunable(run.model)
    fitting = recipe.for_grids(len(run.model.grids))
    if fitting.grid_bits != recipe.grid_bits:
        found = f"bits for {len(recipe.grid_bits)} grids, the network {len(run.model.grids)}"
        warnings.warn(f"the recipe has {found} of them: they are measured again", stacklevel=2)
        recipe = fitting
    quantized = any(phase.quantize != "none" for phase in recipe.phases)
    traced = run.trace() if quantized else None  # what cannot be exported fails now, not after hours
    speed = measure_speed(run.model, frames, recipe, device, traced)
    run.recipe = replace(recipe, every=1, **asdict(speed))
    if seconds:
        left = max(seconds / 2, seconds - (time.monotonic() - begin))
        run.recipe = fit_into(run.recipe, left, run.model.count_items(frames.shape), len(frames))
    run.report = {"preset": preset.name, "parameters": count_parameters(run.model), "time_budget": seconds}
    run.report["planned_seconds"] = left if seconds else 0.0
    if origin is not None:
        run.report["origin_sha256"] = origin.digest
        if origin.report.get("sparsity"):
            run.masks = masks_of(run.model)
        if origin.source.get("frames_sha256") == clip.digest:
            run.report["float"] = {k: origin.report.get(f"psnr_float_{k[5:]}") for k in ("psnr_db", "psnr_8bit_db")}
    return run


MEASURED = ("every", *(f"ms_per_{what}" for what in ("step", "quantized_step", "evaluation", "rounding", "ranging")))
"""Fields of a recipe that depend on how fast a run is found to be."""
LEFT_OPEN = ("dtype", "threads", "float_bits", "grid_bits")
"""Fields of a recipe that are chosen where a run begins if they were left open."""


def _check_patch(size: tuple[int, int] | None, loss: str) -> None:
    side = least_side(loss)
    if size is not None and min(size) < side:
        found = f"these are {size[1]}x{size[0]}"
        raise UsageError(f"loss {loss} needs patches of at least {side}x{side} pixels, {found}; choose --loss l1_fft")


def check_resumed(
    run: Run,
    preset: str,
    length: tuple[float | None, float],
    seed: int | None,
    recipe: Recipe,
    overrides: Mapping[str, Any],
    origin: Checkpoint | None,
) -> None:
    """Refuse to go on with a run that was started otherwise: raises `UsageError` that names what differs.

    length: epochs and seconds that were asked for, if any. seed: None where it is left to the run. recipe: the run's
    own where it is left to it.
    """
    differs, (epochs, seconds), budget = [], length, run.report.get("time_budget", 0.0)
    if origin is not None and origin.digest != run.report.get("origin_sha256"):
        what = "another model" if run.report.get("origin_sha256") else "random weights"
        differs.append(f"{what} to start from")
    if preset != "auto" and preset != run.report["preset"]:
        differs.append(f"preset {run.report['preset']}")
    if seconds and seconds != budget:
        differs.append(f"a time budget of {budget:g} s" if budget else "no time budget")
    if epochs is not None and epochs != run.recipe.epochs:
        differs.append(f"{run.recipe.epochs:g} epochs")
    began = run.report["race"][0]["seed"] if run.report.get("race") else run.seed
    if seed is not None and seed != began:
        differs.append(f"seed {began}")
    recipe = recipe.for_grids(len(run.model.grids))
    open_ones = [name for name in LEFT_OPEN if not getattr(recipe, name)]
    settled = (*MEASURED, *open_ones, *(("epochs",) if epochs is not None or budget else ()))
    asked, now = recipe.to_dict(), run.recipe.to_dict()
    differs += [f"{k}={_shown(now[k])}" for k in now if k not in settled and asked[k] != now[k]]
    differs += [f"{k}={v}" for k, v in _changed(run.name, run.config, overrides).items()]
    if differs:
        raise UsageError(f"the unfinished run has {', '.join(differs)}; resume with that, or start again with -y")


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def resume_run(last: Path, clip: Clip, device: torch.device) -> Run:
    """The run that `last` holds, of the same clip; raises `InputError`."""
    if not last.exists():
        raise InputError(f"nothing to resume: {last} does not exist")
    run = Run.load(last, device)
    if run.recipe.compiled:
        check_compiler(device)
    if run.clip_hash != clip.digest:
        raise InputError(f"{last} belongs to another clip; give the same video, --size, --crop and range as before")
    return run
