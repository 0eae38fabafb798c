"""Every error a user can meet, each with the exit code that the commands give it.

| code | means |
|--:|---|
| 1 | it failed while running, or an optional extra is not installed |
| 2 | wrong usage: contradicting options, output exists |
| 3 | an input cannot be opened or is not what it should be |
| 4 | finished, but a promise was not kept |
"""

from __future__ import annotations

from typing import Any


class InrError(Exception):
    """Base of all errors of this project; its text is one line that names the way out."""

    exit_code = 1


class MissingExtraError(InrError):
    """An optional dependency is not installed; the text holds the pip line."""


class BackendError(InrError):
    """An inference engine is missing or failed."""


class UsageError(InrError):
    """Options contradict each other, or an output exists and may not be overwritten."""

    exit_code = 2


class InputError(InrError):
    """An input cannot be opened or is not what it should be."""

    exit_code = 3


class MediaError(InputError):
    """A video, image or sound cannot be read."""


class PromiseError(InrError):
    """The work is done but a promise (quality, size) was not kept.

    report: what was made all the same, for callers that want it.
    """

    exit_code = 4

    def __init__(self, text: str, report: Any = None) -> None:
        super().__init__(text)
        self.report = report


class NvbError(InputError):
    """A .nvb file is not readable: base of everything below."""


class NotNvbError(NvbError):
    """The file does not begin with the .nvb magic."""


class VersionError(NvbError):
    """The file needs a newer major version than this reader."""


class TruncatedError(NvbError):
    """The file ends before its own lengths say it should."""


class ChecksumError(NvbError):
    """Stored and computed checksums differ: the bytes were altered."""


class FormatError(NvbError):
    """A field holds a value that the format does not allow."""


class LimitError(NvbError):
    """The file asks for more than the reader's limits allow."""


class GraphError(NvbError):
    """A graph is outside the closed dialect."""


def first_line(error: Exception) -> str:
    """The first line of an engine's or a compiler's error, which may run over many."""
    return (str(error).splitlines() or [type(error).__name__])[0]
