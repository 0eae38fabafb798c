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


def leave_unfinished(clip: Clip, output: Path, preset: str = "nerv-xxs", **options: Any) -> Path:
    """Stop a run after six steps; its resume state."""

    def stop(p: Progress) -> None:
        if p.done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(clip, preset, epochs=2, output=output, progress=stop, **options)
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


def test_a_run_is_resumed_with_the_fields_it_was_started_with(tiny_clip: Clip, tmp_path: Path) -> None:
    """Also where they contradict each other and one gave way, or where an older version had not all of them."""
    silu = {"activation": "silu", "limited": True, "widths": (16,), "depths": (1,)}
    output = tmp_path / "m.pt"
    state = leave_unfinished(tiny_clip, output, "edge-5", config=silu)
    before = state.read_bytes()
    for other in ({"activation": "square"}, {"width": 16}, {"widths": (8, 8)}):
        with pytest.raises(UsageError, match=f"has {next(iter(other))}="):
            fit(tiny_clip, "edge-5", output=output, resume=True, config=other)
    assert state.read_bytes() == before
    data = torch.load(state, weights_only=True)
    del data["config"]["limited"]
    torch.save(data, state)
    trained = fit(tiny_clip, "edge-5", output=output, resume=True, config={**silu, "limited": False})
    with pytest.raises(UsageError, match="cannot be changed"):
        fit(tiny_clip, origin=trained, epochs=1, config={"activation": "square"})
    fit(tiny_clip, origin=trained, epochs=1, config=silu)


def test_another_model_to_start_from_is_not_resumed(tiny_clip: Clip, tmp_path: Path) -> None:
    """It went on with the weights it had, and said nothing."""
    one, two = (fit(tiny_clip, "nerv-xxs", epochs=1, seed=seed) for seed in (1, 2))
    output = tmp_path / "m.pt"
    state = leave_unfinished(tiny_clip, output, origin=one)
    before = state.read_bytes()
    with pytest.raises(UsageError, match="another model to start from"):
        fit(tiny_clip, output=output, resume=True, origin=two)
    assert state.read_bytes() == before
    fit(tiny_clip, output=output, resume=True, origin=one)
    leave_unfinished(tiny_clip, tmp_path / "n.pt", "nerv-xxs")
    with pytest.raises(UsageError, match="random weights to start from"):
        fit(tiny_clip, output=tmp_path / "n.pt", resume=True, origin=one)


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
