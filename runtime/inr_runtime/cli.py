"""Manners shared by the three commands: exit codes, words on stderr, progress on one line, JSON on stdout."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from inr_runtime.errors import InrError

INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143
MAX_THREADS = 1024
"""No machine has as many cores, and engines refuse or break on numbers that are much larger."""


def run_command(command: click.Command, on_interrupt: Callable[[], str | None] | None = None) -> None:
    """Run a click command and leave the process with this project's exit codes (see `errors.py`).

    on_interrupt: gives a line to print after Ctrl-C. Errors are one line on stderr; with -v the traceback too.
    """
    warnings.showwarning = _show_warning
    _leave_tidily_on_sigterm()
    try:
        # Not command.main: it turns a closed pipe into exit code 1.
        with command.make_context(_name(), sys.argv[1:]) as context:
            command.invoke(context)
        sys.stdout.flush()
        code = 0
    except click.exceptions.Exit as exit_request:
        code = exit_request.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        code = 2
    except BrokenPipeError:
        # Python flushes stdout at exit and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        line = on_interrupt() if on_interrupt else None
        say(line or f"{_name()}: interrupted")
        code = INTERRUPTED
    except InrError as error:
        code = _explain(error, error.exit_code)
    except (MemoryError, OSError) as error:
        code = _explain(error, 1)
    sys.exit(code)


def run_extra(module: str, install: str) -> None:
    """Run the click command called `command` of a module that needs more than what plays videos.

    install: the pip line to print where something is missing.
    """
    _leave_tidily_on_sigterm()
    try:
        command = importlib.import_module(module).command
    except KeyboardInterrupt:
        say(f"{_name()}: interrupted")
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        say(f"{Path(sys.argv[0]).name}: {error.name} is not installed; run: {install}")
        sys.exit(1)
    run_command(command)


def _leave_tidily_on_sigterm() -> None:
    """Let SIGTERM end the process as an exception, so that temporary files are removed."""

    def leave(number: int, frame: object) -> None:
        sys.exit(TERMINATED)

    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)


def _explain(error: BaseException, code: int) -> int:
    if logging.getLogger("inr").isEnabledFor(logging.INFO):
        traceback.print_exception(error)
    text = str(error) or type(error).__name__
    click.echo(f"{_name()}: {text}", err=True)
    return code


def _name() -> str:
    return Path(sys.argv[0]).stem


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    click.echo(f"{_name()}: warning: {message}", err=True)


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """-y, -q, -v, --json, --threads, --version, -h on every command, as overwrite, quiet, verbose, as_json, threads."""
    options = [
        click.option("-y", "--overwrite", is_flag=True, help="Overwrite outputs that exist."),
        click.option("-q", "--quiet", is_flag=True, callback=_set_quiet, help="No words but errors."),
        click.option("-v", "--verbose", count=True, callback=_set_verbosity, expose_value=False, help="More words."),
        click.option("--json", "as_json", is_flag=True, help="JSON on stdout."),
        click.option(
            "--threads",
            type=click.IntRange(0, MAX_THREADS),
            default=0,
            show_default=True,
            help="CPU threads; 0 = all (in training all or one).",
        ),
        click.version_option(version("inr-video"), "--version"),
        click.help_option("-h", "--help"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _set_verbosity(context: click.Context, parameter: click.Parameter, value: int) -> None:
    logging.getLogger("inr").setLevel(logging.INFO if value else logging.WARNING)


def _set_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        warnings.simplefilter("ignore")
        log = logging.getLogger("inr")
        log.addFilter(_is_error)
        context.call_on_close(lambda: log.removeFilter(_is_error))
    return value


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def say(text: str, quiet: bool = False) -> None:
    """A line for people: on stderr, nothing with quiet."""
    if not quiet:
        click.echo(text, err=True)


def print_json(data: Mapping[str, Any] | list[Any]) -> None:
    """A JSON value on stdout; NaN and infinity become null."""
    click.echo(json.dumps(_finite(data), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


class StatusLine:
    """Progress: one line rewritten in place on a terminal, else a plain line every ten seconds. A context manager."""

    def __init__(self, name: str, quiet: bool = False) -> None:
        self._name, self._quiet, self._terminal = name, quiet, sys.stderr.isatty()
        self._shown, self._width = 0.0, 0

    def __enter__(self) -> StatusLine:
        self._shown = time.monotonic() - (8.0 if not self._terminal else 0.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._width:
            sys.stderr.write("\n")
            sys.stderr.flush()

    def update(self, done: int, total: int, unit: str = "", **facts: str) -> None:
        """`name unit done/total (p%)  key value  key value`, at most ten times a second and at the end."""
        now = time.monotonic()
        due = now - self._shown >= (0.1 if self._terminal else 10.0)
        if self._quiet or not (due or (self._terminal and done >= total)):
            return
        self._shown = now
        place = f"{self._name} {unit} {done}/{total} ({100 * done // max(total, 1)}%)".replace("  ", " ")
        line = "  ".join([place, *(f"{k} {v}" for k, v in facts.items())])
        if self._terminal:
            sys.stderr.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def megabytes(count: float) -> str:
    """Bytes for people: 812 B, 34.1 kB, 1.21 MB, 3.4 GB."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f} B"
