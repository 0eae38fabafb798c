"""From a trained model to a .nvb file that was proven to play."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from inr_export.branches import merge_branches
from inr_export.mixed import INT8_BUDGET_DB, MixedPrecision, mix_precision
from inr_export.stored import StoredModel
from inr_export.verify import Verification, sound_of, verify, verify_sound
from inr_runtime.chunks import Header
from inr_runtime.errors import InrError, PromiseError
from inr_runtime.files import check_output, replacing
from inr_runtime.format import NvbReader, write_nvb
from inr_runtime.info import AudioInfo, VideoInfo
from inr_runtime.int8plan import Range, plan_int8
from inr_runtime.lower import lower, target_named
from inr_runtime.segment import PRINT_PIXELS, Segment, SegmentCost, make_thumbnail, segment_cost, sound_print
from inr_runtime.tensors import QuantTensor
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.compensation import compensate
from inr_train.evaluate import frame_of
from inr_train.models import VideoModel, count_parameters
from inr_train.quantization import quantize_grids, quantize_weights
from inr_train.ranges import measure_ranges
from inr_train.source import find_source
from inr_train.trace import Trace, trace

MAX_LOSS_DB = 0.5
"""The default promise: the file is at most this much worse than the float model."""
CALIBRATION_FRAMES = 2000


@dataclass(frozen=True)
class ExportReport:
    """What was written and how well it plays.

    bits_per_pixel: of the whole file without audio and meta. weight_bits, float_bits, grid_bits: of the weights of int8
    layers, of layers that are float everywhere, and of each grid. float_bits_trade: `bits` that were tried for float
    layers, and the `loss_db` that rounding to them would have cost before training for it. sparsity: share of zeros
    among the integers of all weights but biases. merged: convolutions that became part of others (`branches.py`).
    cost: of each tensor. verified: one result per target, the promised one first; empty with check=False. precision:
    what runs on integers, None without int8.
    """

    path: Path
    bytes: int
    bits_per_pixel: float
    parameters: int
    gmac_per_frame: float
    weight_bits: int
    float_bits: int
    grid_bits: tuple[int, ...]
    float_bits_trade: tuple[Mapping[str, float], ...]
    sparsity: float
    merged: int
    cost: SegmentCost
    verified: tuple[Verification, ...]
    precision: MixedPrecision | None = None


def export(
    model: str | Path | Checkpoint,
    output: str | Path,
    *,
    int8: bool = True,
    check: bool = True,
    max_loss_db: float = MAX_LOSS_DB,
    int8_budget_db: float = INT8_BUDGET_DB,
    reference: Clip | None = None,
    original: Checkpoint | None = None,
    overwrite: bool = False,
    threads: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> ExportReport:
    """Write a model as a .nvb file, decode that file, and compare every frame.

    model: a `model.pt` or what `fit` returned. int8: store activation ranges, and promise quality on cpu-int8.
    check: decode and compare. max_loss_db: the promise, against the float model. int8_budget_db: layers stay in float
    until int8 activations cost at most this; infinity keeps all on integers. reference: the clip that the model was
    fitted to; found by itself where its file is unchanged. original: the model before it was pruned for this file, to
    compare with. threads: of decoding, 0 = all. progress: called with (what, done, total). The file gets its name only
    after it was decoded.
    Raises `PromiseError` where the promise is not kept (the file stays), `UsageError` where `output` exists,
    `InputError` on a bad model, `GraphError` where the model uses operators outside the dialect.
    """
    path = Path(output)
    check_output(path, overwrite)
    checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.load(Path(model))
    network, shipped = checkpoint.build(), checkpoint.build()
    traced, merged = merge_branches(shipped, trace(network), checkpoint.weight_bits)
    folded = replace(checkpoint, weights=shipped.state_dict()) if merged else checkpoint
    rounded = shipped if checkpoint.rounded and not merged else _rounded(folded, traced, progress)
    weights = quantize_weights(rounded, traced, checkpoint.bits)
    stored = StoredModel(network, traced, checkpoint.bits, weights)
    clip = reference if reference is not None or not (check or int8) else find_source(checkpoint.source)
    against = original.build() if original and original is not checkpoint else network
    precision = _precision(folded, stored, weights, clip, int8_budget_db, progress, against) if int8 else None
    ranges = precision.ranges if precision else {}
    header, segment = _assemble(checkpoint, stored, weights, ranges)
    with replacing(path) as temporary:
        size = write_nvb(temporary, header, [segment])
        results: tuple[Verification, ...] = ()
        if check:
            targets = ("cpu-int8", "cpu-fp32") if ranges else ("cpu-fp32",)
            check_file = verify_sound if media_of(checkpoint) == "audio" else verify
            results = check_file(temporary, checkpoint, against, clip, targets, threads, progress)
        with NvbReader(temporary) as reader:
            bits_per_pixel = reader.bits_per_pixel
    report = ExportReport(
        path=path,
        bytes=size,
        bits_per_pixel=bits_per_pixel,
        parameters=count_parameters(network, traced.parameters),
        gmac_per_frame=traced.graph.macs * network.runs_per_frame / 1e9,
        weight_bits=checkpoint.weight_bits,
        float_bits=checkpoint.bits.floats,
        grid_bits=tuple(checkpoint.bits.by_grid(network.grids).values()),
        float_bits_trade=tuple(checkpoint.report.get("float_bits_trade", ())),
        sparsity=_share_of_zeros(weights),
        merged=merged,
        cost=segment_cost(segment, header),
        verified=results,
        precision=precision,
    )
    _keep_promise(report, max_loss_db, bool(checkpoint.report.get("sparsity")))
    return report


def export_onnx(nvb: str | Path, output: str | Path, target: str = "cpu-fp32", *, overwrite: bool = False) -> None:
    """Write the graph of a .nvb file's first segment, lowered for `target`, as an ordinary ONNX file."""
    path = Path(output)
    check_output(path, overwrite)
    with NvbReader(nvb) as reader:
        segment, header = reader.segment(0), reader.header
    ranges = header.ranges.get(segment.graph)
    lowered = lower(header.graphs[segment.graph], segment.weights, target_named(target), ranges)
    with replacing(path) as temporary:
        onnx.save(lowered.embedded(), temporary)


