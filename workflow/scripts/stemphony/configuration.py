"""The config file: its schema, its defaults, and messages for what is wrong in it.

Defaults stand in `workflow/schemas/config.schema.yaml` only. A validated config is complete: every key of
the schema is there, so nothing downstream asks "is it given?".
"""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "schemas" / "config.schema.yaml"

# Of two alternatives the one given wins; both given is an error.
ALTERNATIVES = (
    ("grating", "gpts", "sampling_angstrom"),
    ("scan", "points", "step_angstrom"),
    ("depths", "every_angstrom", "at_angstrom"),
)


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema (Draft 2020-12) of a config file."""
    loaded: dict[str, Any] = yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8"))
    return loaded


def load(files: Sequence[Path]) -> dict[str, Any]:
    """Read config files as they are; of several, a later one overrides key by key.

    Raises
    ------
    ConfigError
        A file is missing, unreadable, or not a YAML mapping.
    """
    merged: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            place = getattr(error, "problem_mark", None)
            line = f" in line {place.line + 1}" if place else ""
            raise ConfigError("", f"{file} is not valid YAML{line}: {getattr(error, 'problem', error)}.") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
            raise ConfigError("", f"{file} cannot be read: {reason}.") from None
        if not isinstance(content, dict):
            raise ConfigError("", f"{file} holds {_kind(content)} where a mapping of blocks is expected.")
        _update(merged, content)
    return merged


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
        An unknown key (the nearest known one is named), a wrong type or value, two alternatives at once, or a
        feature that this version does not have. Of several mistakes, all are listed.
    """
    import jsonschema

    plain = _plain(config)
    numbers = list(_not_finite(plain, ()))
    if numbers:
        raise ConfigError(_dotted(numbers[0]), "got a number that is not finite; write a finite one.")
    mistakes = sorted(
        jsonschema.Draft202012Validator(schema()).iter_errors(plain), key=lambda e: [str(p) for p in e.absolute_path]
    )
    if mistakes:
        messages = list(dict.fromkeys(text for mistake in mistakes for text in _explain(mistake)))
        first, *rest = messages
        raise ConfigError(first[0], "\n".join([first[1], *(f"config `{where}`: {what}" for where, what in rest)]))
    _refuse_both_alternatives(plain)
    complete = _with_defaults(plain, schema())
    _refuse_contradictions(complete, plain)
    _refuse_unavailable(complete)
    if complete["simulation"]["title"] is None:
        complete["simulation"]["title"] = complete["simulation"]["name"]
    return complete


