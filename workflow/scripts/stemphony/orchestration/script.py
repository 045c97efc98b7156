"""Entry of the scripts: errors meant for the user end without a traceback, all others with one."""

from __future__ import annotations

import sys
from collections.abc import Callable

from stemphony.errors import StemphonyError

USER_ERROR = 1
INTERRUPTED = 130  # 128 + SIGINT, as a shell counts


def run(main: Callable[[list[str]], None]) -> None:
    """Call `main` with the arguments of the command line.

    A StemphonyError goes to stderr as its text, exit status 1; Ctrl-C exits with 130; anything else is a
    fault of the program and keeps its traceback.
    """
    try:
        main(sys.argv[1:])
    except StemphonyError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
