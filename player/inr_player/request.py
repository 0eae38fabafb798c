"""What a user asked `inr-play` to do."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from inr_player.benchmark import available_cores
from inr_player.compare import Reference
from inr_player.selection import Selection
from inr_runtime.cli import say
from inr_runtime.decoder import Decoder, open_video
from inr_runtime.errors import UsageError


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
    info: bool
    reference: Reference | None
    backend: str
    target: str
    threads: int
    overwrite: bool
    quiet: bool
    as_json: bool

    def check(self) -> None:
        """Raise `UsageError` where options contradict each other."""
        given = {"--info": self.info, "--benchmark": self.benchmark, "--compare": bool(self.reference)}
        chosen = [name for name, used in {**given, "-o": bool(self.output)}.items() if used]
        if len(chosen) > 1:
            raise UsageError(f"{' and '.join(chosen)} are different things to do; give one at a time")
        if self.output == "-" and self.as_json:
            raise UsageError("-o - and --json both write to stdout; give -o a file name")
        if self.interpolate and not self.fps:
            raise UsageError("--interpolate draws moments between frames; add the --fps to play at")
        if self.interpolate and not self.fps:
            raise UsageError("--interpolate draws moments between frames; add the --fps to play at")
        if self.fps and (self.info or self.benchmark or self.reference):
            raise UsageError("--fps is for playing; give it with -o FILE or --vo")
        if (self.format or self.pix_fmt) and not self.output:
            raise UsageError("--format and --pix-fmt say how to write; add -o FILE")
        if self.info and (self.size or self.rate):
            raise UsageError("--info shows what the file holds; leave out --size and --rate")

    def open(self) -> Decoder:
        """Open the file in an engine and say which one it is."""
        engine: dict[str, Any] = {"backend": self.backend, "target": self.target, "threads": self.threads}
        decoder = open_video(self.file, size=self.size, **engine)
        say(f"{decoder.backend}, {self.threads or available_cores()} threads", self.quiet)
        return decoder
