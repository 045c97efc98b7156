"""One data block of a CIF: its values by name. Names of all dictionaries are accepted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemphony.errors import SpecimenError
from stemphony.specimen import source, table

# Names whose values decide the atoms.
DECISIVE = ("_cell_", "_atom_site_", "_symmetry", "_space_group")
# Names whose values are compared with the atoms.
STATING = ("_chemical_formula", "_exptl_crystal", "_atom_type", "_diffrn_radiation")
COORDINATES = ("_atom_site_fract_x", "_atom_site_cartn_x")
_UNQUOTED = re.compile(r"^\s*(_\S+)\s+([^\s'\";#]\S*[ \t]+[^#'\"\n]*?)\s*(?:#.*)?$")
_OPEN_QUOTE = re.compile(r"^\s*(_\S+)\s+(['\"].*?)\s*$")
_UNCERTAINTY = re.compile(r"\(\d+\)$")


@dataclass(frozen=True)
class CifBlock:
    """Values of one data block.

    Names are in small letters with `_` for `.`, so that `_atom_site.fract_x` (DDLm), `_atom_site_fract_x` (DDL1) and
    `_Atom_Site_Fract_X` are one name.

    Attributes
    ----------
    name : str
        Name of the block, without `data_`.
    raw : mapping
        One list of texts per name, without quotes. `.` (not applicable) and `?` (unknown) stay as they are written.
    written : mapping
        For each name, the name in the file in small letters.
    """

    name: str
    raw: dict[str, list[str]]
    written: dict[str, str]

    def column(self, *names: str) -> list[str] | None:
        """Values of the first name of `names` that the block has."""
        for name in names:
            if name in self.raw:
                return self.raw[name]
        return None

    def value(self, *names: str) -> str | None:
        """The first known single value of `names`, else None."""
        for name in names:
            for text in self.raw.get(name, [])[:1]:
                if text.strip() not in (".", "?", "", "''", '""'):
                    return text.strip()
        return None

    def number(self, *names: str) -> float | None:
        """`value` as a number; None if it is not one."""
        text = self.value(*names)
        found = math.nan if text is None else as_number(text)
        return found if math.isfinite(found) else None

    @property
    def has_structure(self) -> bool:
        """Whether the block has a cell and sites."""
        return "_cell_length_a" in self.raw and any(name in self.raw for name in COORDINATES)


def as_number(text: str) -> float:
    """A number as CIF and Fortran write it: `0.333(2)`, `1/3`, `1.0D-3`; NaN for any other text."""
    text = _UNCERTAINTY.sub("", text.strip())
    try:
        if "/" in text:
            top, bottom = text.split("/")
            return float(top) / float(bottom)
        return table.number(text)
    except (ValueError, ZeroDivisionError):
        return math.nan


def read_blocks(file: Path) -> list[CifBlock]:
    """All data blocks of a CIF.

    Raises
    ------
    SpecimenError
        The file is no CIF. The text names the line.
    """

    text = source.read_text(file)
    try:
        document = parsed(text)
    except (ValueError, RuntimeError) as error:
        detail = str(error).splitlines()[0].removeprefix("string:")
        raise SpecimenError(
            file,
            f"cannot be read as CIF (line {_readable(detail)}). The file is truncated, damaged or of another kind: "
            "export it again, correct that line, or give it the extension of its real format.",
        ) from None
    return [block_of(file, block) for block in document]


def parsed(text: str) -> Any:
    """Parse the `text` of a CIF with gemmi. If quotes are missing, they are added.

    `block_of` compares columns that stand twice.

    Returns
    -------
    gemmi.cif.Document
        The document of the first spelling that can be parsed.

    Raises
    ------
    ValueError, RuntimeError
        The text is no CIF, even with these corrections.
    """
    import gemmi

    try:
        return gemmi.cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError):
        for whole in (text, _headed(_with_whole_quotes(text))):
            # Names and titles may have letters that the syntax does not allow. Values that decide the atoms are ASCII.
            for mended in (whole, _quoted(whole), ascii_text := _in_ascii(whole), _quoted(ascii_text)):
                with suppress(ValueError, RuntimeError):
                    return gemmi.cif.read_string(mended, check_level=0)
        raise


def _in_ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def _headed(text: str) -> str:
    """The text with the heading of a block, if it begins without one. The numbers of lines do not change."""
    first = next((line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")), "")
    return f"data_ {text}" if first.lower().startswith(("_", "loop_")) else text


def _with_whole_quotes(text: str) -> str:
    """Repair values on one line whose quote is not closed, or has a comma behind it: `'A. Author, B. Author',`.

    The comma is left out. A value without its closing quote becomes unknown, unless this program needs the value.
    """
    lines = text.split("\n")
    inside = False
    for number, line in enumerate(lines):
        if line.startswith(";"):
            inside = not inside
        match = None if inside else _OPEN_QUOTE.match(line)
        if match is None or re.match(r"(['\"]).*\1(\s+#.*)?$", match[2]):
            continue
        if match[2].endswith(f"{match[2][0]},"):
            lines[number] = f"{match[1]} {match[2][:-1]}"
        elif not _normal(match[1]).startswith((*DECISIVE, *STATING)):
            lines[number] = f"{match[1]} ?"
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Put quotes around values of several words, such as `_symmetry_space_group_name_H-M P m -3 m`."""
    lines = text.split("\n")
    inside = False
    for number, line in enumerate(lines):
        if line.startswith(";"):
            inside = not inside
        match = None if inside else _UNQUOTED.match(line)
        if match is not None:
            lines[number] = f"{match[1]} '{match[2].rstrip()}'"
    return "\n".join(lines)


