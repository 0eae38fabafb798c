"""Compiled steps: the same training, and what happens where nothing can be compiled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Call

import inr_train.compiled
from inr_train import Checkpoint, Clip, fit
from inr_train.presets import PRESETS
from inr_train.runlog import Progress

RECIPE = dataclasses.replace(PRESETS["edge-5"].recipe, epochs=6, dtype="fp32", compiled=True)
SMALL = {"widths": (16,), "depths": (1,)}


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was compiled, by PyTorch's own pass-through compiler, which takes no time."""
    compile_, made = torch.compile, list[Any]()

    def through(function: Callable[..., Any], **options: Any) -> Any:
        made.append(function)
        return compile_(function, backend="eager")

    monkeypatch.setattr(inr_train.compiled.torch, "compile", through)
    return made


def trained(clip: Clip, compiled: bool = True, **options: Any) -> Checkpoint:
    recipe = dataclasses.replace(RECIPE, compiled=compiled, **options.pop("recipe", {}))
    return fit(clip, "edge-5", recipe=recipe, config=SMALL, threads=1, **options)


def test_compiled_steps_learn_what_others_do(tiny_clip: Clip, compilations: list[Any]) -> None:
    usual, compiled = trained(tiny_clip, compiled=False), trained(tiny_clip)
    assert compiled.recipe["compiled"]
    assert compilations
    for name, weight in usual.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, atol=1e-4, rtol=1e-3)


def test_a_stopped_compiled_run_resumes_to_the_same_result(
    tiny_clip: Clip, tmp_path: Path, compilations: list[Any]
) -> None:
    def stop(p: Progress) -> None:
        if p.done == 11:
            raise KeyboardInterrupt

    whole = trained(tiny_clip)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_clip, output=tmp_path / "m.pt", progress=stop)
    resumed = trained(tiny_clip, output=tmp_path / "m.pt", resume=True)
    for name, weight in whole.weights.items():
        assert torch.equal(resumed.weights[name], weight)


def test_candidates_race_as_they_are_and_the_winner_is_compiled(tiny_clip: Clip, compilations: list[Any]) -> None:
    raced = trained(tiny_clip, recipe={"candidates": 3})
    assert len(raced.report["race"]) == 3
    assert len(compilations) < 3 + 2


@pytest.mark.parametrize("preset", ["nerv-xxs", "hnerv-0.35m", "siren-xs"])
def test_other_families_compile_too(preset: str, tiny_clip: Clip, compilations: list[Any]) -> None:
    recipe = dataclasses.replace(PRESETS[preset].recipe, epochs=2, dtype="fp32", compiled=True)
    assert fit(tiny_clip, preset, recipe=recipe, threads=1).report["psnr_db"] > 5


def test_a_command_compiles_for_this_machine(video: Path, call: Call) -> None:
    """With the compiler that PyTorch takes for CPUs."""
    options = ("--preset", "edge-5", "--set", "widths=8", "--set", "depths=1", "--epochs", 2, "--compile", "--json")
    code, out, words = call("inr-train", video, "-o", "m.pt", *options)
    assert code == 0, words
    assert json.loads(out)["recipe"]["compiled"] is True


def test_without_a_compiler_it_is_one_line(video: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        def decode(*_: Any) -> Any:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand many lines more")

        return decode

    monkeypatch.setattr(inr_train.compiled.torch, "compile", none)
    code, _, words = call("inr-train", video, "-o", "m.pt", "--preset", "edge-5", "--compile")
    assert code == 2
    assert words.strip().splitlines()[-1].endswith("No working C++ compiler found; leave --compile out")
