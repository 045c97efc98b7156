"""How Stemphony starts Python: no file of the folder that the user stands in is imported.

`python -c`, `python -m` and the processes of multiprocessing put the working directory first in `sys.path`. A file
`random.py` of the user would then replace the module of Python. PYTHONSAFEPATH forbids that to all descendants of a
process, Snakemake's processes of local and cluster jobs included.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

SAFE_PATH_VARIABLE: Final = "PYTHONSAFEPATH"
PATH_VARIABLE: Final = "PYTHONPATH"
KEEP_OUT: Final = "-P"
"""Option of Python for a command with `-c` or `-m`, which does not depend on the environment."""


def import_nothing_from_here() -> None:
    """Set the environment so that no Python that starts from now on imports files of its working directory.

    An empty or relative entry of PYTHONPATH stands for a place below the working directory, so it is dropped.
    """
    os.environ[SAFE_PATH_VARIABLE] = "1"
    if entries := os.environ.get(PATH_VARIABLE):
        os.environ[PATH_VARIABLE] = os.pathsep.join(filter(os.path.isabs, entries.split(os.pathsep)))


def leave_out_working_directory(package: Path) -> None:
    """Remove the working directory that `python -m` put into the path of this process.

    Parameters
    ----------
    package : Path
        Folder of the package that was started. Its parent folder stays in the path, because it is ours.
    """
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != package.resolve().parent:
        del sys.path[0]
