"""Fit a network to a clip: the whole of training on one page."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inr_runtime.errors import UsageError
from inr_runtime.files import check_output, remove_leftovers
from inr_train.budget import fit_again
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.compensation import compensate
from inr_train.evaluate import Quality, evaluate
from inr_train.keep import DivergedError, finished, keep_model, keep_state, kept_where_it_fails
from inr_train.lock import held
from inr_train.memory import explained
from inr_train.models import MODELS
from inr_train.pruning import prune
from inr_train.quantization import QuantizedModel
from inr_train.race import race
from inr_train.recipe import Recipe
from inr_train.run import Run, Saver, deferred_interrupts
from inr_train.runlog import Progress, RunLog
from inr_train.start import (
    Estimate,
    best_path,
    check_resumed,
    choose_device,
    choose_preset,
    choose_recipe,
    default_recipe,
    last_path,
    model_config,
    resume_run,
    start_run,
)
from inr_train.step import advance

MAX_RESTARTS = 4
COLLAPSE_DB = 3.0
"""What an evaluation may fall below the best one of its phase before the run goes back."""


def fit(
    clip: Clip,
    preset: str = "auto",
    *,
    epochs: float | None = None,
    seconds: float = 0.0,
    recipe: Recipe | None = None,
    config: Mapping[str, Any] | None = None,
    quantize: str | None = None,
    sparsity: float = 0.0,
    origin: Checkpoint | None = None,
    seed: int | None = None,
    device: str = "auto",
    threads: int = 0,
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    log: str | Path | None = None,
    save_every: float = 30.0,
    announce: Callable[[Estimate], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    complete: Callable[[Checkpoint], Checkpoint] | None = None,
) -> Checkpoint:
    """Train a representation on a clip and return it.

    preset: see `inr_train.presets`; auto chooses by frame size. epochs, recipe: default to the preset's. seconds: train
    for so long instead, as many epochs as that allows; 0: the epochs. config: fields of the model's config that replace
    the preset's. quantize: what the file will hold: `int8` (weights and activations), `weights`, or `none` for a float
    model; None leaves it to the recipe. sparsity: share of the weights to prune. origin: start from this trained model
    instead of random weights, with a shorter recipe. seed: None is 0. device: auto, cpu or cuda[:N]. threads: 0 takes
    what is faster here, all cores or one. output: where to write `model.pt`; a run that was stopped goes on from
    `model.last.pt` beside it with resume=True, and is refused where what is given here is not what it began with.
    log: a JSONL file, one row per evaluation. save_every: seconds between resume states. announce: called once before
    training. progress: called after every step; it may raise `KeyboardInterrupt` to stop. complete: what is to be added
    to the finished model before it is written; the run can be resumed until then. The same seed gives the same
    weights where dtype and threads are the same: both are chosen by speed unless the recipe and `threads` fix them;
    with `seconds`, where the number of epochs is the same too, which follows from the clock.
    Raises `UsageError` or `InputError` on bad arguments, `InrError` where training diverges or memory runs out: then
    the best model so far is in `model.best.pt`, and the run in `model.last.pt`.
    """
    if epochs is not None and seconds:
        raise UsageError("--time-budget chooses the number of --epochs; give one of them")
    path = Path(output) if output is not None else None
    place = choose_device(device)
    chosen = choose_preset(clip, preset, origin)
    goal = (quantize, sparsity, origin is not None)
    wanted = choose_recipe(clip, MODELS[chosen.family], recipe or default_recipe(chosen, origin), epochs, goal, threads)
    with held(path), explained(place), _settings_given_back():
        _check_outputs(path, Path(log) if log else None, overwrite, resume)
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(place)
        if resume and path is not None:
            run = resume_run(last_path(path), clip, place)
            same = replace(run.recipe, threads=threads or run.recipe.threads)
            asked = wanted if recipe or quantize or sparsity else same
            check_resumed(run, preset, (epochs, seconds), seed, asked, config or {}, origin)
        else:
            fields = model_config(clip, chosen, config or {}, origin)
            run = start_run(clip, chosen, fields, wanted, seed or 0, place, frames, origin, seconds)
            _forget(path)
        if announce:
            announce(Estimate.of(run, frames))
        saver = Saver(path and last_path(path), save_every)
        with RunLog(Path(log) if log else None, run.rows) as run_log, kept_where_it_fails(run, clip, path, saver):
            _train(run, frames, saver, run_log, progress)
            run.model.settle(frames)
        checkpoint = finished(run, clip)
        if complete:
            saver.save(run, due=True)
            checkpoint = complete(checkpoint)
        if path is not None:
            keep_model(checkpoint, path, run, saver)
    return checkpoint


@contextmanager
def _settings_given_back() -> Iterator[None]:
    """What PyTorch keeps for the whole process; inside, float32 is float32 on GPUs too, not TF32 with 10 bits."""
    threads, matrices = torch.get_num_threads(), torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(matrices)
        torch.backends.cudnn.allow_tf32 = convolutions


def _check_outputs(path: Path | None, log: Path | None, overwrite: bool, resume: bool) -> None:
    if path is None and resume:
        raise UsageError("resuming needs the output of the run")
    if log is not None:
        check_output(log, overwrite or resume)
        if path is not None and log.resolve() in (p.resolve() for p in (path, last_path(path), best_path(path))):
            raise UsageError(f"{log} cannot be both the log and the model; choose another --log")
    if path is None:
        return
    check_output(path, overwrite)
    if not resume and not overwrite:
        for left in (last_path(path), best_path(path)):
            if left.exists():
                raise UsageError(f"{left} is of an unfinished run; go on with --resume or start again with -y")
    for output in (path, last_path(path), best_path(path)):
        remove_leftovers(output)


def _forget(path: Path | None) -> None:
    """Give up the unfinished run that was here; not before the new one is known to start."""
    if path is not None:
        last_path(path).unlink(missing_ok=True)
        best_path(path).unlink(missing_ok=True)


def _train(run: Run, frames: Tensor, saver: Saver, log: RunLog, progress: Callable[[Progress], None] | None) -> None:
    torch.set_num_threads(run.recipe.threads)
    clock, count = time.monotonic() - run.elapsed, run.model.count_items(frames.shape)
    with deferred_interrupts() as check_interrupt:

        def watch(shown: Run) -> None:
            try:
                if progress:
                    progress(Progress.of(shown, count, shown.loss))
                check_interrupt()
            except BaseException:  # Ctrl-C, or who watches has gone
                keep_state(run, saver)
                raise

        race(run, frames, saver, watch)
        while run.phase < len(run.recipe.phases):
            begin, end = run.recipe.spans(count)[run.phase]
            if run.step == begin and not run.rounded:
                _begin_phase(run, frames)
            run.good = run.good or run.snapshot()
            while run.step < end:
                if not advance(run, frames, end):
                    _restart(run, "became NaN")
                    continue
                run.elapsed = time.monotonic() - clock
                if run.step % run.recipe.interval(count) == 0 or run.step == end:
                    if not _evaluate(run, frames, log):
                        continue
                    run.elapsed = time.monotonic() - clock
                    run.step = end if _reached(run) else run.step
                fitted = fit_again(run, count)
                _, end = run.recipe.spans(count)[run.phase]
                saver.save(run, due=fitted)
                watch(run)
            if run.phase == len(run.recipe.phases) - 1:
                saver.save(run, due=run.recipe.rounds and not run.rounded)
                _round(run, frames, log, clock)
                watch(run)
            _end_phase(run, begin)


def _reached(run: Run) -> bool:
    """Whether the PSNR to stop at was reached: the phases that follow are on the way to the file, and still run."""
    goal, phase = run.recipe.until_psnr, run.recipe.phases[run.phase]
    return bool(goal) and phase.quantize == "none" and not phase.branch and run.rows[-1]["psnr_db"] >= goal


def _begin_phase(run: Run, frames: Tensor) -> None:
    phase = run.recipe.phases[run.phase]
    if not phase.share and run.best:
        run.model.load_state_dict(run.best["weights"])
        if not run.masks and (run.report.get("float") or {}).get("psnr_db") is None:
            run.report["float"] = run.best["quality"]
    if phase.branch:
        run.trunk = None
        run.trunk = run.snapshot()
    if phase.sparsity:
        run.masks = prune(run.model, phase.sparsity, run.recipe.prune_power)
    if phase.quantize != "none":
        run.model.settle(frames)
    run.enter_phase(len(frames))
    run.good = run.snapshot()


def _end_phase(run: Run, begin: int) -> None:
    """Keep the last phase's best weights; a branch leaves its quality in the report and goes back to where it began."""
    phase = run.recipe.phases[run.phase]
    quality = run.phase_best.get("quality", {})
    if phase.branch:
        assert run.trunk is not None
        report, elapsed, rows, number = run.report, run.elapsed, run.rows, run.phase
        run.restore(run.trunk)
        run.report, run.elapsed, run.rows, run.trunk = {**report, "float": quality}, elapsed, rows, None
        run.phase, run.step = number + 1, begin
        run.good = run.snapshot()
        return
    last_phase = run.phase == len(run.recipe.phases) - 1
    if last_phase and run.phase_best:
        run.model.load_state_dict(run.best["weights"])
        run.report["final"], run.report["ranges"] = quality, run.best["ranges"]
    run.phase += 1


