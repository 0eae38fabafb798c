"""`inr-train` as a user types it: inputs, exit codes, what it prints."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sysconfig
from pathlib import Path

import pytest
from commands import SMALL, Call

from inr_train import Checkpoint
from inr_train.recipes import EDGE_RECIPE, RECIPES


def command(*arguments: object) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / "inr-train"), *map(str, arguments)]


def train(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=folder, check=False)


def test_presets_are_listed_for_machines() -> None:
    done = train("--list-presets", "--size", "1280x720", "--frames", 132, "--json", folder=Path.cwd())
    rows = {row["preset"]: row for row in json.loads(done.stdout)}
    assert [rows[f"nerv-{s}"]["parameters"] for s in "sml"] == [3_201_905, 6_282_001, 12_524_563]
    keys = {"preset", "family", "parameters", "gmac_per_frame", "kmac_per_pixel", "bytes_int8_estimate"}
    assert all(set(row) == keys for row in rows.values())


def test_an_odd_size_trains_and_the_next_command_is_printed(video: Path, tmp_path: Path) -> None:
    done = train(video, "-o", "m.pt", *SMALL, "--epochs", 3, "--json", "--log", "log.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["width"], report["height"], report["frames"]) == (47, 33, 5)
    assert {"psnr_db", "psnr_8bit_db", "psnr_float_db", "parameters", "train_seconds"} <= set(report)
    assert "5 frames of 47x33, preset nerv-xxs" in done.stderr
    assert "next: inr-export m.pt --int8" in done.stderr
    assert (tmp_path / "log.jsonl").read_text().count("\n") >= 3


def test_the_config_can_be_changed_field_by_field(video: Path, tmp_path: Path) -> None:
    changes = ("activation=gelu", "upscale=bilinear", "strides=2,2", "base_height=9", "base_width=12")
    options = [word for change in changes for word in ("--set", change)]
    done = train(video, "-o", "m.pt", *SMALL, *options, "--epochs", 1, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    config = Checkpoint.load(tmp_path / "m.pt").config
    assert (config["activation"], config["upscale"], config["strides"]) == ("gelu", "bilinear", [2, 2])


def test_the_recipe_can_be_changed_field_by_field(video: Path, tmp_path: Path, call: Call) -> None:
    changes = ("muon_rate=0.02", "betas=0.8,0.95", "decay=cosine", "warmup=0.1", "grid_bits=5,6,7,8")
    options = [word for change in changes for word in ("--set", f"recipe.{change}")]
    code, out, words = call("inr-train", video, "--preset", "edge-5", *options, "--epochs", 1, "--json")
    assert code == 0, words
    recipe = json.loads(out)["recipe"]
    assert [recipe[k] for k in ("muon_rate", "betas", "decay", "warmup")] == [0.02, [0.8, 0.95], "cosine", 0.1]
    assert recipe["grid_bits"] == json.loads(out)["grid_bits"] == [5, 6, 7, 8]


def test_bits_that_were_measured_stay_with_the_network_and_the_bits_they_are_of(video: Path, call: Call) -> None:
    """A recipe of --json has them: on another network it stopped, and with other --bits it kept those of the grids."""
    code, out, _ = call("inr-train", video, "--preset", "edge-5", "--epochs", 1, "--threads", 1, "--json")
    assert (code, len(json.loads(out)["recipe"]["grid_bits"])) == (0, 4)
    Path("r.json").write_text(out)
    again = ("--recipe", "r.json", "--json")
    code, out, words = call("inr-train", video, "-o", "h.pt", "--preset", "hnerv-0.35m", *again)
    assert (code, len(json.loads(out)["grid_bits"])) == (0, 1), words
    assert "4 grids, the network 1" in words
    code, out, words = call("inr-train", video, "-o", "s.pt", "--preset", "edge-5", *again, "--bits", 6)
    assert (code, json.loads(out)["grid_bits"]) == (0, []), words


def test_a_lower_learning_rate_is_lower_for_matrices_too(video: Path, tmp_path: Path, call: Call) -> None:
    """It was Adam's only, which moves next to nothing of an Edge: a run that diverged was told to try it."""
    code, out, words = call("inr-train", video, "--preset", "edge-5", "--lr", 0.005, "--epochs", 1, "--json")
    assert code == 0, words
    recipe = json.loads(out)["recipe"]
    assert recipe["learning_rate"] == 0.005
    assert recipe["muon_rate"] == pytest.approx(EDGE_RECIPE.muon_rate / 2)
    alone = ("--lr", 0.7, "--set", "recipe.optimizer=adam")
    code, out, words = call("inr-train", video, "--preset", "edge-5", *alone, "--epochs", 1, "--json", "-y")
    assert code == 0, words
    assert json.loads(out)["recipe"]["muon_rate"] == EDGE_RECIPE.muon_rate


