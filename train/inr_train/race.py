"""A race of beginnings: a few random ones are tried for a short while, and the best one goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from inr_train.evaluate import evaluate
from inr_train.run import Run, Saver
from inr_train.step import advance

FRAMES_COMPARED = 12


def race(run: Run, frames: Tensor, saver: Saver, watch: Callable[[Run], None]) -> None:
    """Put a run that has not begun where the best of its recipe's candidates stands after the race.

    Candidate i begins with the seed of the run plus i, and takes the first steps of the schedule; the winner's are not
    taken again. The report says what each reached, as `race`; None where it became NaN. frames: (T, C, H, W), the
    clip. saver: keeps the run with its candidate, which goes on from there. watch: called after every step with the
    candidate.
    """
    count = run.model.count_items(frames.shape)
    steps = run.recipe.race_steps(count)
    if not steps or run.phase or run.step:
        return
    begin, every = time.monotonic() - run.elapsed, max(1, len(frames) // FRAMES_COMPARED)
    uncompiled = replace(run.recipe, compiled=False)  # each would be compiled anew
    results: list[dict[str, Any]] = run.racing.get("results", [])
    best: dict[str, Any] = run.racing.get("best", {})
    for i in range(len(results), run.recipe.candidates):
        candidate = Run.new(run.name, run.config, uncompiled, run.seed + i, run.clip_hash, run.device)
        if run.racing.get("candidate"):
            candidate.restore(run.racing["candidate"])
        candidate.raced, finite = i * steps, True
        run.racing, run.candidate = {"results": results, "best": best}, candidate
        while finite and candidate.step < steps:
            finite = advance(candidate, frames, steps)
            run.elapsed = candidate.elapsed = time.monotonic() - begin
            saver.save(run)
            watch(candidate)
        quality = evaluate(candidate.network, frames, every).psnr_db if finite else -math.inf
        quality = quality if math.isfinite(quality) else -math.inf
        results.append({"seed": candidate.seed, "psnr_db": quality if math.isfinite(quality) else None})
        if not best or quality > best["quality"]:
            best = {"quality": quality, "seed": candidate.seed, "state": candidate.snapshot()}
    report, run.candidate = run.report, None
    run.seed = best["seed"]
    run.restore(best["state"])
    run.report, run.elapsed = {**report, "race": results}, time.monotonic() - begin
    run.raced = (run.recipe.candidates - 1) * steps
