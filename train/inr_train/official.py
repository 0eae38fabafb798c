"""Weights of the papers' own programs, as our models: names and layouts of their state dicts, in one place.

Read are NeRV's, HNeRV's and HiNeRV's checkpoints (a state dict, or a dict that holds one as `state_dict`; HNeRV's
embeddings then come from its encoder and the clip) and HNeRV's published quantized file: `model`, and the embeddings of
all frames as `embed`, each tensor as 8-bit codes with `min` and `scale`. Nothing but tensors and plain types is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inr_runtime.errors import InputError
from inr_train.checkpoint import Checkpoint, versions
from inr_train.clip import Clip
from inr_train.evaluate import evaluate
from inr_train.models import VideoModel, build_model, count_parameters
from inr_train.recipe import with_goal
from inr_train.source import describe_source
from inr_train.start import choose_preset, model_config

Rename = Callable[[str], "str | None"]


def adopt(clip: Clip, preset: str, path: Path, config: Mapping[str, Any] | None = None) -> Checkpoint:
    """A checkpoint with the weights in `path`, measured on `clip` but not trained.

    preset, config: as in `fit`; they must describe the network that the weights belong to. Raises `InputError` and
    `UsageError` as `load_official` and `fit` do.
    """
    chosen = choose_preset(clip, preset)
    fields = model_config(clip, chosen, config or {})
    model = build_model(chosen.family, fields).eval()
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    load_official(path, model, frames)
    quality = asdict(evaluate(model, frames))
    facts = {"preset": chosen.name, "parameters": count_parameters(model), "sparsity": 0.0, "train_seconds": 0.0}
    report = {
        **quality,
        **facts,
        "psnr_float_db": quality["psnr_db"],
        "psnr_float_8bit_db": quality["psnr_8bit_db"],
        "device": "cpu",
        "curve": [],
    }
    return Checkpoint(
        model=chosen.family,
        config=fields,
        info=replace(clip.info, frame_count=len(clip)),
        weights={k: v.detach().contiguous() for k, v in model.state_dict().items()},
        recipe=with_goal(chosen.recipe, "none").to_dict(),
        report=report,
        source=describe_source(clip),
        versions=versions(),
    )


def load_official(path: Path, model: VideoModel, frames: Tensor) -> None:
    """Fill `model` with the weights in `path`. frames: uint8 (T, 3, H, W), the clip, for what only an encoder knows.

    Raises `InputError` where the file cannot be read safely, belongs to another representation or size, or leaves a
    weight of the model undefined; it names what is missing.
    """
    if model.name not in _NAMES:
        raise InputError(f"{path}: weights of other programs can be read for {', '.join(_NAMES)}, not for {model.name}")
    found = {_plain_name(name): tensor for name, tensor in _tensors(path).items()}
    if any(name.startswith("encoder.") for name in found) and not {"embed", "embeddings"} & found.keys():
        model.prepare()
    with_encoder = any(name.startswith("encoder.") for name, _ in model.named_parameters())
    wanted = {n: p for n, p in model.named_parameters() if not (with_encoder and n in model.grids)}
    weights: dict[str, Tensor] = {}
    for name, tensor in found.items():
        ours = _NAMES[model.name](name)
        if ours in wanted:
            weights[ours] = _shaped(path, name, tensor.float(), tuple(wanted[ours].shape))
    missing = sorted(wanted.keys() - weights.keys())
    if missing:
        raise InputError(f"{path}: not all of this {model.name}: {_listed(missing)} missing; is --preset right?")
    if not all(torch.isfinite(w).all() for w in weights.values()):
        raise InputError(f"{path}: the weights hold NaN or infinity")
    model.load_state_dict(weights, strict=False)
    model.settle(frames)


def _tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file by its name; quantized ones as real numbers, the embeddings as `embed`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path}: cannot be loaded safely (only tensors, numbers and texts are); save its state dict alone"
        ) from error
    for key in ("state_dict", "model_state_dict"):
        if isinstance(data, dict) and isinstance(data.get(key), Mapping):
            data = data[key]
    if isinstance(data, dict) and isinstance(data.get("model"), Mapping):
        data = {**data["model"], **({"embed": data["embed"]} if "embed" in data else {})}
    if not isinstance(data, Mapping):
        raise InputError(f"{path}: expected a state dict")
    return {str(name): _dequantized(path, str(name), value) for name, value in data.items() if _holds_numbers(value)}


def _holds_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, Mapping) and {"quant", "min", "scale"} <= value.keys())


def _dequantized(path: Path, name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    codes, low, scale = (torch.as_tensor(value[k]).float() for k in ("quant", "min", "scale"))
    try:
        return low.expand_as(codes) + scale.expand_as(codes) * codes
    except RuntimeError as error:
        raise InputError(
            f"{path}: {name}: codes {tuple(codes.shape)} and scales {tuple(scale.shape)} do not fit"
        ) from error


def _plain_name(name: str) -> str:
    return re.sub(r"^(module\.|_orig_mod\.)+", "", name)


def _shaped(path: Path, name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Linear layers are 1x1 convolutions here, scales of channels (C, 1, 1), flattened grids (T, C, h, w)."""
    if tensor.ndim == 2 and len(shape) == 4 and shape[2:] != (1, 1) and tensor.numel() == math.prod(shape):
        time, channels, height, width = shape
        return tensor.reshape(time, height, width, channels).permute(0, 3, 1, 2).contiguous()
    if tuple(tensor.shape) == shape[: tensor.ndim] and all(n == 1 for n in shape[tensor.ndim :]):
        return tensor.reshape(shape).clone()
    raise InputError(
        f"{path}: {name} has shape {tuple(tensor.shape)}, expected {shape}; is --preset right for its clip?"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (
        f" and {len(names) - 3} more are" if len(names) > 3 else " is" if len(names) == 1 else " are"
    )


def _nerv(name: str) -> str | None:
    """Linear layers of the stem stand at even places between activations; only the last stage has a head."""
    if match := re.fullmatch(r"stem\.(\d+)\.(weight|bias)", name):
        return f"stem.{int(match[1]) // 2}.{match[2]}"
    if match := re.fullmatch(r"layers\.(\d+)\.conv\.(conv|up_scale)\.(weight|bias)", name):
        return f"blocks.{match[1]}.conv.{match[3]}"
    if match := re.fullmatch(r"head_layers\.\d+\.(weight|bias)", name):
        return f"head.{match[1]}"
    return None


def _hnerv(name: str) -> str | None:
    """The first decoder layer is the 1x1 convolution behind the embedding."""
    if name in ("embed", "embeddings"):
        return "embeddings"
    if match := re.fullmatch(r"decoder\.0\.conv\.downconv\.(weight|bias)", name):
        return f"stem.{match[1]}"
    if match := re.fullmatch(r"decoder\.(\d+)\.conv\.upconv\.0\.(weight|bias)", name):
        return f"blocks.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"head_layer\.(weight|bias)", name):
        return f"head.{match[1]}"
    if match := re.fullmatch(r"encoder\.downsample_layers\.(\d+)\.(\d)\.(weight|bias)", name):
        return f"encoder.stages.{3 * int(match[1]) + int(match[2])}.{match[3]}"
    if match := re.fullmatch(r"encoder\.stages\.(\d+)\.0\.(\w+)(\.weight|\.bias)?", name):
        return f"encoder.stages.{3 * int(match[1]) + 2}.{_BLOCK.get(match[2], match[2])}{match[3] or ''}"
    return None


def _hinerv(name: str) -> str | None:
    """A stage is upscaling (0), its encoding (1), then its blocks; bilinear upscaling has no weights."""
    if match := re.fullmatch(r"encoding\.grids\.(\d+)\.weight", name):
        return f"base_grids.{match[1]}"
    if match := re.fullmatch(r"decoder\.stem\.conv\.(weight|bias)", name):
        return f"stem.{match[1]}"
    if match := re.fullmatch(r"decoder\.blocks\.(\d+)\.1\.enc\.grids\.(\d+)\.weight", name):
        return f"stages.{match[1]}.encoding.grids.{match[2]}"
    if match := re.fullmatch(r"decoder\.blocks\.(\d+)\.1\.enc\.linear\.(weight|bias)", name):
        return f"stages.{match[1]}.encoding.mix.{match[2]}"
    if match := re.fullmatch(r"decoder\.blocks\.(\d+)\.(\d+)\.(dconv|fc1|fc2)\.weight", name):
        return f"stages.{match[1]}.blocks.{int(match[2]) - 2}.{_BLOCK[match[3]]}.weight"
    if match := re.fullmatch(r"decoder\.head\.linear\.(weight|bias)", name):
        return f"head.{match[1]}"
    return None


_BLOCK = {"dwconv": "depthwise", "pwconv1": "widen", "pwconv2": "narrow", "gamma": "scale"}
_BLOCK |= {"dconv": "depthwise", "fc1": "widen", "fc2": "narrow"}


_NAMES: dict[str, Rename] = {"nerv": _nerv, "hnerv": _hnerv, "hinerv": _hinerv}
"""Our name of a parameter from theirs, by representation; None for what a decoder does not need."""
