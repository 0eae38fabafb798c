"""README is true: its Python examples run, its tables come from result files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiles import make_picture, make_sound

from inr_runtime import VideoInfo

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


OF_OTHER_COMMANDS = {
    *("--minutes", "--seconds", "--only", "--trained", "--compiled"),
    *("--system-site-packages", "--record", "--kills"),
    *("--list", "--reduced", "--table", "--row", "--seeds", "--video", "--dataset", "--root"),
    *("--adam", "--muon"),
}
"""Of Python and of the benchmarks."""


def test_every_python_example_runs_in_order(tmp_path: Path) -> None:
    """Beside the files that the commands before them have made: a picture and a sound."""
    make_picture(tmp_path / "p.nvb", VideoInfo(64, 64, 1), (64, 64))
    make_sound(tmp_path / "s.nvb", [2000])
    examples = re.findall(r"```py(?:thon)?\n(.*?)```", README, re.DOTALL)
    assert len(examples) >= 4
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_tables_are_those_of_the_result_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.bench.tables import DOCUMENTS, rewrite

    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert rewrite(text) == text, "run: python -m tests.bench.tables"


def test_every_flag_named_in_the_documents_exists() -> None:
    documents = [README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").glob("*.md"))]
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", "\n".join(documents))) - OF_OTHER_COMMANDS
    scripts = Path(sys.executable).parent
    commands = [scripts / name for name in ("inr-train", "inr-export", "inr-play")]
    environment = {**os.environ, "COLUMNS": "120"}
    helps = [
        subprocess.run([c, "-h"], capture_output=True, text=True, check=True, env=environment).stdout for c in commands
    ]
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", "\n".join(helps)))
    assert sorted(flags - known) == []
