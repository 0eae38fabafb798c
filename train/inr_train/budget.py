"""Fitting a run into a time: as many epochs as measured steps allow, and again on the way.

What a dozen steps took before the first one is a guess: machines are shared, and grow warm.
"""

from __future__ import annotations

from dataclasses import replace

from inr_train.recipe import Recipe
from inr_train.run import Run

MOST_EVALUATING = 0.1
"""Of a time budget: the share that evaluations may take."""
FITTED_AGAIN = (0.1, 0.3, 0.6, 0.85)
"""Shares of the first phase after which the length of the run is fitted again."""


def fit_into(recipe: Recipe, seconds: float, items: int, frames: int = 1) -> Recipe:
    """The recipe with as many epochs as fit into a time; at least one step a phase.

    Where evaluations of all `frames` would take much of it, they compare one of every few.
    """
    for every in (2**i for i in range(frames.bit_length())):
        found = _longest(
            replace(recipe, every=every, ms_per_evaluation=recipe.ms_per_evaluation / every), seconds, items
        )
        if found.evaluation_cost(items) <= MOST_EVALUATING * 1e3 * seconds:
            break
    return found


def fit_again(run: Run, items: int) -> None:
    """Give a run with a time budget the epochs that its speed so far allows, where it is time to look."""
    seconds, recipe = run.report.get("planned_seconds", 0.0), run.recipe
    _, end = recipe.spans(items)[0]
    if run.phase or not seconds or run.step not in {round(share * end) for share in FITTED_AGAIN}:
        return
    slower = 1e3 * run.elapsed / expected_ms(run, items)
    measured = (f"ms_per_{what}" for what in ("step", "quantized_step", "evaluation", "rounding"))
    recipe = replace(recipe, **{name: slower * getattr(recipe, name) for name in measured})
    left = seconds - run.raced * recipe.cost(0) / 1e3
    least = (run.step + 1) / recipe.phases[0].share / max(1, items // recipe.batch_size)
    run.recipe = replace(recipe, epochs=max(_longest(replace(recipe, candidates=1), left, items).epochs, least))


def expected_ms(run: Run, items: int) -> float:
    """What all steps and evaluations so far should have taken, as measured; 1 a step where nothing was."""
    recipe, spans = run.recipe, run.recipe.spans(items)
    lengths = [end - begin for begin, end in spans[: run.phase]] + [run.step - spans[run.phase][0]]
    evaluations = len(run.rows) * recipe.ms_per_evaluation + run.rounded * recipe.ms_per_rounding
    return sum(n * recipe.cost(i) for i, n in enumerate(lengths)) + evaluations + run.raced * recipe.cost(0)


def _longest(recipe: Recipe, seconds: float, items: int) -> Recipe:
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        fits = replace(recipe, epochs=middle).total_cost(items) <= 1e3 * seconds
        low, high = (middle, high) if fits else (low, middle)
    return replace(recipe, epochs=max(low, 1e-6))
