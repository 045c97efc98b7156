"""Small structure files that need much memory, or with absurd numbers: they are refused with little memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.structures import read_specimen

SCRIPTS = Path(__file__).parents[3] / "workflow/scripts"
MOST_BYTES = 1_500_000_000  # address space of the process that reads all files; each attack needs more

CELL = "".join(f"_cell_length_{a} 40\n" for a in "abc") + "".join(
    f"_cell_angle_{a} 90\n" for a in ("alpha", "beta", "gamma")
)
SITES = "loop_\n_atom_site_label\n_atom_site_type_symbol\n" + "".join(f"_atom_site_fract_{a}\n" for a in "xyz")
SITE = "Si1 Si 0.1 0.2 0.3\n"
BOX = "0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n"
POSCAR = "x\n1.0\n40 0 0\n0 40 0\n0 0 40\nSi\n{count}\nDirect\n{rows}"
LAMMPS = "t\n\n{count} atoms\n1 atom types\n" + BOX + "\nMasses\n\n1 28.0855\n\nAtoms # atomic\n\n{id} 1 0 0 0\n"
DUMP = (
    "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{count}\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\n"
    "ITEM: ATOMS id element x y z\n{id} Si 0 0 0\n"
)
XYZ = '{count}\nLattice="4 0 0 0 4 0 0 0 4" {header}\nSi 0 0 0\n'
CFG = "Number of particles = {count}\nA = 1.0 Angstrom\nH0(1,1) = 4\nH0(2,2) = 4\nH0(3,3) = 4\n28.08 Si 0 0 0 0 0 0\n"
MANY = 2_000_000_000
LONG = "9" * 5000  # Python refuses to make a number of more than 4,300 digits


def translations(*parts: str) -> str:
    """x, y, z with shifts by multiples of 1/24: each a valid operation."""
    shifts = [f"+{n}/24" for n in range(24)]
    texts = [""]
    for part in parts:
        texts = [f"{text},{part}{shift}" for text in texts for shift in shifts]
    return "\n".join(f"'{text[1:]}'" for text in texts) + "\n"


def many_operations() -> str:
    return f"data_a\n{CELL}loop_\n_space_group_symop_operation_xyz\n{translations('x', 'y', 'z')}{SITES}{SITE}"


def many_products() -> str:
    first = translations("x", "y").replace("'\n", ",z,+1'\n")
    second = translations("y", "z").replace("\n'", "\n'x,").replace("'y", "'x,y", 1).replace("'\n", ",+1'\n")
    lists = (
        f"loop_\n_space_group_symop_magn_operation_xyz\n{first}loop_\n_space_group_symop_magn_centering_xyz\n{second}"
    )
    return f"data_a\n{CELL}{lists}{SITES}{SITE}"


def many_copies() -> str:
    """Two thousand MTRIX records for two thousand atoms."""
    lines = ["CRYST1   40.000   40.000   40.000  90.00  90.00  90.00 P 1           1"]
    for copy in range(1, 2000):
        for row in range(3):
            unit = "".join(f"{float(row == column):10.6f}" for column in range(3))
            lines.append(f"MTRIX{row + 1} {copy:3d}{unit}     {copy / 1000:10.5f}    ")
    for atom in range(2000):
        place = f"{atom % 37:8.3f}{atom // 37 % 37:8.3f}{atom // 1369:8.3f}"
        lines.append(f"ATOM  {atom + 1:5d} SI   SIL A{atom + 1:4d}    {place}  1.00  0.00          SI  ")
    return "\n".join([*lines, "END\n"])


HUNGRY = {
    "a.vasp": (POSCAR.format(count=MANY, rows="0 0 0\n"), "announces 2,000,000,000 atoms, but the file has"),
    "a.cif.gz": ("\n" * 300_000_000, "bytes unpack to more than"),
    "a.data": (LAMMPS.format(count=MANY, id=1), "announces 2,000,000,000 atoms"),
    "a.lammpstrj": (DUMP.format(count=MANY, id=1), "announces 2,000,000,000 atoms"),
    "a.xyz": (XYZ.format(count=MANY, header=""), "announces 2000000000 atoms"),
    "wide.xyz": (
        XYZ.format(count=1, header="Properties=species:S:1:pos:R:3:more:R:2000000000"),
        "line 3: has 4 columns, but Properties in line 2 names 2000000004",
    ),
    "empty.xyz": (
        '0\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:more:R:2000000000\n',
        "line 3: has 0 columns, but Properties in line 2 names 2000000004",
    ),
    "quoted.xyz": (
        XYZ.format(count=1, header='"Properties"=species:S:1:pos:R:3:more:R:+2_000_000_000'),
        "names 2000000004",
    ),
    "a.cube": (f"t\nt\n{MANY} 0 0 0\n2 4 0 0\n2 0 4 0\n2 0 0 4\n14 0 0 0 0\n", "more than 1.0 GB, the limit"),
    "operations.cif": (many_operations, "has 13,824 symmetry operations"),
    "products.cif": (many_products, "has 331,776 symmetry operations"),
    "copies.pdb": (many_copies, "has 2,000 symmetry operations and 2,000 sites"),
    "heap.vasp": (POSCAR.format(count=30_000, rows="0 0 0\n" * 30_000), "pairs of its atoms lie on each other"),
    "heap.cif": (
        f"data_a\n{CELL}{SITES}_atom_site_occupancy\n" + "".join(f"S{i} S 0.1 0.2 0.3 1e-9\n" for i in range(30_000)),
        "pairs of its atoms lie on each other",
    ),
}


@pytest.mark.slow
def test_small_files_cannot_fill_the_memory(tmp_path):
    for name, (content, _) in HUNGRY.items():
        text = content if isinstance(content, str) else content()
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data, 9) if name.endswith(".gz") else data)
    assert max(file.stat().st_size for file in tmp_path.iterdir()) < 1_500_000
    code = (
        "import json, resource, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from stemphony.errors import SpecimenError; from stemphony.specimen.structures import read_specimen\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MOST_BYTES}, {MOST_BYTES} * 2))\n"
        "for name in sys.argv[3:]:\n"
        "    try:\n"
        "        told = str(len(read_specimen(Path(sys.argv[2], name), u_iso_angstrom2={'Si': 0.01}).symbols))\n"
        "    except SpecimenError as error:\n"
        "        told = str(error)\n"
        "    print(json.dumps(told), flush=True)\n"
    )
    command = [sys.executable, "-P", "-c", code, str(SCRIPTS), str(tmp_path), *HUNGRY]
    done = subprocess.run(command, capture_output=True, text=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(HUNGRY), done.stderr[-2000:]
    for text, (name, (_, expected)) in zip(told, HUNGRY.items(), strict=True):
        assert name in text, text
        assert expected in text, text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.vasp", POSCAR.format(count="²", rows="0 0 0\n")),
        ("a.vasp", POSCAR.format(count=LONG, rows="0 0 0\n")),
        ("a.data", LAMMPS.format(count="²", id=1)),
        ("a.data", LAMMPS.format(count=LONG, id=1)),
        ("a.data", LAMMPS.format(count=1, id=LONG)),
        ("a.lammpstrj", DUMP.format(count="²", id=1)),
        ("a.lammpstrj", DUMP.format(count=LONG, id=1)),
        ("a.lammpstrj", DUMP.format(count=1, id="9" * 30)),
        ("a.cfg", CFG.format(count="²")),
        ("a.cfg", CFG.format(count=LONG)),
        ("a.xyz", "²\n4 4 4\nSi 0 0 0 0.00001\n"),
        ("a.xyz", f"{LONG}\n4 4 4\nSi 0 0 0 0.00001\n"),
        ("a.xyz", XYZ.format(count=1, header="Properties=species:S:1:pos:R:3:Z:I:1").replace(" 0\n", f" 0 {LONG}\n")),
        ("a", "t\n4 4 4\ninf 0 0 0 1 0.1\n-1\n"),
        ("a", "t\n4 4 4\nnan 0 0 0 1 0.1\n-1\n"),
        ("a.xtl", "t\n4 4 4 90 90 90\nnan\nSi\n1 14 1 0.005\n0 0 0\n"),
        ("a.cif", f"data_a\n{CELL}_space_group_IT_number 1e999\n{SITES}{SITE}"),
        ("a.cif", f"data_a\n{CELL}_cell_formula_units_Z 1e999\n_space_group_IT_number {LONG}\n{SITES}{SITE}"),
    ],
)
def test_numbers_that_no_program_writes_are_no_traceback(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SpecimenError) as told:
        read_specimen(file, u_iso_angstrom2={"Si": 0.01})
    assert len(str(told.value)) < 4500