def _share_of_zeros(weights: Sequence[QuantTensor]) -> float:
    values = [w.values for w in weights if w.values.ndim > 1]
    return sum(int((v == 0).sum()) for v in values) / max(1, sum(v.size for v in values))


def _keep_promise(report: ExportReport, max_loss_db: float, pruned: bool) -> None:
    for result in report.verified[:1]:
        if not result.loss_db <= max_loss_db:
            about = "about " if result.estimated else ""
            raise PromiseError(
                f"{report.path} is {about}{result.loss_db:.2f} dB worse than the float model on {result.target}, more "
                f"than --max-loss-db {max_loss_db:g}; {_way_out(report, pruned)}, or allow more",
                report,
            )


def _way_out(report: ExportReport, pruned: bool) -> str:
    if pruned:
        return "prune less, or fine-tune longer after it (inr-train --from)"
    if report.weight_bits < 8:
        return f"give more --bits, or train for {report.weight_bits} (inr-train --bits {report.weight_bits})"
    if report.precision:
        return "train with quantization (inr-train --quantize int8), keep more in float (--int8-budget-db, --no-int8)"
    return "train for integer weights (inr-train --quantize weights)"


def _rounded(checkpoint: Checkpoint, traced: Trace, progress: Callable[[str, int, int], None] | None) -> VideoModel:
    """The model with the weights that go into the file, where training has not seen to that."""
    rounded = checkpoint.build()
    show = partial(progress, "rounding weights") if progress else None
    found = compensate(rounded, traced, checkpoint.bits, checkpoint.info.frame_count, show)
    rounded.load_state_dict(found, strict=False)
    return rounded


