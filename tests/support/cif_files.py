"""CIF files of one block, for tests of what a CIF may say."""

from __future__ import annotations

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""

SITE = "label type_symbol fract_x fract_y fract_z"
"""Columns of an atom without thermal motion."""


def cif_text(
    sites: str, *, symmetry: str = "", cell: tuple[float, ...] = (A, A, A, 90, 90, 90), columns: str = SITE,
    more: str = "",
) -> str:  # fmt: skip
    """The text of a CIF: its cell, then `symmetry`, the loop of atoms with the rows `sites`, and `more` lines.

    A cell of three numbers has no lines for angles: CIF then takes 90°.
    """
    edges = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{edge} {value}" for edge, value in zip(edges, cell, strict=False)), symmetry, "loop_"]
    lines += [f"_atom_site_{column}" for column in columns.split()] + [sites, more]
    return "\n".join(line for line in lines if line) + "\n"
