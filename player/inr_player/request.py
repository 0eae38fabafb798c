"""What a user asked `inr-play` to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from inr_player.benchmark import available_cores
from inr_player.reference import Reference
from inr_player.selection import Selection
from inr_runtime.audio import AudioDecoder, open_audio
from inr_runtime.backends import building
from inr_runtime.cli import StatusLine, say
from inr_runtime.decoder import Decoder, open_video
from inr_runtime.errors import UsageError
from inr_runtime.format import NvbReader
from inr_runtime.lower import CPU_TARGETS
from inr_runtime.opened import OpenFile

Opened = TypeVar("Opened", bound=OpenFile)

_PART = ("--start", "--end", "--length", "--frames")
_ENGINE = ("--backend", "--target")
_HEEDED: dict[str, tuple[str, tuple[str, ...]]] = {
    "--backends": ("tries every engine", ()),
    "--info": ("shows what the file holds", ()),
    "--prepare": ("builds the engine for the whole file", (*_ENGINE, "--size")),
    "--profile": ("measures frames of the file's beginning, in its own size", _ENGINE),
    "--benchmark": ("is for pictures", (*_PART, *_ENGINE, "--size")),
    "--compare": ("is for pictures", (*_PART, *_ENGINE, "--size")),
}
"""What each action does, and which of the flags that say what to play, and how, mean something to it."""


@dataclass(frozen=True)
class Request:
    """The command line of `inr-play`, one field per option. file: empty where engines are listed without one."""

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
    listing: bool
    prepare: bool
    reference: Reference | None
    backend: str
    target: str
    threads: int
    overwrite: bool
    quiet: bool
    as_json: bool

    def check(self) -> None:
        """Raise `UsageError` where options contradict each other, or where one would be ignored."""
        chosen = self._actions()
        if len(chosen) > 1:
            raise UsageError(f"{' and '.join(chosen)} are different things to do; give one at a time")
        if self.output == "-" and self.as_json:
            raise UsageError("-o - and --json both write to stdout; give -o a file name")
        if self.output and self.vo == "null":
            raise UsageError("--vo null decodes to nowhere and -o writes; give one of them")
        if self.interpolate and not self.fps:
            raise UsageError("--interpolate draws moments between frames; add the --fps to play at")
        if self.profile and self.backend not in ("auto", "cpu"):
            raise UsageError("--profile measures ONNX Runtime on the CPU; leave out --backend")
        if self.profile and self.target not in ("auto", *CPU_TARGETS):
            raise UsageError(f"--profile measures ONNX Runtime on the CPU; --target {' or '.join(CPU_TARGETS)}")
        if (self.format or self.pix_fmt) and not self.output:
            raise UsageError("--format and --pix-fmt say how to write; add -o FILE")
        for action in chosen:
            self._check_heeded(action)

    def _actions(self) -> list[str]:
        """The flags of what is to be done, besides playing to nowhere."""
        given = {
            "--backends": self.listing,
            "--info": self.info,
            "--prepare": self.prepare,
            "--benchmark": self.benchmark,
            "--profile": self.profile,
            "--compare": self.reference,
            "-o": self.output,
        }
        return [flag for flag, used in given.items() if used]

    def _check_heeded(self, action: str) -> None:
        if action == "-o":
            return
        if self.fps:
            raise UsageError("--fps is for playing; give it with -o FILE or --vo")
        does, heeded = _HEEDED[action]
        ignored = [flag for flag in self._given() if flag not in heeded]
        if ignored:
            raise UsageError(f"{action} {does}; leave out {' and '.join(ignored)}")

    def _given(self) -> list[str]:
        """The flags among those that say what to play, and how."""
        given = {
            "--start": self.selection.start,
            "--end": self.selection.end,
            "--length": self.selection.length,
            "--frames": self.selection.frames,
            "--size": self.size,
            "--rate": self.rate,
            "--backend": self.backend != "auto",
            "--target": self.target != "auto",
        }
        return [flag for flag, used in given.items() if used]

    def open(self) -> Decoder:
        """Open the file's pictures in an engine and say which one it is."""
        return self._opened(open_video, size=self.size)

    def open_sound(self) -> AudioDecoder:
        """Open the file's sound in an engine and say which one it is."""
        return self._opened(open_audio)

    def _opened(self, open_file: Callable[..., Opened], **more: Any) -> Opened:
        with showing_builds(self.quiet):
            opened = open_file(self.file, backend=self.backend, target=self.target, threads=self.threads, **more)
        say(engine_line(opened, self.threads), self.quiet)
        return opened


def media_of(file: str) -> str:
    """What a file holds: one of `inr_runtime.chunks.MEDIA_KINDS`. Raises what `NvbReader` raises."""
    with NvbReader(file) as reader:
        return reader.header.media


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
