"""The errors that a user may meet. Each message says what, where, got, allowed and what to do.

StemphonyError
    ConfigError             a key of the config, with the place it stands at
    SpecimenError           a structure or trajectory file
    DamagedResultError      a job file or merged file that is truncated, damaged, foreign or mixed
    TimeLimitError          a job that ends before its cluster ends it; what is done is kept
    StorageError            a folder that cannot be written, a disk that is full
    MonitorError            the receiver of status events: its options, database, address

Errors of status reporting are not in this tree: they never leave `status/`.
"""

from __future__ import annotations


class StemphonyError(Exception):
    """An error whose text is meant for the user and complete without a traceback."""


class ConfigError(StemphonyError):
    """A key of the config is misspelt, has a wrong value, or contradicts another."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"config `{where}`: {what}" if where else f"config: {what}")
        self.where = where


class SpecimenError(StemphonyError):
    """A structure or trajectory file cannot serve as a specimen."""

    def __init__(self, file: object, what: str) -> None:
        super().__init__(f"specimen {file}: {what}")
        self.file = str(file)


class DamagedResultError(StemphonyError):
    """Result files cannot be merged; nothing was deleted."""


class TimeLimitError(StemphonyError):
    """The time limit of a job is near; another attempt goes on from what is kept."""


class StorageError(StemphonyError):
    """A file or folder cannot be written."""


class MonitorError(StemphonyError):
    """The receiver of status events cannot be started or administered as asked."""
