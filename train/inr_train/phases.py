"""What happens where phases of a run begin and end, and where it is looked at: evaluating, rounding, going back."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict
from typing import Any

from torch import Tensor

from inr_train.compensation import compensate
from inr_train.evaluate import Quality, evaluate
from inr_train.keep import DivergedError
from inr_train.pruning import prune
from inr_train.quantization import QuantizedModel
from inr_train.run import Run
from inr_train.runlog import RunLog

MAX_RESTARTS = 4
COLLAPSE_DB = 3.0
"""What an evaluation may fall below the best one of its phase before the run goes back."""


def reached(run: Run) -> bool:
    """Whether the PSNR to stop at was reached: the phases that follow are on the way to the file, and still run."""
    goal, phase = run.recipe.until_psnr, run.recipe.phases[run.phase]
    return bool(goal) and phase.quantize == "none" and not phase.branch and run.rows[-1]["psnr_db"] >= goal


def begin_phase(run: Run, frames: Tensor) -> None:
    """Prune, settle and prepare what the phase needs, and keep where a branch goes back to."""
    phase = run.recipe.phases[run.phase]
    if not phase.share and run.best:
        run.model.load_state_dict(run.best["weights"])
    if phase.quantize != "none":
        _refer_to_best(run)
    if phase.branch:
        run.trunk = None
        if run.ranges and phase.quantize != "int8":
            run.enter_phase()  # who comes back finds an optimizer without ranges
        run.trunk = run.snapshot()
    if phase.sparsity:
        run.masks = prune(run.model, phase.sparsity, run.recipe.prune_power)
    if phase.quantize != "none":
        run.model.settle(frames)
    run.enter_phase(len(frames))
    run.good = run.snapshot()


def _refer_to_best(run: Run) -> None:
    """Let the best float model be what the loss is counted from, where it is better than what is known.

    Weights that were pruned are no reference for themselves.
    """
    known, quality = (run.report.get("float") or {}).get("psnr_db"), run.best.get("quality", {})
    if not quality or run.recipe.phases[run.best["phase"]].quantize != "none":
        return
    if quality["psnr_db"] > known if known is not None else not run.masks:
        run.report["float"] = quality


def end_phase(run: Run, begin: int) -> None:
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


def look(run: Run, frames: Tensor, log: RunLog) -> bool:
    """Measure, log, remember the best, and keep a snapshot; False where it went back because weights went astray."""
    begin = time.monotonic()
    quality = evaluate(run.network, frames, run.recipe.every)
    seconds = time.monotonic() - begin
    best = run.phase_best.get("quality", {}).get("psnr_db", -math.inf)
    if not math.isfinite(quality.psnr_db):
        restart(run, "became NaN")
        return False
    if quality.psnr_db < best - COLLAPSE_DB and run.restarts < MAX_RESTARTS:
        restart(run, f"fell from {best:.1f} to {quality.psnr_db:.1f} dB")
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


def round_weights(run: Run, frames: Tensor, log: RunLog, clock: float) -> None:
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


def restart(run: Run, what: str) -> None:
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
