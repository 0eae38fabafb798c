"""Weights of the papers' own programs, on synthetic files of the same layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import write_video
from commands import run_text
from torch import Tensor

from inr_export import export
from inr_runtime import open_video
from inr_runtime.errors import InputError
from inr_train import Clip
from inr_train.models import HiNeRV, HiNeRVConfig, HNeRV, HNeRVConfig, NeRV, NeRVConfig
from inr_train.models.convnext import ConvNeXtEncoder
from inr_train.official import adopt

NERV = {"stem_width": 12, "channels": 6, "lower_width": 8}
HINERV = {"strides": (4, 2), "channels": 12, "depths": (2, 1), "expansions": (4, 1), "base_frames": 4}
HNERV = {"strides": (4, 2), "channels": 12, "embedding": 6, "encoder_width": 8}


def nerv_file(model: NeRV, path: Path) -> None:
    """As NeRV's training script saves it: linear layers in the stem, the head behind the last stage only."""
    p = dict(model.named_parameters())
    state: dict[str, Tensor] = {}
    for ours, theirs in (("stem.0", "stem.0"), ("stem.1", "stem.2")):
        state[f"module.{theirs}.weight"] = p[f"{ours}.weight"][:, :, 0, 0]
        state[f"module.{theirs}.bias"] = p[f"{ours}.bias"]
    for i in range(len(model.blocks)):
        for part in ("weight", "bias"):
            state[f"module.layers.{i}.conv.conv.{part}"] = p[f"blocks.{i}.conv.{part}"]
    for part in ("weight", "bias"):
        state[f"module.head_layers.{len(model.blocks) - 1}.{part}"] = p[f"head.{part}"]
    torch.save(
        {"epoch": 3, "state_dict": {k: v.detach() for k, v in state.items()}, "train_best_psnr": torch.ones(1)}, path
    )


def hnerv_decoder(model: HNeRV) -> dict[str, Tensor]:
    p = dict(model.named_parameters())
    state = {}
    for part in ("weight", "bias"):
        state[f"decoder.0.conv.downconv.{part}"] = p[f"stem.{part}"].detach()
        for i in range(len(model.blocks)):
            state[f"decoder.{i + 1}.conv.upconv.0.{part}"] = p[f"blocks.{i}.{part}"].detach()
        state[f"head_layer.{part}"] = p[f"head.{part}"].detach()
    return state


def hnerv_encoder(encoder: ConvNeXtEncoder) -> dict[str, Tensor]:
    """ConvNeXt's own names; the first stage normalizes after its convolution, later ones before it."""
    names = {}
    for stage in range(2):
        for part in (0, 1):
            names[f"stages.{3 * stage + part}"] = f"downsample_layers.{stage}.{part}"
        block, theirs = f"stages.{3 * stage + 2}", f"stages.{stage}.0"
        names |= {f"{block}.depthwise": f"{theirs}.dwconv", f"{block}.norm": f"{theirs}.norm"}
        names |= {f"{block}.widen": f"{theirs}.pwconv1", f"{block}.narrow": f"{theirs}.pwconv2"}
    state = {}
    for name, value in encoder.named_parameters():
        layer, _, part = name.rpartition(".")
        if part == "scale":
            state[f"encoder.stages.{int(layer.split('.')[1] == '5')}.0.gamma"] = value.detach().flatten()
        else:
            linear = layer.endswith(("widen", "narrow")) and part == "weight"
            state[f"encoder.{names[layer]}.{part}"] = value.detach()[:, :, 0, 0] if linear else value.detach()
    return state


def hinerv_file(model: HiNeRV, path: Path) -> None:
    """Channels last: grids flattened to two dimensions, their channels innermost; linear layers in the blocks."""
    p = {k: v.detach() for k, v in model.named_parameters()}
    state = {}
    for i in range(2):
        state[f"encoding.grids.{i}.weight"] = p[f"base_grids.{i}"].permute(0, 2, 3, 1).flatten(0, 2)
    for part in ("weight", "bias"):
        state[f"decoder.stem.conv.{part}"] = p[f"stem.{part}"]
        state[f"decoder.head.linear.{part}"] = p[f"head.{part}"].flatten(1) if part == "weight" else p["head.bias"]
    for stage, depth in enumerate(model.config.depths):
        ours, theirs = f"stages.{stage}", f"decoder.blocks.{stage}"
        for level in range(3):
            grid = p[f"{ours}.encoding.grids.{level}"]
            state[f"{theirs}.1.enc.grids.{level}.weight"] = grid.permute(0, 2, 3, 1).flatten(1)
        state[f"{theirs}.1.enc.linear.weight"] = p[f"{ours}.encoding.mix.weight"].flatten(1)
        state[f"{theirs}.1.enc.linear.bias"] = p[f"{ours}.encoding.mix.bias"]
        for block in range(depth):
            place = f"{ours}.blocks.{block}"
            state[f"{theirs}.{block + 2}.dconv.weight"] = p[f"{place}.depthwise.weight"]
            state[f"{theirs}.{block + 2}.fc1.weight"] = p[f"{place}.widen.weight"].flatten(1)
            state[f"{theirs}.{block + 2}.fc2.weight"] = p[f"{place}.narrow.weight"].flatten(1)
    torch.save(state, path)


def quantized(t: Tensor, axis: int | None) -> dict[str, Tensor]:
    """8-bit codes with their least value and step, over the whole tensor or along one axis."""
    low = t.min() if axis is None else t.amin(axis, keepdim=True).half()
    high = t.max() if axis is None else t.amax(axis, keepdim=True).half()
    scale = (high - low) / 255
    return {"quant": ((t - low) / scale).round().clamp(0, 255).to(torch.uint8), "min": low, "scale": scale}


