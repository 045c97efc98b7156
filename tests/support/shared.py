"""Things that the processes of a test session share: the first process makes a thing, the others load it."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the whole session, which all processes of pytest see."""
    own = factory.getbasetemp()
    # Each process of pytest-xdist has a folder of its own in that of the session.
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """Return what `make` returns, made by one process of the session. It must survive pickling.

    Parameters
    ----------
    factory : TempPathFactory
        Of pytest.
    name : str
        Name of the thing, and of its folder.
    make : callable
        Takes an empty folder for the files of the thing. If it raises, the next process begins again.
    """
    top = shared_folder(factory) / "shared"
    top.mkdir(exist_ok=True)
    kept = top / f"{name}.pickle"
    with (top / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            folder = top / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            kept.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(kept.read_bytes())


def shared_cache(factory: pytest.TempPathFactory) -> Path:
    """A cache folder of the whole session. FFTW plans for seconds, so all tests use the plans that one has made."""
    return made_once(factory, "cache", lambda folder: folder)
