"""Orientation of the crystal: zone axes, supercell rows, sizes, origin and termination, compared with the lattice."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.physics.grid import Grid
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.scattering import scattering_factor
from stemphony.specimen.orientation import View, four_indices, principal_strain, stretch, three_indices
from stemphony.specimen.primitive import primitive_lattice
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structure import Structure, copied, turned
from stemphony.specimen.structures import read_specimen

CRYSTALS: dict[str, tuple[object, ...]] = {
    "silicon": (["Si"], [(0, 0, 0)], 227, [5.4309, 5.4309, 5.4309, 90, 90, 90]),
    "gan": (["Ga", "N"], [(1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, 0.377)], 186, [3.189, 3.189, 5.185, 90, 90, 120]),
    "right_quartz": (
        ["Si", "O"], [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)], 152, [4.916, 4.916, 5.4054, 90, 90, 120],
    ),
    "left_quartz": (
        ["Si", "O"], [(0.4697, 0, 0), (0.4135, 0.2669, -0.1191)], 154, [4.916, 4.916, 5.4054, 90, 90, 120],
    ),
    "zirconia": (
        ["Zr", "O", "O"], [(0.2754, 0.0395, 0.2083), (0.07, 0.3317, 0.3447), (0.4496, 0.7569, 0.4792)], 14,
        [5.1505, 5.2116, 5.3173, 90, 99.23, 90],
    ),
    "gold": (["Au"], [(0, 0, 0)], 225, [4.078, 4.078, 4.078, 90, 90, 90]),
    "mos2": (["Mo", "S"], [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.621)], 194, [3.16, 3.16, 12.3, 90, 90, 120]),
    "rutile": (["Ti", "O"], [(0, 0, 0), (0.3053, 0.3053, 0)], 136, [4.5937, 4.5937, 2.9587, 90, 90, 90]),
}  # fmt: skip


def unit_cell(name: str):
    """The crystal's cell by ASE's tables of space groups, apart from our own reading."""
    from ase.spacegroup import crystal

    symbols, basis, group, cell = CRYSTALS[name]
    return crystal(symbols, basis, spacegroup=group, cellpar=cell)


@pytest.fixture
def cif(tmp_path):
    def write(name: str) -> Path:
        file = tmp_path / f"{name}.cif"
        if not file.exists():
            unit_cell(name).write(file)
        return file

    return write


def neighbours(specimen: Specimen, number: int = 14) -> np.ndarray:
    """Distances from every atom to its nearest ones in an endless crystal, sorted, with the elements' sum."""
    from scipy.spatial import cKDTree

    cell = np.asarray(specimen.cell)
    images = np.array(list(itertools.product(range(-3, 4), repeat=3))) * cell
    everything = (specimen.positions + images[:, None]).reshape(-1, 3)
    distances, _ = cKDTree(everything).query(specimen.positions, k=number + 1)
    rows = np.column_stack([np.array([ord(s[0]) for s in specimen.symbols]), distances[:, 1:]])
    return rows[np.lexsort(rows.T[::-1].round(6))]


def neighbours_of_file(name: str, number: int = 14) -> np.ndarray:
    atoms = unit_cell(name)
    images = np.array(list(itertools.product(range(-4, 5), repeat=3))) @ atoms.cell[:]
    everything = (atoms.positions + images[:, None]).reshape(-1, 3)
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(everything).query(atoms.positions, k=number + 1)
    rows = np.column_stack([np.array([ord(s[0]) for s in atoms.get_chemical_symbols()]), distances[:, 1:]])
    return rows[np.lexsort(rows.T[::-1].round(6))]


# Zone axes. `up` is a direction in the image plane; the axes follow from the contract z = −[uvw], x = y × z.
VIEWS = {
    "Si [110]": ("silicon", [1, 1, 0], [0, 0, 1], 4),
    "GaN [11-20]": ("gan", [1, 1, -2, 0], [0, 0, 0, 1], 8),
    "GaN [0001]": ("gan", [0, 0, 0, 1], [1, 2, 0], 8),
    "α-quartz [001]": ("right_quartz", [0, 0, 1], [1, 2, 0], 24),
    "left α-quartz [001]": ("left_quartz", [0, 0, 1], [1, 2, 0], 24),
    "Au [211]": ("gold", [2, 1, 1], [0, -1, 1], 6),
    "MoS2 [001]": ("mos2", [0, 0, 1], [1, 2, 0], 12),
    "rutile [110]": ("rutile", [1, 1, 0], [0, 0, 1], 12),
}


