"""Branches that are added up are one convolution in the file: the same pictures from fewer numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import write_video
from commands import inr_play, run_text

from inr_export.branches import merge_branches
from inr_runtime.graph import CanonicalGraph
from inr_train import excerpt
from inr_train.graph_runner import run_graph
from inr_train.models import MODELS, VideoModel, build_model, config_dict
from inr_train.own import register_named
from inr_train.presets import PRESETS
from inr_train.trace import trace

BRANCHED = """
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from inr_train import VideoModel
from inr_train.models import TimeInput


@dataclass(frozen=True)
class Config:
    height: int
    width: int
    frames: int
    kind: str = "repvgg"


class Branched(VideoModel):
    name = "branched"
    config_type = Config

    def __init__(self, config):
        super().__init__(config)
        kind = config.kind
        conv = lambda kernel, **given: nn.Conv2d(8, 8, kernel, **{"padding": tuple(k // 2 for k in kernel), **given})
        self.grid = nn.Parameter(torch.randn(config.frames, 8, config.height // 2, config.width // 2))
        self.large = conv((3, 3), bias=kind != "bias of one")
        self.small = conv((3, 1) if kind == "asymmetric" else (1, 1), groups=4 if kind == "groups" else 1)
        self.third = conv((3, 3), dilation=2, padding=2) if kind == "dilated" else conv((5, 5))
        self.head = nn.Conv2d(8, 12, 1)
        self.again = nn.ModuleList([self.large, self.small] if kind == "two names" else [])

    @property
    def time_inputs(self):
        return (TimeInput("row", len(self.grid), grid="grid"),)

    def decode(self, x):
        kind, large, small = self.config.kind, self.large(x), self.small(x)
        if kind in ("repvgg", "two names", "bias of one", "groups", "asymmetric", "dilated"):
            y = self.third(x) + (x + large) + small
        elif kind == "nested":
            y = (large + self.third(F.relu(x))) + (x + small)
        elif kind == "read twice":
            y = (large + small) * F.relu(small) + self.third(x)
        elif kind == "other input":
            y = large + self.small(F.relu(x)) + self.third(F.relu(x))
        else:
            y = self.large(F.relu(large + self.third(x)))
        return F.pixel_shuffle(self.head(F.relu(y)), 2)
"""
KEPT = {
    "repvgg": 1,
    "bias of one": 1,
    "asymmetric": 1,
    "groups": 2,
    "dilated": 2,
    "nested": 2,
    "read twice": 3,
    "other input": 2,
    "shared": 3,
    "two names": 1,
}
"""Convolutions before the head that are left of three, by how a model adds them up."""


@pytest.fixture
def branched(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "branched.py").write_text(BRANCHED)
    named = f"{tmp_path / 'branched.py'}:Branched"
    register_named(named)
    yield named
    del MODELS["branched"], PRESETS["branched"]


def random_model(kind: str) -> VideoModel:
    torch.manual_seed(0)
    return build_model("branched", {"height": 24, "width": 40, "frames": 3, "kind": kind})


@pytest.mark.parametrize("kind", KEPT)
def test_merged_or_not_the_picture_is_the_same(branched: str, kind: str) -> None:
    model = random_model(kind)
    traced = trace(model)
    samples = model.sample([1.0])
    with torch.no_grad():
        expected = model.decode(*samples)
        smaller, count = merge_branches(model, traced, 8)
        parameters = dict(model.named_parameters())
        by_graph = run_graph(smaller.graph, samples, [parameters[name] for name in smaller.parameters])
        by_model = model.decode(*samples)
    convs = [node for node in smaller.graph.nodes if node.op == "Conv"]
    assert len(convs) == KEPT[kind] + 1
    assert count == sum(node.op == "Conv" for node in traced.graph.nodes) - len(convs)
    torch.testing.assert_close(by_graph, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(by_model, expected, rtol=1e-5, atol=1e-5)
    assert smaller.graph.activation_bytes <= traced.graph.activation_bytes
    assert smaller.graph.digest == CanonicalGraph.from_bytes(smaller.graph.to_bytes()).digest
    if not count:
        assert smaller is traced


def test_a_kernel_near_the_identity_stays_apart(branched: str) -> None:
    """In a sum with it all others would have integers ten times as coarse."""
    model = random_model("repvgg")
    with torch.no_grad():
        model.small.weight.copy_(torch.eye(8)[:, :, None, None])
    smaller, count = merge_branches(model, trace(model), 8)
    assert count == 1
    assert "small.weight" in smaller.parameters


def test_a_model_of_branches_plays_with_fewer_convolutions(branched: str, tmp_path: Path) -> None:
    clip, video, model = excerpt(), tmp_path / "v.mkv", tmp_path / "m.pt"
    write_video(video, replace(clip.info, width=160, height=90, frame_count=6), clip.frames[:6, :90, :160])
    run_text("inr-train", video, "--model", branched, "-o", model, "--epochs", 20, "--threads", 1)
    done = run_text("inr-export", model, "--model", branched, "-o", tmp_path / "m.nvb", "--json")
    report = json.loads(done.stdout)
    assert report["merged"] in (1, 2)
    assert f"{report['merged']} of its convolutions became part of others" in done.stderr
    assert report["loss_db"] < 0.3
    profile = json.loads(inr_play(tmp_path / "m.nvb", "--profile", "--json").stdout)
    assert sum(line["count"] for line in profile["operators"] if "Conv" in line["op"]) == 4 - report["merged"]
    assert report["parameters"] == sum(math.prod(tensor["shape"]) for tensor in report["tensors"])


def test_presets_have_no_branches_to_merge() -> None:
    for name in ("edge-10", "nerv-s", "hnerv-0.35m", "hinerv-bunny-b-xxs"):
        preset = PRESETS[name]
        model = build_model(preset.family, config_dict(preset.config(90, 160, 4)))
        assert merge_branches(model, trace(model), 8)[1] == 0
