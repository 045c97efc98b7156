"""Compare structure files as Stemphony reads them with independent readers, and print the table of `structures.md`.

    python docs/comparison/structures.py FOLDER [--pymatgen PYTHON]

The script reads every file below FOLDER. It compares the atoms of each element, density, mean U and occupancy with the
results of gemmi (CIF, PDB), ASE (other formats) and pymatgen (CIF, POSCAR), which PYTHON imports. It also compares the
number of atoms with the number that the file itself announces. The references do not use Stemphony's readers. The exit
status is 1 if any file differs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow/scripts"))

from stemphony.errors import SpecimenError
from stemphony.specimen import source, statements
from stemphony.specimen.formats import read_structure
from stemphony.specimen.structure import Structure

TOLERANCE = 1e-3  # largest relative difference of counts, densities and occupancies, because files round numbers
ON_AXIS = 0.05  # largest distance from an axis at which the images of an atom count as one [Å]
SAME_U = 2e-3  # largest relative difference of U, because files round B and U to four digits

PYMATGEN = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pymatgen.io.cif import CifParser
from pymatgen.io.vasp import Poscar
for name in sys.stdin.read().splitlines():
    try:
        if ".cif" in name:
            structure = CifParser(name).parse_structures(primitive=False)[0]
        else:
            poscar = Poscar.from_file(name, check_for_potcar=False)
            if not poscar.true_names:
                continue  # elements made up for a file without a line of them
            structure = poscar.structure
    except Exception:
        continue
    counts = {}
    for element, number in structure.composition.element_composition.items():
        symbol = "H" if element.symbol == "D" else element.symbol
        counts[symbol] = counts.get(symbol, 0) + float(number)
    print(json.dumps({"file": name, "counts": counts, "volume": structure.volume}), flush=True)
"""


@dataclass(frozen=True)
class Reference:
    """The results of an independent reader. A value is None if the reader does not give it."""

    name: str
    counts: dict[str, float] | None = None
    atoms: int | None = None
    volume: float | None = None
    u: float | None = None


@dataclass
class Row:
    """One file of the table."""

    file: str
    format: str = ""
    atoms: int = 0
    formula: str = ""
    density: float = 0.0
    u: str = ""
    occupancy: str = ""
    compared: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    refused: str = ""

    def markdown(self) -> str:
        """The row in Markdown."""
        if self.refused:
            return f"| `{self.file}` | | | | | | | | refused: {self.refused} |"
        result = "; ".join(self.differences) or ("agrees" if self.compared else "read, nothing to compare with")
        cells = [
            f"`{self.file}`", self.format, str(self.atoms), self.formula, f"{self.density:.3f}", self.u, self.occupancy,
            ", ".join(self.compared), result,
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| file | format | sites | atoms in the cell | g/cm³ | mean U / Å² | occupancy | compared with | result |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def compared(file: Path, name: str, others: Sequence[Reference] = ()) -> Row:
    """Read one file and compare it with gemmi, ASE, its own count and `others`."""
    row = Row(name)
    try:
        structure = read_structure(file)
    except SpecimenError as error:
        row.refused = str(error).split(": ", 1)[1].split(". ")[0].replace("|", "/")
        return row
    counts = statements.counted(structure.symbols, structure.occupancy)
    volume = abs(float(np.linalg.det(structure.cell)))
    row.format, row.atoms = structure.format, len(structure.symbols)
    row.formula = statements.formula_text(counts)
    row.density = statements.density(counts, volume) if volume else 0.0
    row.u = "" if structure.u_iso is None else f"{float(np.nanmean(structure.u_iso)):.5f}"
    row.occupancy = "" if structure.occupancy is None else f"{int((structure.occupancy < 1).sum())} partial"
    for find in (_gemmi, _ase, _announced):
        _add(row, structure, counts, volume, find(file, structure))
    for other in others:
        _add(row, structure, counts, volume, other)
    if "density_g_cm3" in structure.stated:
        row.compared.append("stated density")
    if "z" in structure.stated and "formula" in structure.stated:
        row.compared.append("stated Z and formula")
    return row


def _add(row: Row, structure: Structure, counts: dict[str, float], volume: float, found: Reference | None) -> None:
    """Compare a structure with one reference, and add the result to a row."""
    if found is None:
        return
    row.compared.append(found.name)
    if found.atoms is not None and found.atoms != len(structure.symbols):
        row.differences.append(f"{found.name}: {found.atoms} atoms")
    if found.counts is not None and not _close_counts(counts, found.counts):
        row.differences.append(f"{found.name}: {statements.formula_text(found.counts)}")
    if found.volume is not None and abs(found.volume - volume) > TOLERANCE * volume:
        row.differences.append(f"{found.name}: volume {found.volume:.2f} Å³")
    if found.u is not None and structure.u_iso is not None:
        mean = float(np.nanmean(structure.u_iso))
        if abs(found.u - mean) > SAME_U * max(mean, found.u) + 1e-9:
            row.differences.append(f"{found.name}: U {found.u:.5f} Å²")


def _close_counts(first: dict[str, float], second: dict[str, float]) -> bool:
    return set(first) == set(second) and all(abs(first[s] - n) <= TOLERANCE * max(n, 1) for s, n in second.items())


def _gemmi(file: Path, structure: Structure) -> Reference | None:
    """The structure as gemmi reads it, small or macromolecular, with the images that gemmi makes."""
    import gemmi

    text = source.read_text(file)
    if structure.format == "pdb":
        try:
            return _macromolecule(gemmi.read_pdb_string(text))
        except RuntimeError:
            return None
    if structure.format == "xtl":
        return _general_positions(text)
    if structure.format not in ("cif", "mmcif"):
        return None
    document = gemmi.cif.Document()
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError):
        return None
    if structure.format == "mmcif":
        return _macromolecule(gemmi.make_structure_from_block(document[0]))
    block = next((b for b in document if b.find_loop("_atom_site_fract_x") or b.find_loop("_atom_site.fract_x")), None)
    small = gemmi.SmallStructure() if block is None else gemmi.make_small_structure_from_block(block)
    if small.sites and small.spacegroup is None:
        small.determine_and_set_spacegroup("S2HN")
    if not small.sites or small.spacegroup is None:
        return None
    counts: dict[str, float] = {}
    u: list[float] = []
    for site in small.get_all_unit_cell_sites():
        name = "H" if site.element.name == "D" else site.element.name
        counts[name] = counts.get(name, 0.0) + min(site.occ, 1.0)
        if site.aniso.nonzero():
            u.append(_equivalent(small.cell, site.aniso))
        elif site.u_iso:
            u.append(site.u_iso)
    return Reference("gemmi", counts, volume=small.cell.volume, u=float(np.mean(u)) if u else None)