def _evaluate(run: Run, frames: Tensor, log: RunLog) -> bool:
    """Measure, log, remember the best, and keep a snapshot; False where it went back because weights went astray."""
    begin = time.monotonic()
    quality = evaluate(run.network, frames, run.recipe.every)
    seconds = time.monotonic() - begin
    best = run.phase_best.get("quality", {}).get("psnr_db", -math.inf)
    if not math.isfinite(quality.psnr_db):
        _restart(run, "became NaN")
        return False
    if quality.psnr_db < best - COLLAPSE_DB and run.restarts < MAX_RESTARTS:
        _restart(run, f"fell from {best:.1f} to {quality.psnr_db:.1f} dB")
        return False
    _record(run, quality, log, evaluation_seconds=round(seconds, 4))
    run.good = run.snapshot()
    return True


def _record(run: Run, quality: Quality, log: RunLog, **more: object) -> None:
    """Log an evaluation, and remember the weights if they are the phase's best."""
    row: dict[str, Any] = {
        "step": run.step,
        "phase": run.recipe.phases[run.phase].name,
        "loss": run.loss,
        "psnr_db": quality.psnr_db,
        "psnr_8bit_db": quality.psnr_8bit_db,
        "seconds": round(run.elapsed, 2),
        **more,
    }
    run.rows.append(row)
    log.write(row)
    if quality.psnr_db > run.phase_best.get("quality", {}).get("psnr_db", -math.inf):
        weights = {k: v.detach().cpu().clone() for k, v in run.model.state_dict().items()}
        run.best = {"phase": run.phase, "quality": asdict(quality), "weights": weights, "ranges": run.ranges}


