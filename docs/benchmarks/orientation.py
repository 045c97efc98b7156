"""Measure CPU time and memory of reading and orienting a large structure: `python docs/benchmarks/orientation.py`.

The script writes a POSCAR of 100,000 atoms, which is a hexagonal block of GaN. It measures three ways in separate
processes: turn the large file with `supercell`, orient the large file along a zone axis, and build the same number of
atoms from a unit cell along a zone axis.
"""

from __future__ import annotations

import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
COMMAND = "python docs/benchmarks/orientation.py"
EDGE, HEIGHT, U = 3.19, 5.189, 0.377
CASES = {
    "a file of 100,000 atoms, rows of `supercell` along x, y and the beam": {
        "file": "block.vasp", "supercell": [[0, 0, 1], [1, 0, 0], [1, 2, 0]]
    },
    "a file of 100,000 atoms along the zone axis [1 -1 0]": {"file": "block.vasp", "zone_axis": [1, -1, 0]},
    "a unit cell along [11-20], 100,000 atoms": {
        "file": "cell.vasp", "zone_axis": [1, 1, -2, 0], "up": [0, 0, 0, 1], "repeat": [25, 25, 20]
    },
}  # fmt: skip


def write_block(file: Path, copies: tuple[int, int, int]) -> None:
    """Write a POSCAR of wurtzite GaN with (na, nb, nc) unit cells."""
    from itertools import product

    na, nb, nc = copies
    half = 3**0.5 / 2
    lines = ["GaN", "1.0", f"{na * EDGE} 0 0", f"{-nb * EDGE / 2} {nb * EDGE * half} 0", f"0 0 {nc * HEIGHT}", "Ga N"]
    cells = list(product(range(na), range(nb), range(nc)))
    lines += [f"{2 * len(cells)} {2 * len(cells)}", "Direct"]
    for height in (0.0, U):
        for x, y, z in ((1 / 3, 2 / 3, height), (2 / 3, 1 / 3, height + 0.5)):
            lines += [f"{(i + x) / na:.12f} {(j + y) / nb:.12f} {(k + z) / nc:.12f}" for i, j, k in cells]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(folder: Path, settings: dict[str, object]) -> dict[str, float]:
    """Read a structure once in this process. Return CPU seconds, peak memory [MB] and the number of atoms."""
    sys.path.insert(0, str(SCRIPTS))
    from stemphony.specimen.structures import read_specimen

    file = folder / str(settings.pop("file"))
    specimen = read_specimen(file, **settings)  # type: ignore[arg-type]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "atoms": len(specimen.symbols),
        "seconds": time.process_time(),
        "megabytes": used.ru_maxrss / 1e3,
    }


def cpu_model() -> str:
    """Name of the processor, in the same form as in other tables."""
    sys.path.insert(0, str(SCRIPTS))
    from stemphony.compute.wisdom import cpu_model as model

    return model()


def main() -> None:
    """Measure all cases and write the table into docs/performance-more.md."""
    rows = ["| what | atoms | CPU s | peak memory, MB |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_block(folder / "cell.vasp", (1, 1, 1))
        write_block(folder / "block.vasp", (50, 50, 10))
        for name, settings in CASES.items():
            command = [sys.executable, __file__, temporary, json.dumps(settings)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.append(f"| {name} | {found['atoms']:,} | {found['seconds']:.1f} | {found['megabytes']:.0f} |")
            print(rows[-1])
    made = f"Made {datetime.date.today()} on {cpu_model()}, load average {page.LOAD_BEFORE:.1f} before."
    page.rewrite(COMMAND, [made, "", *rows], page.MORE)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(Path(sys.argv[1]), json.loads(sys.argv[2]))))
    else:
        main()
