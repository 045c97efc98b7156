"""How Stemphony starts Python: no file of the folder that the user stands in is imported.

`python -c`, `python -m` and the processes of multiprocessing put the working directory first in `sys.path`. A file
`random.py` of the user would then replace the module of Python. PYTHONSAFEPATH forbids that to all descendants of a
process, Snakemake's processes of local and cluster jobs included.

Libraries read settings from there as well: matplotlib a file `matplotlibrc`, which can name commands of LaTeX, and
netCDF files such as `.ncrc`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

# `python -m stemphony` imports this while the working directory is in the path, so it imports as little as possible.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SAFE_PATH_VARIABLE: Final = "PYTHONSAFEPATH"
PATH_VARIABLE: Final = "PYTHONPATH"
SEARCHED_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "HDF5_PLUGIN_PATH")
"""Variables with folders of programs, of libraries, and of filters that HDF5 loads because a file names them."""
KEEP_OUT: Final = "-P"
"""Option of Python for a command with `-c` or `-m`, which does not depend on the environment."""

NETCDF_VARIABLE: Final = "NCRCENV_IGNORE"
"""Environment variable with which netCDF reads no `.ncrc`, `.daprc` or `.dodsrc`; they concern remote data alone."""

MATPLOTLIB: Final = "matplotlib"


def import_nothing_from_here() -> None:
    """Set the environment so that no Python that starts from now on imports files of its working directory.

    An empty or relative entry of PYTHONPATH, PATH or the like stands for a place below the working directory, so it is
    dropped: in `LD_LIBRARY_PATH=/lab/lib:$LD_LIBRARY_PATH` with nothing before it, the last entry is empty. No
    library of this process reads settings there; of the children, each script of a rule calls this itself.
    """
    os.environ[SAFE_PATH_VARIABLE] = os.environ[NETCDF_VARIABLE] = "1"
    if MATPLOTLIB not in sys.modules and not any(isinstance(finder, _Elsewhere) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Elsewhere())
    for variable, entries in entries_elsewhere().items():
        os.environ[variable] = entries
        if not entries:
            del os.environ[variable]  # an empty PATH stands for the working directory


def entries_elsewhere() -> dict[str, str]:
    """Variables with empty or relative entries, and their values without these entries, which may be empty."""
    given = {variable: os.environ.get(variable, "") for variable in (PATH_VARIABLE, *SEARCHED_VARIABLES)}
    kept = {
        variable: os.pathsep.join(filter(os.path.isabs, entries.split(os.pathsep)))
        for variable, entries in given.items()
    }
    return {variable: entries for variable, entries in kept.items() if entries != given[variable]}


def leave_out_working_directory(package: Path) -> None:
    """Remove the working directory that `python -m` put into the path of this process.

    Parameters
    ----------
    package : Path
        Folder of the package that was started. Its parent folder stays in the path, because it is ours.
    """
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != package.resolve().parent:
        del sys.path[0]


class _Elsewhere:
    """Import matplotlib from within its own folder: it takes `matplotlibrc` of the working directory before any other.

    No variable or argument forbids that. The user's own file, in a folder of the user, is read as always.
    """

    def __init__(self) -> None:
        self._spec: ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MATPLOTLIB or self._spec is not None:
            return None
        import importlib.util

        # From now on the finders after this one find it.
        sys.meta_path.remove(self)
        self._spec = importlib.util.find_spec(fullname)
        if self._spec is None or self._spec.origin is None or self._spec.loader is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            self._spec.origin,
            loader=self,  # type: ignore[arg-type]  # the protocol has `load_module`, which Python has dropped
            submodule_search_locations=self._spec.submodule_search_locations,
        )

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the code of the module, in its own folder."""
        import contextlib

        assert self._spec is not None  # by construction: `find_spec` made the module's own
        assert self._spec.loader is not None
        assert self._spec.origin is not None
        module.__spec__, module.__loader__ = self._spec, self._spec.loader
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a folder that was deleted, with its files
                stack.enter_context(contextlib.chdir(Path(self._spec.origin).parent))
            self._spec.loader.exec_module(module)
