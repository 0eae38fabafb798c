"""Recipes are data: schedules and phases."""

from __future__ import annotations

import dataclasses

import pytest

from inr_runtime.errors import InputError
from inr_train.recipe import Phase, Recipe, with_goal
from inr_train.recipes import FAST_RECIPE, NERV_RECIPE


def test_learning_rate_warms_up_then_falls_to_zero() -> None:
    """The NeRV schedule at its corners: warm-up over 20 %, cosine to zero."""
    total = 1000
    rate = [NERV_RECIPE.learning_rate * NERV_RECIPE.schedule(s, total) for s in range(total)]
    assert rate[0] == pytest.approx(5e-4 / 200)
    assert rate[199] == pytest.approx(5e-4)
    assert rate[600] == pytest.approx(2.5e-4, rel=1e-3)
    assert rate[-1] < 1e-8


def test_phases_share_out_the_steps_and_branches_run_beside() -> None:
    recipe = dataclasses.replace(FAST_RECIPE, epochs=20)
    assert recipe.steps(10) == 200
    assert recipe.spans(10) == [(0, 170), (170, 200), (170, 200)]


def test_quantization_goals_change_phases_only() -> None:
    assert [p.name for p in with_goal(FAST_RECIPE, "none").phases] == ["fit"]
    assert [p.quantize for p in with_goal(FAST_RECIPE, "weights").phases] == ["none", "none", "weights"]


def test_round_trip_through_plain_types() -> None:
    assert Recipe.from_dict(NERV_RECIPE.to_dict()) == NERV_RECIPE
    with pytest.raises(InputError):
        Recipe.from_dict({**NERV_RECIPE.to_dict(), "loss": "magic"})


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        Recipe("x", 1, (Phase("fit", 0.5),))
    with pytest.raises(ValueError, match="weight bits"):
        dataclasses.replace(FAST_RECIPE, weight_bits=9)
    with pytest.raises(ValueError, match="share"):
        Recipe("x", 1, (Phase("fit", float("nan")),))


def test_a_branch_cannot_be_the_last_phase() -> None:
    """Such a run trained to its end and had no result."""
    phases = (Phase("fit", 0.9), Phase("weights", 0.1, quantize="weights"), Phase("float reference", 0.1, branch=True))
    with pytest.raises(ValueError, match="cannot be a branch"):
        Recipe("x", 1, phases)
