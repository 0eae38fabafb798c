"""Held-out frames: scored in training, remembered by the file, believed by the player."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import write_video
from commands import run_text
from numpy.typing import NDArray

from inr_export import export
from inr_runtime import open_video
from inr_runtime.errors import UsageError
from inr_runtime.metrics import psnr
from inr_train import Checkpoint, Clip, excerpt, fit
from inr_train.heldout import even_frames, score_heldout


@pytest.fixture(scope="module")
def whole() -> Clip:
    """A picture that brightens evenly, so that what lies between two frames is their mean."""
    y, x = np.mgrid[0:36, 0:64]
    frames = np.stack([np.stack([x * 2 + 8 * t, y * 4 + 6 * t, 0 * x + 10 * t], -1) for t in range(9)])
    clip = excerpt()
    info = replace(clip.info, width=64, height=36, frame_count=9, pts=None)
    return Clip(np.ascontiguousarray(frames, np.uint8), info, "brighter")


@pytest.fixture(scope="module")
def scored(whole: Clip) -> Checkpoint:
    return score_heldout(fit(even_frames(whole), "nerv-xxs", epochs=6, threads=1), whole)


def drawn(checkpoint: Checkpoint, moments: Sequence[float]) -> NDArray[np.uint8]:
    """What the network is at some moments, one by one."""
    model = checkpoint.build()
    with torch.no_grad():
        pictures = torch.cat([model.decode(*model.sample([moment])) for moment in moments])
    return np.asarray((pictures.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy(), np.uint8)


def mean_psnr(pictures: NDArray[np.uint8], sources: NDArray[np.uint8]) -> float:
    return float(np.mean([psnr(a, b) for a, b in zip(pictures, sources, strict=True)]))


def test_even_frames_are_fitted_at_half_the_rate_and_odd_ones_scored(whole: Clip, scored: Checkpoint) -> None:
    assert scored.info.frame_count == 5
    assert scored.info.fps == whole.info.fps / 2
    score = scored.report["heldout"]
    assert score["frames"] == 4
    assert score["source_blend_db"] > 45
    assert score["minterpolate_db"] > score["repeat_db"]
    assert score["beats_blend"] == (score["psnr_db"] > score["blend_db"])
    odd = whole.frames[1::2]
    own = drawn(scored, [0.0, 1.0, 2.0, 3.0, 4.0]).astype(float)
    blended = np.floor((own[:-1] + own[1:] + 1) / 2).astype(np.uint8)
    assert score["psnr_db"] == pytest.approx(mean_psnr(drawn(scored, [0.5, 1.5, 2.5, 3.5]), odd), abs=1e-6)
    assert score["blend_db"] == pytest.approx(mean_psnr(blended, odd), abs=1e-6)
    assert score["repeat_db"] == pytest.approx(mean_psnr(own[:-1].astype(np.uint8), odd), abs=1e-6)
    with pytest.raises(UsageError, match="3 frames"):
        even_frames(replace(whole, frames=whole.frames[:2]))


def test_the_file_remembers_the_score_and_the_player_believes_it(scored: Checkpoint, tmp_path: Path) -> None:
    for beats, expected in ((True, 9), (False, 5)):
        score = {**scored.report["heldout"], "beats_blend": beats}
        path = tmp_path / f"{beats}.nvb"
        export(replace(scored, report={**scored.report, "heldout": score}), path, check=False)
        with open_video(path) as video:
            assert video.beats_blend is beats
        folder = tmp_path / str(beats)
        done = run_text("inr-play", path, "--fps", 25, "-o", folder / "%02d.png", "--json")
        assert json.loads(done.stdout)["frames"] == 10
        assert ("worse than a blend" in done.stderr) is not beats
        assert len({p.read_bytes() for p in folder.iterdir()}) == expected
    forced = run_text("inr-play", path, "--fps", 25, "--interpolate", "-o", tmp_path / "f" / "%02d.png")
    assert "repeated" not in forced.stderr
    assert len({p.read_bytes() for p in (tmp_path / "f").iterdir()}) == 9


def test_one_command_scores_and_the_export_finds_the_same_frames(whole: Clip, tmp_path: Path) -> None:
    write_video(tmp_path / "v.y4m", whole.info, whole.frames)
    model = tmp_path / "m.pt"
    options = ("--preset", "nerv-xxs", "--epochs", 3, "--threads", 1)
    done = run_text("inr-train", tmp_path / "v.y4m", "--heldout", "-o", model, *options, "--json")
    assert json.loads(done.stdout)["heldout"]["frames"] == 4
    assert "4 held-out frames" in done.stderr
    exported = run_text("inr-export", model, "-o", tmp_path / "m.nvb", "--max-loss-db", 20, "--json")
    assert json.loads(exported.stdout)["psnr_db"] is not None
    again = ("--ref", tmp_path / "v.y4m", "-o", tmp_path / "n.nvb", "--max-loss-db", 20)
    run_text("inr-export", model, *again)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--interpolate", "-o", "x.mp4"), "add the --fps"),
        (("--fps", "0", "-o", "x.mp4"), "not a rate"),
        (("--fps", "1/0", "-o", "x.mp4"), "not a rate"),
        (("--fps", "25", "--info"), "for playing"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    scored: Checkpoint, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    export(scored, tmp_path / "v.nvb", check=False)
    done = run_text("inr-play", tmp_path / "v.nvb", *arguments, code=2)
    assert reason in done.stderr