def _general_positions(text: str) -> Reference | None:
    """Number of atoms in a file with keywords XTL: lines of atoms times the operations that gemmi has for the group.

    This holds only if no atom lies on an axis.
    """
    import gemmi

    label = re.search(r"\bLABEL\s+(\S+)", text)
    group = None if label is None else gemmi.find_spacegroup_by_name(label[1])
    if group is None:
        return None
    listed = text.split("ATOMS", 1)[1].split("EOF")[0].strip().splitlines()[1:]
    return Reference("gemmi's operations", atoms=len(listed) * len(list(group.operations())))


def _equivalent(cell: object, aniso: object) -> float:
    """U_eq [Å²] of gemmi's tensor: Σ U^ij a*_i a*_j a_i·a_j / 3."""
    orthogonal = np.array(cell.orth.mat.tolist())  # type: ignore[attr-defined]
    stars = np.linalg.norm(np.linalg.inv(orthogonal), axis=1)
    edges = orthogonal * stars
    tensor = np.array(aniso.as_mat33().tolist())  # type: ignore[attr-defined]
    return float(np.trace(edges @ tensor @ edges.T) / 3)


def _macromolecule(model: object) -> Reference | None:
    """Number of atoms: those of the first model times the operations of its group and of its copies."""
    import gemmi

    assert isinstance(model, gemmi.Structure)
    group = gemmi.find_spacegroup_by_name(model.spacegroup_hm)
    operations = 1 if group is None else len(list(group.operations()))
    copies = 1 + sum(not ncs.given and not ncs.tr.is_identity() for ncs in model.ncs)
    counts: dict[str, float] = {}
    for found in model[0].all():
        name = "H" if found.atom.element.name == "D" else found.atom.element.name
        equal = 1 + model.cell.is_special_position(found.atom.pos, ON_AXIS)
        if found.atom.occ * equal < 1.01:
            equal = 1  # in PDB, the occupancy of an atom on an axis is that of one of its images
        counts[name] = counts.get(name, 0.0) + found.atom.occ * operations * copies / equal
    return Reference("gemmi", counts, volume=model.cell.volume)