def axes(name: str, zone: list[int], up: list[int]) -> np.ndarray:
    """Unit vectors x, y, z in the axes of ASE's cell, from the contract alone."""
    cell = unit_cell(name).cell[:]
    z = -np.array(three_indices(zone)) @ cell
    z = z / np.linalg.norm(z)
    y = np.array(three_indices(up)) @ cell
    y = y - (y @ z) * z
    y = y / np.linalg.norm(y)
    return np.array([np.cross(y, z), y, z])


@pytest.mark.parametrize("view", VIEWS)
def test_a_zone_axis_gives_the_same_crystal_in_an_orthogonal_cell(cif, view):
    name, zone, up, atoms = VIEWS[view]
    specimen = read_specimen(cif(name), zone_axis=zone, up=up)
    file = unit_cell(name)
    assert len(specimen.symbols) == atoms
    assert len(specimen.symbols) / np.prod(specimen.cell) == pytest.approx(len(file) / file.get_volume(), rel=1e-9)
    expected = neighbours_of_file(name)
    found = neighbours(specimen)
    # Each kind of site of the file is there, as often as the volume says.
    for row in np.unique(expected.round(6), axis=0):
        near = np.abs(found - row).max(axis=1) < 1e-5
        share = (np.abs(expected - row).max(axis=1) < 1e-5).mean()
        assert near.mean() == pytest.approx(share), row
    np.testing.assert_allclose(np.unique(found[:, 1].round(10)), np.unique(expected[:, 1].round(10)), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_diffraction_has_its_reflections_where_the_reciprocal_lattice_says(cif, view):
    """Amplitudes of a thin cell against structure factors of the file's cell, summed by hand."""
    name, zone, up, _ = VIEWS[view]
    specimen = read_specimen(cif(name), zone_axis=zone, up=up)
    found = reflections(specimen)
    expected = expected_reflections(name, np.array(three_indices(zone)), axes(name, zone, up))
    agree(found, expected)


def reflections(specimen: Specimen, largest: float = 1.2) -> dict[tuple[float, float], complex]:
    """Fourier components of one cell's projected potential per volume that are not zero, by (kx, ky) [1/Å]."""
    lx, ly, lz = specimen.cell
    grid = Grid((96, 96), (lx, ly))
    slices = np.zeros(len(specimen.symbols), dtype=int)
    potential = SlicePotentials(grid, specimen.positions, specimen.symbols, slices, 1, "kirkland").projected(0)
    amplitude = np.fft.fft2(potential) / potential.size / lz
    kx, ky = (np.fft.fftfreq(96, length / 96) for length in (lx, ly))
    strongest = np.abs(amplitude).max()
    return {
        (round(kx[i], 6) + 0.0, round(ky[j], 6) + 0.0): amplitude[i, j]
        for i, j in np.argwhere(np.abs(amplitude) > 1e-7 * strongest)
        if np.hypot(kx[i], ky[j]) < largest
    }


def expected_reflections(name: str, zone: np.ndarray, frame: np.ndarray, largest: float = 1.2) -> dict:
    """|V_g| of the zero-order Laue zone from the file's own cell: g = hkl·A⁻ᵀ, g·[uvw] = 0."""
    from stemphony.physics.constants import POTENTIAL_PREFACTOR

    file = unit_cell(name)
    reciprocal = np.linalg.inv(file.cell[:]).T
    fractions = file.get_scaled_positions()
    result = {}
    for hkl in itertools.product(range(-16, 17), repeat=3):
        vector = np.array(hkl) @ reciprocal
        length = np.linalg.norm(vector)
        if np.dot(hkl, zone) != 0 or length >= largest:
            continue
        factors = {s: scattering_factor(s, np.array([length**2]), "kirkland")[0] for s in set(file.symbols)}
        weights = np.array([factors[s] for s in file.get_chemical_symbols()])
        amplitude = POTENTIAL_PREFACTOR * (weights * np.exp(-2j * np.pi * fractions @ hkl)).sum() / file.get_volume()
        x, y = vector @ frame[0], vector @ frame[1]
        result[round(float(x), 6) + 0.0, round(float(y), 6) + 0.0] = amplitude
    return result


def agree(found: dict, expected: dict) -> None:
    strongest = max(abs(value) for value in expected.values())
    real = {place: value for place, value in expected.items() if abs(value) > 1e-6 * strongest}
    places = np.array(list(found))
    assert len(real) >= 5
    seen = set()
    for place, value in real.items():
        distance = np.abs(places - place).max(axis=1)
        assert distance.min() < 3e-6, f"no reflection at {place}"
        nearest = tuple(places[distance.argmin()].tolist())
        seen.add(nearest)
        assert abs(found[nearest]) == pytest.approx(abs(value), rel=1e-6)
    others = {place for place, value in found.items() if abs(value) > 1e-6 * strongest} - seen
    assert not others, f"reflections that the crystal does not have: {sorted(others)[:5]}"


def test_monoclinic_zirconia_is_refused_without_strain_and_lists_what_comes_near(cif):
    with pytest.raises(SpecimenError) as caught:
        read_specimen(cif("zirconia"), zone_axis=[0, 1, 0])
    text = str(caught.value)
    assert "max_strain" in text
    lines = [line for line in text.splitlines() if line.strip().startswith("strain")]
    assert len(lines) == 3
    assert "strain 0.01654, 24 atoms: x along [1 0 1], y along [-1 0 1]" in text
    strains = [float(line.split()[1].rstrip(",")) for line in lines]
    assert strains == sorted(strains)


def test_monoclinic_zirconia_is_accepted_with_the_tensor_that_it_states(cif):
    """[101] and [-101] enclose 90° + δ: the strain is a pure shear of about δ/2, with edges as long as before."""
    specimen = read_specimen(cif("zirconia"), zone_axis=[0, 1, 0], max_strain=0.02)
    orientation = specimen.building.orientation
    file = unit_cell("zirconia")
    cell = file.cell[:]
    x, y = (np.array(row) @ cell for row in ([1, 0, 1], [-1, 0, 1]))
    delta = np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) - np.pi / 2
    assert specimen.cell == pytest.approx([np.linalg.norm(x), np.linalg.norm(y), 5.2116], rel=1e-9)
    assert orientation.strain[0, 1] == pytest.approx(np.tan(delta / 2), rel=0.02)
    assert orientation.strain[2] == pytest.approx(0, abs=1e-12)
    assert 0.016 < orientation.largest_strain < 0.02
    # Undone, the stated strain gives back every distance of the file.
    unstrained = np.linalg.inv(np.eye(3) + orientation.strain)
    images = np.array(list(itertools.product(range(-3, 4), repeat=3))) * specimen.cell
    everything = (specimen.positions + images[:, None]).reshape(-1, 3) @ unstrained
    own = specimen.positions @ unstrained
    from scipy.spatial import cKDTree

    found = np.sort(cKDTree(everything).query(own, k=9)[0][:, 1:].ravel())
    expected = np.sort(np.tile(neighbours_of_file("zirconia", 8)[:, 1:], (2, 1)).ravel())
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert specimen.orientation.startswith("x along [1 0 1], y along [-1 0 1], beam along [0 -1 0]; strain xx ")
    text = dict(specimen.building.lines())["strain"]
    assert f"largest principal {100 * orientation.largest_strain:.4g} %" in text


