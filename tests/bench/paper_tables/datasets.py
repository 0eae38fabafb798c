"""HiNeRV's sizes on UVG and MCL-JCV, and the sequences of a dataset in a folder."""

from __future__ import annotations

import re
import sys
from fractions import Fraction
from pathlib import Path

from tests.bench.paper_tables.row import Row

from inr_runtime.media import ReadOptions
from inr_train.recipe import Phase

PHASES = (
    Phase("fit", 300 / 390),
    Phase("prune", 60 / 390, sparsity=0.15),
    Phase("quantization-aware", 30 / 390, quantize="weights", sparsity=0.15, noise=0.9),
)
"""HiNeRV's three stages of 300, 60 and 30 epochs, but on one schedule of the learning rate."""

VIDEOS = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".y4m", ".yuv", ".264", ".265", ".hevc"}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_RAW_NAME = re.compile(r"(\d+)x(\d+)_(\d+(?:\.\d+)?)(?:fps)?")


def _row(dataset: str, size: str, published: float, rate: float, source: str) -> Row:
    recipe = {"phases": PHASES, "weight_bits": 6, "prune_power": 0.5}
    return Row(
        dataset,
        f"HiNeRV {size.upper()}",
        f"hinerv-{dataset}-{size}",
        published,
        source,
        epochs=390,
        clip=dataset,
        recipe=recipe,
        facts={"bits_per_pixel": rate},
        quantize=None,
        file=True,
    )


_UVG = "HiNeRV's repository, new code, UVG, mean of 7 sequences, 6 bits and 15 % pruned"
_MCL = "HiNeRV's repository, the paper's code, MCL-JCV, mean of all sequences, 6 bits and 15 % pruned"

UVG = (
    _row("uvg", "s", 34.80, 0.0150, _UVG),
    _row("uvg", "m", 36.24, 0.0299, _UVG),
    _row("uvg", "l", 37.51, 0.0583, _UVG),
    _row("uvg", "xl", 38.72, 0.1159, _UVG),
    _row("uvg", "xxl", 39.81, 0.2271, _UVG),
)
MCL = (
    _row("mcl", "xxs", 32.57, 0.0154, _MCL),
    _row("mcl", "xs", 34.68, 0.0301, _MCL),
    _row("mcl", "s", 36.57, 0.0596, _MCL),
    _row("mcl", "m", 38.17, 0.1203, _MCL),
    _row("mcl", "l", 39.50, 0.2376, _MCL),
)


def sequences(root: Path) -> dict[str, Path]:
    """Videos and folders of frames in a folder, by name without ending, sorted; stops the program where none is."""
    if not root.is_dir():
        sys.exit(f"{root}: no such folder; --root is the folder that holds the dataset's sequences")
    paths = sorted(p for p in root.iterdir() if not p.name.startswith(".") and _is_sequence(p))
    names = [p.stem if p.is_file() else p.name for p in paths]
    if not paths:
        sys.exit(f"{root}: holds neither videos ({', '.join(sorted(VIDEOS))}) nor folders of frames")
    if len(set(names)) < len(names):
        sys.exit(f"{root}: two sequences have one name: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    return dict(zip(names, paths, strict=True))


def _is_sequence(path: Path) -> bool:
    if path.is_dir():
        return any(p.suffix.lower() in IMAGES for p in path.iterdir())
    return path.suffix.lower() in VIDEOS


def reading_options(path: Path) -> ReadOptions:
    """How to read a sequence: raw .yuv files tell size and rate by their names, `Beauty_1920x1080_120fps...yuv`."""
    if path.suffix.lower() != ".yuv":
        return ReadOptions()
    found = _RAW_NAME.search(path.name)
    if found is None:
        sys.exit(f"{path}: a raw .yuv file must tell size and rate by its name, as in NAME_1920x1080_120fps.yuv")
    return ReadOptions(size=(int(found[1]), int(found[2])), pix_fmt="yuv420p", fps=Fraction(found[3]))
