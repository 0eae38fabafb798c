"""Compiled steps: the same training, and what happens where nothing can be compiled."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Call
from runs import assert_same, stop_at

import inr_train.compiled
from inr_train import Checkpoint, Clip, fit
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel
from inr_train.run import Run
from inr_train.step import Learner

RECIPE = dataclasses.replace(PRESETS["edge-5"].recipe, epochs=6, dtype="fp32", compiled=True)
SMALL = {"widths": (16,), "depths": (1,)}
STEPS = RECIPE.steps(6)
"""Of a run on the tiny clip; none of them imitates integers."""


class Compiler:
    """`torch.compile` with a backend, PyTorch's own pass-through unless told, which takes no time.

    compiled: how often it was asked. plain_steps: those that runs took without quantization; drawn: how often they
    called what it had made.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.backend, self.compiled, self.plain_steps, self.drawn, self._is_step = "eager", 0, 0, 0, False
        self._compile, self._train_step = torch.compile, sys.modules["inr_train.step"].train_step
        monkeypatch.setattr(inr_train.compiled.torch, "compile", self.compile)
        monkeypatch.setattr(sys.modules["inr_train.step"], "train_step", self.train_step)

    def compile(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        made = self._compile(function, backend=self.backend, **options)
        self.compiled += 1

        def counted(*inputs: Any) -> Any:
            self.drawn += self._is_step
            return made(*inputs)

        return counted

    def train_step(self, learner: Learner, *batch: Any) -> Any:
        self._is_step = isinstance(learner, Run)
        self.plain_steps += self._is_step and not isinstance(learner.network, QuantizedModel)
        try:
            return self._train_step(learner, *batch)
        finally:
            self._is_step = False


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    return Compiler(monkeypatch)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let there be none from now on."""

    def none(*_: Any, **__: Any) -> Any:
        def decode(*_: Any) -> Any:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand many lines more")

        return decode

    return lambda: monkeypatch.setattr(inr_train.compiled.torch, "compile", none)


def trained(clip: Clip, compiled: bool = True, **options: Any) -> Checkpoint:
    recipe = dataclasses.replace(RECIPE, compiled=compiled, **options.pop("recipe", {}))
    return fit(clip, "edge-5", recipe=recipe, config=SMALL, threads=1, **options)


def test_compiled_steps_learn_what_others_do(tiny_clip: Clip, compiler: Compiler) -> None:
    usual = trained(tiny_clip, compiled=False)
    assert (compiler.plain_steps, compiler.drawn) == (STEPS, 0)
    compiled = trained(tiny_clip)
    assert (compiler.plain_steps, compiler.drawn) == (2 * STEPS, STEPS)
    assert compiled.recipe["compiled"]
    for name, weight in usual.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, atol=1e-4, rtol=1e-3)


def test_a_stopped_compiled_run_resumes_to_the_same_result(tiny_clip: Clip, tmp_path: Path, compiler: Compiler) -> None:
    whole = trained(tiny_clip)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_clip, output=tmp_path / "m.pt", progress=stop_at(11))
    resumed = trained(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert_same(whole, resumed)
    assert compiler.drawn == compiler.plain_steps == 2 * STEPS


def test_candidates_race_as_they_are_and_the_winner_is_compiled(tiny_clip: Clip, compiler: Compiler) -> None:
    raced = trained(tiny_clip, recipe={"candidates": 3})
    assert len(raced.report["race"]) == 3
    assert compiler.compiled < 3 + 2
    each = STEPS - compiler.drawn
    assert each == dataclasses.replace(RECIPE, candidates=3).race_steps(len(tiny_clip))
    assert compiler.plain_steps == 3 * each + compiler.drawn


@pytest.mark.parametrize("preset", ["nerv-xxs", "hnerv-0.35m", "siren-xs"])
def test_other_families_compile_too(preset: str, tiny_clip: Clip, compiler: Compiler) -> None:
    recipe = dataclasses.replace(PRESETS[preset].recipe, epochs=2, dtype="fp32", compiled=True)
    assert fit(tiny_clip, preset, recipe=recipe, threads=1).report["psnr_db"] > 5
    assert compiler.drawn == compiler.plain_steps > 0


def test_a_command_compiles_for_this_machine(video: Path, call: Call, compiler: Compiler) -> None:
    """With the compiler that PyTorch takes for CPUs."""
    compiler.backend = "inductor"
    options = ("--preset", "edge-5", "--set", "widths=8", "--set", "depths=1", "--epochs", 2, "--compile", "--json")
    code, out, words = call("inr-train", video, "-o", "m.pt", *options)
    assert code == 0, words
    assert json.loads(out)["recipe"]["compiled"] is True
    assert compiler.drawn == compiler.plain_steps > 0


def test_without_a_compiler_it_is_one_line(video: Path, call: Call, no_compiler: Callable[[], None]) -> None:
    no_compiler()
    code, _, words = call("inr-train", video, "-o", "m.pt", "--preset", "edge-5", "--compile")
    assert code == 2
    assert words.strip().splitlines()[-1].endswith("No working C++ compiler found; leave --compile out")


def test_resuming_without_a_compiler_is_one_line(
    video: Path, tmp_path: Path, call: Call, compiler: Compiler, no_compiler: Callable[[], None]
) -> None:
    """What is resumed measures no steps, where a missing compiler was noticed: it ended in a traceback."""
    with pytest.raises(KeyboardInterrupt):
        trained(Clip.read(str(video)), output=tmp_path / "m.pt", progress=stop_at(3))
    before = (tmp_path / "m.last.pt").read_bytes()
    no_compiler()
    code, _, words = call("inr-train", video, "-o", "m.pt", "--resume")
    assert (code, words.count("\n")) == (2, 1), words
    assert "No working C++ compiler found" in words
    assert (tmp_path / "m.last.pt").read_bytes() == before
