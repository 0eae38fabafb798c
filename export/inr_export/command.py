"""Options of the command `inr-export`, and what it prints."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table

from inr_export.mixed import INT8_BUDGET_DB, MixedPrecision
from inr_export.pipeline import MAX_LOSS_DB, ExportReport, export, export_onnx, media_of
from inr_export.verify import Verification
from inr_runtime.backends.ort import import_onnxruntime
from inr_runtime.cli import StatusLine, clock, common_options, megabytes, print_json, say
from inr_runtime.errors import PromiseError, UsageError
from inr_runtime.files import check_output
from inr_runtime.lower import TARGETS
from inr_train.checkpoint import Checkpoint, is_checkpoint
from inr_train.command import TRAINING_DEFAULTS, default_output, train_with_progress
from inr_train.options import pop_reading, read_options, reading_options
from inr_train.own import register_named
from inr_train.pruning import MAX_SPARSITY, compress
from inr_train.sound import read_source
from inr_train.start import last_path


@click.command(name="inr-export", context_settings={"max_content_width": 110})
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File (default: the model's name with .nvb).")
@click.option("--model", "own", metavar="FILE.py:Class", help="The class of a representation of your own.")
@click.option("--bits", type=click.IntRange(2, 8), help="Bits of the weights (default: those it was trained for).")
@click.option(
    "--prune", type=click.FloatRange(0, MAX_SPARSITY), default=0.0, help="Prune this share, untrained after it."
)
@click.option("--prune-power", type=click.FloatRange(0, 4), default=0.0, help="0: by magnitude, 0.5: adaptively.")
@click.option("--int8/--no-int8", default=True, show_default=True, help="Store what int8 engines need.")
@click.option(
    "--int8-budget-db",
    type=click.FloatRange(0),
    default=INT8_BUDGET_DB,
    show_default=True,
    help="Keep layers in float until int8 activations cost at most this; inf keeps none.",
)
@click.option("--onnx", type=click.Path(path_type=Path), help="Also write the static ONNX graph to this file.")
@click.option(
    "--target",
    type=click.Choice(list(TARGETS)),
    help="Engine of --onnx (default: cpu-int8 where it can, else cpu-fp32).",
)
@click.option("--verify/--no-verify", "check", default=True, show_default=True, help="Decode and compare every frame.")
@click.option("--max-loss-db", type=float, default=MAX_LOSS_DB, show_default=True, help="Exit 4 beyond this loss.")
@click.option("--resume", is_flag=True, help="Go on with the unfinished training of a video, even with -y.")
@click.option("--ref", help="The source video, where it is not found by itself.")
@reading_options
@common_options
def command(model: str, output: Path | None, quiet: bool, as_json: bool, **given: Any) -> None:
    """Write MODEL, a model.pt of inr-train, as a .nvb file. A video in its place is trained first with defaults."""
    reading = pop_reading(given)
    if given["own"]:
        given["preset"] = register_named(given["own"]).name
    is_model = is_checkpoint(Path(model))
    path = output or (Path(f"{Path(model).stem}.nvb") if is_model else default_output(model).with_suffix(".nvb"))
    _check(path, is_model, reading, given)
    checkpoint = Checkpoint.load(Path(model)) if is_model else _trained(model, path, reading, quiet, given)
    original = checkpoint
    checkpoint = compress(original, given["bits"], given["prune"], given["prune_power"])
    reference = read_source(given["ref"], read_options(**reading)) if given["ref"] else None
    if reference is not None:
        reference = reference.thinned(int(checkpoint.source.get("every", 1)))
    if reference is not None and reference.digest != checkpoint.source.get("frames_sha256"):
        raise UsageError(f"{given['ref']} is not what the model was fitted to; give the same --size, --crop and range")
    failure = None
    with StatusLine("inr-export", quiet) as status:
        try:
            report = export(
                checkpoint,
                path,
                int8=given["int8"],
                check=given["check"],
                max_loss_db=given["max_loss_db"],
                int8_budget_db=given["int8_budget_db"],
                reference=reference,
                original=original,
                overwrite=given["overwrite"],
                threads=given["threads"],
                progress=_shown_on(status),
            )
        except PromiseError as error:
            report, failure = error.report, error
    if given["onnx"]:
        on_integers = report.precision is not None and report.precision.ranges
        target = given["target"] or ("cpu-int8" if on_integers else "cpu-fp32")
        export_onnx(path, given["onnx"], target, overwrite=given["overwrite"])
    if as_json:
        print_json(as_dict(report))
    _tell(report, quiet)
    if failure:
        raise failure
    played = path.with_suffix({"video": ".mp4", "image": ".png", "audio": ".wav"}[media_of(checkpoint)])
    say(f"next: inr-play {shlex.quote(str(path))} -o {shlex.quote(str(played))}", quiet)


def _shown_on(status: StatusLine) -> Callable[[str, int, int], None]:
    """Progress with the time that is left, counted from the beginning of each kind of work."""
    begun: dict[str, float] = {}

    def show(what: str, done: int, total: int) -> None:
        seconds = time.monotonic() - begun.setdefault(what, time.monotonic())
        status.update(done, total, what, eta=clock(seconds / max(1, done) * (total - done)))

    return show


def _check(path: Path, is_model: bool, reading: dict[str, Any], given: dict[str, Any]) -> None:
    """Everything that can be refused before any work."""
    check_output(path, given["overwrite"])
    if given["onnx"]:
        check_output(given["onnx"], given["overwrite"])
    if given["target"] and not given["onnx"]:
        raise UsageError("--target says what --onnx FILE is made for; give both")
    if (given["target"] or "").endswith("int8") and not given["int8"]:
        raise UsageError(f"--target {given['target']} needs --int8")
    if is_model and given["resume"]:
        raise UsageError("--resume goes on with the training of a video; a model is trained already")
    if is_model and not given["ref"] and any(reading.values()):
        raise UsageError("--size, --crop and the like say how to read a video; here they need --ref VIDEO")
    import_onnxruntime()


def _trained(video: str, path: Path, reading: dict[str, Any], quiet: bool, given: dict[str, Any]) -> Checkpoint:
    """The model of a video: what an earlier run left beside the output, or fitted now (going on where it stopped)."""
    clip, model = read_source(video, read_options(**reading)), path.with_suffix(".pt")
    if model.exists() and not given["overwrite"]:
        checkpoint = Checkpoint.load(model)
        if checkpoint.source.get("frames_sha256") != clip.digest:
            raise UsageError(f"{model} exists and belongs to another clip; add -y to overwrite it")
        say(f"using {model}, which was fitted to this clip; -y fits anew", quiet)
        return checkpoint
    resume = given["resume"] or (last_path(model).exists() and not given["overwrite"])
    # An unfinished run has its threads.
    changed = {"resume": resume, "overwrite": given["overwrite"], "threads": 0 if resume else given["threads"]}
    changed["quantize"] = None if given["int8"] else "weights"
    changed["preset"] = given.get("preset", "auto")
    return train_with_progress(clip, model, quiet, **{**TRAINING_DEFAULTS, **changed})


def as_dict(report: ExportReport) -> dict[str, Any]:
    """The JSON of `inr-export --json`."""
    best, precision = report.verified[0] if report.verified else None, report.precision
    return {
        "path": str(report.path),
        "bytes": report.bytes,
        "bits_per_pixel": report.bits_per_pixel,
        "parameters": report.parameters,
        "gmac_per_frame": report.gmac_per_frame,
        "weight_bits": report.weight_bits,
        "float_bits": report.float_bits,
        "grid_bits": list(report.grid_bits),
        "float_bits_trade": list(report.float_bits_trade),
        "sparsity": report.sparsity,
        "merged": report.merged,
        "int8_mac_share": precision.int8_mac_share if precision else 0.0,
        "all_int8_loss_db": precision.all_int8_loss_db if precision else None,
        "kept_float": [asdict(k) for k in precision.kept_float] if precision else [],
        "coded_bytes": report.cost.coded_bytes,
        "ideal_bytes": report.cost.ideal_bytes,
        "psnr_db": best.source_db if best else None,
        "psnr_float_db": best.float_db if best else None,
        "loss_db": best.loss_db if best else None,
        "targets": [_target_dict(v) for v in report.verified],
        "tensors": [asdict(t) for t in report.cost.tensors],
    }


def _target_dict(v: Verification) -> dict[str, Any]:
    return {
        "target": v.target,
        "backend": v.backend,
        "psnr_db": v.source_db,
        "psnr_against_model_db": v.model_db,
        "loss_db": v.loss_db,
        "loss_is_estimate": v.estimated,
        "fps_network": v.fps,
    }


def _tell(report: ExportReport, quiet: bool) -> None:
    size = f"{megabytes(report.bytes)}, {report.bits_per_pixel:.3f} bits per pixel"
    say(f"{report.path}: {size}, {report.parameters:,} parameters at {report.weight_bits} bits", quiet)
    if report.merged:
        say(f"  {report.merged} of its convolutions became part of others that read the same", quiet)
    if report.precision:
        _tell_precision(report.precision, quiet)
    if any(bits != report.weight_bits for bits in report.grid_bits):
        say(f"  grids: {', '.join(map(str, report.grid_bits))} bits", quiet)
    if report.float_bits != report.weight_bits:
        costs = ", ".join(f"{t['bits']:.0f} bits {t['loss_db']:.2f} dB" for t in report.float_bits_trade)
        say(f"  weights of float layers: {report.float_bits} bits; to round them untrained costs {costs}", quiet)
    for v in report.verified:
        quality = f"{v.source_db:.2f} dB" if v.source_db is not None else f"{v.model_db:.2f} dB against the model"
        loss = f"{'about ' if v.estimated else ''}{round(v.loss_db, 2) + 0.0:.2f} dB below the float model"
        say(f"  {v.target}: {quality}, {loss}, {v.fps:.0f} fps", quiet)


def _tell_precision(precision: MixedPrecision, quiet: bool) -> None:
    """The trade: what stays in float, what that costs, what it is worth."""
    if not precision.kept_float:
        return
    before, after = f"{precision.all_int8_loss_db:.2f} dB", f"{max(0.0, precision.loss_db):.2f} dB"
    say(f"  activations: {before} lost all in int8, {after} with these in float:", quiet)
    table = Table("layers", "edge", Column("MACs", justify="right"), Column("worth", justify="right"), box=None)
    for kept in precision.kept_float:
        layers = ", ".join(kept.layers) or "none"
        table.add_row(layers, kept.edge, f"{kept.mac_share:.1%}", f"{kept.gain_db:+.2f} dB")
    if not quiet:
        Console(stderr=True, markup=False, emoji=False).print(Padding(table, (0, 0, 0, 4)))
    faster = "; a larger --int8-budget-db keeps more of them there" if precision.int8_mac_share < 0.5 else ""
    say(f"  {precision.int8_mac_share:.0%} of the multiply-accumulates run on integers{faster}", quiet)