def test_the_strained_pattern_is_the_reciprocal_lattice_under_that_strain(cif):
    specimen = read_specimen(cif("zirconia"), zone_axis=[0, 1, 0], max_strain=0.02)
    orientation = specimen.building.orientation
    frame = axes("zirconia", [0, 1, 0], [-1, 0, 1])
    # Without its rotation the strained frame: x and y of the unstrained crystal before it was stretched.
    cell = unit_cell("zirconia").cell[:]
    edges = np.rint(orientation.rows) @ cell
    rotation, strain = stretch(edges)
    np.testing.assert_allclose(strain, orientation.strain, atol=1e-12)
    inverse = np.linalg.inv(np.eye(3) + strain)
    places = np.array(
        [
            (np.array(hkl) @ np.linalg.inv(cell).T @ rotation @ inverse)[:2]
            for hkl in itertools.product(range(-6, 7), [0], range(-6, 7))
        ]
    )
    found = reflections(specimen, 0.8)
    assert len(found) > 20
    for place in found:
        assert np.abs(places - place).max(axis=1).min() < 2e-6
    assert np.abs(frame[2] - edges[2] / np.linalg.norm(edges[2])).max() < 1e-9


# Signs


def test_gallium_polar_gan_points_up_and_against_the_beam(cif):
    """[0001] leads from Ga to the N above it: up in the image with `up`, and towards the source as zone axis."""
    side = read_specimen(cif("gan"), zone_axis=[1, 1, -2, 0], up=[0, 0, 0, 1])
    bond = 0.377 * 5.185
    assert bond_offsets(side, 1) == pytest.approx([bond] * 4)
    down = read_specimen(cif("gan"), zone_axis=[1, 1, -2, 0], up=[0, 0, 0, -1])
    assert bond_offsets(down, 1) == pytest.approx([-bond] * 4)
    top = read_specimen(cif("gan"), zone_axis=[0, 0, 0, 1])
    assert bond_offsets(top, 2) == pytest.approx([-bond] * 4)  # N lies nearer to the source than its Ga
    bottom = read_specimen(cif("gan"), zone_axis=[0, 0, 0, -1])
    assert bond_offsets(bottom, 2) == pytest.approx([bond] * 4)


