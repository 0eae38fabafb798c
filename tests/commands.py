"""Running the installed commands as a user does, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Callable
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
    return subprocess.run([script("inr-play"), *map(str, arguments)], capture_output=True, timeout=60, **options)


def start_play(*arguments: object) -> subprocess.Popen[bytes]:
    """Start `inr-play` with pipes on stdout and stderr."""
    command = [script("inr-play"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
