"""Precision and threads: measured where they are left open, fixed where they are not, and kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from commands import Call
from runs import stop_at

from inr_train import Clip, fit
from inr_train.models import build_model, config_dict
from inr_train.presets import PRESETS
from inr_train.recipes import FAST_RECIPE, NERF_RECIPE
from inr_train.speed import Speed, measure_speed

MUON = dataclasses.replace(FAST_RECIPE, epochs=12, optimizer="muon", dtype="fp32", threads=1)


def test_the_precision_is_an_option(call: Call, video: Path) -> None:
    for amp, dtype in (("off", "fp32"), ("bf16", "bf16"), ("fp16", "fp16")):
        options = ("--preset", "nerv-xxs", "--threads", 1, "--epochs", 1, "--amp", amp)
        code, out, words = call("inr-train", video, "-o", "m.pt", "-y", *options, "--json")
        assert code == 0, words
        assert json.loads(out)["recipe"]["dtype"] == dtype


@pytest.mark.parametrize(
    ("times", "fastest"),
    [
        ({("bf16", 2): 5.0, ("fp32", 2): 9.0, ("bf16", 1): 7.0}, ("bf16", 2, 5.0)),
        ({("bf16", 2): 5.0, ("fp32", 2): 9.0, ("bf16", 1): 3.0}, ("bf16", 1, 3.0)),
        ({("bf16", 2): 9.0, ("fp32", 2): 5.0, ("fp32", 1): 7.0}, ("fp32", 2, 5.0)),
        ({("bf16", 2): 9.0, ("fp32", 2): 5.0, ("fp32", 1): 3.0}, ("fp32", 1, 3.0)),
    ],
)
def test_the_fastest_precision_and_number_of_threads_are_measured_and_taken(
    tiny_clip: Clip,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[tuple[str, int], float],
    fastest: tuple[str, int, float],
) -> None:
    """On a machine of two cores; each way is tried once, and no other."""
    left, set_to = dict(times), list[int]()
    monkeypatch.setattr("inr_train.speed._milliseconds", lambda trial, frames, *way: [left.pop(way)])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    frames, preset = torch.from_numpy(tiny_clip.frames).permute(0, 3, 1, 2), PRESETS["nerv-xxs"]
    model = build_model(preset.family, config_dict(preset.config(24, 40, len(tiny_clip))))
    speed = measure_speed(model, frames, FAST_RECIPE, torch.device("cpu"))
    assert (speed.dtype, speed.threads, speed.ms_per_step) == fastest
    assert (left, set_to) == ({}, [fastest[1]])


def test_a_number_of_threads_that_was_found_is_kept_on_resume(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Speed:
        raise AssertionError("measured again")

    recipe, output, used = dataclasses.replace(MUON, threads=0, epochs=2), tmp_path / "m.pt", set[int]()
    monkeypatch.setattr("inr_train.start.measure_speed", lambda *_: Speed("fp32", 2, 1.0, 1.0, 0.1, 0.1, 0.0))
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", recipe=recipe, output=output, progress=stop_at(1))
    monkeypatch.setattr("inr_train.start.measure_speed", never)
    watch = lambda _: used.add(torch.get_num_threads())  # noqa: E731
    resumed = fit(tiny_clip, recipe=recipe, output=output, resume=True, progress=watch)
    assert (used, resumed.recipe["threads"]) == ({2}, 2)


def test_sines_of_many_turns_are_not_learned_in_bf16(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the recipe: SIREN with that of NeRF, which leaves the precision to a race."""
    raced: dict[str, set[str]] = {"siren-xs": set(), "nerf-xs": set()}
    frames = torch.from_numpy(tiny_clip.frames).permute(0, 3, 1, 2)
    for name, tried in raced.items():
        watched = lambda trial, frames, dtype, threads, tried=tried: tried.add(dtype) or [1.0]  # noqa: E731
        monkeypatch.setattr("inr_train.speed._milliseconds", watched)
        preset = PRESETS[name]
        model = build_model(preset.family, config_dict(preset.config(24, 40, len(tiny_clip))))
        measure_speed(model, frames, dataclasses.replace(NERF_RECIPE, threads=1), torch.device("cpu"))
    assert raced == {"siren-xs": {"fp32"}, "nerf-xs": {"bf16", "fp32"}}


def test_float32_is_not_tf32_while_a_model_is_fitted(tiny_clip: Clip) -> None:
    def settings() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    inside: set[tuple[str, bool]] = set()
    torch.set_float32_matmul_precision("high")
    try:
        fit(tiny_clip, "nerv-xxs", recipe=MUON, progress=lambda _: inside.add(settings()))
        assert inside == {("highest", False)}
        assert settings()[0] == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
