"""The command `inr-play`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from inr_player.actions import run
from inr_player.reference import Reference
from inr_player.request import Request
from inr_player.selection import Selection
from inr_runtime.audio import MAX_RATE
from inr_runtime.backends import BACKENDS
from inr_runtime.cli import common_options, run_command
from inr_runtime.errors import UsageError
from inr_runtime.lower import TARGETS
from inr_runtime.media import parse_crop, parse_position, parse_rate, parse_size


def _parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A click callback that reads an option's text; an error then names the option."""

    def callback(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except UsageError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _position(flag: str, text: str) -> Callable[..., Any]:
    return click.option(flag, metavar="POS", callback=_parsed(parse_position), help=text)


@click.command(name="inr-play", context_settings={"max_content_width": 110})
@click.argument("file", required=False, metavar="FILE.nvb")
@click.option(
    "-o", "--output", metavar="FILE|-", help="Write .mp4 .mkv .mov .webm .y4m .yuv .rgb .png %05d.png .wav, -"
)
@click.option(
    "-f", "--format", type=click.Choice(["y4m", "raw", "png"]), help="Format of -o (default: by its name; - is y4m)."
)
@click.option("--pix-fmt", type=click.Choice(["yuv420p", "yuv444p", "rgb24"]), help="Pixels of -o (default: by name).")
@click.option(
    "--vo", type=click.Choice(["window", "null"]), default="window", show_default=True, help="null decodes to nowhere."
)
@_position("--start", "First frame: seconds, [[hh:]mm:]ss, 12% or 120f (default: 0f).")
@_position("--end", "First frame left out (default: 100%).")
@_position("--length", "How long from --start (default: to the end).")
@click.option("--frames", type=click.IntRange(1), help="At most this many frames (default: all).")
@click.option("--fps", metavar="N", callback=_parsed(parse_rate), help="Frames per second of -o (default: the file's).")
@click.option("--interpolate", is_flag=True, help="Let the network draw moments between frames, whatever its score.")
@click.option(
    "--size", metavar="WxH", callback=_parsed(parse_size), help="Draw in this size (networks of coordinates only)."
)
@click.option("--rate", type=click.IntRange(1, MAX_RATE), metavar="HZ", help="Sample rate of sound (default: its own).")
@click.option("--benchmark", is_flag=True, help="Decode as fast as possible to nowhere, and measure.")
@click.option("--profile", is_flag=True, help="Show where decoding spends its time, operator by operator.")
@click.option("--info", is_flag=True, help="Show what the file holds.")
@click.option("--compare", "ref", metavar="REF", help="PSNR and MS-SSIM against a video, images, or raw frames.")
@click.option("--ref-crop", metavar="WxH[+X+Y]", callback=_parsed(parse_crop), help="Cut this out of REF first.")
@_position("--ref-start", "The frame of REF that is the file's first (default: 0f).")
@click.option("--backend", type=click.Choice(["auto", *BACKENDS]), default="auto", show_default=True, help="Engine.")
@click.option(
    "--target",
    type=click.Choice(["auto", *TARGETS]),
    default="auto",
    show_default=True,
    help="Engine and arithmetic; auto is the best that works.",
)
@click.option(
    "--backends", "--list-backends", "listing", is_flag=True, help="Show the engines, and which can play FILE.nvb."
)
@click.option("--prepare", is_flag=True, help="Build and keep the engine for FILE.nvb now (TensorRT takes minutes).")
@common_options
def command(file: str | None, **given: Any) -> None:
    """Play FILE.nvb, turn it into an ordinary video, measure it, or look inside.

    \b
    inr-play clip.nvb -o clip.mp4
    inr-play clip.nvb -o - | mpv -
    inr-play clip.nvb --compare original.mp4
    """
    if file is None and not given["listing"]:
        raise UsageError("which file? inr-play FILE.nvb (inr-export makes one)")
    request = _request(file or "", **given)
    request.check()
    run(request)


def _request(file: str, **given: Any) -> Request:
    selection = Selection(*(given.pop(name) for name in ("start", "end", "length", "frames")))
    path, crop, start = (given.pop(name) for name in ("ref", "ref_crop", "ref_start"))
    if path is None and (crop or start):
        raise UsageError("--ref-crop and --ref-start are about a reference; add --compare REF")
    return Request(file, selection=selection, reference=Reference(path, crop, start) if path else None, **given)


def main() -> None:
    """Entry point."""
    run_command(command)
