"""Numbered files: `frames/%05d.png` names frames/00001.png, frames/00002.png and so on."""

from __future__ import annotations

import re
from pathlib import Path

_NUMBER = re.compile(r"%(?:0?\d+)?d")


def is_pattern(path: Path) -> bool:
    """Whether the file name holds a place for a number."""
    return _NUMBER.search(path.name) is not None


def numbered(pattern: Path, number: int) -> str:
    """The file name that `pattern` gives to `number`."""
    return _NUMBER.sub(lambda place: place[0] % number, pattern.name, count=1)


def matching(pattern: Path) -> list[Path]:
    """The files that exist of a pattern, by number, from the lowest; gaps are passed over."""
    before, after = (re.escape(part) for part in _NUMBER.split(pattern.name, maxsplit=1))
    name = re.compile(f"{before}(\\d+){after}")
    files = pattern.parent.iterdir() if pattern.parent.is_dir() else ()
    found = {int(match[1]): file for file in files if (match := name.fullmatch(file.name))}
    return [found[number] for number in sorted(found)]
