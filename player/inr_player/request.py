"""What a user asked `inr-play` to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from inr_player.benchmark import available_cores
from inr_player.reference import Reference
from inr_player.selection import Selection
from inr_runtime.backends import building
from inr_runtime.cli import StatusLine, say
from inr_runtime.decoder import Decoder, open_video
from inr_runtime.errors import UsageError
from inr_runtime.lower import CPU_TARGETS
from inr_runtime.opened import OpenFile


@dataclass(frozen=True)
class Request:
    """The command line of `inr-play`, one field per option."""

    file: str
    output: str | None
    format: str | None
    pix_fmt: str | None
    vo: str
    selection: Selection
    fps: Fraction | None
    interpolate: bool
    size: tuple[int, int] | None
    rate: int | None
    benchmark: bool
    profile: bool
    info: bool
    prepare: bool
    reference: Reference | None
    backend: str
    target: str
    threads: int
    overwrite: bool
    quiet: bool
    as_json: bool

    def check(self) -> None:
        """Raise `UsageError` where options contradict each other."""
        given = {
            "--info": self.info,
            "--prepare": self.prepare,
            "--benchmark": self.benchmark,
            "--profile": self.profile,
        }
        given["--compare"] = bool(self.reference)
        chosen = [name for name, used in {**given, "-o": bool(self.output)}.items() if used]
        if len(chosen) > 1:
            raise UsageError(f"{' and '.join(chosen)} are different things to do; give one at a time")
        if self.output == "-" and self.as_json:
            raise UsageError("-o - and --json both write to stdout; give -o a file name")
        if self.interpolate and not self.fps:
            raise UsageError("--interpolate draws moments between frames; add the --fps to play at")
        if self.profile and self.backend not in ("auto", "cpu"):
            raise UsageError("--profile measures ONNX Runtime on the CPU; leave out --backend")
        if self.profile and self.target not in ("auto", *CPU_TARGETS):
            raise UsageError(f"--profile measures ONNX Runtime on the CPU; --target {' or '.join(CPU_TARGETS)}")
        if self.profile and self.size:
            raise UsageError("--profile measures the file's own size; leave out --size")
        if self.fps and (self.info or self.benchmark or self.profile or self.reference):
            raise UsageError("--fps is for playing; give it with -o FILE or --vo")
        if (self.format or self.pix_fmt) and not self.output:
            raise UsageError("--format and --pix-fmt say how to write; add -o FILE")
        if self.info and (self.size or self.rate):
            raise UsageError("--info shows what the file holds; leave out --size and --rate")

    def open(self) -> Decoder:
        """Open the file in an engine and say which one it is."""
        engine: dict[str, Any] = {"backend": self.backend, "target": self.target, "threads": self.threads}
        with showing_builds(self.quiet):
            decoder = open_video(self.file, size=self.size, **engine)
        say(engine_line(decoder, self.threads), self.quiet)
        return decoder


def engine_line(decoder: OpenFile, threads: int) -> str:
    """What runs, and which better engines are here but did not play the file; with -v also those that are not here."""
    on_cpu = decoder.target.backend in ("cpu", "openvino")
    passed = dict(decoder.failed)
    if logging.getLogger("inr").isEnabledFor(logging.INFO):
        passed = {**decoder.missing, **passed}
    words = [decoder.backend + (f", {threads or available_cores()} threads" if on_cpu else "")]
    return "; ".join([*words, *(f"not {name}: {why}" for name, why in passed.items())])


@contextmanager
def showing_builds(quiet: bool) -> Iterator[None]:
    """Say how far engines are that are built inside this block."""

    def show(phase: str, done: int, steps: int) -> None:
        status.update(done, max(steps, 1), "building the engine", phase=phase)

    with StatusLine("inr-play", quiet) as status, building(show):
        yield
