"""Fitting: learns, repeats itself, survives being stopped."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import assert_half_the_rate_in_another_order, assert_same, stop_at, stop_when, watched_steps

from inr_runtime.errors import InputError, InrError, UsageError
from inr_train import Checkpoint, Clip, fit, phases
from inr_train.presets import PRESETS
from inr_train.recipe import Phase
from inr_train.runlog import Progress
from inr_train.start import last_path

FAST = dataclasses.replace(PRESETS["nerv-xxs"].recipe, epochs=12, dtype="bf16", threads=1)


def weights(checkpoint: Checkpoint) -> np.ndarray:
    return np.concatenate([w.numpy().ravel() for w in checkpoint.weights.values()])


def test_a_fit_learns_and_keeps_its_word(tiny_clip: Clip, tmp_path: Path) -> None:
    seen: list[Progress] = []
    log = tmp_path / "log.jsonl"
    checkpoint = fit(tiny_clip, "nerv-xxs", epochs=60, output=tmp_path / "m.pt", log=log, progress=seen.append)
    assert checkpoint.report["psnr_db"] > 20
    assert abs(checkpoint.report["psnr_db"] - checkpoint.report["psnr_float_db"]) < 2
    assert seen[-1].done == seen[-1].total
    assert seen[-1].share == pytest.approx(1)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert {r["phase"] for r in rows} == {"fit", "float reference", "int8"}
    loaded = Checkpoint.load(tmp_path / "m.pt")
    assert_same(loaded, checkpoint)
    assert loaded.ranges
    assert not last_path(tmp_path / "m.pt").exists()


def test_phases_come_in_any_order_that_ends_in_a_result(tiny_clip: Clip, tmp_path: Path) -> None:
    """A branch behind an int8 phase came back to an optimizer without the ranges that it had left."""
    shares = (("fit", 0.3, "none"), ("int8", 0.3, "int8"), ("reference", 0.4, "none"), ("again", 0.4, "int8"))
    phases = tuple(Phase(name, share, kind, branch=name == "reference") for name, share, kind in shares)
    recipe = dataclasses.replace(FAST, phases=phases)
    whole = fit(tiny_clip, "nerv-xxs", recipe=recipe)
    assert {row["phase"] for row in whole.report["curve"]} == {"fit", "int8", "reference", "again"}
    stop = stop_when(lambda p: p.phase == "reference")
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=recipe, output=tmp_path / "m.pt", progress=stop)
    assert_same(whole, fit(tiny_clip, output=tmp_path / "m.pt", resume=True))


def test_a_model_that_was_tuned_is_compared_with_its_better_self(tiny_clip: Clip) -> None:
    """It was compared with the model it began from, and nothing that rounding lost was seen."""
    poor = fit(tiny_clip, "nerv-xxs", recipe=dataclasses.replace(FAST, epochs=2))
    tuned = fit(tiny_clip, origin=poor, epochs=60)
    floats = [row["psnr_db"] for row in tuned.report["curve"] if row["phase"] == "fine-tune"]
    assert tuned.report["psnr_float_db"] == max(floats) > poor.report["psnr_float_db"]


def test_the_same_seed_gives_the_same_weights(tiny_clip: Clip) -> None:
    runs = [fit(tiny_clip, "nerv-xxs", recipe=FAST, seed=s, quantize="weights") for s in (0, 0, 1)]
    assert_same(runs[0], runs[1])
    assert not np.array_equal(weights(runs[0]), weights(runs[2]))


@pytest.mark.parametrize("step", [1, 40, 62, 70, 82])
def test_a_stopped_run_resumes_to_the_same_result(tiny_clip: Clip, tmp_path: Path, step: int) -> None:
    """Stopped in every phase: fit, at its end, in the float reference, in the int8 tail."""
    whole = fit(tiny_clip, "nerv-xxs", recipe=FAST, seed=3)
    output = tmp_path / "m.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, seed=3, output=output, progress=stop_at(step))
    assert not output.exists()
    with pytest.raises(UsageError, match="--resume"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=output)
    resumed = fit(tiny_clip, output=output, resume=True)
    assert_same(resumed, whole)
    assert [r["step"] for r in resumed.report["curve"]] == [r["step"] for r in whole.report["curve"]]


def test_resuming_another_clip_is_refused(tiny_clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt", progress=stop_at(1))
    other = dataclasses.replace(tiny_clip, frames=tiny_clip.frames[::-1].copy())
    with pytest.raises(InputError, match="another clip"):
        fit(other, output=tmp_path / "m.pt", resume=True)
    with pytest.raises(InputError, match="nothing to resume"):
        fit(tiny_clip, output=tmp_path / "n.pt", resume=True)


def test_nan_goes_back_and_halves_the_rate(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = watched_steps(monkeypatch)
    step_module = sys.modules["inr_train.step"]
    real, calls = step_module.train_step, []

    def sometimes_nan(*arguments: object) -> torch.Tensor:
        calls.append(1)
        return torch.tensor(float("nan")) if len(calls) == 30 else real(*arguments)

    monkeypatch.setattr(step_module, "train_step", sometimes_nan)
    with pytest.warns(UserWarning, match="became NaN at step 29"):
        checkpoint = fit(tiny_clip, "nerv-xxs", recipe=FAST, quantize="none")
    assert np.isfinite(weights(checkpoint)).all()
    assert [s.number for s in taken] == [*range(29), *range(FAST.steps(len(tiny_clip)))]
    assert_half_the_rate_in_another_order(taken[:29], taken[29:58])
    monkeypatch.setattr(step_module, "train_step", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(InrError, match="lower --lr"), pytest.warns(UserWarning, match="going back"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, quantize="none")


def test_a_collapse_goes_back_in_another_order_and_gives_up_going_back_at_last(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second evaluation finds ruined weights; later everything is ruined again and again."""
    taken = watched_steps(monkeypatch)
    real, calls = phases.evaluate, []

    def ruin(network: torch.nn.Module, frames: torch.Tensor, every: int) -> object:
        calls.append(1)
        if len(calls) == 2:
            with torch.no_grad():
                for p in network.parameters():
                    p.mul_(3)
        return real(network, frames, every)

    monkeypatch.setattr(phases, "evaluate", ruin)
    recipe = dataclasses.replace(FAST, epochs=40)
    with pytest.warns(UserWarning, match=r"fell from .* dB"):
        checkpoint = fit(tiny_clip, "nerv-xxs", recipe=recipe, quantize="none")
    assert_half_the_rate_in_another_order(taken[30:60], taken[60:90])
    plain = fit(tiny_clip, "nerv-xxs", recipe=recipe, quantize="none")
    assert checkpoint.report["psnr_db"] > 25
    assert not np.array_equal(weights(checkpoint), weights(plain))
    falling = iter(range(60, -60, -4))
    monkeypatch.setattr(phases, "evaluate", lambda *a: dataclasses.replace(real(*a), psnr_db=float(next(falling))))
    with pytest.warns(UserWarning, match="going back"):
        assert fit(tiny_clip, "nerv-xxs", recipe=recipe, quantize="none").report["psnr_db"] == 60


