"""Random beginnings that race: what is kept of a race that is stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from runs import assert_same, stop_when

from inr_train import Clip, fit
from inr_train.presets import PRESETS
from inr_train.recipe import Phase, Recipe
from inr_train.run import Run
from inr_train.runlog import Progress

RECIPE = dataclasses.replace(PRESETS["nerv-xxs"].recipe, epochs=4, candidates=3, dtype="fp32", threads=1)


@pytest.mark.parametrize("stopped_after", [3, 10, 17, 24])
def test_a_race_goes_on_from_the_step_it_was_stopped_at(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    """It began anew, with the first candidate."""
    begun: list[int] = []
    uninterrupted: list[Progress] = []
    whole = fit(tiny_clip, "nerv-xxs", recipe=RECIPE, progress=uninterrupted.append)
    new = Run.new

    def counted(name: str, config: dict[str, object], recipe: object, seed: int, *rest: object) -> Run:
        begun.append(seed)
        return new(name, config, recipe, seed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "new", counted)
    steps: list[Progress] = []
    stop = stop_when(lambda p: steps.append(p) or len(steps) == stopped_after)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=RECIPE, output=tmp_path / "m.pt", progress=stop)
    before = len(begun)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True, progress=steps.append)
    assert len(begun) - before == RECIPE.candidates - (stopped_after - 1) // 10
    assert len(steps) == len(uninterrupted)
    assert resumed.report["race"] == whole.report["race"]
    assert_same(whole, resumed)


def test_a_race_is_repeated_by_the_seed_it_began_with(tiny_clip: Clip) -> None:
    """The seed that was told was the winner's, with which another race was held."""
    first = fit(tiny_clip, "nerv-xxs", recipe=RECIPE, seed=3)
    assert first.seed == 3
    again = fit(tiny_clip, "nerv-xxs", recipe=Recipe.from_dict(first.recipe), seed=first.seed)
    assert again.report["race"] == first.report["race"]
    assert_same(first, again)


def test_candidates_do_not_race_in_a_branch() -> None:
    phases = (Phase("reference", 0.5, branch=True), Phase("fit", 1.0))
    with pytest.raises(ValueError, match="no branch"):
        dataclasses.replace(RECIPE, phases=phases)


def test_a_beginning_whose_evaluation_is_not_a_number_does_not_win(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is larger than NaN, so the first one won by it."""
    from inr_train import race

    found, evaluate = [float("nan")], race.evaluate

    def nan_first(*arguments: object) -> object:
        quality = evaluate(*arguments)  # type: ignore[arg-type]
        return dataclasses.replace(quality, psnr_db=found.pop()) if found else quality

    monkeypatch.setattr(race, "evaluate", nan_first)
    raced = fit(tiny_clip, "nerv-xxs", recipe=RECIPE).report["race"]
    assert raced[0]["psnr_db"] is None
    assert all(result["psnr_db"] for result in raced[1:])
