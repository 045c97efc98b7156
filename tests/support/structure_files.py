"""Structure files of any format, for tests of what their readers take and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import read_structure


def written(folder: Path, name: str, text: str) -> Path:
    """The file `name` with this text."""
    file = folder / name
    file.write_text(text)
    return file


def refusal(file: Path, *parts: str) -> None:
    """Require that the reader refuses the file with a message that has all of these parts."""
    with pytest.raises(SpecimenError) as caught:
        read_structure(file)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
