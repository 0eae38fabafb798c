"""HiNeRV learns from patches: what is drawn, what is learned from it, and whole runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Call, inr_play

from inr_runtime.errors import UsageError
from inr_train import Checkpoint, Clip, fit
from inr_train.losses import l2
from inr_train.models import HiNeRV, HiNeRVConfig, count_macs
from inr_train.models.hinerv_patches import Patches
from inr_train.recipes import FAST_RECIPE
from inr_train.runlog import Progress

UNEVEN = HiNeRVConfig(39, 55, 4, (3, 2), 8, (1, 1), (1, 1), 2, 3, local_channels=2, patch=(12, 18))
"""Cells of 6 pixels: 42 x 60 with what is cut off, and 48 x 72 in patches."""
TINY: dict[str, Any] = {"strides": (4, 2), "channels": 8, "depths": (1, 1), "expansions": (1, 1)}
TYPED = [f"--set={name}={','.join(map(str, np.atleast_1d(value)))}" for name, value in TINY.items()]
OPTIONS = (
    "--preset",
    "hinerv-bunny-xxs",
    "--loss",
    "l1_fft",
    "--threads",
    1,
    "--amp",
    "off",
    "--device",
    "cpu",
    *TYPED,
)


def random_model(config: HiNeRVConfig) -> HiNeRV:
    """In float64, all weights far from zero, and no channels that a norm would enlarge rounding errors of."""
    torch.manual_seed(1)
    model = HiNeRV(config).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 1.0 if "grids" in name else 0.4)
    return model


@pytest.mark.parametrize("size", [1, 2])
def test_every_pixel_is_drawn_once_an_epoch_and_epochs_differ(size: int) -> None:
    frames = torch.randint(0, 256, (4, 3, 39, 55), dtype=torch.uint8)
    model, epochs = HiNeRV(UNEVEN), []
    for epoch in range(2):
        counts, order = np.zeros((4, 39, 55), int), []
        for step in range(4 // size):
            patches, target = model.draw(frames, size, 7, epoch * (4 // size) + step)
            rows, columns = patches.pixels
            assert target.shape == (size * 16, 3, 12, 18)
            for i, t in enumerate(patches.times):
                y, x = rows[i][rows[i] < 39].numpy(), columns[i][columns[i] < 55].numpy()
                counts[t][np.ix_(y, x)] += 1
                assert torch.equal(target[i, :, : len(y), : len(x)], frames[t][:, y][:, :, x])
                order.append((t, *patches.corners[i].tolist()))
        assert (counts == 1).all()
        epochs.append(order)
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) == set(epochs[1])
    assert len({t for t, *_ in epochs[0][:16]}) == 4
    again, _ = HiNeRV(UNEVEN).draw(frames, size, 7, 1)
    assert torch.equal(again.corners, model.draw(frames, size, 7, 1)[0].corners)


def test_steps_that_imitate_integers_draw_whole_frames() -> None:
    frames = torch.zeros(4, 3, 39, 55, dtype=torch.uint8)
    model = HiNeRV(UNEVEN)
    assert isinstance(model.draw(frames, 2, 0, 0)[0], Patches)
    places, target = model.draw_traced(frames, 2, 0, 0)
    whole, _ = HiNeRV(dataclasses.replace(UNEVEN, patch=(0,))).draw(frames, 2, 0, 0)
    assert (places, target.shape) == (whole, (2, 3, 39, 55))


def test_all_patches_of_a_frame_teach_what_the_frame_teaches() -> None:
    """The gradient is the same but for the factor of the means: 48 x 72 pixels are drawn, 39 x 55 count."""
    model = random_model(dataclasses.replace(UNEVEN, frames=1))
    frame = torch.rand(1, 3, 39, 55, dtype=torch.float64)
    places, target = model.draw(frame, 1, 3, 0)
    l2(model(places, target), target).backward()
    patched = {name: p.grad.clone() * (48 * 72) / (39 * 55) for name, p in model.named_parameters()}
    model.zero_grad()
    l2(model([0.0], frame), frame).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(patched[name], parameter.grad, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("encoding", ["hierarchical", "local_grid"])
def test_patches_without_context_make_up_their_own_frame(encoding: str) -> None:
    config = dataclasses.replace(UNEVEN, encoding=encoding, patch_context="none")
    model, changed = random_model(config), random_model(config)
    places = [(y, x) for y in (0, 12, 24) for x in (0, 18, 36)]
    with torch.no_grad():
        changed.base_grids[0][:, :, 0:2, 0:3] += 1
        frames = model([0.0, 1.5])
        pieces = model.forward_patches([1.5] * 9, places, (12, 18))
        difference = (changed([1.5]) - frames[1:]).abs().amax((0, 1))
    for piece, (y, x) in zip(pieces, places, strict=True):
        torch.testing.assert_close(piece, frames[1, :, y : y + 12, x : x + 18].clone()) if x < 36 else None
    assert difference[:12, :18].min() > 0
    assert difference[12:].max() == difference[:, 18:].max() == 0
    configs = [dataclasses.replace(c, height=36, width=54) for c in (config, UNEVEN)]
    assert len({round(count_macs(HiNeRV(c)) / 1e5) for c in configs}) == 1


def test_margins_count_in_the_estimate_of_memory() -> None:
    even = dataclasses.replace(UNEVEN, height=36, width=54)
    numbers = [HiNeRV(dataclasses.replace(even, **change)).floats_per_pixel for change in ({}, {"patch": (0,)})]
    assert numbers[1] < numbers[0] < 4 * numbers[1]
    assert dataclasses.replace(even, patch_context="none").patch_overhead == 1


def test_a_run_on_patches_that_was_stopped_ends_as_one_that_was_not(tiny_clip: Clip, tmp_path: Path) -> None:
    def stop(p: Progress) -> None:
        if p.done == 9:
            raise KeyboardInterrupt

    recipe = dataclasses.replace(FAST_RECIPE, dtype="fp32")
    given: dict[str, Any] = {
        "epochs": 3,
        "recipe": recipe,
        "config": {**TINY, "patch": (8,)},
        "threads": 1,
        "quantize": "none",
    }
    given |= {"preset": "hinerv-bunny-xxs", "device": "cpu", "seed": 5}
    whole = fit(tiny_clip, **given)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, **given, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, **given, output=tmp_path / "m.pt", resume=True)
    assert all(torch.equal(weight, resumed.weights[name]) for name, weight in whole.weights.items())


def test_a_clip_is_trained_on_patches_exported_and_played(video: Path, tmp_path: Path, call: Call) -> None:
    """Frames of 47x33 in patches of 16x16, of which the last ones reach over the end."""
    assert call("inr-train", video, "-o", "m.pt", *OPTIONS, "--set", "patch=16", "--epochs", 30, "--lr", 0.01)[0] == 0
    checkpoint = Checkpoint.load(tmp_path / "m.pt")
    assert checkpoint.config["patch"] == [16]
    assert checkpoint.report["psnr_db"] > checkpoint.report["curve"][0]["psnr_db"] + 0.5
    assert call("inr-export", "m.pt", "--max-loss-db", 99)[0] == 0
    played = inr_play(tmp_path / "m.nvb", "-o", tmp_path / "%d.png")
    assert played.returncode == 0, played.stderr
    assert len(list(tmp_path.glob("*.png"))) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "patch=20"], "multiples of 8 (the product of its strides), at most 40 high and 48 wide, or 0"),
        (["--set", "patch=8,56"], "at most 40 high and 48 wide"),
        (["--set", "patch=8,0"], "multiples of 8"),
        (["--set", "patch=8,8,8"], "multiples of 8"),
        (["--set", "patch_context=none"], "need a size: patch is 0"),
        (
            ["--set", "patch=16,8", "--loss", "l1_ssim"],
            "patches of at least 11x11 pixels, these are 8x16; choose --loss",
        ),
        (["--set", "patch=16", "--set", "patch_context=none", "--epochs", 1], "no file can hold"),
    ],
)
def test_patches_that_cannot_be_are_refused_in_one_line(
    video: Path, tmp_path: Path, call: Call, arguments: list[object], words: str
) -> None:
    code, _, said = call("inr-train", video, "-o", "m.pt", *OPTIONS, *arguments)
    assert (code, words in said, said.count("\n")) == (2, True, 1), said
    assert not list(tmp_path.iterdir())


def test_patches_without_context_are_trained_for_themselves(tiny_clip: Clip) -> None:
    recipe = dataclasses.replace(FAST_RECIPE, dtype="fp32", learning_rate=1e-2)
    config = {**TINY, "patch": (8,), "patch_context": "none"}
    found = fit(
        tiny_clip, "hinerv-bunny-xxs", epochs=30, recipe=recipe, config=config, quantize="none", threads=1, device="cpu"
    )
    assert found.report["psnr_db"] > found.report["curve"][0]["psnr_db"] + 0.5


def test_small_patches_are_refused_before_a_run_starts(tiny_clip: Clip) -> None:
    with pytest.raises(UsageError, match="needs patches of at least 11x11"):
        fit(
            tiny_clip,
            "hinerv-bunny-xxs",
            recipe=dataclasses.replace(FAST_RECIPE, loss="ssim"),
            config=TINY | {"patch": (8,)},
        )