def _ase(file: Path, structure: Structure) -> Reference | None:
    """The structure as ASE reads it, for formats that ASE knows. A failure of ASE does not count as a difference.

    ASE ignores the length scale A of a CFG file, and drops the last line of a Prismatic file that has no -1.
    """
    import ase.io

    names = {"poscar": "vasp", "lammps-data": "lammps-data", "lammps-dump": "lammps-dump-text", "mustem": "mustem",
             "prismatic": "prismatic", "cfg": "cfg", "extxyz": "extxyz"}  # fmt: skip
    if structure.format not in names:
        return None
    text = source.read_text(file)
    if structure.format == "cfg" and float((re.findall(r"^A\s*=\s*([-+.\deE]+)", text, re.MULTILINE) or [1])[0]) != 1:
        return None
    if structure.format == "prismatic" and text.split()[-1] != "-1":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            atoms = ase.io.read(file, 0, format=names[structure.format], do_not_split_by_at_sign=True)
        except Exception:  # errors of ASE have many types
            return None
    counts: dict[str, float] = {}
    occupancies = atoms.arrays.get("occupancies", np.ones(len(atoms)))
    for symbol, occupancy in zip(atoms.get_chemical_symbols(), occupancies, strict=True):
        counts[symbol] = counts.get(symbol, 0.0) + float(occupancy)
    u = None
    if "debye_waller_factors" in atoms.arrays:
        u = float(np.mean(atoms.arrays["debye_waller_factors"]) / (8 * np.pi**2))
    return Reference("ASE", counts, len(atoms), volume=atoms.cell.volume or None, u=u)


ANNOUNCED: dict[str, Callable[[list[str]], int]] = {
    "cfg": lambda lines: int(
        next(re.findall(r"=\s*(\d+)", t)[0] for t in lines if t.startswith("Number of particles"))
    ),
    "lammps-data": lambda lines: int(next(t.split()[0] for t in lines[1:] if re.match(r"\s*\d+\s+atoms\b", t))),
    "lammps-dump": lambda lines: int(lines[1 + next(i for i, t in enumerate(lines) if "NUMBER OF ATOMS" in t)]),
    "extxyz": lambda lines: int(lines[0]),
    "stemsalabim": lambda lines: int(lines[0]),
    "prismatic": lambda lines: sum(len(t.split()) >= 4 for t in lines[2:]),
    "cel": lambda lines: sum(len(t.split()) >= 6 for t in lines[2:]),
    "poscar": lambda lines: sum(next([int(w) for w in t.split()] for t in lines[5:] if re.match(r"\s*\d+[\s\d]*$", t))),
    "mustem": lambda lines: sum(len(t.split()) == 3 for t in lines[2:]),
}


def _announced(file: Path, structure: Structure) -> Reference | None:
    """The number of atoms that the text of the file announces."""
    count = ANNOUNCED.get(structure.format)
    if count is None:
        return None
    return Reference("its own count", atoms=count(source.read_text(file).splitlines()))


def pymatgen_references(files: Sequence[Path], python: str) -> dict[str, Reference]:
    """Results of pymatgen for CIF and POSCAR files, from another interpreter. Unreadable files are left out."""
    names = [str(f) for f in files if ".cif" in f.name or "POSCAR" in f.name or f.suffix == ".vasp"]
    done = subprocess.run([python, "-c", PYMATGEN], input="\n".join(names), capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {item["file"]: Reference("pymatgen", item["counts"], volume=item["volume"]) for item in found}


def rows_of(folder: Path, pymatgen: str | None = None) -> list[Row]:
    """One row per file below `folder`, in the order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    others = {} if pymatgen is None else pymatgen_references(files, pymatgen)
    return [
        compared(file, file.relative_to(folder).as_posix(), [others[str(file)]] if str(file) in others else [])
        for file in files
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Return 1 if any file differs from a reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pymatgen", metavar="PYTHON", help="an interpreter that imports pymatgen")
    options = parser.parse_args(arguments)
    rows = rows_of(options.folder, options.pymatgen)
    print(HEADER)
    for row in rows:
        print(row.markdown())
    differing = sum(bool(row.differences) for row in rows)
    refused = sum(bool(row.refused) for row in rows)
    agreeing = len(rows) - differing - refused
    print(f"\n{len(rows)} files: {agreeing} agree, {differing} differ, {refused} are refused.")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
