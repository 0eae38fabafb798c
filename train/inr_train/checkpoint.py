"""What `model.pt` holds: everything the next stage needs, as plain types and tensors. No pickle is ever loaded."""

from __future__ import annotations

import hashlib
import os
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inr_runtime.errors import InputError, MissingExtraError
from inr_runtime.files import replacing
from inr_runtime.info import VideoInfo
from inr_runtime.int8plan import Range
from inr_train.bits import Bits
from inr_train.models import VideoModel, build_model

FORMAT, VERSION = "inr-model", 1
LATER = ("float_bits", "grid_bits")
"""Fields that older files do not have."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model.

    model, config: the representation. info: the clip. weights: by parameter name. weight_bits, bias_bits, float_bits,
    grid_bits: of the stored integers (`bits.Bits`). ranges: learned activation ranges by edge of the canonical
    graph whose digest is `graph_digest`; empty without int8. recipe, report: how it was trained and what came out
    (`psnr_db` and others). source: where the clip came from: path, options as texts, SHA-256 of the frames.
    """

    model: str
    config: Mapping[str, Any]
    info: VideoInfo
    weights: Mapping[str, Tensor]
    weight_bits: int = 8
    bias_bits: int = 10
    float_bits: int = 0
    grid_bits: tuple[int, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    graph_digest: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def bits(self) -> Bits:
        """Of the integers that a file stores."""
        return Bits(self.weight_bits, self.bias_bits, self.float_bits, self.grid_bits)

    @property
    def rounded(self) -> bool:
        """Whether training ended with rounding to these very bits; where not, the exporter rounds."""
        phases, weight_bits = self.recipe.get("phases") or [{}], self.recipe.get("weight_bits")
        trained_for = weight_bits, self.recipe.get("float_bits") or weight_bits
        return phases[-1].get("quantize", "none") != "none" and trained_for == (self.bits.weights, self.bits.floats)

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        found = hashlib.sha256()
        for name in sorted(self.weights):
            found.update(name.encode())
            found.update(self.weights[name].contiguous().numpy().data)
        return found.hexdigest()

    def build(self) -> VideoModel:
        """The model with its weights, in evaluation mode. Raises `InputError` where weights do not fit."""
        model = build_model(self.model, self.config)
        try:
            model.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise InputError(
                f"the weights do not fit this {self.model}: {str(error).splitlines()[-1].strip()}"
            ) from error
        return model.eval()

    def save(self, path: Path) -> None:
        """Write atomically."""
        data = {f: getattr(self, f) for f in self.__dataclass_fields__}
        data["info"] = info_to_dict(self.info)
        save_dict(path, {"format": FORMAT, "version": VERSION, **data})

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a `model.pt`. Raises `InputError` where it is missing, damaged, newer, or something else."""
        data = load_dict(path, FORMAT)
        try:
            data["info"] = info_from_dict(data["info"])
            data["ranges"] = {k: (float(v[0]), float(v[1])) for k, v in data["ranges"].items()}
            checkpoint = cls(**{k: data[k] for k in cls.__dataclass_fields__ if k not in LATER or k in data})
            _ = checkpoint.bits
            finite = all(torch.isfinite(w).all() for w in checkpoint.weights.values())
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"{path}: a field is missing or malformed: {error}") from error
        if not finite:
            raise InputError(f"{path}: the weights hold NaN or infinity; train again with a lower --lr")
        return checkpoint


def is_checkpoint(path: Path) -> bool:
    """Whether a file looks like a `model.pt`: by its name or as the zip archive that PyTorch writes."""
    return path.suffix in (".pt", ".pth") or (path.is_file() and zipfile.is_zipfile(path))


def save_dict(path: Path, data: Mapping[str, Any]) -> None:
    """Write a dict of plain types and tensors atomically."""
    with replacing(path) as temporary:
        try:
            torch.save(_plain(data), temporary)
        except RuntimeError as error:
            raise OSError(None, str(error).splitlines()[0]) from error
        with open(temporary, "r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())


def load_dict(path: Path, expected_format: str) -> dict[str, Any]:
    """Read what `save_dict` wrote, without running anything in it. Raises `InputError`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a model file of inr-train, or damaged") from error
    if not isinstance(data, dict) or data.get("format") != expected_format:
        raise InputError(f"{path}: not a model file of inr-train")
    if data.get("version") != VERSION:
        raise InputError(f"{path}: made by another version (file version {data.get('version')}, expected {VERSION})")
    return data


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    try:
        from importlib.metadata import version

        own = version("inr-video")
    except ImportError as error:
        raise MissingExtraError("inr-video is not installed; run: pip install -e '.[train]'") from error
    return {"inr-video": own, "torch": str(torch.__version__), "python": platform.python_version()}


def info_to_dict(info: VideoInfo) -> dict[str, Any]:
    """Plain types; fractions as text."""
    data = asdict(info)
    for name in ("fps", "time_base", "pixel_aspect"):
        data[name] = str(data[name])
    return {**data, "pts": None if info.pts is None else list(info.pts)}


def info_from_dict(data: Mapping[str, Any]) -> VideoInfo:
    """Inverse of `info_to_dict`."""
    fractions = {name: Fraction(data[name]) for name in ("fps", "time_base", "pixel_aspect")}
    return VideoInfo(**{**data, **fractions, "pts": None if data["pts"] is None else tuple(data["pts"])})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is not None and type(value) not in (bool, int, float, str, Tensor):
        raise TypeError(f"{type(value).__name__} is not a plain type: the file could not be read safely")
    return value