def _readable(detail: str) -> str:
    return re.sub(r"^(\d+):(\d+)(\(\d+\))?:\s*", r"\1, column \2: ", detail)[:200]


def block_of(file: Path, block: Any) -> CifBlock:
    """Values of one `block` of gemmi. If a name stands twice, its values must be the same.

    Raises
    ------
    SpecimenError
        They differ, and they decide the atoms. The text names `file` and the block.
    """
    made = CifBlock(block.name, {}, {})
    for item in sorted(block, key=_without_coordinates):
        if item.pair is not None:
            _take(file, made, item.pair[0], [_plain(item.pair[1])])
        elif item.loop is not None:
            width = item.loop.width()
            values = list(item.loop.values)
            for column, tag in enumerate(item.loop.tags):
                texts = values[column::width]
                if any(text[:1] in ("'", '"', ";") for text in texts):
                    texts = [_plain(text) for text in texts]
                _take(file, made, tag, texts, of_sites=not _without_coordinates(item))
    return made


def _take(file: Path, block: CifBlock, tag: str, values: list[str], *, of_sites: bool = False) -> None:
    """Put the values of a tag into a block. If the block has this name already, its first values stay."""
    name = _normal(tag)
    block.written.setdefault(name, tag.lower())
    known = block.raw.setdefault(name, values)
    # Some programs list atom types under names of sites. Then only the loop with the coordinates counts.
    beside_sites = name.startswith("_atom_site_") and not of_sites
    if known != values and name.startswith(DECISIVE) and not beside_sites:
        raise SpecimenError(
            file, f"block data_{block.name}: {tag} stands twice with different values. Remove one of them."
        )


def _plain(text: str) -> str:
    """A value without its quotes. `.` and `?` stay as they are written."""
    import gemmi

    if len(text) < 2:
        return text
    return gemmi.cif.as_string(text) or text


def _without_coordinates(item: Any) -> bool:
    return item.loop is None or not any(_normal(tag) in COORDINATES for tag in item.loop.tags)


def _normal(tag: str) -> str:
    return tag.lower().replace(".", "_")


def structure_block(file: Path, blocks: Sequence[CifBlock]) -> CifBlock:
    """The only one of `blocks` with a structure. `file` is named in messages.

    Raises
    ------
    SpecimenError
        No block has a structure, or several blocks have different structures.
    """
    found = [block for block in blocks if block.has_structure]
    if not found:
        raise SpecimenError(
            file,
            "holds no structure: no block has a cell (_cell_length_a …) and sites (_atom_site_fract_x …). The file is "
            "truncated, or it ends before a complete structure. Export it again.",
        )
    if len(found) > 1 and any(_content(block) != _content(found[0]) for block in found[1:]):
        names = ", ".join(f"data_{block.name}" for block in found[:8])
        raise SpecimenError(
            file,
            f"holds {len(found)} structures ({names}{', …' if len(found) > 8 else ''}). One is needed: copy the "
            "block that you mean into a file of its own.",
        )
    return found[0]


def _content(block: CifBlock) -> list[tuple[str, list[str]]]:
    return sorted((name, values) for name, values in block.raw.items() if name.startswith(DECISIVE))
