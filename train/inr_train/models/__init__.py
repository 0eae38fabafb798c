"""Representations of video as neural networks, one file each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from inr_runtime.errors import InputError
from inr_train.models.base import TimeInput, VideoModel
from inr_train.models.coordinate import NeRF, NeRFConfig, Siren, SirenConfig
from inr_train.models.edge import Edge, EdgeConfig
from inr_train.models.hinerv import HiNeRV, HiNeRVConfig
from inr_train.models.hnerv import HNeRV, HNeRVConfig
from inr_train.models.nerv import NeRV, NeRVConfig

__all__ = [
    "MODELS",
    "Edge",
    "EdgeConfig",
    "HNeRV",
    "HNeRVConfig",
    "HiNeRV",
    "HiNeRVConfig",
    "NeRF",
    "NeRFConfig",
    "NeRV",
    "NeRVConfig",
    "Siren",
    "SirenConfig",
    "TimeInput",
    "VideoModel",
    "build_model",
    "count_macs",
    "count_parameters",
    "meta_model",
]

MODELS: dict[str, type[VideoModel]] = {m.name: m for m in (NeRV, HNeRV, HiNeRV, Edge, Siren, NeRF)}
MAX_PARAMETERS = 2_000_000_000


def build_model(name: str, config: Mapping[str, Any]) -> VideoModel:
    """A model from its name and the fields of its config, which may come from a file.

    The parameter count is checked on the meta device before anything is allocated.
    Raises `InputError` on an unknown name, unknown or contradicting fields, or more than `MAX_PARAMETERS`.
    """
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise InputError(f"unknown representation {name!r}; known: {known}; for your own add --model FILE.py:Class")
    try:
        typed = MODELS[name].config_type(**{k: _frozen(v) for k, v in config.items()})
        count = count_parameters(meta_model(name, typed))
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"the config of this {name} is not valid: {error}") from error
    if count > MAX_PARAMETERS:
        raise InputError(f"this {name} has {count:,} parameters, above the limit of {MAX_PARAMETERS:,}")
    return MODELS[name](typed)


def meta_model(name: str, config: Any) -> VideoModel:
    """The same model without memory: for counting."""
    with torch.device("meta"):
        return MODELS[name](config)


def config_dict(config: Any) -> dict[str, Any]:
    """A frozen config as plain types."""
    return {k: config_value(v) for k, v in dataclasses.asdict(config).items()}


def _frozen(value: Any) -> Any:
    """Inverse of `config_value`: configs are compared and hashed."""
    return tuple(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def config_value(value: Any) -> Any:
    """A field of a config as `model.pt` holds it."""
    return list(value) if isinstance(value, tuple) else value


def count_parameters(model: VideoModel, weights: Sequence[str] | None = None) -> int:
    """Number of transmitted numbers: weights and grids, not what is only needed for learning.

    weights: names of those that its graph reads, where that is not all of them.
    """
    parameters = dict(model.named_parameters())
    read = model.weights if weights is None else weights
    return sum(parameters[name].numel() for name in (*read, *model.grids))


def count_macs(model: VideoModel) -> int:
    """Multiply-accumulates per frame, by running a meta model; convolutions only."""
    total = 0

    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        positions = (inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output).shape
        total += positions[0] * positions[2:].numel() * weight.numel()

    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    device = next(model.parameters()).device
    with torch.no_grad():
        model.decode(*(torch.zeros(shape, device=device) for shape in model.input_shapes()))
    for handle in handles:
        handle.remove()
    return total * model.runs_per_frame