def bond_offsets(specimen: Specimen, axis: int) -> list[float]:
    """For each Ga, the distance along one axis to the N on the same line, within half a cell."""
    cell = np.asarray(specimen.cell)
    offsets = []
    for gallium in specimen.positions[specimen.symbols == "Ga"]:
        way = specimen.positions[specimen.symbols == "N"] - gallium
        way -= cell * np.round(way / cell)
        other = np.delete(way, axis, axis=1)
        offsets += way[np.abs(other).max(axis=1) < 1e-6, axis].tolist()
    return offsets


def handedness(cell: np.ndarray, symbols: np.ndarray, positions: np.ndarray) -> float:
    """A number that rotations keep and mirrors change in sign: Σ (r₁ × r₂)·r₃ with unequal weights of the lengths."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ cell
    silicon = positions[symbols == "Si"]
    everything = (positions + images[:, None]).reshape(-1, 3)
    total = 0.0
    for site in silicon:
        way = everything - site
        way = way[(np.linalg.norm(way, axis=1) < 4.2) & (np.linalg.norm(way, axis=1) > 0.1)]
        lengths = np.linalg.norm(way, axis=1)
        first, second, third = ((np.exp(-(((lengths - d) / 0.4) ** 2))[:, None] * way) for d in (1.6, 3.1, 3.7))
        products = np.einsum("aj,bcj->abc", first, np.cross(second[:, None], third[None]))
        total += float((np.abs(products) * products).sum())
    return total / len(silicon)


def test_left_and_right_handed_quartz_keep_their_hand(cif):
    hands = {}
    for name in ("left_quartz", "right_quartz"):
        file = unit_cell(name)
        hands[name] = handedness(file.cell[:], np.array(file.get_chemical_symbols()), file.positions)
        for settings in (
            {"zone_axis": [0, 0, 1]},
            {"zone_axis": [0, 0, -1], "up": [1, 0, 0]},
            {"zone_axis": [1, 0, 0]},
            {"supercell": [[1, 0, 0], [1, 2, 0], [0, 0, 1]]},
            {"supercell": [[0, 0, 1], [1, 2, 0], [1, 0, 0]]},
            {"supercell": [[0, 0, 1], [1, 0, 0], [1, 2, 0]]},
        ):
            built = read_specimen(cif(name), repeat=(1, 1, 1), **settings)
            found = handedness(np.diag(built.cell), built.symbols, built.positions)
            assert found == pytest.approx(hands[name], rel=1e-6), (name, settings)
    assert hands["left_quartz"] == pytest.approx(-hands["right_quartz"], rel=1e-6)
    assert abs(hands["left_quartz"]) > 1e-3


# Supercell rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows", "lengths"),
    [
        ("rutile", [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [4.5937, 2.9587, 4.5937]),
        ("rutile", [[0, 0, 1], [1, 0, 0], [0, 1, 0]], [2.9587, 4.5937, 4.5937]),
        ("gan", [[0, 0, 1], [1, 2, 0], [1, 0, 0]], [5.185, 3.189 * np.sqrt(3), 3.189]),
        ("gan", [[0, 0, 1], [-1, -2, 0], [1, 0, 0]], [5.185, 3.189 * np.sqrt(3), 3.189]),
        ("gan", [[1, 0, 0], [0, 0, 1], [1, 2, 0]], [3.189, 5.185, 3.189 * np.sqrt(3)]),
        ("rutile", [[-1, 0, 0], [0, -1, 0], [0, 0, 1]], [4.5937, 4.5937, 2.9587]),
    ],
)
def test_supercell_rows_run_along_x_y_and_the_beam(cif, name, rows, lengths):
    specimen = read_specimen(cif(name), supercell=rows)
    assert specimen.cell == pytest.approx(lengths, rel=1e-9)
    matrix = np.array(rows)
    left_handed = np.linalg.det(matrix) < 0
    if left_handed:
        matrix = matrix * np.array([[1], [-1], [1]])
        assert "left-handed" in "\n".join(specimen.notes)
    frame = matrix @ unit_cell(name).cell[:]
    frame = frame / np.linalg.norm(frame, axis=1)[:, None]
    agree(reflections(specimen), expected_reflections(name, matrix[2], frame))
    np.testing.assert_array_equal(specimen.building.orientation.rows, matrix)


def test_rows_that_version_0_1_read_differently_get_another_digest(cif):
    turned_cell = read_specimen(cif("rutile"), supercell=[[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert turned_cell.revision == 2
    usual = read_specimen(cif("gan"), supercell=[[1, 0, 0], [1, 2, 0], [0, 0, 1]])
    assert usual.revision == read_specimen(cif("gan"), zone_axis=[0, 0, 1]).revision


def test_the_plan_names_the_directions_of_every_specimen(cif):
    plain = read_specimen(cif("rutile"))
    assert plain.orientation == "x along [1 0 0], y along [0 1 0], beam along [0 0 1]"
    hexagonal = read_specimen(cif("gan"), zone_axis=[1, 1, -2, 0], up=[0, 0, 0, 1])
    assert hexagonal.orientation == "x along [1 -1 0 0], y along [0 0 0 1], beam along [-1 -1 2 0]"
    centred = read_specimen(cif("silicon"), zone_axis=[1, 1, 0])
    assert centred.orientation == "x along [1 -1 0], y along [0 0 1], beam along [-1 -1 0]"


# Sizes, origin, termination


def test_sizes_are_rounded_up_to_whole_cells_and_the_plan_says_so(cif):
    specimen = read_specimen(cif("silicon"), repeat=None, size_nm=[2.0, 2.2], thickness_nm=5.4309)
    assert specimen.building.repeat == (4, 5, 10)
    assert specimen.cell == pytest.approx([4 * 5.4309, 5 * 5.4309, 54.309])
    assert (
        "x 2.172 nm for 2 asked, y 2.715 nm for 2.2 asked, z 5.431 nm for 5.4309 asked"
        in dict(specimen.building.lines())["cells"]
    )
    assert read_specimen(cif("silicon"), repeat=None, thickness_nm=0.1).building.repeat == (1, 1, 1)


@pytest.mark.parametrize("origin", ["N", [1 / 3, 2 / 3, 0.377], [1 / 3, 2 / 3, 0.0], [4 / 3, -1 / 3, 0.2]])
def test_a_site_of_the_file_comes_to_lie_at_the_scan_origin(cif, origin):
    settings = {"zone_axis": [0, 0, 0, 1], "repeat": (2, 2, 1)}
    specimen = read_specimen(cif("gan"), origin=origin, **settings)
    at_origin = np.abs(specimen.positions[:, :2]).max(axis=1) < 1e-9
    assert set(specimen.symbols[at_origin]) == {"N", "Ga"}
    assert not (np.abs(read_specimen(cif("gan"), **settings).positions[:, :2]).max(axis=1) < 1e-9).any()


def test_an_origin_in_an_inclined_view_lies_on_its_column(cif):
    specimen = read_specimen(cif("gan"), zone_axis=[1, 1, -2, 0], up=[0, 0, 0, 1], origin=[1 / 3, 2 / 3, 0.377])
    at_origin = np.abs(specimen.positions[:, :2]).max(axis=1) < 1e-9
    assert set(specimen.symbols[at_origin]) == {"N"}


def test_an_origin_that_the_file_does_not_have_is_named(cif):
    with pytest.raises(SpecimenError, match=r"`specimen.origin` names Al, and the file holds Ga, N"):
        read_specimen(cif("gan"), origin="Al", zone_axis=[0, 0, 1])


@pytest.mark.parametrize(
    ("termination", "first", "next_plane"),
    [(0.0, ["Sr", "O"], ["Ti", "O"]), (0.3, ["Ti", "O"], ["Sr", "O"]), (0.5, ["Ti", "O"], ["Sr", "O"]),
     (0.501, ["Ti", "O"], ["Sr", "O"]), (0.6, ["Sr", "O"], ["Ti", "O"])],
)  # fmt: skip
def test_the_first_layer_is_the_one_behind_the_fraction(termination, first, next_plane):
    file = Path(__file__).parents[3] / "config/srtio3.cif"
    specimen = read_specimen(file, termination=termination, repeat=(1, 1, 3))
    heights = specimen.positions[:, 2]
    assert set(specimen.symbols[heights == 0]) == set(first)
    second = heights[heights > 0.1].min()
    assert second == pytest.approx(3.905 / 2)
    assert set(specimen.symbols[np.abs(heights - second) < 1e-9]) == set(next_plane)
    assert len(heights) == 15
    assert heights.max() < specimen.cell[2]


# Refusals


@pytest.mark.parametrize(
    ("name", "settings", "parts"),
    [
        ("silicon", {"zone_axis": [1, 1, -2, 0]}, ("four indices", "hexagonal")),
        ("gan", {"zone_axis": [1, 1, 2, 0]}, ("sum to 0", "here to 4")),
        ("gan", {"zone_axis": [0, 0, 0]}, ("no direction",)),
        ("gan", {"zone_axis": [0, 0, 1], "up": [0, 0, 0, 1]}, ("along the zone axis", "not parallel")),
        ("gan", {"zone_axis": [1, 0, 1]}, ("strain", "atoms", "max_strain")),
    ],
)
def test_impossible_orientations_are_refused_with_a_proposal(cif, name, settings, parts):
    with pytest.raises(SpecimenError) as caught:
        read_specimen(cif(name), **settings)
    for part in parts:
        assert part in str(caught.value)


def test_the_strain_that_a_refusal_names_is_accepted(cif):
    import re

    with pytest.raises(SpecimenError) as caught:
        read_specimen(cif("gan"), zone_axis=[1, 0, 1])
    suggested = float(re.search(r"max_strain: ([\d.]+)", str(caught.value))[1])
    specimen = read_specimen(cif("gan"), zone_axis=[1, 0, 1], max_strain=suggested)
    assert 0 < specimen.building.orientation.largest_strain <= suggested


# The search itself


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_smaller_orthogonal_cell_exists(seed):
    """Against all small integers, for cubic, tetragonal and hexagonal lattices and random zone axes."""
    random = np.random.default_rng(seed)
    lattices = [
        np.eye(3) * 4.0,
        np.diag([3.0, 3.0, 5.3]),
        np.array([[3.0, 0, 0], [-1.5, 1.5 * np.sqrt(3), 0], [0, 0, 4.9]]),
        np.array([[0, 2.0, 2.0], [2.0, 0, 2.0], [2.0, 2.0, 0]]),
    ]
    cell = lattices[seed]
    integers = np.array(list(itertools.product(range(-6, 7), repeat=3)))
    integers = integers[np.any(integers, axis=1)]
    for _ in range(3):
        zone = random.integers(-2, 3, 3)
        if not zone.any():
            zone = np.array([0, 0, 1])
        zone //= np.gcd.reduce(zone)
        vectors = integers @ cell
        flat = np.abs(vectors @ (zone @ cell)) < 1e-9
        across, candidates = vectors[flat], integers[flat]
        first, second = np.nonzero(np.abs(across @ across.T) < 1e-9)
        volumes = np.abs(np.cross(candidates[first], candidates[second]) @ zone)
        found = View(cell, zone, np.array([0.1, 0.2, 0.9])).candidates()
        if volumes.size:
            assert [(one.strain, one.cells) for one in found] == [(0.0, volumes.min())]
        else:
            assert found[0].strain > 0 or found[0].cells > 30


def test_a_cell_with_rounded_edges_is_exact_by_its_symmetry():
    edges = np.array([[3.16, 0, 0], [-1.58, 2.736640, 0], [0, 0, 12.3]])  # 2.7366403 rounded
    structure = Structure(np.array(["Mo"]), np.zeros((1, 3)), edges)
    found = primitive_lattice(structure)
    a, b, _ = found.ideal_cell
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) == pytest.approx(-0.5, abs=1e-12)


def test_primitive_cells_keep_occupancies_and_tensors_apart():
    """Two sites that only their occupancy tells apart are no translation of each other."""
    edges = np.diag([3.0, 3.0, 6.0])
    positions = np.array([[0, 0, 0], [0, 0, 3.0]])
    same = Structure(np.array(["Cu", "Cu"]), positions, edges)
    assert len(primitive_lattice(same).atoms) == 1
    other = Structure(np.array(["Cu", "Cu"]), positions, edges, occupancy=np.array([1.0, 0.5]))
    assert len(primitive_lattice(other).atoms) == 2
    # Tensors of one trace that point along different axes.
    tensors = np.array([np.diag([0.01, 0.02, 0.03]), np.diag([0.03, 0.02, 0.01])])
    turned_u = Structure(np.array(["Cu", "Cu"]), positions, edges, u_iso=np.full(2, 0.02), u_aniso=tensors)
    assert len(primitive_lattice(turned_u).atoms) == 2
    equal_u = Structure(np.array(["Cu", "Cu"]), positions, edges, u_iso=np.full(2, 0.02), u_aniso=tensors[[0, 0]])
    assert len(primitive_lattice(equal_u).atoms) == 1


def test_mixed_sites_stay_whole_in_the_primitive_cell():
    edges = np.diag([4.0, 4.0, 4.0])
    corners = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]], dtype=float)
    structure = Structure(
        np.array(["Cu"] * 4 + ["Au"] * 4), np.tile(corners[[0, 1, 2, 3, 3, 2, 1, 0]][:4], (2, 1)), edges,
        occupancy=np.repeat([0.7, 0.3], 4), disorder=np.tile(np.arange(4), 2),
    )  # fmt: skip
    found = primitive_lattice(structure)
    assert sorted(structure.symbols[found.atoms]) == ["Au", "Cu"]
    assert len(set(structure.disorder[found.atoms])) == 1


@pytest.mark.parametrize("second", ["equal", "other"])
def test_tensors_of_every_atom_of_a_mixed_site_count(second):
    """Gold at the second site may move along another axis although copper, the first atom of the site, does not."""
    positions = np.tile([[0, 0, 0], [0, 0, 3.0]], (2, 1))
    along_x, along_y = np.diag([0.03, 0.01, 0.01]), np.diag([0.01, 0.03, 0.01])
    tensors = np.array([along_x, along_x, along_x, along_x if second == "equal" else along_y])
    structure = Structure(
        np.array(["Cu", "Cu", "Au", "Au"]), positions, np.diag([3.0, 3.0, 6.0]), u_iso=np.full(4, 0.05 / 3),
        u_aniso=tensors, occupancy=np.array([0.7, 0.7, 0.3, 0.3]), disorder=np.array([0, 1, 0, 1]),
    )  # fmt: skip
    assert len(primitive_lattice(structure).atoms) == (2 if second == "equal" else 4)


def test_a_skipped_search_for_translations_earns_a_note(cif, monkeypatch):
    from stemphony.specimen import primitive

    assert "not searched" not in "\n".join(read_specimen(cif("gold"), zone_axis=[0, 0, 1]).notes)
    monkeypatch.setattr(primitive, "MOST_SITES", 3)
    specimen = read_specimen(cif("gold"), zone_axis=[0, 0, 1])
    assert "more than 3 sites, translations shorter" in "\n".join(specimen.notes)
    assert len(specimen.symbols) == 4


def test_principal_strain_of_a_sheared_square_is_that_of_the_formula():
    """Unit edges at 90° + δ: principal strains are 1/√(1 ± sin δ) − 1."""
    delta = 0.03
    strain = principal_strain(np.array([[np.cos(np.pi / 2 + delta), 0, 0]]))
    assert strain[0] == pytest.approx(1 / np.sqrt(1 - np.sin(delta)) - 1)


def test_stretch_is_a_rotation_and_a_symmetric_strain():
    edges = np.array([[3.0, 0.1, 0.2], [0.1, 4.0, -0.1], [0.05, 0.1, 5.0]])
    rotation, strain = stretch(edges)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    np.testing.assert_allclose(
        edges @ rotation @ (np.eye(3) + strain), np.diag(np.linalg.norm(edges, axis=1)), atol=1e-12
    )


@pytest.mark.parametrize(
    ("four", "three"),
    [((1, 1, -2, 0), (1, 1, 0)), ((2, -1, -1, 0), (1, 0, 0)), ((0, 0, 0, 1), (0, 0, 1)), ((1, 0, -1, 0), (2, 1, 0))],
)
def test_four_indices_and_three_name_the_same_direction(four, three):
    assert three_indices(four) == three
    assert four_indices(three) == four


# Properties of atoms


def test_tensors_turn_with_the_crystal():
    """The largest axis of U along a bond stays along that bond."""
    bond = np.array([1.0, 2.0, 0.5])
    bond /= np.linalg.norm(bond)
    tensor = 0.01 * np.eye(3) + 0.05 * np.outer(bond, bond)
    structure = Structure(np.array(["C"]), np.zeros((1, 3)), np.eye(3) * 4, u_aniso=tensor[None])
    rotation, _ = stretch(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    moved = turned(structure, structure.positions, structure.cell, rotation).u_aniso[0]
    turned_bond = bond @ rotation
    np.testing.assert_allclose(moved, 0.01 * np.eye(3) + 0.05 * np.outer(turned_bond, turned_bond), atol=1e-12)


def test_copies_carry_all_columns_and_renumber_disorder():
    structure = Structure(
        np.array(["Cu", "Au", "O"]), np.zeros((3, 3)), np.eye(3), u_iso=np.array([1.0, 2.0, 3.0]),
        u_aniso=np.arange(27.0).reshape(3, 3, 3), occupancy=np.array([0.7, 0.3, 1.0]), disorder=np.array([0, 0, -1]),
        disorder_group=np.array([0, 1, -1]), charge=np.array([1.0, 0.0, -2.0]),
    )  # fmt: skip
    block = copied(structure, np.zeros((9, 3)), np.eye(3) * 2)
    assert block.symbols.tolist() == ["Cu", "Au", "O"] * 3
    assert block.u_iso.tolist() == [1, 2, 3] * 3
    assert block.u_aniso.shape == (9, 3, 3)
    assert block.disorder.tolist() == [0, 0, -1, 1, 1, -1, 2, 2, -1]
    assert block.disorder_group.tolist() == [0, 1, -1] * 3
    assert block.charge.tolist() == [1, 0, -2] * 3
