"""Nothing is lost: two runs on one output, kills, disks that are full or read-only."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from commands import Call, start_train, wait_for
from endurance.kill import endure
from runs import assert_same, stop_at

from inr_runtime.errors import InrError, UsageError
from inr_runtime.files import check_output
from inr_train import Checkpoint, Clip, fit
from inr_train.clip import EXCERPT
from inr_train.lock import held, lock_path
from inr_train.presets import PRESETS
from inr_train.runlog import Progress, RunLog

FAST = dataclasses.replace(PRESETS["nerv-xxs"].recipe, epochs=4, dtype="fp32", threads=1)
HOLDING = """
import os, signal
from inr_train import cli, command

def hold(status, progress):
    if progress.done == 9:
        os.kill(os.getpid(), signal.SIGSTOP)

command._show = hold
cli.main()
"""
"""`inr-train` that stands still after its ninth step until it gets SIGCONT."""


# Two runs on one output


def test_a_second_run_on_one_output_is_refused_and_a_killed_one_frees_it(
    video: Path, tmp_path: Path, call: Call
) -> None:
    first = start_train(video, tmp_path, "--epochs", 3000)
    wait_for(tmp_path / "m.last.pt")
    says = f"m.pt is being trained by another process (pid {first.pid})"
    for again in (
        ("inr-train", video, "-o", "m.pt"),
        ("inr-train", video, "-o", "m.pt", "-y"),
        ("inr-train", video, "-o", "m.pt", "--resume"),
        ("inr-export", video, "-o", "m.nvb"),
    ):
        code, _, words = call(*again)
        assert (code, says in words) == (2, True), words
    assert first.poll() is None
    first.kill()
    first.communicate()
    assert lock_path(tmp_path / "m.pt").exists()
    with held(tmp_path / "m.pt"):
        pass
    assert not lock_path(tmp_path / "m.pt").exists()


def test_one_process_cannot_train_an_output_twice_either(tiny_clip: Clip, tmp_path: Path) -> None:
    output, refused = tmp_path / "m.pt", []

    def again(p: Progress) -> None:
        if not refused:
            with pytest.raises(UsageError, match=rf"another process \(pid {os.getpid()}\)") as caught:
                fit(tiny_clip, "nerv-xxs", recipe=FAST, output=output, overwrite=True)
            refused.append(caught)

    fit(tiny_clip, "nerv-xxs", recipe=FAST, output=output, progress=again)
    assert refused
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_where_the_file_system_knows_no_locks_training_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with pytest.warns(UserWarning, match="knows no locks"), held(tmp_path / "m.pt"):
        pass


def test_a_lock_that_belongs_to_somebody_else_is_one_clear_line(tmp_path: Path) -> None:
    lock_path(tmp_path / "m.pt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="remove it if nobody trains"), held(tmp_path / "m.pt"):
        pass


# Kills


def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    result = endure(EXCERPT, tmp_path, kills=2, seed=0, options=["--epochs", "24"])
    assert not result.faults
    assert [kill.moment for kill in result.kills] == ["saving", "training"]
    assert result.kills[0].unfinished


def test_what_killed_runs_left_is_removed_by_the_next(tiny_clip: Clip, tmp_path: Path) -> None:
    mine = [".m.01234567.part.pt", ".m.last.89abcdef.part.pt", ".m.pt.lock"]
    others = [".m.01234567.part.nvb", ".mm.01234567.part.pt", ".m.0123.part.pt", "m.01234567.part.pt"]
    for name in mine + others:
        (tmp_path / name).write_bytes(b"part")
    fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["m.pt", *others])


# Full and read-only disks


def small_disk() -> None:
    """In the child: every file ends at 20 kB, with the error that a full disk gives."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def ordinary_user() -> None:
    """In the child: permissions count, for root too."""
    drop_from_bounding_set, override_permissions = 24, 1
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions, 0, 0, 0):
        raise OSError("root cannot give up its privilege here")


