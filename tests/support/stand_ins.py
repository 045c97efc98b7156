"""Programs that stand in for the commands of a batch system: one Python program, called by each of their names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# A shell stands in front: a first line `#!` cannot name an interpreter whose path has a space. Without `site`, whose
# packages none of them needs, a command starts in half the time.
_SHELL: Final = """#!/bin/sh
exec "{python}" -S "{program}" "$(basename "$0")" "$@"
"""


def install(folder: Path, system: str, program: str, commands: Sequence[str]) -> Path:
    """Write commands into a folder of programs, and return it.

    Parameters
    ----------
    folder : Path
        Folder of their records; `program` has a field of this name for it.
    program : str
        Text of the program. Its first argument is the name of the called command.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    file, shell = programs / f"{system}.py", programs / system
    file.write_text(program.format(folder=str(folder)))
    shell.write_text(_SHELL.format(python=sys.executable, program=file))
    shell.chmod(0o755)
    for name in commands:
        (programs / name).symlink_to(shell)
    return programs
