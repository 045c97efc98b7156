"""Write a number with its noun, for texts that people read."""

from __future__ import annotations


def number_of(count: int, one: str, many: str = "") -> str:
    """Return `count` with its noun in singular or plural: `1 job`, `0 jobs`, `2 defoci`.

    Parameters
    ----------
    one, many : str
        What stands behind the number 1, and behind all other numbers. `many` is `one` with an s if it is not given.

    Returns
    -------
    str
        Number, space and noun.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
