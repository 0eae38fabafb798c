"""A representation of your own: the example of docs/your-model.md, and what goes wrong without a word in code."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import write_video
from commands import inr_play, run_text
from torch import nn
from torch.nn import functional as F

from inr_runtime.errors import GraphError
from inr_train import Clip
from inr_train.conformance import check_model
from inr_train.models import VideoModel
from inr_train.models.base import TimeInput, time_tensor
from inr_train.presets import PRESETS
from inr_train.trace import trace, weight_axes

GUIDE = (Path(__file__).parents[2] / "docs" / "your-model.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def example(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(EXAMPLE)
    return f"{tmp_path / 'mine.py'}:GridVideo"


def test_the_guides_model_keeps_the_contract_and_plays(example: str, tiny_clip: Clip, tmp_path: Path) -> None:
    checked = run_text("inr-train", "--check-model", "--model", example)
    assert checked.stderr.count("holds") == 5
    video, model, file = tmp_path / "v.y4m", tmp_path / "m.pt", tmp_path / "m.nvb"
    write_video(video, tiny_clip.info, tiny_clip.frames)
    run_text("inr-train", video, "--model", example, "-o", model, "--epochs", 4, "--threads", 1, "--set", "channels=6")
    unknown = run_text("inr-export", model, "-o", file, code=3)
    assert "add --model FILE.py:Class" in unknown.stderr
    run_text("inr-export", model, "--model", example, "-o", file)
    played = inr_play(file, "-o", tmp_path / "frames" / "%03d.png")
    assert played.returncode == 0
    assert len(list((tmp_path / "frames").iterdir())) == len(tiny_clip)


def test_a_config_may_have_several_numbers_in_a_field(tmp_path: Path) -> None:
    """A tuple comes back from a file as a list, which no dictionary takes as a key."""
    assert "channels: int = 12" in EXAMPLE
    several = EXAMPLE.replace("channels: int = 12", "channels: int = 12\n    widths: tuple[int, ...] = (16, 8)")
    (tmp_path / "mine.py").write_text(several)
    checked = run_text("inr-train", "--check-model", "--model", f"{tmp_path / 'mine.py'}:GridVideo")
    assert checked.stderr.count("holds") == 5


def test_a_recipe_whose_loss_needs_large_frames_is_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS["nerv-xxs"]
    demanding = replace(preset, recipe=replace(preset.recipe, loss="l1_msssim"))
    monkeypatch.setitem(PRESETS, "nerv-xxs", demanding)
    assert not [check.problem for check in check_model(demanding) if check.problem]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("F.leaky_relu(self.widen(inputs[0]), 0.1)", "torch.erf(self.widen(inputs[0]))"), "Erf"),
        (("x[:, :, : self.config.height, : self.config.width]", "x[:, :2]"), "decode gives"),
        (('name = "gridvideo"', 'name = "nerv"'), "is taken"),
        (('    name = "gridvideo"\n', ""), "needs a `name`"),
        (("@dataclass(frozen=True)", "@dataclass"), "frozen dataclass"),
        (("class GridVideo(VideoModel)", "class Other(VideoModel)"), "not a VideoModel"),
        (("import torch\n", "import torch\nimport no_such_thing\n"), "cannot be imported"),
    ],
)
def test_what_does_not_conform_is_named(change: tuple[str, str], reason: str, tmp_path: Path) -> None:
    assert change[0] in EXAMPLE
    (tmp_path / "mine.py").write_text(EXAMPLE.replace(*change))
    done = run_text("inr-train", "--check-model", "--model", f"{tmp_path / 'mine.py'}:GridVideo", code=None)
    assert done.returncode in (1, 2)
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@dataclass(frozen=True)
class _Size:
    height: int = 8
    width: int = 8
    frames: int = 4


class _Tied(VideoModel):
    """Reads one kernel forth and back, and its time as an axis."""

    name, config_type = "tied", _Size
    factor = 8.0

    def __init__(self, config: _Size) -> None:
        super().__init__(config)
        self.first = nn.Conv2d(8, 64, 1)
        self.tied = nn.Parameter(torch.randn(64, 64, 1, 1))
        self.head = nn.Conv2d(64, 3, 1)

    @property
    def time_inputs(self) -> tuple[TimeInput, ...]:
        return (TimeInput("t", 4, base=2.0, levels=4),)

    def decode(self, *inputs: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(self.first(inputs[0]), scale_factor=self.factor)
        return self.head(F.conv_transpose2d(F.conv2d(x, self.tied), self.tied))


def test_a_kernel_that_is_read_forth_and_back_has_one_scale() -> None:
    """Scales along the axis of one reader are along the inputs of the other, which no int8 engine takes."""
    traced = trace(_Tied(_Size()))
    axes = dict(zip(traced.parameters, weight_axes(traced.graph), strict=True))
    assert (axes["tied"], axes["head.weight"]) == (None, 0)


def test_time_as_an_axis_is_what_the_player_gives() -> None:
    """Networks that draw frames were trained with another encoding of it."""
    model = _Tied(_Size())
    (time_input,) = model.time_inputs
    for moment in (0.0, 1.5, 3.0):
        assert np.array_equal(model.sample([moment])[0].numpy(), time_tensor(time_input).sample(moment))


def test_a_factor_that_gives_no_whole_size_is_refused() -> None:
    """PyTorch then draws by the factor, and engines by the size."""

    class Uneven(_Tied):
        factor = 8.3

    with pytest.raises(GraphError, match="give size="):
        trace(Uneven(_Size()))
