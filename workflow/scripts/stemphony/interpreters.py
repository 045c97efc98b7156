"""Keep Python from importing files of the user's working directory.

`python -c`, `python -m` and the processes of multiprocessing put the working directory first in `sys.path`. A file
`random.py` of the user would then replace the module of Python. PYTHONSAFEPATH forbids that to a process and to all
processes that descend from it. Snakemake's processes of local jobs and of cluster jobs are among them.

Libraries also read settings from the working directory. matplotlib reads `matplotlibrc`, which can name commands of
LaTeX. netCDF reads files such as `.ncrc`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

# `python -m stemphony` imports this module while the working directory is still in the path. So this module imports as
# little as possible.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SAFE_PATH_VARIABLE: Final = "PYTHONSAFEPATH"
PATH_VARIABLE: Final = "PYTHONPATH"
SEARCHED_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "HDF5_PLUGIN_PATH")
"""Variables with folders of programs, of libraries, and of filters that HDF5 loads because a file names them."""
KEEP_OUT: Final = "-P"
"""Option of Python for a command with `-c` or `-m`. It keeps the working directory out of the path without a variable
of the environment."""

NETCDF_VARIABLE: Final = "NCRCENV_IGNORE"
"""If this environment variable is set, netCDF reads no `.ncrc`, `.daprc` or `.dodsrc`. These concern only remote
data."""

MATPLOTLIB: Final = "matplotlib"


def import_nothing_from_here() -> None:
    """Set the environment so that no Python that starts from now on imports files of its working directory.

    An empty or relative entry of PYTHONPATH, PATH or the like names a place below the working directory, so this
    function drops it. For example, `LD_LIBRARY_PATH=/lab/lib:$LD_LIBRARY_PATH` makes an empty last entry if the
    variable had no value before. Libraries of this process do not read settings from the working directory either. For
    its children, each script of a rule calls this function again.
    """
    os.environ[SAFE_PATH_VARIABLE] = os.environ[NETCDF_VARIABLE] = "1"
    if MATPLOTLIB not in sys.modules and not any(isinstance(finder, _Elsewhere) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Elsewhere())
    for variable, entries in entries_elsewhere().items():
        os.environ[variable] = entries
        if not entries:
            del os.environ[variable]  # an empty PATH means the working directory


def entries_elsewhere() -> dict[str, str]:
    """Variables with empty or relative entries. Their values here lack these entries, and may be empty."""
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
    """Import matplotlib while its own folder is the working directory.

    matplotlib prefers a `matplotlibrc` in the working directory to any other, and no variable or argument forbids that.
    It still reads the user's own file in the user's configuration folder.
    """

    def __init__(self) -> None:
        self._spec: ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MATPLOTLIB or self._spec is not None:
            return None
        import importlib.util

        # Without this finder in the list, the usual finders find matplotlib.
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

        assert self._spec is not None  # by construction: `find_spec` has set it before Python calls this method
        assert self._spec.loader is not None
        assert self._spec.origin is not None
        module.__spec__, module.__loader__ = self._spec, self._spec.loader
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # `chdir` fails if the working directory was deleted; it has no files
                stack.enter_context(contextlib.chdir(Path(self._spec.origin).parent))
            self._spec.loader.exec_module(module)
