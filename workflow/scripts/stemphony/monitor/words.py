"""Numbers as people read them, for pages and notifications."""

from __future__ import annotations

from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
"""Lengths of a minute, an hour and a day [s]."""


def time_span(seconds: float) -> str:
    """Return `seconds` [s] as a time span in at most two units: `8 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    if whole < 90 * _MINUTE:
        return f"{round(whole / _MINUTE)} min"
    if whole < 2 * _DAY:
        minutes = round(whole / _MINUTE)
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(whole / _HOUR)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def time_span_range(earliest_s: float, latest_s: float) -> str:
    """Return the range from `earliest_s` to `latest_s` [s], or `about` one time span if both have the same text."""
    early, late = time_span(_rounded(earliest_s)), time_span(_rounded(latest_s))
    if early == late:
        return f"about {late}"
    number, _, unit = early.partition(" ")
    return f"{number} – {late}" if late.partition(" ")[2] == unit else f"{early} – {late}"


def _rounded(seconds: float) -> float:
    """Round to the accuracy of an estimate: 5 s below 90 s, then 1 min, 10 min and, from 12 h, 1 h."""
    step = 5 if seconds < 90 else _MINUTE if seconds < 90 * _MINUTE else 10 * _MINUTE if seconds < 12 * _HOUR else _HOUR
    return round(seconds / step) * step


def rate(per_s: float) -> str:
    """Return the rate `per_s` [configurations/s] per minute, hour or day.

    The unit is the shortest of these with a rate of at least 1.
    """
    for unit, length in (("minute", _MINUTE), ("hour", _HOUR)):
        if per_s * length >= 1:
            return f"{_three_digits(per_s * length)} per {unit}"
    return f"{_three_digits(per_s * _DAY)} per day"


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}"


def nanometres(defocus: float | None, index: int | None = None) -> str:
    """Return `defocus` [nm] with a typographic minus sign, or its `index` if the value is not known."""
    if defocus is None:
        return "defocus ?" if index is None else f"defocus {index}"
    return f"{round(defocus, 3) + 0.0:g} nm".replace("-", "−")