def test_the_recipe_of_a_run_that_was_short_of_time_compares_all_frames_again(
    video: Path, tmp_path: Path, call: Call
) -> None:
    short = dataclasses.replace(RECIPES["nerv"], every=4)
    (tmp_path / "short.json").write_text(json.dumps(short.to_dict()))
    code, out, words = call("inr-train", video, "-o", "m.pt", *SMALL, "--recipe", "short.json", "--epochs", 1, "--json")
    assert code == 0, words
    assert json.loads(out)["evaluated_frames"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("missing.mp4",), 3, "missing.mp4"),
        (("junk.mp4",), 3, "junk.mp4"),
        (("VIDEO", "--preset", "nerv-xxxl"), 2, "known:"),
        (("VIDEO", "--set", "colour=blue"), 2, "KEY=VALUE"),
        (("VIDEO", "--set", "strides=2"), 2, "strides"),
        (("VIDEO", "--size", "wide"), 2, "size"),
        (("VIDEO", "--fps", "-25"), 2, "not a rate"),
        (("VIDEO", "--crop", "900x900"), 2, "900"),
        (("VIDEO", "--device", "cuda:9"), 2, "--device cpu"),
        (("VIDEO", "--bogus"), 2, "--bogus"),
        (("VIDEO", "-o", "there.pt"), 2, "-y"),
        (("VIDEO", "-o", "no/such/folder/m.pt"), 2, "no/such/folder"),
        (("VIDEO", "--resume", "-o", "fresh.pt"), 3, "nothing to resume"),
        (("VIDEO", "--lr", "nan"), 2, "learning rate"),
        (("VIDEO", "--preset", "edge-5", "--lr", "1"), 2, "Muon's rate"),
        (("VIDEO", "--set", "recipe.muon_rat=0.1"), 2, "recipe.muon_rate"),
        (("VIDEO", "--set", "recipe.muon_rate=fast"), 2, "type float"),
        (("VIDEO", "--set", "recipe.phases=1"), 2, "KEY=VALUE"),
        (("VIDEO", "--set", "recipe.betas=0.9"), 2, "betas are two numbers"),
        (("VIDEO", "--set", "recipe.threads=-1"), 2, "threads"),
        (("VIDEO", "--time-budget", "9s", "--epochs", "3"), 2, "one of them"),
        (("VIDEO", "--preset", "nerv-xxs", "--set", "height=90"), 2, "--size"),
        (("VIDEO", "--preset", "edge-5", "--set", "frames=2"), 2, "--frames"),
        (("VIDEO", "--preset", "nerv-xxs", "--set", "encoding_base=0"), 2, "encoding"),
        (("VIDEO", "--preset", "hnerv-boost-1.5m", "--set", "encoding_base=100"), 2, "encoding"),
        (("--list-presets", "--frames", "9999999"), 0, "auto is edge-10"),
        (("VIDEO", "--preset", "siren-xs", "--set", "channels=1"), 2, "channels is the clip's"),
        (
            ("VIDEO", "--from-weights", "w.pth", "--preset", "nerv-s", "--epochs", "3", "--lr", "1"),
            2,
            "no --epochs, --lr",
        ),
        (("VIDEO", "--from-weights", "w.pth", "--preset", "nerv-s", "--set", "recipe.warmup=0"), 2, "--set recipe"),
        (("VIDEO", "--from-weights", "w.pth", "--preset", "nerv-s", "--resume", "-o", "there.pt"), 2, "--resume"),
        (("VIDEO", "--preset", "nerv-xxs", "--set", "reduction=0"), 2, "nerv"),
        (("VIDEO", "--loss", "l1", "--log", "there.pt"), 2, "-y"),
        ((), 2, "which video"),
    ],
)
def test_bad_input_is_one_clear_line(
    video: Path, tmp_path: Path, call: Call, arguments: tuple[str, ...], code: int, word: str
) -> None:
    (tmp_path / "junk.mp4").write_bytes(b"not a video at all" * 99)
    (tmp_path / "there.pt").write_bytes(b"mine")
    found, _, words = call("inr-train", *(video if a == "VIDEO" else a for a in arguments))
    assert found == code, words
    assert word in words
    assert "Traceback" not in words
    assert (tmp_path / "there.pt").read_bytes() == b"mine"
