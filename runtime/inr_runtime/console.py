"""Where tables for people are printed."""

from __future__ import annotations

from typing import Any

from rich.console import Console


class PipedConsole(Console):
    """A console on stdout that prints texts as they are: brackets and colons in names are no markup and no emoji.

    A closed pipe is left to `cli.run_command`, and its exit code with it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Raise `BrokenPipeError` on."""
        raise BrokenPipeError