def _plain(value: Any) -> Any:
    """Copy of the config in plain dicts, lists and scalars (Snakemake hands over ordered dictionaries)."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _not_finite(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path


def _with_defaults(value: Any, rule: Mapping[str, Any]) -> Any:
    if isinstance(value, dict) and "properties" in rule:
        complete = dict(value)
        for key, sub in rule["properties"].items():
            if key in complete:
                complete[key] = _with_defaults(complete[key], sub)
            elif "default" in sub:
                complete[key] = _with_defaults(copy.deepcopy(sub["default"]), sub)
        return complete
    return value


def _dotted(path: Sequence[Any]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing (null)"}
    return names.get(type(value), "a number")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _explain(mistake: Any) -> Iterator[tuple[str, str]]:
    """(Where, what) in words of one mistake that jsonschema found."""
    path, value, rule = list(mistake.absolute_path), mistake.instance, mistake.schema
    where, keyword = _dotted(path), mistake.validator
    secret = path[:1] == ["http_reporting"]
    got = "" if secret and not isinstance(value, bool | int | float) else f"got {_short(value)}; "
    about = f" ({rule['description']})" if isinstance(rule, Mapping) and "description" in rule else ""
    if keyword == "additionalProperties":
        known = list(rule.get("properties", {}))
        patterns = list(rule.get("patternProperties", {}))
        for key in value:
            if key in known or any(re.search(p, key) for p in patterns):
                continue
            yield _dotted([*path, key]), _unknown_key(key, path, known)
    elif keyword == "required":
        for key in rule["required"]:
            if key not in value:
                yield _dotted([*path, key]), "this key is required and missing; add it."
    elif keyword == "type":
        allowed = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        words = {"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false",
                 "integer": "a whole number", "number": "a number", "null": "null"}  # fmt: skip
        hint = ""
        if isinstance(value, str) and ("number" in allowed or "integer" in allowed):
            with_point = re.fullmatch(r"([+-]?\d+)(e[+-]?\d+)", value.strip(), re.IGNORECASE)
            hint = f" YAML reads {value} as text: write {with_point[1]}.0{with_point[2]}." if with_point else ""
        yield where, f"{got}allowed is {' or '.join(words[a] for a in allowed)}{about}.{hint}"
    elif keyword == "enum":
        allowed = ", ".join("null" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in rule["enum"])
        near = difflib.get_close_matches(str(value), [str(v) for v in rule["enum"]], 1)
        yield where, f"{got}allowed: {allowed}." + (f" Did you mean {near[0]}?" if near else "")
    elif keyword == "pattern":
        if path[-1:] == ["name"] or "propertyNames" in list(mistake.absolute_schema_path):
            yield where or "", f"{got}allowed are letters, digits{', - and _' if path[-1:] == ['name'] else ' and _'}, beginning with a letter{' or digit' if path[-1:] == ['name'] else ''}."
        else:
            yield where, f"{got}it must match {rule['pattern']}{about}."
    elif keyword in {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}:
        words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than"}
        yield where, f"{got}allowed is {words[keyword]} {rule[keyword]}{about}."
    elif keyword in {"minItems", "maxItems"}:
        words = {"minItems": "at least", "maxItems": "at most"}
        yield where, f"{got}a list of {words[keyword]} {rule[keyword]} values is expected{about}."
    else:
        yield where, f"{got}{mistake.message if not secret else 'not valid'}."


def _unknown_key(key: str, path: list[Any], known: list[str]) -> str:
    if path == ["probe", "aberrations"]:
        if key in {"C10_nm", "C10"}:
            return "C10 is the defocus with the opposite sign; use probe.defocus_nm (positive is underfocus)."
        return (
            "unknown aberration; allowed: C12_nm, C21_nm, C23_nm, C30_nm, C32_nm, C34_nm, C41_nm, C43_nm, C45_nm, "
            "C50_nm, C52_nm, C54_nm, C56_nm and the angle of each but C30 and C50 as phi12_deg …"
        )
    near = difflib.get_close_matches(key, known, 1, 0.5)
    where_else = [
        f"{block}.{key}" for block, rule in schema()["properties"].items() if key in rule.get("properties", {}) and [block] != path
    ]
    if where_else:
        return f"unknown key here; it belongs to {' or '.join(where_else)}."
    if near:
        return f"unknown key; did you mean `{near[0]}`?"
    return f"unknown key; allowed here: {', '.join(known)}."


def _refuse_both_alternatives(plain: Mapping[str, Any]) -> None:
    for block, one, other in ALTERNATIVES:
        given = plain.get(block) or {}
        if given.get(one) is not None and given.get(other) is not None:
            raise ConfigError(f"{block}.{one}", f"given together with `{block}.{other}`; give one of the two.")


def _refuse_contradictions(config: dict[str, Any], plain: Mapping[str, Any]) -> None:
    aberrations = config["probe"]["aberrations"]
    for key in aberrations:
        if key.startswith("phi") and f"C{key[3:5]}_nm" not in aberrations:
            raise ConfigError(
                f"probe.aberrations.{key}", f"an angle without its coefficient; add C{key[3:5]}_nm or leave it out."
            )
    probe = config["probe"]
    if probe["semiangle_inner_mrad"] >= probe["semiangle_mrad"]:
        raise ConfigError(
            "probe.semiangle_inner_mrad",
            f"got {probe['semiangle_inner_mrad']}; it must be smaller than semiangle_mrad = {probe['semiangle_mrad']}.",
        )
    for axis in ("x", "y"):
        begin, end = config["scan"][axis]
        if end <= begin:
            raise ConfigError(f"scan.{axis}", f"got [{begin}, {end}]; the window must end after it begins.")
    for key in ("mem_mb", "runtime_min"):
        value = config["resources"][key]
        if value != "auto" and (isinstance(value, str) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"resources.{key}", f"got {_short(value)}; allowed is auto or a whole number of at least 1.")
    adf = config["adf"]
    for name, (inner, outer) in (adf["detectors"] or {}).items():
        if outer <= inner:
            raise ConfigError(f"adf.detectors.{name}", f"got [{inner}, {outer}]; inner must be smaller than outer.")
        if name == "total_intensity" or name.endswith("_standard_error"):
            raise ConfigError(f"adf.detectors.{name}", "this name is taken by a variable of the result; choose another.")
    if adf["max_mrad"] is not None and adf["max_mrad"] <= adf["min_mrad"]:
        raise ConfigError("adf.max_mrad", f"got {adf['max_mrad']}; it must be larger than min_mrad = {adf['min_mrad']}.")
    if not adf["enabled"] and not config["cbed"]["enabled"]:
        raise ConfigError("adf.enabled", "adf and cbed are both off, so nothing would be computed; enable one.")
    phonons = config["frozen_phonon"]
    if phonons["snapshots"] is None:
        if phonons["configurations"] is None:
            raise ConfigError(
                "frozen_phonon.configurations", "null means all frames of a trajectory, but `snapshots` is not given; give a number."
            )
        return
    if not phonons["enabled"]:
        raise ConfigError("frozen_phonon.snapshots", "given while frozen_phonon.enabled is false; remove one of the two.")
    specimen = config["specimen"]
    if specimen["supercell"] is not None or specimen["repeat"] != [1, 1, 1] or any(specimen["vacuum_angstrom"]):
        raise ConfigError(
            "frozen_phonon.snapshots",
            "frames of a trajectory are complete cells; remove specimen.supercell, repeat and vacuum_angstrom.",
        )
    if "configurations" not in (plain.get("frozen_phonon") or {}):
        phonons["configurations"] = None  # the default of 4 is meant for drawn displacements


def _refuse_unavailable(config: Mapping[str, Any]) -> None:
    neutral = {
        "simulation.algorithm": ("multislice", config["simulation"]["algorithm"]),
        "probe.tilt_mrad": ([0.0, 0.0], [float(t) for t in config["probe"]["tilt_mrad"]]),
        "adf.segmented": ({}, config["adf"]["segmented"]),
        "plasmon_scattering.enabled": (False, config["plasmon_scattering"]["enabled"]),
        "http_reporting.via": ("job", config["http_reporting"]["via"]),
    }
    for where, (only, got) in neutral.items():
        if got != only:
            raise ConfigError(where, f"got {_short(got)}; not available in this version; allowed is {only}.")


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with only `reporting` and `via` of its http_reporting block: what may be stored anywhere."""
    public = copy.deepcopy(dict(config))
    block = public.get("http_reporting", {})
    public["http_reporting"] = {key: block[key] for key in ("reporting", "via") if key in block}
    return public
