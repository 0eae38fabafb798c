"""Write the results of a benchmark where documentation tables and plots are made from."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inr_train import Clip

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "inr-video",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-openvino",
    "tensorrt",
    "torch",
    "av",
)


def write_results(
    bench: str,
    protocol: str,
    rows: Sequence[dict[str, Any]],
    hardware: str | None = None,
    origin: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write `results/<bench>/<hardware>.json` and return its path; arguments as of `make_record`, more: other keys.

    It is said on stderr where somebody else cannot check out what was measured.
    """
    record = {**make_record(bench, protocol, rows, hardware, origin), **more}
    commits = {record["commit"], *(row["commit"] for row in rows if "commit" in row)}
    for name in sorted(c for c in commits if c == "unknown" or c.endswith("-dirty")):
        print(f"{bench}: figures of commit {name}, which nobody can check out", file=sys.stderr)
    path = RESULTS / bench / f"{slug(record['hardware'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def recorded(bench: str, hardware: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of this machine's result file, each with its commit and clip; none where there is no file.

    hardware: as of `make_record`. Rows of before had no clip where the protocol begins with that of all.
    """
    path = RESULTS / bench / f"{slug(hardware or processor_name())}.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    all_of = {"commit": record["commit"], "clip": record["protocol"].partition(";")[0]}
    return [{**all_of, **row} for row in record["rows"]]


def with_recorded(
    bench: str, rows: Sequence[dict[str, Any]], keys: Sequence[str], hardware: str | None = None
) -> list[dict[str, Any]]:
    """Return the rows of this machine's result file, with new ones in the places of those that have the same keys."""
    known, new = ({tuple(r[k] for k in keys): r for r in found} for found in (recorded(bench, hardware), rows))
    return list((known | new).values())


def make_record(
    bench: str,
    protocol: str,
    rows: Sequence[dict[str, Any]],
    hardware: str | None = None,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a result file holds.

    A row names its model, engine or codec and carries figures with units in their keys. `protocol` says in words what
    was measured and how; `hardware` is the processor's name unless given (a GPU's, say); `origin` is what `origin_now`
    gave when the rows were measured, for those that are not of now.
    """
    return {
        "bench": bench,
        "hardware": hardware or processor_name(),
        "cores": os.cpu_count(),
        **(origin or origin_now()),
        "protocol": protocol,
        "rows": list(rows),
    }


def origin_now() -> dict[str, Any]:
    """Return what figures measured now come from: `versions` of packages, `commit`, `date`."""
    return {
        "versions": {"python": platform.python_version(), "system": platform.system(), **package_versions()},
        "commit": commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def clip_of(video: str | None, size: str | None) -> Clip:
    """What a bench looks at: a file, scaled to WxH where that is given, or the embedded excerpt."""
    from inr_runtime.media import ReadOptions, parse_size
    from inr_train import Clip, excerpt

    return Clip.read(video, ReadOptions(size=parse_size(size) if size else None)) if video else excerpt()


def described(clip: Clip) -> str:
    """A clip for protocols: frames, size, name."""
    return f"{len(clip)} frames of {clip.info.width}x{clip.info.height} of {Path(clip.source).name}"


def gpu_name(device: str) -> str | None:
    """The name of the GPU that `--device` of a bench means; None where that is the processor."""
    import torch

    from inr_train.start import choose_device

    place = choose_device(device)
    return torch.cuda.get_device_name(place) if place.type == "cuda" else None


def processor_name() -> str:
    """Return the model name of the processor, as the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def package_versions() -> dict[str, str]:
    """Return the versions of those packages that matter to results and are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


@cache
def commit() -> str:
    """Return the short hash of the checked-out commit, 'unknown' outside a repository.

    It says `-dirty` where files are changed, but of results, which one record writes after another. Long benches ask
    when they start: later answers are the same, since what runs is what was loaded then.
    """
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    others = ["git", "diff", "--quiet", "HEAD", "--", ":/", ":(exclude,top)tests/bench/results"]
    changed = subprocess.run(others, cwd=Path(__file__).parent, check=False).returncode
    return done.stdout.strip() + ("-dirty" if changed else "")


def slug(name: str) -> str:
    """Return a name as lower-case words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")
