"""Fit a network to a clip: the whole of training on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inr_runtime.errors import UsageError
from inr_runtime.files import check_output, remove_leftovers
from inr_train.budget import fit_again
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.keep import finished, keep_model, keep_state, kept_where_it_fails
from inr_train.lock import held
from inr_train.memory import explained
from inr_train.models import MODELS
from inr_train.phases import begin_phase, end_phase, look, reached, restart, round_weights
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
                begin_phase(run, frames)
            run.good = run.good or run.snapshot()
            while run.step < end:
                if not advance(run, frames, end):
                    restart(run, "became NaN")
                    continue
                run.elapsed = time.monotonic() - clock
                if run.step % run.recipe.interval(count) == 0 or run.step == end:
                    if not look(run, frames, log):
                        continue
                    run.elapsed = time.monotonic() - clock
                    if reached(run):
                        run.report["skipped_steps"] = run.report.get("skipped_steps", 0) + end - run.step
                        run.step = end
                fitted = fit_again(run, count)
                _, end = run.recipe.spans(count)[run.phase]
                saver.save(run, due=fitted)
                watch(run)
            if run.phase == len(run.recipe.phases) - 1:
                saver.save(run, due=run.recipe.rounds and not run.rounded)
                round_weights(run, frames, log, clock)
                watch(run)
            elif run.recipe.phases[run.phase + 1].quantize == "int8":
                saver.save(run, due=True)  # measuring ranges takes long
            end_phase(run, begin)
