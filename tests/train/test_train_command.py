"""`inr-train` as a user types it: inputs, exit codes, being killed, what it prints."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import av
import numpy as np
import pytest

from inr_train import Checkpoint

SMALL = ("--preset", "nerv-xxs", "--threads", "1", "--amp", "off")


def command(*arguments: object) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / "inr-train"), *map(str, arguments)]


def train(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    y, x = np.mgrid[0:33, 0:47]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 47, 33, "yuv444p"
        for t in range(5):
            frame = np.stack([x * 5, y * 7 + 5 * t, 90 + 0 * x], axis=-1).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


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


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("missing.mp4",), 3, "missing.mp4"),
        (("junk.mp4",), 3, "junk.mp4"),
        (("VIDEO", "--preset", "nerv-xxxl"), 2, "known:"),
        (("VIDEO", "--set", "colour=blue"), 2, "KEY=VALUE"),
        (("VIDEO", "--set", "strides=2"), 2, "strides"),
        (("VIDEO", "--size", "wide"), 2, "size"),
        (("VIDEO", "--crop", "900x900"), 2, "900"),
        (("VIDEO", "--device", "cuda:9"), 2, "--device cpu"),
        (("VIDEO", "--bogus"), 2, "--bogus"),
        (("VIDEO", "-o", "there.pt"), 2, "-y"),
        (("VIDEO", "-o", "no/such/folder/m.pt"), 2, "no/such/folder"),
        (("VIDEO", "--resume", "-o", "fresh.pt"), 3, "nothing to resume"),
        (("VIDEO", "--lr", "nan"), 2, "learning rate"),
        (("VIDEO", "--set", "reduction=0"), 2, "nerv"),
        (("VIDEO", "--loss", "l1", "--log", "there.pt"), 2, "-y"),
        ((), 2, "which video"),
    ],
)
def test_bad_input_is_one_clear_line(
    video: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, word: str
) -> None:
    (tmp_path / "junk.mp4").write_bytes(b"not a video at all" * 99)
    (tmp_path / "there.pt").write_bytes(b"mine")
    done = train(*(video if a == "VIDEO" else a for a in arguments), folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "there.pt").read_bytes() == b"mine"


def _start(video: Path, folder: Path, *extra: str) -> subprocess.Popen[str]:
    arguments = command(video, "-o", "m.pt", *SMALL, "--epochs", "60", "--log", "log.jsonl", *extra)
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=folder)


def _wait_for_rows(folder: Path, rows: int, saved: bool = False) -> None:
    log, last = folder / "log.jsonl", folder / "m.last.pt"
    for _ in range(1200):
        if log.exists() and log.read_text().count("\n") >= rows and (last.exists() or not saved):
            return
        time.sleep(0.05)
    raise AssertionError("training did not get going in a minute")


def test_ctrl_c_saves_and_prints_the_resume_command(video: Path, tmp_path: Path) -> None:
    whole = train(video, "-o", "whole.pt", *SMALL, "--epochs", 60, folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = _start(video, tmp_path)
    _wait_for_rows(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "to go on: inr-train" in words
    assert "--resume" in words
    assert (tmp_path / "m.last.pt").exists()
    assert not (tmp_path / "m.pt").exists()
    other = train(video, "-o", "m.pt", "--resume", "--epochs", 61, folder=tmp_path)
    assert other.returncode == 2
    assert "60 epochs" in other.stderr
    resumed = train(video, "-o", "m.pt", "--resume", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    _assert_same(tmp_path / "m.pt", tmp_path / "whole.pt")


@pytest.mark.parametrize("rows", [1, 8])
def test_kill_9_resumes_to_the_same_result(video: Path, tmp_path: Path, rows: int) -> None:
    train(video, "-o", "whole.pt", *SMALL, "--epochs", 60, folder=tmp_path)
    process = _start(video, tmp_path, "--save-every", "0")
    _wait_for_rows(tmp_path, rows, saved=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (tmp_path / "m.pt").exists()
    assert (tmp_path / "m.last.pt").exists()
    resumed = train(video, "-o", "m.pt", "--resume", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    _assert_same(tmp_path / "m.pt", tmp_path / "whole.pt")


def _assert_same(first: Path, second: Path) -> None:
    a, b = Checkpoint.load(first), Checkpoint.load(second)
    for name, weight in a.weights.items():
        assert np.array_equal(weight.numpy(), b.weights[name].numpy()), name
    assert a.ranges == b.ranges


def _small_disk() -> None:
    """In the child: every file ends at 20 kB, with the error that a full disk gives."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_is_one_line_and_leaves_what_was_there(video: Path, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"mine")
    arguments = command(video, "-o", "m.pt", "-y", *SMALL, "--epochs", "1")
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, preexec_fn=_small_disk, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot write m.pt" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "m.pt").read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt"]
