"""The config file: read it, check it against the schema, and complete it with the defaults.

The defaults stand in `workflow/schemas/config.schema.yaml` only. A validated config holds every key of the schema, so
later code never asks whether a key is given.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stemphony import bounded_yaml
from stemphony.errors import ConfigError
from stemphony.experiment.aberration_names import as_krivanek
from stemphony.experiment.contradictions import refuse_contradictions
from stemphony.experiment.mistakes import dotted, explain, kind
from stemphony.experiment.stemsalabim_parameters import is_parameter_file
from stemphony.status import block as reporting_block
from stemphony.status import stemsalabim

SCHEMA_FILE = Path(__file__).resolve().parents[3] / "schemas" / "config.schema.yaml"
"""File with the schema of a config."""

ALTERNATIVES = (
    ("grating", "gpts", "sampling_angstrom"),
    ("scan", "points", "step_angstrom"),
    ("depths", "every_angstrom", "at_angstrom"),
)
"""Blocks with two keys of which the user gives one. It is an error to give both. It is also an error if both are null,
except in `depths`, where this means the exit surface."""

SWEEP = "sweep"
"""Key of a config that stands for several simulations, see `sweeps`."""

LARGEST_NUMBER = 1e300
"""Numbers of this size or larger count as infinite, because such an integer may not fit a float."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that also refuses a key that occurs twice in one block."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{key.value}` stands there for the second time", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema (Draft 2020-12) of a config file."""
    loaded: dict[str, Any] = bounded_yaml.load(SCHEMA_FILE.read_text(encoding="utf-8"))
    loaded["properties"][reporting_block.BLOCK] = reporting_block.schema()
    return loaded


def accepts(rule: Mapping[str, Any], value: Any) -> bool:
    """Whether `rule`, a part of the schema, accepts `value`."""
    import jsonschema

    return bool(jsonschema.Draft202012Validator(rule).is_valid(value))


def load(files: Sequence[Path]) -> dict[str, Any]:
    """Read config files without checking them. A later file overrides an earlier file key by key.

    `files` are the paths, in this order. The result has the keys that they give.

    Raises
    ------
    ConfigError
        A file is missing, unreadable, or not a YAML mapping.
    """
    merged: dict[str, Any] = {}
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8")
            if is_parameter_file(text):
                raise ConfigError(
                    "",
                    f"{file} is a parameter file of STEMsalabim. `stemphony run {file}` runs it, and "
                    f"`stemphony convert {file}` prints it as a config.",
                )
            stemsalabim.refuse(file, text)
            content = bounded_yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            place = getattr(error, "problem_mark", None)
            line = f" in line {place.line + 1}" if place else ""
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            # The text in quotes may be a password.
            reason = re.sub(
                r"(undefined alias|for the tag) '.*'", r"\1; text with * or ! in front needs quotes", reason
            )
            raise ConfigError("", f"{file} is not valid YAML{line}: {reason}. Correct the file.") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
            raise ConfigError("", f"{file} cannot be read: {reason}.{_config_in(Path(file))}") from None
        if not isinstance(content, dict):
            raise ConfigError(
                "",
                f"{file} holds {kind(content)} where a mapping of blocks is expected. Begin with a block such as "
                "`simulation:` and write its keys indented below it; `stemphony init` makes an example.",
            )
        _update(merged, content)
    return merged


def _config_in(folder: Path) -> str:
    """Advice for a folder that `stemphony init` made: the config in it. Empty for a file or another folder."""
    found = folder / "config.yaml"
    return f" Give the config in this folder: {found}" if folder.is_dir() and found.is_file() else ""


def is_swept(config: Mapping[str, Any]) -> bool:
    """Whether `config` stands for several simulations. `--config sweep=null`, also as text, removes a sweep."""
    return config.get(SWEEP) not in (None, "null", "Null", "NULL", "~")


def merged(config: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `config` in which the keys of `other`, another config, replace its own, block by block.

    Neither config is changed.
    """
    whole: dict[str, Any] = copy.deepcopy(dict(config))
    _update(whole, other)
    return whole


def _update(base: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _update(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


def validate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a config against the schema and return it complete with the defaults.

    Parameters
    ----------
    config : mapping
        What the user wrote.

    Returns
    -------
    dict
        A new dictionary with every key of the schema.

    Raises
    ------
    ConfigError
        An unknown key, a wrong type or value, a contradiction, or a feature that this version does not have. The
        message lists all mistakes that the schema finds.
    """
    import jsonschema

    if is_swept(config):
        raise ConfigError(
            SWEEP,
            "stands for several simulations, and this command works on one. Choose one: take the sweep out and give "
            "its values, for example --config sweep=null probe.semiangle_mrad=20, or give the folder of its result.",
        )
    plain = _without_empty_blocks(_plain({key: value for key, value in config.items() if key != SWEEP}))
    numbers = list(_not_finite(plain, ()))
    if numbers:
        raise ConfigError(dotted(numbers[0]), "got a number that is not finite; write a finite one.")
    # `status.block` checks the block of reporting. So jobs need no jsonschema, and messages show no secret.
    rules = {**schema(), "properties": {**schema()["properties"], reporting_block.BLOCK: True}}
    mistakes = sorted(
        jsonschema.Draft202012Validator(rules).iter_errors(plain), key=lambda e: [str(p) for p in e.absolute_path]
    )
    if mistakes:
        blocks = schema()["properties"]
        messages = list(dict.fromkeys(text for mistake in mistakes for text in explain(mistake, blocks)))
        first, *rest = messages
        raise ConfigError(first[0], "\n".join([first[1], *(f"config `{where}`: {what}" for where, what in rest)]))
    reporting = plain.get(reporting_block.BLOCK)
    reporting_block.completed({} if reporting is None else reporting)
    _refuse_both_alternatives(plain)
    _refuse_two_sizes(plain.get("specimen") or {})
    _refuse_two_scans("scan", plain.get("scan") or {})
    _refuse_two_scans("cbed.scan", (plain.get("cbed") or {}).get("scan") or {})
    complete = _completed(plain, schema())
    _keep_one_alternative(complete)
    if (complete["specimen"]["size_nm"], complete["specimen"]["thickness_nm"]) != (None, None):
        complete["specimen"]["repeat"] = None
    # From here on, each aberration has one name and one unit. So the choice of names changes no digest.
    complete["probe"].update(aberrations=as_krivanek(complete["probe"]), measured_aberrations=None)
    refuse_contradictions(complete)
    phonons = complete["frozen_phonon"]
    if phonons["snapshots"] is not None and "configurations" not in (plain.get("frozen_phonon") or {}):
        phonons["configurations"] = None  # the default is for drawn displacements; a trajectory uses all its frames
    if complete["simulation"]["title"] is None:
        complete["simulation"]["title"] = complete["simulation"]["name"]
    return complete


def _plain(value: Any) -> Any:
    """Copy the config into plain dicts, lists and scalars; Snakemake passes ordered dictionaries."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _not_finite(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Paths of the numbers that are not finite."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, (*path, index))
    elif isinstance(value, int | float) and not abs(value) < LARGEST_NUMBER:
        yield path


def _without_empty_blocks(plain: dict[str, Any]) -> dict[str, Any]:
    """Replace an empty block or map, which YAML reads as null, by an empty mapping."""

    def is_map(rule: Mapping[str, Any]) -> bool:
        return rule.get("type") == "object"

    kept: dict[str, Any] = {}
    for block, value in plain.items():
        rule = schema()["properties"].get(block, {})
        if value is None and is_map(rule):
            kept[block] = {}
        elif isinstance(value, dict):
            rules = rule.get("properties", {})
            kept[block] = {
                key: {} if v is None and is_map(rules.get(key, {})) else _word(v, rules.get(key, {}))
                for key, v in value.items()
            }
        else:
            kept[block] = value
    return kept


def _word(value: Any, rule: Mapping[str, Any]) -> Any:
    """Return the word `off` for false, if the schema allows `off` here; YAML reads `off` as false."""
    return "off" if value is False and "off" in rule.get("enum", ()) else value


def _completed(value: Any, rule: Mapping[str, Any]) -> Any:
    """Complete a valid value with its defaults, in the order of the schema, and convert numbers to the schema's type.

    Without the conversion, 200 and 200.0, or 0.0 and −0.0, would make different configs, and 16.0 would not be a number
    of points.
    """
    kinds = rule.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(value, dict):
        own, others = rule.get("properties", {}), rule.get("additionalProperties")
        complete = {key: _completed(copy.deepcopy(value.get(key, sub.get("default"))), sub)
                    for key, sub in own.items() if key in value or "default" in sub}  # fmt: skip
        patterns = rule.get("patternProperties", {})
        for key in value.keys() - own.keys():
            sub = next((sub for pattern, sub in patterns.items() if re.search(pattern, key)), others)
            complete[key] = _completed(value[key], sub) if isinstance(sub, dict) else value[key]
        return complete
    if isinstance(value, list):
        return [_completed(item, rule.get("items", {})) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "number" in kinds:
            return float(value) + 0.0
        if "integer" in kinds:
            return int(value)
    return value


def _keep_one_alternative(config: dict[str, Any]) -> None:
    """Remove the default of the alternative that the user did not give."""
    for block, one, other in ALTERNATIVES:
        values = config[block]
        if values[one] is not None and values[other] is not None:
            default = schema()["properties"][block]["properties"][one]["default"]
            values[one if default is not None else other] = None
        elif block != "depths" and values[one] is None and values[other] is None and not _has_own_points(values):
            raise ConfigError(f"{block}.{one}", f"is null, and so is `{block}.{other}`; give one of the two.")


def _has_own_points(values: Mapping[str, Any]) -> bool:
    """Whether a block is a scan along a line or a list. It needs neither of the two alternatives of a window."""
    return values.get("line") is not None or values.get("positions") is not None


def _refuse_both_alternatives(plain: Mapping[str, Any]) -> None:
    for block, one, other in ALTERNATIVES:
        given = plain.get(block) or {}
        if given.get(one) is not None and given.get(other) is not None:
            raise ConfigError(f"{block}.{one}", f"given together with `{block}.{other}`; give one of the two.")


def _refuse_two_sizes(given: Mapping[str, Any]) -> None:
    """Refuse a number of cells together with a size. This must come before `repeat` gets its default."""
    for key in ("size_nm", "thickness_nm"):
        if given.get(key) is not None and given.get("repeat") is not None:
            raise ConfigError(
                f"specimen.{key}",
                "given together with `specimen.repeat`; give either the number of cells or sizes (size_nm and "
                "thickness_nm).",
            )


def _refuse_two_scans(block: str, given: Mapping[str, Any]) -> None:
    """Refuse a window together with a line or a list. This must come before the window gets its defaults."""
    chosen = [key for key in ("line", "positions") if given.get(key) is not None]
    if len(chosen) == 2:
        raise ConfigError(f"{block}.line", f"given together with `{block}.positions`; give one of the two.")
    extra = [key for key in ("x", "y", "points", "step_angstrom") if given.get(key) is not None]
    if chosen and extra:
        raise ConfigError(
            f"{block}.{chosen[0]}",
            f"given together with {' and '.join(f'`{block}.{key}`' for key in extra)} of a window; remove the window, "
            f"or `{block}.{chosen[0]}`.",
        )


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `config` for storage: its block http_reporting holds only `reporting` and `via`."""
    public = copy.deepcopy(dict(config))
    block = public.get("http_reporting", {})
    public["http_reporting"] = {key: block[key] for key in ("reporting", "via") if key in block}
    return public
