"""A number stands with its noun in singular or plural."""

from __future__ import annotations

import pytest
from stemphony.counting import number_of


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("job",), "0 jobs"),
        (1, ("job",), "1 job"),
        (2, ("job",), "2 jobs"),
        (1, ("defocus", "defoci"), "1 defocus"),
        (3, ("defocus", "defoci"), "3 defoci"),
        (0, ("chain of sites", "chains of sites"), "0 chains of sites"),
    ],
)
def test_a_number_has_its_noun(count: int, words: tuple[str, ...], text: str):
    assert number_of(count, *words) == text
