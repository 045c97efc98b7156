"""Read POSCAR and CONTCAR of VASP, and the head of CHGCAR and similar files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen import elements, source, table
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

LAYOUT = (
    "A POSCAR has a title, a scale, three edges, the elements, their numbers, Direct or Cartesian, and one line of "
    "coordinates per atom."
)
DIGITS = 40
"""Most digits of a number of atoms that are read as a number. A later check refuses a number that is too large for the
file."""
LEAST_LINE = 6
"""Fewest characters of a line of coordinates: three digits, two spaces and the end of the line."""


def read_poscar(file: Path) -> Structure:
    """The structure of the POSCAR `file`.

    A negative scale is the volume of the cell [Å³]. Three scales multiply x, y, z. Names of potentials such as `Sr_sv`
    or `O/3ba5b3e8` give their element. If there is no line of elements (VASP 4), the title must name them.

    Raises
    ------
    SpecimenError
        A line is missing or damaged, or the elements are not given. The text names the line.
    """
    source.require_size(file)
    size = file.stat().st_size
    with source.text(file) as stream:
        return _LineReader(
            file, stream, size if file.suffix.lower() not in (".gz", ".bz2", ".xz") else None
        ).structure()


class _LineReader:
    """Lines of one file, counted from 1 for messages."""

    def __init__(self, file: Path, lines: Iterator[str], size: int | None) -> None:
        self.file, self.lines, self.size, self.number = file, lines, size, 0
        self.notes: list[str] = []

    def line(self, what: str) -> str:
        try:
            text = next(self.lines)
        except StopIteration:
            raise SpecimenError(
                self.file, f"ends after line {self.number}, where {what} should follow: it is truncated. {LAYOUT}"
            ) from None
        self.number += 1
        return text

    def bad(self, got: str, expected: str) -> SpecimenError:
        return SpecimenError(self.file, f"line {self.number}: got {got.strip()[:60]!r}, expected {expected}. {LAYOUT}")

    def floats(self, what: str, count: int) -> list[float]:
        text = self.line(what)
        words = text.split()[:count]
        try:
            if len(words) < count:
                raise ValueError
            return [table.number(word) for word in words]
        except ValueError:
            raise self.bad(text, what) from None

    def structure(self) -> Structure:
        title = self.line("a title")
        scale_text = self.line("the scale")
        scales = _floats(scale_text.split("#")[0].split("!")[0].split())
        if len(scales) not in (1, 3) or not all(np.isfinite(scales)) or 0 in scales:
            raise self.bad(scale_text, "the scale: one number, or three positive ones")
        if len(scales) == 3 and min(scales) <= 0:
            raise self.bad(scale_text, "three positive scales")
        cell = np.array([self.floats("three numbers of a cell edge [Å]", 3) for _ in range(3)])
        scale = self._scale(scales, cell)
        symbols, counts = self._elements(title)
        total = sum(counts)
        if self.size is not None and total * LEAST_LINE > self.size:
            raise SpecimenError(
                self.file,
                f"line {self.number} announces {total:,} atoms, but the file has {self.size:,} bytes, too few "
                "for their coordinates: it is truncated, or the number is wrong.",
            )
        mode = self.line("Direct or Cartesian").strip().lower()
        selective = mode.startswith("s")
        if selective:
            mode = self.line("Direct or Cartesian").strip().lower()
        cartesian = self._is_cartesian(mode)
        # Make one symbol at a time, so that a wrong number of atoms does not fill the memory before the file ends.
        each = (symbol for symbol, n in zip(symbols, counts, strict=True) for _ in range(n))
        given = self._coordinates(each, total, selective)
        edges = cell * scale
        return Structure(
            symbols=np.repeat(np.array(symbols, dtype="<U2"), counts),
            positions=given * scale if cartesian else given @ edges,
            cell=edges,
            format="poscar",
            reader="Stemphony",
            notes=tuple(self.notes),
        )

    def _is_cartesian(self, mode: str) -> bool:
        # VASP reads any word that begins with c or k as Cartesian, and any other word as Direct.
        if mode[:1] not in ("c", "k", "d"):
            raise self.bad(mode, "Direct or Cartesian")
        if "configuration" in mode:
            raise SpecimenError(
                self.file,
                f"line {self.number} begins one of several configurations: this is a trajectory (XDATCAR). Name it "
                "XDATCAR, or write the frame that you mean as a POSCAR.",
            )
        return mode[:1] in ("c", "k")

    def _coordinates(self, symbols: Iterable[str], total: int, selective: bool) -> Floats:
        """(N, 3) coordinates. Names behind them do not count. A note says where they differ from the elements."""
        rows, other = [], ""
        for i, symbol in enumerate(symbols):
            text = self.line(f"the coordinates of atom {i} (counted from 0) of {total:,}")
            words = text.split()
            row = _floats(words[:3])
            if len(row) < 3:
                raise self.bad(text, f"the coordinates of atom {i} (counted from 0) of {total:,}")
            rows.append(row)
            name = re.match(r"[A-Z][a-z]?(?![a-z])", " ".join(words[6 if selective else 3 :][:1]))
            if name is not None and name[0] in elements.numbers() and name[0] != symbol and not other:
                other = f"line {self.number} names {name[0]} behind the coordinates of an atom that is {symbol}"
        if other:
            self.notes.append(f"{other} by the list of elements: the list is used. Check the order of the elements")
        if len(_floats(next(self.lines, "").split())) >= 3:
            self.notes.append(
                f"line {self.number + 1} has more coordinates than the {total:,} atoms announced: not used"
            )
        return np.array(rows).reshape(-1, 3)

    def _scale(self, scales: Sequence[float], cell: Floats) -> Floats:
        if len(scales) == 3:
            return np.array(scales)
        if scales[0] > 0:
            return np.full(3, scales[0])
        volume = abs(float(np.linalg.det(cell)))
        if volume == 0:
            raise SpecimenError(self.file, "its cell is flat: the edges lie in one plane. Correct the cell.")
        return np.full(3, (-scales[0] / volume) ** (1 / 3))

    def _elements(self, title: str) -> tuple[list[str], list[int]]:
        text = self.line("the elements")
        words = _without_comment(text)
        if words and table.is_count(words[0], DIGITS):
            counts = self._counts(text)
            return self._from_title(title, len(counts)), counts
        names = list(words)
        text = self.line("the number of atoms of each element")
        while _without_comment(text) and not table.is_count(
            text.split()[0], DIGITS
        ):  # a long list continues in the next line
            names += _without_comment(text)
            text = self.line("the number of atoms of each element")
        counts = self._counts(text)
        while len(counts) < len(names):
            counts += self._counts(self.line("the number of atoms of each element"))
        if len(counts) != len(names):
            raise self.bad(text, f"{len(names)} numbers, one for each of {' '.join(names)[:60]}")
        return [self._element(name) for name in names], counts

    def _counts(self, text: str) -> list[int]:
        words = _without_comment(text)
        if not words or not all(table.is_count(word, DIGITS) for word in words):
            raise self.bad(text, "whole numbers of atoms")
        return [int(word) for word in words]

    def _element(self, name: str) -> str:
        """Element of a name: `Sr` for `Sr`, `Sr_sv`, `Sr/3ba5b3e8`, `Sr_sv_GW/abc`; H for the fractional `H.75`."""
        base = re.split(r"[_/:]", name)[0]
        charged = elements.from_type(base)
        if charged is not None and charged[1] is not None:  # some programs write charges, such as Sr2+
            base = charged[0]
        match = re.fullmatch(r"([A-Za-z]{1,2})(\.\d+|\d\.\d+)?(\d*)", base)
        symbol = "" if match is None or (match[3] and match[2] is None and match[1] != "H") else match[1].capitalize()
        if symbol in elements.ISOTOPES:
            self.notes.append("deuterium and tritium scatter electrons as hydrogen and become H")
            return "H"
        if symbol not in elements.numbers():
            raise SpecimenError(self.file, elements.unknown_symbol(name, "line 6"))
        if match is not None and match[2]:
            self.notes.append(f"{name}, hydrogen of fractional charge, is taken for H")
        return symbol

    def _from_title(self, title: str, count: int) -> list[str]:
        """Elements of a VASP 4 file. Its title names one element for each number, such as `Sr Ti O`."""
        words = [re.split(r"[_/]", word)[0] for word in re.split(r"[\s,;]+", title.strip()) if word]
        named = [re.fullmatch(r"([A-Z][a-z]?)(\d*)", word) for word in words]
        symbols = [match[1] for match in named if match is not None]
        if (len(words) == 1 and count > 1) or len(symbols) != len(words):
            joined = re.fullmatch(r"(?:[A-Z][a-z]?\d*)+", "".join(words)) if len(words) == 1 else None
            symbols = re.findall(r"[A-Z][a-z]?", words[0]) if joined else []
        if len(symbols) != count or any(symbol not in elements.numbers() for symbol in symbols):
            raise SpecimenError(
                self.file,
                f"line 6 has numbers of atoms and no elements (VASP 4), and the title {title.strip()[:60]!r} does not "
                f"name {count} of them. Add a line with the elements above line 6, such as 'Sr Ti O'.",
            )
        self.notes.append(f"the elements {' '.join(symbols)} are taken from the title (VASP 4 has no line for them)")
        return symbols


def _floats(words: Sequence[str]) -> list[float]:
    try:
        return [table.number(word) for word in words]
    except ValueError:
        return []


def _without_comment(text: str) -> list[str]:
    return re.split(r"[#!]", text)[0].split()


def looks_like_poscar(lines: Sequence[str]) -> bool:
    """Whether line 2 is a scale, lines 3 to 5 are edges, and numbers of atoms and the kind of coordinates follow."""
    if len(lines) < 8 or len(_floats(lines[1].split())) not in (1, 3):
        return False
    if not all(len(_floats(line.split()[:3])) == 3 for line in lines[2:5]):
        return False
    numbers = next(
        (i for i in range(5, 8) if lines[i].split() and all(table.is_count(w, DIGITS) for w in lines[i].split())), None
    )
    if numbers is None or numbers + 1 >= len(lines):
        return False
    mode = lines[numbers + 1].strip().lower()
    return mode[:1] in "sdck" and "configuration" not in mode  # `Direct configuration` begins a frame of an XDATCAR
