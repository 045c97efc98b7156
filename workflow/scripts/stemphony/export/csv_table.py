"""Write CSV: one row for each position and depth, one column for each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.export.contents import Image, facts_of

PLACE, VALUE = "%.7g", "%.9g"
"""Digits of places and of signals. With nine digits, different numbers of single precision stay different."""


def write(path: Path, images: Iterable[Sequence[Image]], facts: dict[str, Any]) -> None:
    """Write the table `path`. Lines that begin with # and hold the `facts` of the result come first.

    `images` has one item for each depth, and the same images in each item. The table has a row for each position and
    depth.
    """
    with path.open("w", encoding="utf-8", newline="") as stream:
        for number, depth in enumerate(images):
            if not number:
                stream.writelines(f"{line}\n" for line in _head(depth, facts))
            columns = _places(depth[0])
            digits = [PLACE] * len(columns)
            for image in depth:
                columns += [part.T.ravel() for part in (image.values, image.errors) if part is not None]
            digits += [VALUE] * (len(columns) - len(digits))
            np.savetxt(stream, np.column_stack(columns), fmt=digits, delimiter=",")


def _head(images: Sequence[Image], facts: dict[str, Any]) -> Iterator[str]:
    for key, value in facts.items():
        yield f"# {key}: {_one_line(value)}"
    names = _place_names(images[0])
    for image in images:
        known = [f"{key} {_one_line(value)}" for key, value in facts_of(image).items() if key != "depth_nm"]
        yield "; ".join([f"# column {image.name}: {image.long_name}, unit {image.units}", *known])
        names += [image.name] if image.errors is None else [image.name, f"{image.name}_standard_error"]
    yield ",".join(names)


def _one_line(value: Any) -> str:
    return " ".join(f"{value:.9g}".split() if isinstance(value, float) else str(value).split())


def _place_names(image: Image) -> list[str]:
    first = image.scan.first
    own = [] if image.scan.second is not None else [first.name + ("_nm" if first.units == "nm" else "")]
    return ["depth_nm", *own, "x_nm", "y_nm"]


def _places(image: Image) -> list[Any]:
    """Columns with the place of each row. x changes fastest."""
    scan = image.scan
    if scan.second is not None:
        y, x = np.meshgrid(scan.second.values, scan.first.values, indexing="ij")
        places = [x.ravel(), y.ravel()]
    else:
        assert scan.places_nm is not None
        places = [scan.first.values, scan.places_nm[:, 0], scan.places_nm[:, 1]]
    return [np.full(len(places[0]), image.depth_nm), *places]
