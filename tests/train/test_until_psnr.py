"""Stopping at a quality: when it is reached, behind it, and where it never is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import SMALL, Call
from runs import assert_same, stop_when

from inr_train import Checkpoint, Clip, fit
from inr_train.recipes import FAST_RECIPE
from inr_train.runlog import Progress

MUON = dataclasses.replace(FAST_RECIPE, epochs=12, optimizer="muon", dtype="fp32", threads=1)


def test_a_run_ends_when_its_quality_is_reached_and_still_becomes_a_file(tiny_clip: Clip, tmp_path: Path) -> None:
    recipe = dataclasses.replace(MUON, epochs=200, until_psnr=20.0)
    seen: list[Progress] = []
    checkpoint = fit(tiny_clip, "nerv-xxs", recipe=recipe, progress=seen.append)
    curve = checkpoint.report["curve"]
    first = [r for r in curve if r["phase"] == "fit"]
    assert first[-1]["psnr_db"] >= 20
    assert all(r["psnr_db"] < 20 for r in first[:-1])
    assert curve[-1]["phase"] == "int8"
    assert len(seen) < recipe.steps(len(tiny_clip))
    reached, steps = first[-1]["step"], recipe.steps(len(tiny_clip))
    fitted = recipe.spans(len(tiny_clip))[0][1]
    assert checkpoint.report["epochs"] == pytest.approx(200 * (steps - fitted + reached) / steps)
    assert checkpoint.ranges
    assert checkpoint.report["psnr_db"] > 19


@pytest.mark.parametrize(
    "moment",
    [lambda p: (p.psnr_db or 0) >= 15, lambda p: p.phase == "float reference", lambda p: p.phase == "int8"],
    ids=["reached", "reference", "integers"],
)
def test_a_run_that_is_stopped_behind_its_goal_goes_on_to_its_file(
    tiny_clip: Clip, tmp_path: Path, moment: Callable[[Progress], bool]
) -> None:
    recipe = dataclasses.replace(MUON, epochs=40, until_psnr=15.0)
    whole = fit(tiny_clip, "nerv-xxs", recipe=recipe)
    steps = [row["step"] for row in whole.report["curve"]]
    assert steps[0] < 0.5 * recipe.steps(len(tiny_clip)), "the goal was reached too late to tell"
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=recipe, output=tmp_path / "m.pt", progress=stop_when(moment))
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert_same(whole, resumed)
    assert [row["step"] for row in resumed.report["curve"]] == steps


def test_the_quality_to_stop_at_is_an_option_and_missing_it_is_told(tmp_path: Path, call: Call, video: Path) -> None:
    common = ("inr-train", video, "-o", "m.pt", *SMALL, "--json", "-y")
    code, out, words = call(*common, "--epochs", 60, "--until-psnr", 12)
    assert (code, "was not reached" in words) == (0, False), words
    assert json.loads(out)["recipe"]["until_psnr"] == 12
    first, second, *_ = Checkpoint.load(tmp_path / "m.pt").report["curve"]
    assert (first["psnr_db"] >= 12, second["phase"]) == (True, "float reference")
    code, _, words = call(*common, "--epochs", 2, "--until-psnr", 90)
    assert (code, "90 dB was not reached; train longer" in words) == (0, True), words
