"""The manners that all commands share: exit codes, progress, numbers for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings

import click
import pytest

from inr_runtime.cli import StatusLine, clock, common_options, megabytes, print_json, run_command, say
from inr_runtime.errors import InputError, InrError, PromiseError, UsageError


class Terminal(io.StringIO):
    """What a terminal would have been sent."""

    def isatty(self) -> bool:
        return True


def left_with(error: BaseException | None, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Exit code of a command that ends with `error`."""

    @click.command()
    @common_options
    def command(**given: object) -> None:
        warnings.warn("gone", UserWarning, stacklevel=1)
        logging.getLogger("inr").warning("slower")
        if error:
            raise error

    monkeypatch.setattr(sys, "argv", ["/usr/bin/inr-test", *arguments])
    with pytest.raises(SystemExit) as left:
        run_command(command, lambda: "go on with --resume")
    return left.value.code


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (None, 0, ""),
        (InrError("no luck"), 1, "inr-test: no luck\n"),
        (UsageError("a and b"), 2, "inr-test: a and b\n"),
        (InputError("a.mp4: what?"), 3, "inr-test: a.mp4: what?\n"),
        (PromiseError("too far"), 4, "inr-test: too far\n"),
        (OSError(28, "No space left on device"), 1, "inr-test: [Errno 28] No space left on device\n"),
        (MemoryError(), 1, "inr-test: MemoryError\n"),
        (KeyboardInterrupt(), 130, "go on with --resume\n"),
    ],
)
def test_every_end_has_its_code_and_one_line(
    error: BaseException | None,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert left_with(error, monkeypatch, "-q") == code
    assert capsys.readouterr() == ("", words)


def test_a_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        left_with(ZeroDivisionError(), monkeypatch)


def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert left_with(None, monkeypatch) == 0
    assert capsys.readouterr().err == "inr-test: warning: gone\n"


def test_quiet_silences_the_log_of_that_command_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With -q an engine that was replaced while it played was still spoken of."""
    assert left_with(None, monkeypatch, "-q") == left_with(None, monkeypatch) == 0
    assert caplog.messages == ["slower"]


def test_progress_on_a_terminal_is_one_line_that_reaches_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with StatusLine("inr-test") as status:
        for done in range(1, 1001):
            status.update(done, 1000, "frame", fps="60")
    shown = terminal.getvalue()
    assert shown.endswith("\rinr-test frame 1000/1000 (100%)  fps 60\n")
    assert shown.count("\n") == 1


def test_progress_in_a_log_is_rare_and_quiet_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with StatusLine("inr-test", quiet) as status:
            status.update(5, 5)
        assert stream.getvalue() == ""


def test_json_holds_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"psnr_db": float("nan"), "rows": [float("inf"), 1.5], "name": "ü"})
    assert json.loads(capsys.readouterr().out) == {"psnr_db": None, "rows": [None, 1.5], "name": "ü"}


def test_words_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    say("not this", quiet=True)
    assert capsys.readouterr() == ("", "hello\n")
    assert [clock(0), clock(59.6), clock(3725)] == ["0:00:00", "0:01:00", "1:02:05"]
    assert [megabytes(n) for n in (812, 34_100, 1_210_000, 3.4e9)] == ["812 B", "34.1 kB", "1.21 MB", "3.4 GB"]


@pytest.mark.parametrize(("command", "package"), [("inr-train", "inr_train"), ("inr-export", "inr_export")])
def test_without_pytorch_the_commands_that_need_it_say_what_to_install(command: str, package: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; sys.argv = ['{command}']; from {package}.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"{command}: torch is not installed; run: pip install 'inr-video[train,export,cpu]'"
