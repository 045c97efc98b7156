"""A sweep: one config that stands for several simulations, one for each combination of values.

sweep: {probe.semiangle_mrad: [20, 25, 30], specimen.thickness_nm: [5, 10]}     a grid: six simulations
sweep: [{probe.semiangle_mrad: 20}, {probe.semiangle_mrad: 30}]                 a list: two simulations
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stemphony import paths
from stemphony.errors import ConfigError
from stemphony.experiment import configuration, overrides
from stemphony.experiment.mistakes import dotted, kind, short
from stemphony.status.secret_places import may_be_secret

KEY = configuration.SWEEP
"""Key of a config that stands for several simulations."""
REPORTING = "http_reporting"
"""Block of the config with the receiver of status reports."""
LONGEST_LABEL = 120
"""Largest number of characters of a label. A file system allows 255 for the name of a folder."""
NOT_SWEPT = {
    "simulation.name": "the members get their names from the swept values",
    "simulation.title": "the members get their titles from the swept values",
    REPORTING: "all members report to the same receiver",
    "resources": "they decide no number; give them for all members",
    KEY: "a sweep has no sweep in it",
}
"""Keys that a sweep may not change, and why."""


@dataclass(frozen=True)
class Member:
    """One simulation of a sweep.

    Attributes
    ----------
    label : str
        Name of the folder of this simulation inside the folder of the sweep.
    values : mapping
        The value of each swept key, in the order of the keys.
    config : mapping
        Config of this simulation, without the key `sweep`.
    """

    label: str
    values: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The values of this simulation, for titles and messages."""
        return ", ".join(f"{key} = {value_in_words(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class Sweep:
    """All simulations of a config with the key `sweep`.

    Attributes
    ----------
    axes : mapping or None
        The swept keys of a grid with their values; None for a list of simulations.
    replaced : tuple of str
        Swept keys that the config also gives outside of the sweep. The value outside has no effect.
    """

    members: tuple[Member, ...]
    axes: Mapping[str, tuple[Any, ...]] | None
    replaced: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Title of the whole sweep."""
        simulation = self.members[0].config["simulation"]
        return str(simulation.get("title") or simulation["name"])

    def member(self, label: str) -> Member:
        """The member with the label `label`. Raises ConfigError, which lists the labels, if there is none."""
        for member in self.members:
            if member.label == label:
                return member
        known = ", ".join(member.label for member in self.members)
        raise ConfigError(KEY, f"has no member {label!r}. Its members are {known}.")


def without_sweep(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `config` without the key `sweep`, for one simulation."""
    return {key: value for key, value in config.items() if key != KEY}


def expanded(config: Mapping[str, Any], from_files: Mapping[str, Any]) -> Sweep:
    """The simulations that a config with a sweep stands for.

    Parameters
    ----------
    config : mapping
        The config, with the key `sweep`.
    from_files : mapping
        The config of the files alone, see `overrides.typed`.

    Returns
    -------
    Sweep
        At least one member.

    Raises
    ------
    ConfigError
        The sweep is empty or has a key twice, a value that is no list, a key that cannot be swept, two equal members,
        or too many.
    """
    given = config[KEY]
    base = without_sweep(config)
    if isinstance(given, Mapping):
        _refuse_fixed(given)  # this must come first: other messages show values, which may be passwords
        axes = {key: _values(key, given[key]) for key in sorted(map(str, given))}
        _require_keys(list(axes))
        rows = [dict(zip(axes, row, strict=True)) for row in itertools.islice(_product(axes), paths.MOST_MEMBERS + 1)]
    elif isinstance(given, list | tuple):
        axes, rows = None, [_row(index, row) for index, row in enumerate(given[: paths.MOST_MEMBERS + 1])]
    else:
        raise ConfigError(
            KEY, f"got {short(given)}; allowed are keys with lists, such as {{probe.semiangle_mrad: [20, 25]}}, "
            "or a list of maps, such as [{probe.semiangle_mrad: 20}, {probe.semiangle_mrad: 25}].",
        )  # fmt: skip
    if not rows or not rows[0]:
        raise ConfigError(KEY, "is empty. Name a key with its values, or remove the sweep.")
    if len(rows) > paths.MOST_MEMBERS:
        most = paths.MOST_MEMBERS
        raise ConfigError(KEY, f"has more than {most} simulations, the most that one sweep may have. Split it.")
    members = [_member(base, row, from_files) for row in rows]
    _refuse_equal(members)
    if axes is not None:
        typed = {key: tuple(dict.fromkeys(map(_Hashed, (m.values[key] for m in members)))) for key in axes}
        axes = {key: tuple(value.value for value in values) for key, values in typed.items()}
    names = dict.fromkeys(key for row in rows for key in row)
    return Sweep(tuple(members), axes, tuple(key for key in names if _is_given(base, key)))


def label_of(values: Mapping[str, Any]) -> str:
    """Name of the folder of a member: each swept key followed by its value.

    `values` are the swept keys, in alphabetical order, and their values. If a value has other characters than letters,
    digits, `.`, `+` and `-`, a `-` replaces them. Then a few digits of the digest follow, so that different values
    never have the same label.
    """
    parts = []
    for key, value in values.items():
        text = "x".join(map(value_in_words, value)) if _is_numbers(value) else value_in_words(value)
        safe = re.sub(r"[^A-Za-z0-9.+-]+", "-", text)
        if safe != text or safe.startswith("."):
            safe = f"{safe[:40].strip('-.')}-{_digest(value)}".lstrip("-")
        parts.append(f"{key}_{safe}")
    label = "__".join(parts)
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 10]}__{_digest(values)}"


