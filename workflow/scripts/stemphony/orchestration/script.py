"""Start and end of the rules' scripts: an error that is meant for the user is printed without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from stemphony import contract
from stemphony.errors import StemphonyError
from stemphony.interpreters import import_nothing_from_here
from stemphony.store import hdf5_locks
from stemphony.terminal import plain

USER_ERROR = 1
"""Exit status of a script after an error whose text tells the user what to do."""
INTERRUPTED = 130
"""Exit status of a script after SIGINT: 128 + 2, as a shell counts."""


def run(main: Callable[[list[str]], None]) -> None:
    """Call `main` with the arguments of the command line.

    A StemphonyError prints its text and exits with 1. Ctrl-C exits with 130. Any other exception is an error of the
    program and keeps its traceback.
    """
    hdf5_locks.do_without()
    import_nothing_from_here()
    try:
        main(sys.argv[1:])
    except StemphonyError as error:
        sys.stderr.write(f"{plain(str(error))}\n")
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def named_file(variable: str, label: str = "") -> Path:
    """The file that an environment variable names. In a sweep, `label` is the label of the member.

    Raises
    ------
    StemphonyError
        The variable is not set.
    """
    value = contract.variable(variable, label)
    if not value:
        raise StemphonyError(
            f"{variable} is not set. Start this script through rule prepare_specimen or rule prepare_accuracy, which "
            "set it."
        )
    return Path(value)
