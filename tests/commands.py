"""Running the installed commands as a user does, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Run = subprocess.CompletedProcess[bytes]
Call = Callable[..., tuple[int | str | None, str, str]]
"""Exit code, stdout and stderr of a command run in the process of the tests."""


def script(name: str) -> str:
    """Path of an installed console script."""
    return str(Path(sysconfig.get_path("scripts")) / (f"{name}.exe" if os.name == "nt" else name))


def inr_play(*arguments: object, **options: Any) -> Run:
    """Run `inr-play` to its end, with stdout and stderr as bytes."""
    return subprocess.run([script("inr-play"), *map(str, arguments)], capture_output=True, timeout=300, **options)


def start_play(*arguments: object) -> subprocess.Popen[bytes]:
    """Start `inr-play` with pipes on stdout and stderr."""
    command = [script("inr-play"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_text(name: str, *arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, its output as text; it must exit with `code` unless that is None."""
    done = subprocess.run([script(name), *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert code is None or done.returncode == code, done.stderr
    return done


SMALL = ("--preset", "nerv-xxs", "--threads", "1", "--amp", "off")
"""Options of a training run that repeats its result in any process."""


def start_train(
    video: Path, folder: Path, *extra: object, program: Sequence[str] = (), **options: Any
) -> subprocess.Popen[str]:
    """Start `inr-train` on `m.pt` in `folder`, with a pipe on stderr; a resume state after every step.

    program: what to start instead, with the same arguments.
    """
    name = program or [script("inr-train")]
    command = [*name, str(video), "-o", "m.pt", *SMALL, "--save-every", "0", *map(str, extra)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder, **options)


def wait_for(path: Path) -> None:
    """Until a file is there, at most two minutes."""
    for _ in range(2400):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path.name} did not come in two minutes")
