"""Representations of your own: a class outside this package, named on the command line.

A `model.pt` never names code to run: whoever opens one of a foreign class says where the class is.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from inr_runtime.errors import UsageError
from inr_train.models import MODELS, VideoModel
from inr_train.presets import PRESETS, Preset
from inr_train.recipes import FAST_RECIPE


def register(model: type[VideoModel]) -> Preset:
    """Make a class known under its `name`, as a family and as a preset of that name.

    Its config type needs defaults for all fields but `height`, `width` and `frames`, or a function
    `for_clip(height, width, frames)` that gives a config. Its attribute `recipe`, where it has one, says how it is
    trained. Raises `UsageError` where the class does not keep the contract of `VideoModel`, or its name is taken.
    """
    where = f"{model.__module__}.{model.__qualname__}"
    name, config = getattr(model, "name", None), getattr(model, "config_type", None)
    frozen = dataclasses.is_dataclass(config) and getattr(config, "__dataclass_params__").frozen  # noqa: B009
    if not (isinstance(name, str) and name.isidentifier() and frozen):
        raise UsageError(f"{where} needs a `name` (an identifier) and a frozen dataclass as its `config_type`")
    if name in MODELS and MODELS[name].__qualname__ != model.__qualname__:
        raise UsageError(f"{where}: the name {name!r} is taken; choose another `name`")
    make: Any = getattr(config, "for_clip", config)
    MODELS[name] = model
    PRESETS[name] = Preset(name, name, make, getattr(model, "recipe", FAST_RECIPE))
    return PRESETS[name]


def register_named(text: str) -> Preset:
    """`register` the class that `package.module:Class` or `file.py:Class` names; raises `UsageError`."""
    module_name, _, class_name = text.rpartition(":")
    if not module_name or not class_name.isidentifier():
        raise UsageError(f"--model {text}: expected package.module:Class or file.py:Class")
    module = _import(text, module_name)
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, VideoModel)):
        raise UsageError(f"--model {text}: {class_name} is not a VideoModel of {module_name}")
    return register(found)


def _import(text: str, name: str) -> ModuleType:
    """A module by its name, the current folder included, or by its file."""
    try:
        if not name.endswith(".py"):
            if os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(Path(name).stem, name)
        if spec is None or spec.loader is None:
            raise ImportError(f"{name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[Path(name).stem] = module
        spec.loader.exec_module(module)
        return module
    except (ImportError, OSError, SyntaxError) as error:
        raise UsageError(f"--model {text}: cannot be imported: {error}") from error
