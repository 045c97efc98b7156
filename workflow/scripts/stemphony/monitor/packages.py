"""The packages that only the monitor needs."""

from __future__ import annotations

import importlib.util
from typing import Final

from stemphony.errors import MonitorError

PACKAGES: Final = ("flask", "waitress", "sqlalchemy", "yaml")
"""Names of the packages as Python imports them."""


def require_packages() -> None:
    """Check that the packages of the monitor are installed.

    Raises
    ------
    MonitorError
        Some packages are missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MonitorError(
            f"the monitor needs {', '.join(missing)}, not installed here. In a clone, run `make setup`; elsewhere, run:"
            " pip install --require-hashes -r envs/monitor.lock.txt"
        )
