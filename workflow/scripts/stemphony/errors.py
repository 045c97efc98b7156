"""Errors that a user may meet. Each message says what is wrong, where, the value found, what is allowed, what to do.

StemphonyError
    ConfigError             a key of the config
    SpecimenError           a structure or trajectory file
    DamagedResultError      a result file that is truncated, damaged, foreign or mixed
    ResultError             a result that does not hold what is asked of it
    TimeLimitError          a job that ends before the batch system ends it; its finished waves are kept
    StorageError            a folder that cannot be written, a disk that is full
    MonitorError            the receiver of status events: its options, database, address

Errors of status reporting are not in this tree: they never leave `status/`.
"""

from __future__ import annotations

LONGEST = 4000
"""Most characters of a message about a structure file."""


class StemphonyError(Exception):
    """An error whose text is meant for the user. No traceback is printed."""


class ConfigError(StemphonyError):
    """A key of the config is misspelt, has a wrong value, or contradicts another key.

    Parameters
    ----------
    where : str
        The key, with its block; empty for the whole config.
    what : str
        What is wrong, and what to do.
    """

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"config `{where}`: {what}" if where else f"config: {what}")
        self.where, self.what = where, what


class SpecimenError(StemphonyError):
    """A structure or trajectory file cannot serve as a specimen.

    Parameters
    ----------
    file : object
        The file, or another text that says where the atoms come from.
    what : str
        What is wrong, and what to do. A longer text than `LONGEST` is cut.
    """

    def __init__(self, file: object, what: str) -> None:
        # `what` may quote a word of the file, and a word may be as long as the whole file.
        what = what if len(what) <= LONGEST else f"{what[:LONGEST]} …"
        super().__init__(f"specimen {file}: {what}")
        self.file, self.what = str(file), what


class DamagedResultError(StemphonyError):
    """Result files cannot be merged; nothing was deleted."""


class ResultError(StemphonyError):
    """A result does not hold what is asked of it, or cannot give it."""


class TimeLimitError(StemphonyError):
    """The time limit of a job is near. The next attempt continues from the checkpoint."""


class StorageError(StemphonyError):
    """A file or folder cannot be written."""


class MonitorError(StemphonyError):
    """The receiver of status events cannot be started or administered as asked."""
