"""Which simulations a folder of results holds: one, or the members of a sweep."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from stemphony import ordinary_files, paths
from stemphony.errors import StorageError
from stemphony.paths import ResultPaths, SweepPaths

SHOWN = 10
"""Most members that a message lists, to keep it readable. The others are counted."""


def record_of(folder: Path) -> dict[str, Any]:
    """The record of the sweep in `folder`: its axes, and its members with their values; empty if there is no sweep."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(ordinary_files.read_text(SweepPaths(folder).record))
        if _is_record(content):
            return dict(content)
    return {}


def _is_record(content: Any) -> bool:
    """Whether this is a record as a run writes it. A folder that comes from somebody else may hold anything."""
    if not isinstance(content, dict) or not isinstance(content.get("title"), str) or "axes" not in content:
        return False
    found, axes = content.get("members"), content["axes"]
    if not isinstance(found, list) or not 0 < len(found) <= paths.MOST_MEMBERS or not all(map(_is_member, found)):
        return False
    if axes is None:
        return True
    is_grid = isinstance(axes, dict) and all(isinstance(values, list) for values in axes.values())
    return is_grid and math.prod(map(len, axes.values())) == len(found)


def _is_member(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("values"), dict):
        return False
    label = entry.get("label")
    return isinstance(label, str) and paths.is_label(label)


def members_of(folder: Path) -> list[ResultPaths]:
    """Members of the sweep in `folder`, in its order; empty if it holds no sweep."""
    return [SweepPaths(folder).member(one["label"]) for one in record_of(folder).get("members", [])]


def all_members_of(folder: Path) -> list[ResultPaths]:
    """Members of the sweep in `folder` and of its earlier versions, as far as they have results."""
    known = members_of(folder)
    labels = {member.root.name for member in known}
    with suppress(OSError):
        found = sorted(entry.name for entry in folder.iterdir() if entry.name not in labels)
        known += [SweepPaths(folder).member(name) for name in found if paths.is_label(name)]
    return [member for member in known if member.root.is_dir()]


def require_one(folder: Path, instead: str = "") -> None:
    """Refuse a folder that holds a sweep, for a command that works on one simulation.

    Parameters
    ----------
    folder : Path
        Folder of results.
    instead : str
        What the user may do for the whole sweep.

    Raises
    ------
    StorageError
        It holds a sweep.
    """
    if members := members_of(folder):
        named = "".join(f"\n  {member.root}" for member in members[:SHOWN])
        more = f"\n  and {len(members) - SHOWN} more" if len(members) > SHOWN else ""
        raise StorageError(
            f"{folder} holds a sweep of {len(members)} simulations, and this command works on one. Give one of them:"
            f"{named}{more}{instead and chr(10)}{instead}"
        )