def value_in_words(value: Any) -> str:
    """A `value` as the config has it. Equal numbers have the same text."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(entry, int | float) and not isinstance(entry, bool) for entry in value
    )


class _Hashed:
    """Makes any value, even a list, hashable by its text."""

    def __init__(self, value: Any) -> None:
        self.value, self.text = value, value_in_words(value)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and other.text == self.text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def _digest(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _product(axes: Mapping[str, tuple[Any, ...]]) -> Any:
    return itertools.product(*axes.values())


def _values(key: str, values: Any) -> tuple[Any, ...]:
    """The values of one axis."""
    if isinstance(values, Mapping):
        block = ", ".join(f"{key}.{name}: [...]" for name in values) or f"{key}.semiangle_mrad: [...]"
        raise ConfigError(f"{KEY}.{key}", f"got {short(dict(values))}; write the key and its block as one: {block}.")
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(
            f"{KEY}.{key}",
            f"got {short(values)}; a list of values is needed, such as [{short(values) if values else 1}].",
        )
    return tuple(values)


def _row(index: int, row: Any) -> dict[str, Any]:
    """The values of one member of a list."""
    if not isinstance(row, Mapping):
        raise ConfigError(
            f"{KEY}[{index}]", f"got {short(row)}; each entry is a map, such as {{probe.semiangle_mrad: 20}}."
        )
    if not row:
        raise ConfigError(f"{KEY}[{index}]", "is empty; name at least one key with its value, or remove the entry.")
    keys = sorted(map(str, row))
    _require_keys(keys)
    return {key: row[key] for key in keys}


def _require_keys(keys: Sequence[str]) -> None:
    """Refuse keys that cannot be swept, and pairs of keys of which one contains the other."""
    _refuse_fixed(keys)
    for key in keys:
        block = key.partition(".")[0]
        if "." not in key or not paths.is_label(f"{key}_"):
            blocks = ", ".join(name for name in configuration.schema()["properties"] if paths.is_label(f"{name}.x"))
            raise ConfigError(
                f"{KEY}.{key}",
                f"{block!r} is no block with a key behind it; write block and key, such as probe.semiangle_mrad. "
                f"Blocks are {blocks}.",
            )
        if inside := next((other for other in keys if other.startswith(f"{key}.")), None):
            raise ConfigError(
                f"{KEY}.{key}", f"given together with {inside}, which is a part of it; give one of the two."
            )


def _refuse_fixed(keys: Iterable[Any]) -> None:
    """Refuse the keys of NOT_SWEPT, and unknown ones whose values may be passwords."""
    for key in map(str, keys):
        for fixed, why in NOT_SWEPT.items():
            if key.strip() == fixed or key.strip().startswith(f"{fixed}."):
                raise ConfigError(f"{KEY}.{key}", f"{fixed} cannot be swept: {why}.")
        if may_be_secret(key):
            raise ConfigError(
                f"{KEY}.{key}",
                f"unknown key. If you mean one of {REPORTING}, write that block outside of the sweep; all members "
                "report to the same receiver.",
            )


def _member(base: Mapping[str, Any], row: Mapping[str, Any], from_files: Mapping[str, Any]) -> Member:
    config: dict[str, Any] = copy.deepcopy(dict(base))
    for key, value in row.items():
        _set(config, key, copy.deepcopy(value))
    # Values of the command line are text until here.
    config = overrides.typed(config, from_files)
    values = {key: _get(config, key) for key in row}
    return Member(label_of(values), values, config)


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *blocks, last = key.split(".")
    place, path = config, list[str]()
    for block in blocks:
        path.append(block)
        if place.get(block) is None:
            place[block] = {}
        if not isinstance(place[block], Mapping):
            raise ConfigError(
                f"{KEY}.{key}",
                f"{dotted(path)} is {kind(place[block])} in this config and has no {last}. Sweep {dotted(path)}.",
            )
        place[block] = dict(place[block])
        place = place[block]
    place[last] = value


def _get(config: Mapping[str, Any], key: str) -> Any:
    place: Any = config
    for part in key.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place


def _is_given(base: Mapping[str, Any], key: str) -> bool:
    return _get(base, key) is not None


def _refuse_equal(members: Sequence[Member]) -> None:
    seen: dict[str, int] = {}
    for index, member in enumerate(members):
        if member.label in seen:
            raise ConfigError(
                KEY, f"two of its simulations are the same: {member.text} (number {seen[member.label] + 1} and "
                f"{index + 1}). Remove one.",
            )  # fmt: skip
        seen[member.label] = index
