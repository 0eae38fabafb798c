"""Fit a network to a clip: the whole of training on one page."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inr_runtime.errors import InputError, InrError, UsageError
from inr_runtime.files import check_output
from inr_train.checkpoint import Checkpoint, versions
from inr_train.clip import Clip
from inr_train.evaluate import evaluate
from inr_train.losses import LOSSES
from inr_train.models import config_dict, count_parameters
from inr_train.presets import default_preset, preset_named
from inr_train.recipe import Recipe, with_quantization
from inr_train.run import Run
from inr_train.runlog import Progress, RunLog
from inr_train.speed import measure_speed

EVALUATIONS = 20
"""Evaluations and snapshots per run."""
SECONDS_BETWEEN_SAVES = 30.0
MAX_RESTARTS = 4


def fit(
    clip: Clip,
    preset: str = "auto",
    *,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    quantize: str = "int8",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    log: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Checkpoint:
    """Train a representation on a clip and return it.

    preset: see `inr_train.presets`; auto chooses by frame size. recipe, epochs, learning_rate, batch_size: default to
    the preset's. quantize: what the file will hold: `int8` (weights and activations), `weights`, or `none` for a float model.
    device: auto, cpu or cuda[:N]. threads: 0 = all cores. output: where to write `model.pt`; a run that is
    killed continues from `model.last.pt` beside it with resume=True. log: a JSONL file, one row per evaluation.
    progress: called after every step. Raises `UsageError`, `InputError`, or `InrError` where training diverges.
    """
    path = Path(output) if output is not None else None
    if path is not None:
        check_output(path, overwrite)
    place = _device(device)
    if threads:
        torch.set_num_threads(threads)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(place)
    if resume:
        run = _resumed(path, clip, place)
    else:
        recipe = _recipe_for(clip, preset, recipe, epochs, learning_rate, batch_size, quantize)
        run = _started(clip, preset, recipe, seed, place, frames, path, overwrite)
    with RunLog(Path(log) if log else None, run.rows) as run_log:
        _train(run, frames, _last_path(path), run_log, progress)
    checkpoint = _finished(run, clip)
    if path is not None:
        checkpoint.save(path)
        last = _last_path(path)
        assert last is not None
        last.unlink(missing_ok=True)
    return checkpoint


def _train(
    run: Run, frames: Tensor, last: Path | None, log: RunLog, progress: Callable[[Progress], None] | None
) -> None:
    torch.set_num_threads(run.recipe.threads)
    inputs = tuple(x.to(run.device) for x in run.model.sample(range(len(frames))))
    good, saved, clock = run.snapshot(), time.monotonic(), time.monotonic() - run.elapsed
    try:
        while run.phase < len(run.recipe.phases):
            begin, end = run.recipe.spans(len(frames))[run.phase]
            if run.step == begin:
                _begin_phase(run, inputs)
                good = run.snapshot()
            loss, running = math.nan, 0.0
            while run.step < end:
                loss = _step(run, inputs, frames)
                if not math.isfinite(loss):
                    _restart(run, good)
                    continue
                running = loss if running == 0 else 0.98 * running + 0.02 * loss
                run.step += 1
                run.elapsed = time.monotonic() - clock
                if progress:
                    progress(Progress.of(run, len(frames), running))
                if run.step % _interval(run, len(frames)) == 0 or run.step == end:
                    _evaluate(run, inputs, frames, running, log)
                    good = run.snapshot()
                    if last and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                        run.save(last, good)
                        saved = time.monotonic()
            _end_phase(run, begin)
            good = run.snapshot()
    except KeyboardInterrupt:
        if last:
            run.save(last, good)
        raise


def _step(run: Run, inputs: tuple[Tensor, ...], frames: Tensor) -> float:
    """One optimizer step; returns the loss, and changes nothing where it is not finite."""
    recipe, phase = run.recipe, run.recipe.phases[run.phase]
    index = _batch(run, len(frames))
    rate = recipe.learning_rate_at(run.step, recipe.steps(len(frames))) * run.lr_factor
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    target = frames[index].float() / 255
    reduced = recipe.dtype == "bf16" and phase.quantize == "none"
    with torch.autocast(run.device.type, torch.bfloat16, enabled=reduced):
        prediction = run.network(*(x[index] for x in inputs))
    loss = LOSSES[recipe.loss](recipe.alpha)(prediction.float(), target)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip_norm)
    value, size = float(loss.detach()), float(norm)
    if not (math.isfinite(value) and math.isfinite(size)):
        return math.nan
    run.optimizer.step()
    return value


def _batch(run: Run, count: int) -> Tensor:
    """Frames of this step: a fresh shuffle every epoch, derived from the seed and the epoch alone."""
    size = min(run.recipe.batch_size, count)
    per_epoch = max(1, count // run.recipe.batch_size)
    epoch, place = divmod(run.step, per_epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(run.seed * 1_000_003 + epoch))
    return order[place * size : (place + 1) * size].to(run.device)


def _interval(run: Run, count: int) -> int:
    return max(1, run.recipe.steps(count) // EVALUATIONS)


def _begin_phase(run: Run, inputs: tuple[Tensor, ...]) -> None:
    run.best = {}
    if run.recipe.phases[run.phase].branch:
        run.trunk = None
        run.trunk = run.snapshot()
    run.enter_phase(inputs)


def _end_phase(run: Run, begin: int) -> None:
    """Keep the phase's best weights; a branch leaves its quality in the report and goes back to where it began."""
    phase = run.recipe.phases[run.phase]
    quality = run.best.get("quality", {})
    if phase.branch:
        assert run.trunk is not None
        report, elapsed, rows, number = run.report, run.elapsed, run.rows, run.phase
        run.restore(run.trunk)
        run.report, run.elapsed, run.rows, run.trunk = {**report, "float": quality}, elapsed, rows, None
        run.phase, run.step, run.best = number + 1, begin, {}
        return
    last_phase = run.phase == len(run.recipe.phases) - 1
    if last_phase and run.best:
        run.model.load_state_dict(run.best["weights"])
        run.report["final"], run.report["ranges"] = quality, run.best["ranges"]
    run.phase += 1