def hnerv(seed: int = 5) -> HNeRV:
    torch.manual_seed(seed)
    return HNeRV(HNeRVConfig(24, 40, 6, **HNERV)).eval()


def test_a_nerv_checkpoint_becomes_a_model_that_exports_and_plays(tiny_clip: Clip, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = NeRV(NeRVConfig(24, 40, 6, 3, 5, (2, 2, 2), **NERV)).eval()
    nerv_file(model, tmp_path / "nerv.pth")
    overrides = {**NERV, "base_height": 3, "base_width": 5, "strides": (2, 2, 2)}
    checkpoint = adopt(tiny_clip, "nerv-s", tmp_path / "nerv.pth", overrides)
    assert all(torch.equal(w, dict(model.named_parameters())[k]) for k, w in checkpoint.weights.items())
    export(checkpoint, tmp_path / "v.nvb", reference=tiny_clip, max_loss_db=5)
    with open_video(tmp_path / "v.nvb", target="cpu-fp32") as video, torch.no_grad():
        expected = model([3.0])[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
        assert np.abs(video[3] - expected).mean() < 2


def test_hnervs_published_quantized_file_brings_its_embeddings(tiny_clip: Clip, tmp_path: Path) -> None:
    model = hnerv()
    state = {
        k: quantized(v, 0 if v.ndim == 4 and k != "head_layer.weight" else None)
        for k, v in hnerv_decoder(model).items()
    }
    torch.save({"embed": quantized(model.embeddings.detach(), 0), "model": state}, tmp_path / "quant_vid.pth")
    checkpoint = adopt(tiny_clip, "hnerv-0.35m", tmp_path / "quant_vid.pth", HNERV)
    for name, value in model.named_parameters():
        wanted = value.detach()
        step = float(wanted.max() - wanted.min()) / 255
        assert float((checkpoint.weights[name] - wanted).abs().max()) < 0.6 * step + 2e-3
    export(checkpoint, tmp_path / "v.nvb", reference=tiny_clip, max_loss_db=5)


def test_an_hnerv_checkpoint_finds_its_embeddings_with_its_encoder(tiny_clip: Clip, tmp_path: Path) -> None:
    model = hnerv()
    model.prepare()
    assert model.encoder is not None
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    torch.save({"state_dict": {**hnerv_decoder(model), **hnerv_encoder(model.encoder)}}, tmp_path / "model.pth")
    checkpoint = adopt(tiny_clip, "hnerv-0.35m", tmp_path / "model.pth", HNERV)
    model.settle(torch.from_numpy(tiny_clip.frames).permute(0, 3, 1, 2))
    torch.testing.assert_close(checkpoint.weights["embeddings"], model.embeddings.detach())
    assert not any(k.startswith("encoder.") for k in checkpoint.weights)


def test_a_hinerv_checkpoint_brings_its_grids(tiny_clip: Clip, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = HiNeRV(HiNeRVConfig(24, 40, 6, **HINERV)).eval()
    hinerv_file(model, tmp_path / "hinerv.pth")
    checkpoint = adopt(tiny_clip, "hinerv-bunny-xxs", tmp_path / "hinerv.pth", HINERV)
    assert all(torch.equal(w, dict(model.named_parameters())[k]) for k, w in checkpoint.weights.items())
    export(checkpoint, tmp_path / "v.nvb", reference=tiny_clip, max_loss_db=5)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("missing", "head.weight missing|head.bias, head.weight"),
        ("size", "is --preset right"),
        ("nan", "NaN"),
        ("code", "cannot be loaded safely"),
        ("list", "expected a state dict"),
        ("scales", "do not fit"),
        ("absent", "no such file"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(
    damage: str, reason: str, tiny_clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = hnerv()
    state: dict[str, object] = {**hnerv_decoder(model), "embed": model.embeddings.detach()}
    if damage == "missing":
        state = {k: v for k, v in state.items() if not k.startswith("head_layer")}
    elif damage == "size":
        state["decoder.1.conv.upconv.0.weight"] = torch.zeros(3, 3, 1, 1)
    elif damage == "nan":
        state["head_layer.bias"] = torch.full((3,), float("nan"))
    elif damage == "code":
        state["evil"] = Evil()
    elif damage == "scales":
        state["embed"] = {"quant": torch.zeros(2, 3), "min": torch.zeros(5), "scale": torch.ones(5)}
    path = tmp_path / "model.pth"
    if damage != "absent":
        torch.save([1, 2] if damage == "list" else state, path)
    with pytest.raises(InputError, match=reason):
        adopt(tiny_clip, "hnerv-0.35m", path, HNERV)
    assert "executed" not in capsys.readouterr().out


def test_the_command_takes_weights_and_the_next_ones_play_them(tiny_clip: Clip, tmp_path: Path) -> None:
    video, model = tmp_path / "v.y4m", hnerv()
    write_video(video, tiny_clip.info, tiny_clip.frames)
    torch.save({**hnerv_decoder(model), "embed": model.embeddings.detach()}, tmp_path / "theirs.pth")
    overrides = [f"--set={k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in HNERV.items()]
    output, theirs = tmp_path / "m.pt", tmp_path / "theirs.pth"
    done = run_text("inr-train", video, "--from-weights", theirs, "--preset", "hnerv-0.35m", *overrides, "-o", output)
    assert "next: inr-export" in done.stderr
    run_text("inr-export", output, "-o", tmp_path / "m.nvb", "--max-loss-db", 5)
    refused = run_text("inr-train", video, "--from-weights", theirs, "-o", output, "-y", code=2)
    assert "needs the --preset" in refused.stderr