def _precision(
    checkpoint: Checkpoint,
    stored: StoredModel,
    weights: Sequence[QuantTensor],
    clip: Clip | None,
    budget_db: float,
    progress: Callable[[str, int, int], None] | None,
    original: VideoModel,
) -> MixedPrecision:
    """What runs on integers: with the trained ranges where they belong to this very graph, else with measured ones."""
    traced, measure = stored.trace, partial(_measured_ranges, stored, checkpoint.info.frame_count)
    trained = dict(checkpoint.ranges) if checkpoint.graph_digest == traced.graph.digest.hex() else {}
    untrained = [edge for edge in plan_int8(traced.graph).ranged if edge not in trained]
    ranges = {**trained, **measure(untrained)}
    return mix_precision(checkpoint, traced, weights, ranges, measure, clip, budget_db, progress, original)


def _measured_ranges(stored: StoredModel, count: int, edges: Sequence[str]) -> dict[str, Range]:
    """The ranges that lose least over `count` frames; beyond `CALIBRATION_FRAMES` every tenth and the last are run."""
    if not edges:
        return {}
    step = 1 if count <= CALIBRATION_FRAMES else 10
    times = sorted({*range(0, count, step), count - 1})
    with stored.settled():
        samples = [stored.sample(places) for places in stored.model.calibration(times)]
        return measure_ranges(stored.trace.graph, stored.quantized_weights(), samples, edges)


def _assemble(
    checkpoint: Checkpoint, model: StoredModel, weights: Sequence[QuantTensor], ranges: Mapping[str, Range]
) -> tuple[Header, Segment]:
    info = _stored_info(checkpoint)
    meta = {"made_by": " ".join(f"{k} {v}" for k, v in checkpoint.versions.items()), "seed": str(checkpoint.seed)}
    if "heldout" in checkpoint.report:
        meta["heldout"] = json.dumps(checkpoint.report["heldout"])
    meta["quality"] = json.dumps({k: checkpoint.report.get(k) for k in ("psnr_db", "psnr_float_db")})
    stored, media = {0: ranges} if ranges else {}, media_of(checkpoint)
    header = Header(info, checkpoint.model, secrets.token_bytes(16), (model.trace.graph,), stored, meta, media)
    times = quantize_grids(model.model, checkpoint.bits)
    thumbnail, place = _thumbnail(checkpoint, model)
    segment = Segment(0, 0, info.frame_count, tuple(weights), times, thumbnail, place)
    return header, segment


def media_of(checkpoint: Checkpoint) -> str:
    """What the file of a model holds: one of `inr_runtime.chunks.MEDIA_KINDS`."""
    if checkpoint.config.get("result") == "pcm_f32":
        return "audio"
    return "video" if checkpoint.info.frame_count > 1 else "image"


def _stored_info(checkpoint: Checkpoint) -> VideoInfo:
    """The facts as the file has them; training sees a sound as one row of pixels."""
    info = checkpoint.info
    if media_of(checkpoint) == "audio":
        return AudioInfo(info.fps, int(checkpoint.config["channels"]), info.width).as_video()
    return info


def _thumbnail(checkpoint: Checkpoint, stored: StoredModel) -> tuple[NDArray[np.uint8], int]:
    """What a player compares with, and where: the middle frame, or the loudest moment of a sound.

    It is of what is stored, so that a file plays however much its few bits have lost.
    """
    info = checkpoint.info
    with stored.settled():
        if media_of(checkpoint) == "audio":
            sound = sound_of(stored, info.width)
            place = max(0, min(int(np.abs(sound[:, 0]).argmax()) - PRINT_PIXELS, len(sound) - 3 * PRINT_PIXELS))
            return sound_print(sound[place:]), place
        middle = info.frame_count // 2
        return make_thumbnail(decode_with_torch(stored, middle, (info.height, info.width))), middle


@torch.no_grad()
def decode_with_torch(network: nn.Module, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Frame `index` as PyTorch computes it in float32: uint8 (H, W, 3); size: (H, W).

    Raises `InrError` where it is not finite.
    """
    frame = frame_of(network, index, size)[0]
    if not torch.isfinite(frame).all():
        raise InrError("the model gives NaN or infinity; train again with a lower --lr")
    rounded = torch.round(frame.clamp(0, 1) * 255).to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(1, 2, 0).numpy())