def _evaluate(run: Run, inputs: tuple[Tensor, ...], frames: Tensor, loss: float, log: RunLog) -> None:
    quality = evaluate(run.network, inputs, frames)
    row = {
        "step": run.step,
        "phase": run.recipe.phases[run.phase].name,
        "loss": loss,
        "psnr_db": quality.psnr_db,
        "psnr_8bit_db": quality.psnr_8bit_db,
        "seconds": round(run.elapsed, 2),
    }
    run.rows.append(row)
    log.write(row)
    if quality.psnr_db > run.best.get("quality", {}).get("psnr_db", -math.inf):
        weights = {k: v.detach().cpu().clone() for k, v in run.model.state_dict().items()}
        kept = {
            "psnr_db": quality.psnr_db,
            "psnr_8bit_db": quality.psnr_8bit_db,
            "per_frame_db": list(quality.per_frame_db),
        }
        run.best = {"quality": kept, "weights": weights, "ranges": {k: list(v) for k, v in run.ranges.items()}}


def _restart(run: Run, good: dict[str, Any]) -> None:
    """Go back to the last good snapshot with half the learning rate."""
    factor = run.lr_factor / 2
    if factor < 0.5**MAX_RESTARTS:
        raise InrError("training diverged (NaN) again and again; try a lower --lr or another --seed")
    run.restore(good)
    run.lr_factor = factor


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; use auto, cpu or cuda[:N]") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"device {name!r} is not usable here; use --device cpu")
    return device


def _last_path(path: Path | None) -> Path | None:
    return path and path.with_suffix(f".last{path.suffix}")


def _recipe_for(
    clip: Clip,
    preset: str,
    recipe: Recipe | None,
    epochs: int | None,
    learning_rate: float | None,
    batch_size: int | None,
    quantize: str,
) -> Recipe:
    recipe = recipe or _preset(clip, preset).recipe
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    try:
        recipe = replace(recipe, **{k: v for k, v in given.items() if v is not None})
        recipe = replace(recipe, batch_size=min(recipe.batch_size, len(clip)))
        return with_quantization(recipe, quantize)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _preset(clip: Clip, name: str) -> Any:
    return default_preset(clip.info.height, clip.info.width) if name == "auto" else preset_named(name)


def _started(
    clip: Clip,
    preset: str,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    frames: Tensor,
    path: Path | None,
    again: bool,
) -> Run:
    last = _last_path(path)
    if last and last.exists() and not again:
        raise UsageError(f"{last} holds an unfinished run; continue it with --resume or start again with -y")
    chosen = _preset(clip, preset)
    config = config_dict(chosen.config(clip.info.height, clip.info.width, len(clip)))
    run = Run.new(chosen.family, config, recipe, seed, clip_hash(clip), device)
    speed = measure_speed(run.model, frames, recipe, device)
    run.recipe = replace(recipe, dtype=speed.dtype, threads=torch.get_num_threads(), ms_per_step=speed.ms_per_step)
    run.report = {"preset": chosen.name, "parameters": count_parameters(run.model)}
    return run


def _resumed(path: Path | None, clip: Clip, device: torch.device) -> Run:
    last = _last_path(path)
    if last is None or not last.exists():
        raise InputError(f"nothing to resume: {last or 'no output'} does not exist")
    run = Run.load(last, device)
    if run.clip_hash != clip_hash(clip):
        raise InputError(f"{last} belongs to another clip; give the same video, --size, --crop and range as before")
    return run


def clip_hash(clip: Clip) -> str:
    """SHA-256 of all pixels."""
    return hashlib.sha256(clip.frames.tobytes()).hexdigest()


def _finished(run: Run, clip: Clip) -> Checkpoint:
    report = dict(run.report)
    ranges = {k: (v[0], v[1]) for k, v in report.pop("ranges", {}).items()}
    final, reference = report.pop("final"), report.pop("float", None)
    quantized = run.recipe.phases[-1].quantize != "none"
    report |= {
        "psnr_db": final["psnr_db"],
        "psnr_8bit_db": final["psnr_8bit_db"],
        "per_frame_db": final["per_frame_db"],
    }
    report |= {"psnr_float_db": (reference or final)["psnr_db"] if reference or not quantized else None}
    report |= {"train_seconds": run.elapsed, "curve": run.rows, "device": str(run.device)}
    return Checkpoint(
        model=run.name,
        config=run.config,
        info=replace(clip.info, frame_count=len(clip)),
        weights={k: v.detach().cpu().contiguous() for k, v in run.model.state_dict().items()},
        weight_bits=run.recipe.weight_bits,
        bias_bits=run.recipe.bias_bits,
        ranges=ranges,
        graph_digest=run.traced.graph.digest.hex() if run.traced else "",
        recipe=run.recipe.to_dict(),
        report=report,
        source={"path": clip.source, "frames_sha256": run.clip_hash},
        seed=run.seed,
        versions=versions(),
    )
