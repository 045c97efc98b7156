"""Frozen-phonon multislice simulation of STEM, orchestrated by Snakemake.

    import stemphony as st
    result = st.open("results/gan")
    result.image("haadf", depth_nm=10).plot()

`open` gives a `Result`. `check` returns the plan of a config, and `run` runs it. Mistakes raise `StemphonyError`, whose
text says what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stemphony.errors import StemphonyError
from stemphony.version import __version__

if TYPE_CHECKING:
    from stemphony.interface.result import Result
    from stemphony.interface.result import open_result as open
    from stemphony.interface.simulation import check, run

__all__ = ["Result", "StemphonyError", "__version__", "check", "open", "run"]


def __getattr__(name: str) -> Any:
    """Import a name of the interface on its first use. Jobs import this package too, but need none of these names."""
    if name == "open":
        from stemphony.interface.result import open_result

        return open_result
    if name == "Result":
        from stemphony.interface.result import Result

        return Result
    if name in ("check", "run"):
        from stemphony.interface import simulation

        return getattr(simulation, name)
    raise AttributeError(f"module 'stemphony' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