def test_a_full_disk_is_one_line_and_leaves_what_was_there(video: Path, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = start_train(
        video, tmp_path, "--epochs", 1, "-y", preexec_fn=small_disk, env={**os.environ, "TMPDIR": str(elsewhere)}
    )
    _, words = run.communicate()
    assert run.returncode == 1, words
    assert "cannot write m.pt" in words
    assert str(elsewhere) in words
    assert "Traceback" not in words
    assert (tmp_path / "m.pt").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "m.pt"]
    assert not list(elsewhere.glob("inr-*"))


def test_where_the_folder_becomes_read_only_the_finished_model_is_saved_elsewhere(video: Path, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    program, environment = [sys.executable, "-c", HOLDING], {**os.environ, "TMPDIR": str(elsewhere)}
    run = start_train(video, folder, "--epochs", 4, program=program, preexec_fn=ordinary_user, env=environment)
    assert os.WIFSTOPPED(os.waitpid(run.pid, os.WUNTRACED)[1])
    assert (folder / "m.last.pt").exists()
    folder.chmod(0o555)
    run.send_signal(signal.SIGCONT)
    _, words = run.communicate()
    folder.chmod(0o755)
    (model,) = elsewhere.rglob("*.pt")
    assert run.returncode == 1
    assert f"cannot write m.pt: Permission denied; nothing was changed; the model is in {model}" in words
    assert "move it to m.pt" in words
    assert Checkpoint.load(model).report["psnr_db"] > 0
    assert not (folder / "m.pt").exists()


def test_ctrl_c_where_the_folder_is_gone_keeps_the_state_elsewhere(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InrError, match=r"the unfinished run is in .*--resume") as caught:
        fit(
            tiny_clip, "nerv-xxs", recipe=FAST, output=folder / "m.pt", progress=stop_at(9, lambda: folder.rename(away))
        )
    (state,) = tmp_path.glob("inr-*/m.last.pt")
    assert str(state) in str(caught.value)
    state.rename(away / "m.last.pt")
    resumed = fit(tiny_clip, output=away / "m.pt", resume=True)
    assert_same(resumed, fit(tiny_clip, "nerv-xxs", recipe=FAST))


def test_a_model_that_cannot_be_replaced_stays_in_the_resume_state(tiny_clip: Clip, tmp_path: Path) -> None:
    output = tmp_path / "m.pt"

    def block(p: Progress) -> None:
        output.mkdir(exist_ok=True)

    with pytest.raises(InrError, match=r"the finished run is in .*m\.last\.pt.*--resume"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=output, progress=block)
    output.rmdir()
    assert_same(fit(tiny_clip, output=output, resume=True), fit(tiny_clip, "nerv-xxs", recipe=FAST))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("inr-train", ("VIDEO", "-o", "/proc/m.pt")),
        ("inr-train", ("VIDEO", "-o", "m.pt", "--log", "/proc/log.jsonl")),
        ("inr-export", ("VIDEO", "-o", "/proc/m.nvb")),
        ("inr-export", ("VIDEO", "-o", "m.nvb", "--onnx", "/proc/m.onnx")),
    ],
)
def test_a_folder_that_takes_no_files_is_refused_before_any_work(
    video: Path, tmp_path: Path, call: Call, command: str, options: tuple[str, ...]
) -> None:
    """Nobody, not even root, can make a file in /proc."""
    code, _, words = call(command, *(video if o == "VIDEO" else o for o in options))
    assert code == 2
    assert "nothing can be written in /proc" in words
    assert words.count("\n") == 1, words
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_seen_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space left on device"):
        check_output(tmp_path / "m.pt", overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_ordinary_files_are_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "m.pt")
    with pytest.raises(UsageError, match="not an ordinary file"):
        check_output(tmp_path / "m.pt", overwrite=True)


def test_a_log_that_cannot_be_written_costs_only_the_log() -> None:
    with pytest.warns(UserWarning, match="training goes on") as warned, RunLog(Path("/dev/full"), [{"step": 1}]) as log:
        log.write({"step": 2})
    assert len(warned) == 1
