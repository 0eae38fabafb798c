"""Stopping at any moment: Ctrl-C while it starts, trains, stores or verifies, SIGTERM, watchers that go away."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import SMALL, Call, start_train, wait_for

import inr_train.command
from inr_runtime.cli import StatusLine, run_extra
from inr_runtime.errors import UsageError
from inr_train import Checkpoint, Clip, fit
from inr_train.presets import PRESETS
from inr_train.run import deferred_interrupts
from inr_train.runlog import Progress
from inr_train.start import last_path


def stopped_by(number: signal.Signals, code: int, video: Path, folder: Path, epochs: int) -> None:
    """Stop `inr-train` on `m.pt` in `folder` once it has saved its state; it says how to go on."""
    process = start_train(video, folder, "--epochs", epochs)
    wait_for(folder / "m.last.pt")
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == code, words
    assert "to go on: inr-train" in words


def test_ctrl_c_saves_and_resuming_gives_the_same_result(video: Path, tmp_path: Path, call: Call) -> None:
    assert call("inr-train", video, "-o", "whole.pt", *SMALL, "--epochs", 60)[0] == 0
    stopped_by(signal.SIGINT, 130, video, tmp_path, epochs=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.last.pt", "whole.pt"]
    code, _, words = call("inr-train", video, "-o", "m.pt", "--resume", "--epochs", 61)
    assert (code, "60 epochs" in words) == (2, True)
    assert call("inr-train", video, "-o", "m.pt", "--resume")[0] == 0
    whole, resumed = Checkpoint.load(tmp_path / "whole.pt"), Checkpoint.load(tmp_path / "m.pt")
    assert all(torch.equal(weight, resumed.weights[name]) for name, weight in whole.weights.items())
    assert resumed.ranges == whole.ranges


def test_sigterm_saves_too_and_says_by_its_exit_code_what_it_was(video: Path, tmp_path: Path, call: Call) -> None:
    stopped_by(signal.SIGTERM, 143, video, tmp_path, epochs=600)
    code, _, words = call("inr-train", video, "-o", "m.pt", "--resume", "--epochs", 61)
    assert (code, "600 epochs" in words) == (2, True)


def test_ctrl_c_while_held_out_frames_are_scored_loses_neither_model_nor_score(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """The model was written before, and what had no score could only be trained anew."""

    def interrupted(*_: object) -> Checkpoint:
        raise KeyboardInterrupt

    arguments = (video, "-o", "m.pt", *SMALL, "--epochs", 2, "--heldout")
    with monkeypatch.context() as patch:
        patch.setattr(inr_train.command, "score_heldout", interrupted)
        code, _, words = call("inr-train", *arguments)
    assert (code, "to go on: inr-train" in words) == (130, True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.last.pt"]
    assert call("inr-train", *arguments, "--resume")[0] == 0
    assert Checkpoint.load(tmp_path / "m.pt").report["heldout"]["frames"] == 2


def test_ctrl_c_while_the_program_is_still_loading_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], signals: None
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    monkeypatch.setattr(sys, "argv", ["inr-train", "clip.mp4"])
    with pytest.raises(SystemExit) as left:
        run_extra("inr_train.command", "pip install it")
    assert left.value.code == 130
    assert capfd.readouterr().err == "inr-train: interrupted\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_file_is_verified_leaves_nothing(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, number: signal.Signals, code: int
) -> None:
    fit(tiny_clip, "nerv-xxs", epochs=1, output=tmp_path / "m.pt")
    monkeypatch.setattr(StatusLine, "update", lambda *_, **__: os.kill(os.getpid(), number))
    assert call("inr-export", "m.pt")[0] == code
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


@pytest.mark.parametrize(("command", "output"), [("inr-train", "m.pt"), ("inr-export", "m.nvb")])
def test_the_printed_command_goes_on_where_older_files_were_to_be_replaced(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, command: str, output: str
) -> None:
    """-y is in the printed command too, and with --resume it gives nothing up."""
    short = dataclasses.replace(PRESETS["nerv-xxs"].recipe, epochs=3)
    monkeypatch.setitem(PRESETS, "nerv-xxs", dataclasses.replace(PRESETS["nerv-xxs"], recipe=short))
    for older in ("m.pt", "m.nvb"):
        (tmp_path / older).write_bytes(b"older")
    with monkeypatch.context() as patch:
        patch.setattr(StatusLine, "update", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
        code, _, words = call(command, video, "-o", output, "-y")
    assert code == 130
    assert (tmp_path / "m.pt").read_bytes() == b"older"
    (line,) = [text for text in words.splitlines() if "to go on: " in text]
    name, *arguments = shlex.split(line.split("to go on: ")[1])
    code, _, words = call(name, *arguments, *(["--max-loss-db", 99] if name == "inr-export" else []))
    assert code == 0, words
    assert Checkpoint.load(tmp_path / "m.pt").report["curve"][0]["step"] > 1
    assert not last_path(tmp_path / "m.pt").exists()


def test_resume_is_for_videos(tiny_clip: Clip, tmp_path: Path, call: Call) -> None:
    fit(tiny_clip, "nerv-xxs", epochs=1, output=tmp_path / "m.pt")
    code, _, words = call("inr-export", "m.pt", "--resume")
    assert (code, "trained already" in words) == (2, True)


def test_starting_again_gives_up_the_unfinished_run_only_when_the_new_one_starts(
    tiny_clip: Clip, tmp_path: Path
) -> None:
    def stop(p: Progress) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "m.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", epochs=2, output=output, progress=stop)
    before = last_path(output).read_bytes()
    for mistake in ({"device": "cuda:99"}, {"preset": "nerv-xxxl"}, {"config": {"strides": (2,)}}):
        with pytest.raises(UsageError):
            fit(tiny_clip, **{"preset": "nerv-xxs", "output": output, "overwrite": True, **mistake})
        assert last_path(output).read_bytes() == before
    fit(tiny_clip, "nerv-xxs", epochs=1, output=output, overwrite=True)
    assert not last_path(output).exists()


def test_ctrl_c_while_the_model_is_stored_stops_after_it(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    save = Checkpoint.save

    def interrupted_save(checkpoint: Checkpoint, path: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        save(checkpoint, path)

    monkeypatch.setattr(Checkpoint, "save", interrupted_save)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "nerv-xxs", epochs=1, output=tmp_path / "m.pt")
    assert Checkpoint.load(tmp_path / "m.pt").report["psnr_db"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_where_nobody_reads_the_progress_any_more_the_run_is_saved(tiny_clip: Clip, tmp_path: Path) -> None:
    def gone(p: Progress) -> None:
        if p.done == 5:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        fit(tiny_clip, "nerv-xxs", epochs=2, output=tmp_path / "m.pt", progress=gone)
    fit(tiny_clip, output=tmp_path / "m.pt", resume=True)


def test_a_closed_terminal_stops_like_ctrl_c_unless_it_is_to_be_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, stops in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            with deferred_interrupts() as check_interrupt:
                for _ in range(2):  # the shell sends one, and the kernel another
                    os.kill(os.getpid(), signal.SIGHUP)
                with pytest.raises(KeyboardInterrupt) if stops else contextlib.nullcontext():
                    check_interrupt()
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("direction", [-1e6, 1e6])
def test_a_wrong_clock_changes_nothing(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: float
) -> None:
    """Only the monotonic clock is asked: the other may be set while a run goes on."""
    real, calls = time.time, []

    def jumping() -> float:
        calls.append(1)
        return real() + direction * len(calls)

    monkeypatch.setattr(time, "time", jumping)
    report = fit(tiny_clip, "nerv-xxs", epochs=2, output=tmp_path / "m.pt", save_every=0.01).report
    assert 0 < report["train_seconds"] < 1000
    seconds = [row["seconds"] for row in report["curve"]]
    assert seconds == sorted(seconds)
