"""conda 24.7.1, as the wheel of conda-lock carries it, under its own name. For tests only.

conda is on no index that a test could install it from by pip; conda-lock's wheel has the whole of it as
`conda_lock._vendor.conda`. It looks modules up by the name `conda…`, so that name is made to mean the copy. A child
process imports this file again, hence the guard at its end.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

REAL = "conda_lock._vendor."


class Alias:
    """Finds `conda` and its modules in the copy."""

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name == "conda" or name.startswith("conda."):
            return importlib.machinery.ModuleSpec(name, self)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(REAL + spec.name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state  # type: ignore[union-attr]


# Not the folder of this file, where `conda` would be found again.
sys.path[:] = [path for path in sys.path if path not in ("", sys.path[0])]
# The folder conda_lock without conda-lock itself, which needs far more than conda does.
found = importlib.util.find_spec("conda_lock")
sys.modules["conda_lock"] = package = ModuleType("conda_lock")
package.__path__ = found.submodule_search_locations  # type: ignore[assignment, union-attr]
sys.meta_path.insert(0, Alias())  # type: ignore[arg-type]
if __name__ == "__main__":
    from conda.cli.main import main

    sys.argv[0] = __file__
    sys.exit(main())
