"""The points of the curves: how each is made from one trained model, as a file that the runtime decodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.compression_curves.rates import file_rates

from inr_export import export
from inr_runtime.files import replacing
from inr_train import Checkpoint, Clip, fit
from inr_train.presets import preset_named
from inr_train.pruning import compress
from inr_train.recipe import fine_tuning
from inr_train.runlog import Progress
from inr_train.start import last_path

SPARSITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
BITS = (8, 7, 6, 5, 4)
ADAPTIVE = 0.5


@dataclass(frozen=True)
class Point:
    """One file. power: of pruning, 0 by magnitude. tuned: trained after pruning, or with quantization imitated."""

    curve: str
    sparsity: float = 0.0
    weight_bits: int = 8
    power: float = 0.0
    tuned: bool = False

    @property
    def key(self) -> str:
        """A name for files."""
        kind = "tuned" if self.tuned else "plain"
        return f"{self.curve}-s{self.sparsity:g}-b{self.weight_bits}-p{self.power:g}-{kind}"


POINTS = (
    *(Point("sparsity", s, tuned=tuned) for tuned in (False, True) for s in SPARSITIES),
    *(Point("bits", weight_bits=b, tuned=tuned) for tuned in (False, True) for b in BITS),
    *(Point("sparsity", s, power=ADAPTIVE, tuned=tuned) for tuned in (False, True) for s in SPARSITIES if s),
    *(Point("both", s, b, tuned=True) for s in (0.2, 0.4) for b in (8, 6, 5)),
)


@dataclass(frozen=True)
class Bench:
    """What all points share. work: folder where finished points are kept, so that a stopped run goes on."""

    clip: Clip
    preset: str
    epochs: int
    tuning_epochs: int
    threads: int
    work: Path
    progress: Callable[[Progress], None] | None = None

    def base(self, seed: int) -> Checkpoint:
        """The float model that every point of a seed starts from."""
        recipe = replace(preset_named(self.preset).recipe, epochs=self.epochs)
        return self._fit(self._folder(seed) / "base.pt", recipe=recipe, quantize="none", seed=seed)

    def row(self, point: Point, seed: int) -> dict[str, Any]:
        """The result of one point, made now or before."""
        path = self._folder(seed) / f"{point.key}.json"
        if not path.exists():
            base = self.base(seed)
            row = {"model": self.preset, "seed": seed, **asdict(point), **self._measure(point, base, seed)}
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(row))
        return dict(json.loads(path.read_text()))

    def _measure(self, point: Point, base: Checkpoint, seed: int) -> dict[str, Any]:
        checkpoint = self._tuned(point, base, seed) if point.tuned else base
        checkpoint = compress(checkpoint, point.weight_bits, 0.0 if point.tuned else point.sparsity, point.power)
        file = self._folder(seed) / f"{point.key}.nvb"
        report = export(
            checkpoint,
            file,
            int8=False,
            max_loss_db=100.0,
            reference=self.clip,
            overwrite=True,
            threads=self.threads,
        )
        (decoded,) = report.verified
        return {
            "psnr_float_db": base.report["psnr_db"],
            "psnr_db": decoded.source_db,
            "zeros": report.sparsity,
            **file_rates(file),
        }

    def _tuned(self, point: Point, base: Checkpoint, seed: int) -> Checkpoint:
        recipe = fine_tuning(preset_named(self.preset).recipe)
        recipe = replace(
            recipe, epochs=self.tuning_epochs, weight_bits=point.weight_bits, prune_power=point.power, warmup=0.1
        )
        quantize = "none" if point.curve == "sparsity" else "weights"
        path = self._folder(seed) / f"{point.key}.pt"
        return self._fit(path, recipe=recipe, quantize=quantize, seed=seed, sparsity=point.sparsity, origin=base)

    def _fit(self, path: Path, **options: Any) -> Checkpoint:
        if path.exists():
            return Checkpoint.load(path)
        options["recipe"] = replace(options["recipe"], dtype="bf16")
        resume = last_path(path).exists()
        return fit(
            self.clip,
            self.preset,
            threads=self.threads,
            output=path,
            resume=resume,
            progress=self.progress,
            **options,
        )

    def _folder(self, seed: int) -> Path:
        folder = self.work / f"{self.preset}-{self.epochs}-{self.tuning_epochs}-seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
