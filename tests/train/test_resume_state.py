"""The resume state of a stopped run: what it is refused for, and that a refusal leaves it as it was."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inr_runtime.errors import InputError, UsageError
from inr_train import Clip, fit
from inr_train.runlog import Progress
from inr_train.start import last_path


def leave_unfinished(clip: Clip, output: Path) -> Path:
    """Stop a run after six steps; its resume state."""

    def stop(p: Progress) -> None:
        if p.done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(clip, "nerv-xxs", epochs=2, output=output, progress=stop)
    return last_path(output)


def test_the_log_is_never_the_model(tiny_clip: Clip, tmp_path: Path) -> None:
    state = leave_unfinished(tiny_clip, tmp_path / "m.pt")
    before = state.read_bytes()
    for log in (state, tmp_path / "m.pt"):
        with pytest.raises(UsageError, match="both the log and the model"):
            fit(tiny_clip, output=tmp_path / "m.pt", resume=True, log=log)
    assert state.read_bytes() == before


def test_a_changed_video_is_not_resumed(tiny_clip: Clip, tmp_path: Path) -> None:
    state = leave_unfinished(tiny_clip, tmp_path / "m.pt")
    before, frames = state.read_bytes(), tiny_clip.frames.copy()
    frames[2, 3, 4] ^= 1
    with pytest.raises(InputError, match="another clip"):
        fit(dataclasses.replace(tiny_clip, frames=frames), output=tmp_path / "m.pt", resume=True)
    assert state.read_bytes() == before


class Malicious:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "malicious", "newer", "empty", "another kind", "no fields"])
def test_a_damaged_resume_state_is_refused_with_the_way_out(tiny_clip: Clip, tmp_path: Path, damage: str) -> None:
    state = leave_unfinished(tiny_clip, tmp_path / "m.pt")
    data = state.read_bytes()
    run: dict[str, Any] = {"format": "inr-run", "version": 1}
    if damage == "truncated":
        state.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        middle = data.index(b"inr-run")
        state.write_bytes(data[:middle] + bytes(200) + data[middle + 200 :])
    elif damage == "empty":
        state.write_bytes(b"")
    else:
        changed = {
            "malicious": {**run, "snapshot": Malicious(tmp_path / "trap")},
            "newer": {**run, "version": 99},
            "another kind": {"format": "inr-model", "version": 1},
            "no fields": {**torch.load(state, weights_only=True), "snapshot": {"phase": 0}},
        }
        torch.save(changed[damage], state)
    before = state.read_bytes()
    with pytest.raises(InputError, match=r"m\.last\.pt.*start again with -y"):
        fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert state.read_bytes() == before
    assert not (tmp_path / "trap").exists()
