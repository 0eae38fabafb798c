"""Fitting a run into a time: as many epochs as measured steps allow, and again on the way.

What a dozen steps took before the first one is a guess: machines are shared, and grow warm. So the length of such a run
follows from the clock, and a second run has another. Each fit is saved at once, and not done again by who resumes.
"""

from __future__ import annotations

from dataclasses import replace

from inr_train.recipe import TOO_MANY_EPOCHS, Recipe
from inr_train.run import Run

MOST_EVALUATING = 0.1
"""Of a time budget: the share that evaluations may take."""
FITTED_AGAIN = (0.1, 0.3, 0.6, 0.85)
"""Shares of the first phase after which the length of the run is fitted again, once each."""


def fit_into(recipe: Recipe, seconds: float, items: int, frames: int = 1) -> Recipe:
    """The recipe with as many epochs as fit into a time; at least one step a phase.

    Where evaluations of all `frames` would take much of it, they compare one of every few.
    """
    for every in (2**i for i in range(frames.bit_length())):
        fewer = {name: getattr(recipe, name) / every for name in ("ms_per_evaluation", "ms_per_ranging")}
        found = _longest(replace(recipe, every=every, **fewer), seconds, items)
        if found.evaluation_cost(items) <= MOST_EVALUATING * 1e3 * seconds:
            break
    return found


def fit_again(run: Run, items: int) -> bool:
    """Give a run with a time budget the epochs that its speed so far allows; False where it is not time to look."""
    seconds, recipe = run.report.get("planned_seconds", 0.0), run.recipe
    _, end = recipe.spans(items)[0]
    fitted = run.report.get("fitted_again", 0)
    looked = run.phase or not seconds or fitted == len(FITTED_AGAIN)
    if looked or not round(FITTED_AGAIN[fitted] * end) <= run.step < end:
        return False
    run.report["fitted_again"] = fitted + 1
    recipe = paced(run, items)
    left = seconds - run.raced * recipe.cost(0) / 1e3
    least = (run.step + 1) / recipe.phases[0].share / max(1, items // recipe.batch_size)
    run.recipe = replace(recipe, epochs=max(_longest(replace(recipe, candidates=1), left, items).epochs, least))
    return True


def left_ms(run: Run, items: int) -> float:
    """Expected milliseconds to the end of a run, at its pace so far."""
    recipe, spans, interval = paced(run, items), run.recipe.spans(items), run.recipe.interval(items)
    raced = 0 if "race" in run.report else (recipe.candidates - 1) * recipe.race_steps(items) - run.raced
    left = raced * recipe.cost(0)
    for phase in range(run.phase, len(spans)):
        begin, end = max(run.step, spans[phase][0]) if phase == run.phase else spans[phase][0], spans[phase][1]
        evaluations = end // interval - begin // interval + bool(end % interval) if begin < end else 0
        left += (end - begin) * recipe.cost(phase) + evaluations * recipe.ms_per_evaluation
    left += (recipe.ranged(len(spans)) - _ranged(run)) * recipe.ms_per_ranging
    rounding = recipe.rounds and not run.rounded
    return left + rounding * (recipe.ms_per_rounding + recipe.ms_per_evaluation)


def paced(run: Run, items: int) -> Recipe:
    """The recipe with the milliseconds that steps and evaluations have taken so far, on average.

    Rounding and ranges run the network as evaluations do: they are slower or faster than measured as those are.
    """
    recipe, times = run.recipe, [row["evaluation_seconds"] for row in run.rows if "evaluation_seconds" in row]
    evaluating, foreseen = 1e3 * sum(times), len(times) * recipe.ms_per_evaluation
    slower = evaluating / foreseen if foreseen and evaluating else 1.0
    others = run.rounded * recipe.ms_per_rounding + _ranged(run) * recipe.ms_per_ranging
    stepping = 1e3 * run.elapsed - evaluating - slower * others
    foreseen = _stepping_ms(run, items)
    factor = stepping / foreseen if foreseen and stepping > 0 else 1.0
    return replace(
        recipe,
        ms_per_step=factor * (recipe.ms_per_step or 1.0),
        ms_per_quantized_step=factor * (recipe.ms_per_quantized_step or 1.0),
        ms_per_evaluation=slower * recipe.ms_per_evaluation,
        ms_per_rounding=slower * recipe.ms_per_rounding,
        ms_per_ranging=slower * recipe.ms_per_ranging,
    )


def _ranged(run: Run) -> int:
    """How many phases have measured ranges so far."""
    return run.recipe.ranged(run.phase) + bool(run.ranges)


def _stepping_ms(run: Run, items: int) -> float:
    """What all steps so far should have taken, as measured."""
    recipe, spans = run.recipe, run.recipe.spans(items)
    lengths = [end - begin for begin, end in spans[: run.phase]] + [run.step - spans[run.phase][0]]
    skipped = int(run.report.get("skipped_steps", 0))  # of phases without quantization, by `until_psnr`
    return sum(n * recipe.cost(i) for i, n in enumerate(lengths)) + (run.raced - skipped) * recipe.cost(0)


def _longest(recipe: Recipe, seconds: float, items: int) -> Recipe:
    low, high = 0.0, TOO_MANY_EPOCHS - 1
    for _ in range(60):
        middle = (low + high) / 2
        fits = replace(recipe, epochs=middle).total_cost(items) <= 1e3 * seconds
        low, high = (middle, high) if fits else (low, middle)
    return replace(recipe, epochs=max(low, 1e-6))
