"""A results folder that several users share: what one of them makes, the others can use.

The umask of a user often takes the right to write from the group. In a folder that the group may write, the next user
could then not continue the run. So `follow` gives this right to the group. Files with secrets have their own modes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_GROUP: Final = stat.S_IRWXG


def follow(*folders: Path) -> None:
    """Let the group use what this process and its children make, if all these folders are shared with one group.

    A folder is shared if its group may write it, and if new files get this group: the folder has the set-group-ID bit,
    or its group is that of the process. If a folder does not exist yet, the folder above it counts.
    """
    if are_shared(*folders):
        os.umask(os.umask(0o077) & ~_GROUP)


def are_shared(*folders: Path) -> bool:
    """Whether all these folders are shared with one group, see `follow`."""
    groups = {_group_of(folder) for folder in folders}
    return len(groups) == 1 and None not in groups


def _group_of(folder: Path) -> int | None:
    """The group that shares a folder; None if none does."""
    try:
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        status = place.stat()
    except OSError:
        return None
    kept = status.st_mode & stat.S_ISGID or status.st_gid == os.getegid()
    return status.st_gid if kept and status.st_mode & stat.S_IWGRP and stat.S_ISDIR(status.st_mode) else None