def _round(run: Run, frames: Tensor, log: RunLog, clock: float) -> None:
    """Round the best weights so that errors cancel; what training reached without that stays where it is better."""
    if not isinstance(run.network, QuantizedModel) or run.rounded:
        return
    if run.phase_best:
        run.model.load_state_dict(run.best["weights"])
        run.network.take_ranges(run.best["ranges"])
    rounded = compensate(run.model, run.trace(), run.network.bits, len(frames))
    run.model.load_state_dict(rounded, strict=False)
    quality = evaluate(run.network, frames, run.recipe.every)
    run.elapsed = time.monotonic() - clock
    _record(run, quality, log, rounded=True)


def _restart(run: Run, what: str) -> None:
    """Go back to the last good snapshot, with half the learning rate and frames in another order.

    Raises `DivergedError` where that was done often enough; the run then says with which restart it would go on.
    """
    assert run.good is not None
    run.restarts = restarts = run.restarts + 1
    if restarts > MAX_RESTARTS:
        words = f"training {what} at step {run.step}, though it went back {restarts - 1} times"
        precision = ", --amp off" if run.recipe.dtype == "fp16" else ""
        raise DivergedError(f"{words}; start again with a lower --lr{precision} or another --seed")
    warnings.warn(f"training {what} at step {run.step}: going back, with half the learning rate", stacklevel=2)
    run.restore(run.good)
    run.restarts = restarts
