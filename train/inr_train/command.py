"""Options of the command `inr-train`, and what it prints."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from inr_runtime.cli import StatusLine, clock, common_options, megabytes, print_json, say
from inr_runtime.console import PipedConsole
from inr_runtime.errors import InrError, UsageError
from inr_runtime.files import check_output
from inr_runtime.media import parse_size
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.conformance import check_model
from inr_train.heldout import even_frames, score_heldout
from inr_train.loop import fit
from inr_train.losses import LOSSES
from inr_train.models import MODELS
from inr_train.official import adopt
from inr_train.options import (
    changed_recipe,
    parse_duration,
    parse_overrides,
    pop_reading,
    read_options,
    reading_options,
)
from inr_train.own import register_named
from inr_train.presets import default_preset, describe_presets, preset_named
from inr_train.recipe import MAX_SPARSITY, QUANTIZE
from inr_train.recipes import RECIPES
from inr_train.runlog import Progress
from inr_train.sound import Sound, read_source
from inr_train.start import Estimate, choose_preset, default_recipe, last_path

TRAINING_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("epochs", "recipe", "batch_size", "lr", "loss", "alpha", "log", "bits", "origin", "prune_power")),
    **dict.fromkeys(("quant_noise", "heldout", "from_weights", "time_budget", "until_psnr", "candidates", "compile")),
    **{"preset": "auto", "seed": None, "device": "auto", "amp": "auto", "overrides": ()},
    **{"save_every": 30.0, "prune": 0.0},
}
"""What `train_with_progress` takes for options that a caller has no opinion on."""


@click.command(name="inr-train", context_settings={"max_content_width": 110})
@click.argument("video", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Model file (default: the video's name with .pt)."
)
@click.option("--preset", default="auto", show_default=True, help="Size of the network; see --list-presets.")
@click.option("--list-presets", is_flag=True, help="Show all presets for --size and --frames, and stop.")
@click.option("--model", "own", metavar="FILE.py:Class", help="A representation of your own; see docs/your-model.md.")
@click.option("--check-model", is_flag=True, help="Run --model, or --preset, through the whole chain, and stop.")
@click.option("--recipe", help=f"{', '.join(RECIPES)}, or a JSON file of inr-train --json (default: the preset's).")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the video (default: the recipe's).")
@click.option("--time-budget", metavar="TIME", help="Train as long as this instead: 90s, 10m, 1h30m.")
@click.option("--until-psnr", type=click.FloatRange(0, 100), help="End when this PSNR is reached, in dB.")
@click.option("--candidates", type=click.IntRange(1, 100), help="Random beginnings that race; the best one goes on.")
@click.option("-b", "--batch-size", type=click.IntRange(1), help="Frames per step (default: the recipe's).")
@click.option("--lr", type=float, help="Peak learning rate, Muon's in proportion (default: the recipe's).")
@click.option("--loss", type=click.Choice(list(LOSSES)), help="Loss (default: the recipe's).")
@click.option("--alpha", type=float, help="Weight of the first term of a mixed loss.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a field of the network's config, or with recipe.KEY=VALUE of the recipe.",
)
@click.option("--quantize", type=click.Choice(QUANTIZE), help="Train for this file (default: the recipe's).")
@click.option(
    "--bits", type=click.IntRange(2, 8), help="Bits of the weights in the file (default: 8; float layers: measured)."
)
@click.option(
    "--prune", type=click.FloatRange(0, MAX_SPARSITY), default=0.0, help="Share of weights to prune, 0.4 say."
)
@click.option("--prune-power", type=float, help="0: by magnitude (default), 0.5: adaptively, by |w|/count^0.5.")
@click.option("--quant-noise", type=float, help="Imitate this share of the weights in a step (default: all; 0.9 say).")
@click.option("--from", "origin", type=click.Path(path_type=Path), help="Fine-tune this model.pt, in a shorter run.")
@click.option(
    "--from-weights",
    type=click.Path(path_type=Path),
    help="Take weights of a paper's own program.",
)
@click.option("--heldout", is_flag=True, help="Fit the even frames only, and score the odd ones between them.")
@reading_options
@click.option("--seed", type=click.IntRange(0, 2**31), help="Seed of weights and frame order (default: 0).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:N].")
@click.option(
    "--amp", type=click.Choice(["auto", "off", "bf16", "fp16"]), default="auto", show_default=True, help="Precision."
)
@click.option("--compile", is_flag=True, help="Compile the steps (torch.compile); pays in long runs, if at all.")
@click.option("--resume", is_flag=True, help="Go on with the unfinished run of this output.")
@click.option("--save-every", type=float, default=30.0, show_default=True, help="Seconds between resume states.")
@click.option("--log", type=click.Path(path_type=Path), help="JSONL file, one row per evaluation.")
@common_options
def command(video: str | None, list_presets: bool, as_json: bool, quiet: bool, **given: Any) -> None:
    """Fit a network to VIDEO: any video file, picture or sound, a folder of images, frames/%05d.png, .y4m, raw .yuv."""
    own = given.pop("own")
    if own:
        preset = register_named(own)
        given["preset"] = preset.name if given["preset"] == "auto" else given["preset"]
    if list_presets:
        _list_presets(given["size"], given["frames"], as_json)
        return
    if given.pop("check_model"):
        _check_model(given["preset"], as_json, quiet)
        return
    if video is None:
        raise UsageError("which video? inr-train VIDEO -o model.pt (or --list-presets)")
    reading = pop_reading(given)
    output = given.pop("output") or default_output(video)
    weights = given.pop("from_weights")
    if weights:
        _check_adopted(given)
    if not given["resume"]:
        check_output(output, given["overwrite"])
    whole = read_source(video, read_options(**reading))
    clip = even_frames(whole) if given["heldout"] else whole
    if weights:
        checkpoint = _adopted(clip, weights, given)
        checkpoint = score_heldout(checkpoint, whole) if given["heldout"] else checkpoint
        checkpoint.save(output)
        _tell(checkpoint, output, quiet)
    else:
        checkpoint = train_with_progress(clip, output, quiet, whole if given["heldout"] else None, **given)
    if as_json:
        print_json(report(checkpoint))


def _heldout_line(score: dict[str, Any]) -> str:
    verdict = "worth playing" if score["beats_blend"] else "not worth playing"
    own = f"{score['psnr_db']:.2f} dB, a blend of its own neighbours {score['blend_db']:.2f} dB"
    motion = score["minterpolate_db"]
    source = f"blend {score['source_blend_db']:.2f} dB" + (f", minterpolate {motion:.2f} dB" if motion else "")
    return f"{score['frames']} held-out frames: {own} ({verdict} between frames); of the source: {source}"


def train_with_progress(clip: Clip, output: Path, quiet: bool, whole: Clip | None = None, **given: Any) -> Checkpoint:
    """`fit` with a line before, a progress line during and two lines after it.

    whole: the clip with the frames that were held out, which are to be scored.
    """
    origin = Checkpoint.load(given["origin"]) if given["origin"] else None
    preset = choose_preset(clip, given["preset"], origin)
    recipe = changed_recipe(default_recipe(preset, origin), given)
    with StatusLine("inr-train", quiet) as status, _resume_line(output):
        checkpoint = fit(
            clip,
            given["preset"],
            epochs=given["epochs"],
            seconds=parse_duration(given["time_budget"]) if given["time_budget"] else 0.0,
            recipe=recipe,
            config=parse_overrides(preset.family, given["overrides"]),
            quantize=given["quantize"],
            sparsity=given["prune"],
            origin=origin,
            seed=given["seed"],
            device=given["device"],
            threads=given["threads"],
            output=output,
            overwrite=given["overwrite"],
            resume=given["resume"],
            log=given["log"],
            save_every=given["save_every"],
            announce=lambda estimate: _announce(clip, estimate, quiet),
            progress=lambda p: _show(status, p),
            complete=_scoring(whole, status) if whole else None,
        )
    _tell(checkpoint, output, quiet)
    return checkpoint


def _scoring(whole: Clip, status: StatusLine) -> Callable[[Checkpoint], Checkpoint]:
    return lambda checkpoint: score_heldout(checkpoint, whole, lambda i, n: status.update(i, n, "held-out frame"))


def _check_adopted(given: dict[str, Any]) -> None:
    """Raises `UsageError` where options are given that mean something in training only."""
    if given["preset"] == "auto":
        raise UsageError("--from-weights needs the --preset that the weights belong to")
    allowed = {"preset", "overrides", "heldout", "overwrite", "threads"}
    others = {k for k, v in given.items() if k not in allowed and v and v != TRAINING_DEFAULTS.get(k)}
    others |= {"set recipe" for pair in given["overrides"] if pair.startswith("recipe.")}
    if others:
        names = ", ".join(f"--{name.replace('origin', 'from').replace('_', '-')}" for name in sorted(others))
        raise UsageError(f"--from-weights trains nothing, and takes no {names}")


def _adopted(clip: Clip, weights: Path, given: dict[str, Any]) -> Checkpoint:
    """The model of somebody else's weights."""
    family = choose_preset(clip, given["preset"]).family
    return adopt(clip, given["preset"], weights, parse_overrides(family, given["overrides"]))


