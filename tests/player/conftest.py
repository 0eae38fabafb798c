"""`inr-play` without the half second that a new process takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import Call

from inr_player.cli import main


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run `inr-play` in this process and the test's empty folder."""

    def run(*arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["inr-play", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code, *capfd.readouterr())

    return run