def test_one_frame_and_one_pixel_clips_train(tiny_clip: Clip) -> None:
    one = dataclasses.replace(
        tiny_clip, frames=tiny_clip.frames[:1], info=dataclasses.replace(tiny_clip.info, frame_count=1)
    )
    assert fit(one, "nerv-xxs", epochs=3).info.frame_count == 1


@pytest.mark.parametrize("damage", ["pickle", "truncated", "other", "nan", "newer"])
def test_a_bad_model_file_is_one_clear_error(tmp_path: Path, tiny_clip: Clip, damage: str) -> None:
    path = tmp_path / "m.pt"
    checkpoint = fit(tiny_clip, "nerv-xxs", epochs=1, quantize="none", output=path)
    if damage == "pickle":
        torch.save({"format": "inr-model", "bad": Path("x")}, path)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "other":
        torch.save({"state_dict": {}}, path)
    elif damage == "newer":
        torch.save({"format": "inr-model", "version": 99}, path)
    else:
        broken = {k: torch.full_like(v, float("nan")) for k, v in checkpoint.weights.items()}
        dataclasses.replace(checkpoint, weights=broken).save(path)
    with pytest.raises(InputError, match=r"m\.pt"):
        Checkpoint.load(path)


def test_weights_that_go_astray_at_an_evaluation_are_never_kept(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = phases.evaluate, []

    def once_nan(network: torch.nn.Module, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            with torch.no_grad():
                next(network.parameters()).fill_(float("nan"))
        return real(network, *arguments)

    monkeypatch.setattr(phases, "evaluate", once_nan)
    checkpoint = fit(tiny_clip, "nerv-xxs", recipe=FAST, quantize="none")
    assert np.isfinite(weights(checkpoint)).all()
    assert np.isfinite(checkpoint.report["psnr_db"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"seed": 4}, "seed 3"),
        ({"threads": 2}, "threads=1"),
        ({"recipe": dataclasses.replace(FAST, dtype="fp32")}, "dtype=bf16"),
        ({"recipe": dataclasses.replace(FAST, learning_rate=0.1)}, "learning_rate=0.005"),
        ({"epochs": 9}, "12 epochs"),
    ],
    ids=["seed", "threads", "amp", "lr", "epochs"],
)
def test_resuming_refuses_what_the_run_did_not_begin_with(
    tiny_clip: Clip, tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    """Seed, threads and precision were ignored without a word, where they cannot change any more."""
    began: dict[str, Any] = {"recipe": FAST, "seed": 3, "threads": 1, "output": tmp_path / "m.pt"}
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", **began, progress=stop_at(1))
    with pytest.raises(UsageError, match=re.escape(words)):
        fit(tiny_clip, output=tmp_path / "m.pt", resume=True, **asked)
    assert fit(tiny_clip, **began, resume=True).seed == 3
