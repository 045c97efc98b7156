"""Config values from the command line. Snakemake passes the values of `--config` as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from stemphony import bounded_yaml
from stemphony.errors import ConfigError
from stemphony.experiment import configuration
from stemphony.experiment.mistakes import short
from stemphony.status import block as reporting_block
from stemphony.status.secret_places import may_be_secret, may_hold_secret, secret_keys_in

NULLS = ("null", "Null", "NULL", "~")
"""Words that YAML reads as null but Snakemake passes as text. No file and no element has such a name."""


def typed(config: Mapping[str, Any], from_files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with numbers, booleans and lists in place of their texts, where values differ from the files.

    Snakemake 9 merges `--config 'probe={"energy_kev": 100}'` into the config of the files, with every value inside the
    braces as text. If the schema accepts both the text and the number that it spells, the number is taken. If it
    accepts only the text, the text stays.

    Parameters
    ----------
    config : mapping
        Config that Snakemake made from files and command line.
    from_files : mapping
        The config of the files alone.

    Returns
    -------
    dict
        A new config.
    """
    typed_config = _typed(config, from_files, configuration.schema())
    assert isinstance(typed_config, dict)
    return typed_config


def _typed(value: Any, from_files: Any, rule: Mapping[str, Any]) -> Any:
    if value == from_files:
        return value
    if isinstance(value, Mapping):
        known = from_files if isinstance(from_files, Mapping) else {}
        return {key: _typed(entry, known.get(key), _rule_of(rule, key)) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_typed(entry, None, rule.get("items") or {}) for entry in value]
    if isinstance(value, str) and value in NULLS and configuration.accepts(rule, None):
        return None
    if not isinstance(value, str):
        return value
    try:
        parsed = bounded_yaml.load(value)
    except yaml.YAMLError:
        return value
    is_number = isinstance(parsed, int | float) and not isinstance(parsed, bool)
    if configuration.accepts(rule, value) and not (is_number and configuration.accepts(rule, parsed)):
        return value
    if isinstance(parsed, Mapping | list):
        return _typed(parsed, None, rule)
    return parsed if configuration.accepts(rule, parsed) or isinstance(parsed, bool | int | float) else value


def _rule_of(rule: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The schema of one key of a map, even if the map is one of several alternatives; empty if there is no such key."""
    for one in (rule, *rule.get("oneOf", ()), *rule.get("anyOf", ())):
        patterns = (kept for pattern, kept in one.get("patternProperties", {}).items() if re.search(pattern, key))
        found = one.get("properties", {}).get(key) or next(patterns, None) or one.get("additionalProperties")
        if isinstance(found, Mapping):
            return found
    return {}


def is_true(value: Any) -> bool:
    """Whether `value`, from `--config`, is true. Snakemake passes some values as text."""
    return value is True or str(value).lower() == "true"


def refuse_reporting(given: Mapping[str, Any], is_ours: bool = True) -> None:
    """Refuse keys of http_reporting that come from Snakemake's own `--config` or a profile, as `nested` does.

    Snakemake runs the Snakefile before it writes its command line into its log, so the log does not get the values.

    Parameters
    ----------
    given : mapping
        What `--config` and the profile give, by the name of the block.
    is_ours : bool
        Whether the other keys belong to Stemphony too. If Stemphony is a module, they belong to the other workflow.

    Raises
    ------
    ConfigError
        The block holds more than `reporting: false`, or the value of a key of Stemphony may be a secret.
    """
    for name, block in given.items():
        if str(name).strip() == reporting_block.BLOCK:
            values = dict(block) if isinstance(block, Mapping) else {}
            if [*values] != ["reporting"] or str(values["reporting"]).lower() != "false":
                raise _not_on_a_command_line()
        elif is_ours and (key := next(secret_keys_in({name: block}), "")):
            raise _may_be_secret(key)


def _not_on_a_command_line() -> ConfigError:
    return ConfigError(
        "--config",
        f"{reporting_block.BLOCK} is read from the config file alone, by jobs and replays too. On a command "
        "line, other users and the log of Snakemake see its values. Write them into the config. Allowed here: "
        f"{reporting_block.BLOCK}.reporting=false.",
    )


def _may_be_secret(key: str) -> ConfigError:
    return ConfigError(
        "--config",
        f"{key}: its value may be a secret, by this name or because it is an address. On a command line, other users "
        f"and the log of Snakemake see it. Write the keys of {reporting_block.BLOCK} into the config.",
    )


def nested(entries: Sequence[str]) -> list[str]:
    """Convert entries of `--config` for Snakemake: `probe.energy_kev=100` becomes `probe={"energy_kev": 100}`.

    Parameters
    ----------
    entries : sequence of str
        `name=value`, the name with a dot for each level of the config.

    Returns
    -------
    list of str
        One entry for each given one, in the same order.

    Raises
    ------
    ConfigError
        An entry has no `=`. Or it belongs to the block http_reporting and is not `http_reporting.reporting=false`. Or
        the value of its key may be a secret.
    """
    made = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(
                "--config", f"got {short(shown(entry))}; write name=value, for example probe.energy_kev=100."
            )
        first, *rest = name.split(".")
        if first.strip() == reporting_block.BLOCK and (rest, value.lower()) != (["reporting"], "false"):
            raise _not_on_a_command_line()
        if first.strip() != reporting_block.BLOCK and (key := _secret_key_in(entry)):
            raise _may_be_secret(key)
        made.append(entry if not rest else f"{first}={_braces(rest, value)}")
    return made


def shown(entry: str) -> str:
    """The entry `entry` of `--config` for a message or log. If it may hold a secret, only its name."""
    if reporting_block.BLOCK in entry:
        return f"{reporting_block.BLOCK}=…"
    return f"{key}=…" if (key := _secret_key_in(entry)) else entry


def _secret_key_in(entry: str) -> str:
    """A key in an entry of `--config` whose value may be a secret; empty if it has none."""
    name, equals, value = entry.partition("=")
    if not equals:
        return ""
    if may_be_secret(name) or "://" in value:
        return name.strip()
    try:
        return next(secret_keys_in(bounded_yaml.load(value, yaml.loader.BaseLoader)), "")
    except yaml.YAMLError:
        return name.strip() if may_hold_secret(value) else ""


def _braces(names: Sequence[str], value: str) -> str:
    """JSON text of nested blocks around one value. A value that is YAML stays as the user typed it."""
    try:
        content = bounded_yaml.load(value, yaml.loader.BaseLoader) if value else None
    except yaml.YAMLError:
        content = value
    for name in reversed(names):
        content = {name: content}
    return json.dumps(content, ensure_ascii=False)


def overridden(config: Mapping[str, Any], entries: Sequence[str]) -> dict[str, Any]:
    """A config of files with entries of `--config` merged into it, as Snakemake would.

    Parameters
    ----------
    config : mapping
        The config of the files.
    entries : sequence of str
        `name=value`, see `nested`.

    Returns
    -------
    dict
        A new config, not validated.

    Raises
    ------
    ConfigError
        An entry has no `=`, or its value is not YAML.
    """
    merged: dict[str, Any] = configuration.merged(config, {})
    for entry in nested(entries):
        name, _, value = entry.partition("=")
        try:
            content = bounded_yaml.load(value)
        except yaml.YAMLError:
            raise ConfigError(
                "--config", f"got {short(shown(entry))}; its value is not YAML. Put text in quotes."
            ) from None
        merged = configuration.merged(merged, {name: content})
    return typed(merged, config)