def _tell(checkpoint: Checkpoint, output: Path, quiet: bool) -> None:
    facts = checkpoint.report
    compared, count = facts.get("evaluated_frames"), checkpoint.info.frame_count
    few = f" over {compared} of {count} frames" if compared and compared < count else ""
    size = f"{facts['parameters']:,} parameters"
    say(f"{output}: {facts['psnr_db']:.2f} dB{few}, {size}, {clock(facts['train_seconds'])}", quiet)
    if facts.get("heldout"):
        say(_heldout_line(facts["heldout"]), quiet)
    goal = checkpoint.recipe.get("until_psnr")
    if goal and max(r["psnr_db"] for r in facts["curve"]) < goal:
        say(f"{goal:g} dB was not reached; train longer (--epochs, --time-budget) or take a larger --preset", quiet)
    say(f"next: inr-export {shlex.quote(str(output))} --int8", quiet)


@contextmanager
def _resume_line(output: Path) -> Iterator[None]:
    """After Ctrl-C, if there is something to go on with: the command to type, the same one with --resume."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if last_path(output).exists():
            arguments = [a for a in sys.argv[1:] if a != "--resume"]
            say(f"\nstopped; to go on: {shlex.join([Path(sys.argv[0]).name, *arguments, '--resume'])}")
        raise


def report(checkpoint: Checkpoint) -> dict[str, Any]:
    """The JSON of `inr-train --json`."""
    names = ("preset", "parameters", "sparsity", "psnr_db", "psnr_8bit_db", "psnr_float_db", "train_seconds", "device")
    facts = {name: checkpoint.report[name] for name in names}
    info = checkpoint.info
    size = {"width": info.width, "height": info.height, "frames": info.frame_count}
    epochs = checkpoint.report.get("epochs", checkpoint.recipe["epochs"])
    fixed = {"model": checkpoint.model, "epochs": epochs, "seed": checkpoint.seed}
    facts["evaluated_frames"] = checkpoint.report.get("evaluated_frames", info.frame_count)
    bits = {"weight_bits": checkpoint.bits.weights, "float_bits": checkpoint.bits.floats}
    rest = {**bits, "grid_bits": list(checkpoint.bits.grids), "recipe": dict(checkpoint.recipe)}
    return {**facts, **size, **fixed, **rest, **{name: checkpoint.report.get(name) for name in ("race", "heldout")}}


def default_output(video: str) -> Path:
    """The video's name, or its folder's for a pattern like frames/%05d.png, with .pt."""
    source = Path(video)
    name = source.parent.name if "%" in source.name else source.stem if source.is_file() else source.name
    return Path(f"{name or 'model'}.pt")


def _announce(clip: Clip, e: Estimate, quiet: bool) -> None:
    size = f"{e.frames} frames of {clip.info.width}x{clip.info.height}"
    if isinstance(clip, Sound):
        size = f"{clip.info.width} samples at {float(clip.info.fps):g} Hz, {clip.channels} channels"
    say(
        f"{size}, preset {e.preset} ({e.parameters:,} parameters), {e.epochs:.4g} epochs: about "
        f"{clock(e.seconds)}, a file of about {megabytes(e.file_bytes)}, {megabytes(e.memory_bytes)} of memory",
        quiet,
    )


def _show(status: StatusLine, p: Progress) -> None:
    psnr = "-" if p.psnr_db is None else f"{p.psnr_db:.2f}"
    speed, eta = f"{p.steps_per_second:.1f} steps/s", clock(p.eta_seconds)
    facts = {"psnr": psnr, "loss": f"{p.loss:.4f}", "speed": speed, "eta": eta, "phase": p.phase}
    status.update(int(p.epoch), math.ceil(p.epochs), "epoch", **facts)


def _check_model(name: str, as_json: bool, quiet: bool) -> None:
    """Print which points of the contract hold; raises `InrError` where one does not."""
    if name == "auto":
        raise UsageError("which model? --check-model needs --model FILE.py:Class or --preset NAME")
    preset = preset_named(name)
    if MODELS[preset.family].role != "frame":
        raise UsageError(f"--check-model is for models that draw whole frames; {name} draws tiles")
    checks = check_model(preset)
    failed = [c for c in checks if c.problem]
    if as_json:
        print_json([{"check": c.name, "holds": not c.problem, "problem": c.problem} for c in checks])
    for c in checks:
        say(f"{'FAILS' if c.problem else 'holds'}  {c.name}" + (f"\n       {c.problem}" if c.problem else ""), quiet)
    if failed:
        raise InrError(f"{name} does not keep the contract: {failed[0].problem}")


def _list_presets(size: str | None, frames: int | None, as_json: bool) -> None:
    width, height = parse_size(size) if size else (1280, 720)
    rows = describe_presets(height, width, frames or 132)
    if as_json:
        print_json(rows)
        return
    table = Table("preset", "family", *(("parameters", "GMAC/frame", "kMAC/pixel", "bytes, about")), box=None)
    for row in rows:
        numbers = (
            f"{row['gmac_per_frame']:.2f}",
            f"{row['kmac_per_pixel']:.1f}",
            megabytes(row["bytes_int8_estimate"]),
        )
        table.add_row(row["preset"], row["family"], f"{row['parameters']:,}", *numbers)
    PipedConsole(width=100).print(table)
    say(f"at {width}x{height}, {frames or 132} frames; auto is {default_preset(height, width).name}")
