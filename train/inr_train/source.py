"""Where a clip came from, remembered in `model.pt` so that a later stage can read the same frames again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Any

from inr_runtime.errors import InrError
from inr_runtime.media import Position, ReadOptions
from inr_train.clip import EXCERPT, Clip, excerpt
from inr_train.sound import read_source


def describe_source(clip: Clip) -> dict[str, Any]:
    """Path, reading options, thinning and hash of a clip, as plain types."""
    path = os.path.abspath(clip.source) if os.path.exists(clip.source) else clip.source
    options = _options_to_dict(clip.options)
    return {"path": path, "options": options, "every": clip.every, "frames_sha256": clip.digest}


def find_source(source: Mapping[str, Any]) -> Clip | None:
    """The clip that `describe_source` described, if its file is still there and unchanged, else None."""
    try:
        path = source["path"]
        clip = excerpt() if path == EXCERPT.name else read_source(path, _options_from_dict(source["options"]))
        clip = clip.thinned(int(source.get("every", 1)))
    except (InrError, OSError, KeyError, TypeError, ValueError):
        return None
    return clip if clip.digest == source.get("frames_sha256") else None


def _options_to_dict(options: ReadOptions) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Position):
            value = [value.value, value.unit]
        plain[field.name] = (
            list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Fraction) else value
        )
    return plain


def _options_from_dict(data: Mapping[str, Any]) -> ReadOptions:
    values = dict(data)
    for name in ("start", "end"):
        values[name] = None if values[name] is None else Position(*values[name])
    for name in ("size", "crop"):
        values[name] = None if values[name] is None else tuple(values[name])
    values["fps"] = None if values["fps"] is None else Fraction(values["fps"])
    return ReadOptions(**values)
