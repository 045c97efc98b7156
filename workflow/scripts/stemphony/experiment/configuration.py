"""The config file: its schema, its defaults, and messages for what is wrong in it.

Defaults stand in `workflow/schemas/config.schema.yaml` only. A validated config is complete: every key of
the schema is there, so nothing downstream asks "is it given?".
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stemphony.errors import ConfigError
from stemphony.status import stemsalabim

SCHEMA_FILE = Path(__file__).resolve().parents[3] / "schemas" / "config.schema.yaml"

# Of two alternatives the one given wins; both given is an error, and so is neither if one of them has a default.
ALTERNATIVES = (
    ("grating", "gpts", "sampling_angstrom"),
    ("scan", "points", "step_angstrom"),
    ("depths", "every_angstrom", "at_angstrom"),
)
LARGEST_NUMBER = 1e300  # what is beyond is as good as infinite, also an integer that no float can hold
# Variables of the result's group `images` and names of figures, which no detector may have.
TAKEN_NAMES = frozenset(
    (
        "total_intensity", "thickness_curves", "cbed_mean", "adf_defocus", "adf_phonon", "adf_slice", "adf_position_x",
        "adf_position_y", "adf_probe_x_grid", "adf_probe_y_grid", "adf_slice_coords",
    )
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, without its silence about a key that stands twice in one block."""

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
    """The JSON Schema (Draft 2020-12) of a config file."""
    loaded: dict[str, Any] = yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8"))
    return loaded


def accepts(rule: Mapping[str, Any], value: Any) -> bool:
    """Whether a part of the schema accepts a value."""
    import jsonschema

    return bool(jsonschema.Draft202012Validator(rule).is_valid(value))


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
            text = Path(file).read_text(encoding="utf-8")
            stemsalabim.refuse(file, text)
            content = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            place = getattr(error, "problem_mark", None)
            line = f" in line {place.line + 1}" if place else ""
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            # It may be a password, which is not to be shown.
            reason = re.sub(
                r"(undefined alias|for the tag) '.*'", r"\1; text with * or ! in front needs quotes", reason
            )
            raise ConfigError("", f"{file} is not valid YAML{line}: {reason}.") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
            raise ConfigError("", f"{file} cannot be read: {reason}.") from None
        except ValueError as error:  # a date that no calendar has, a number of thousands of digits
            raise ConfigError(
                "", f"{file} holds a value that cannot be: {error}. Put it in quotes if it is text."
            ) from None
        if not isinstance(content, dict):
            raise ConfigError("", f"{file} holds {_kind(content)} where a mapping of blocks is expected.")
        _update(merged, content)
    return merged


def merged(config: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config with the keys of another one in place of its own, block by block."""
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
        An unknown key (the nearest known one is named), a wrong type or value, two alternatives at once, or a
        feature that this version does not have. Of several mistakes, all are listed.
    """
    import jsonschema

    plain = _without_empty_blocks(_plain(config))
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
    complete = _completed(plain, schema())
    _keep_one_alternative(complete)
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
    elif isinstance(value, int | float) and not abs(value) < LARGEST_NUMBER:
        yield path


def _without_empty_blocks(plain: dict[str, Any]) -> dict[str, Any]:
    """A block with nothing under it, which YAML reads as null, has all its defaults, and an empty map no entries."""

    def is_map(rule: Mapping[str, Any]) -> bool:
        return rule.get("type") == "object"

    kept: dict[str, Any] = {}
    for block, value in plain.items():
        rule = schema()["properties"].get(block, {})
        if value is None and is_map(rule):
            kept[block] = {}
        elif isinstance(value, dict):
            rules = rule.get("properties", {})
            kept[block] = {key: {} if v is None and is_map(rules.get(key, {})) else v for key, v in value.items()}
        else:
            kept[block] = value
    return kept


def _completed(value: Any, rule: Mapping[str, Any]) -> Any:
    """Valid `value` with its defaults, in the schema's order, and each number as what the schema calls it.

    Else 200 and 200.0, or 0.0 and −0.0, would be different configs, and 16.0 no number of points.
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
    for block, one, other in ALTERNATIVES:
        values = config[block]
        if values[one] is not None and values[other] is not None:
            default = schema()["properties"][block]["properties"][one]["default"]
            values[one if default is not None else other] = None
        elif block != "depths" and values[one] is None and values[other] is None:
            raise ConfigError(f"{block}.{one}", f"is null, and so is `{block}.{other}`; give one of the two.")


def _dotted(path: Sequence[Any]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing (null)"}
    return names.get(type(value), "a number")


def _short(value: Any) -> str:
    """A value as the config file has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if isinstance(value, str | int | float | list | dict) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


TYPE_WORDS = {
    "object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false", "integer": "a whole number",
    "number": "a number", "null": "null",
}  # fmt: skip
LIMIT_WORDS = {
    "minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than",
    "minItems": "at least", "maxItems": "at most", "minLength": "at least", "maxLength": "at most",
}  # fmt: skip


def _type_hint(value: Any, allowed: Sequence[str]) -> str:
    """What YAML made of a value that was meant otherwise."""
    if value is None:
        return " Give a value, or remove the line to have the default."
    if "string" in allowed and not isinstance(value, dict | list):
        return " Put it in quotes."
    if isinstance(value, str) and {"number", "integer"} & set(allowed):
        # YAML 1.1 wants a point and a sign in the exponent.
        parts = re.fullmatch(r"([+-]?\d+)(\.\d*)?e([+-]?)(\d+)", value.strip(), re.IGNORECASE)
        if parts:
            number = f"{parts[1]}{parts[2] or '.0'}e{parts[3] or '+'}{parts[4]}"
            return f" YAML reads {value} as text: write {number}."
    return ""


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
        hint = "" if secret else _type_hint(value, allowed)
        yield where, f"{got}allowed is {' or '.join(TYPE_WORDS[a] for a in allowed)}{about}.{hint}"
    elif keyword == "enum":
        known = ["null" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in rule["enum"]]
        near = difflib.get_close_matches(str(value), known, 1)
        yield where, f"{got}allowed: {', '.join(known)}." + (f" Did you mean {near[0]}?" if near else "")
    elif keyword == "pattern" and where == "simulation.name":
        yield where, f"{got}allowed are 1 to 100 letters, digits, - and _, beginning with a letter or digit."
    elif keyword == "pattern":
        yield where, f"{got}allowed as a name are 1 to 60 letters, digits and _, beginning with a letter."
    elif keyword in LIMIT_WORDS:
        things = " values" if keyword.endswith("Items") else " characters" if keyword.endswith("Length") else ""
        yield where, f"{got}allowed is {LIMIT_WORDS[keyword]} {rule[keyword]}{things}{about}."
    else:
        yield where, f"{got}{mistake.message if not secret else 'not valid'}."


def _unknown_key(key: str, path: list[Any], known: list[str]) -> str:
    if path == ["probe", "aberrations"]:
        if key in {"C10_nm", "C10"}:
            return "C10 is the defocus with the opposite sign; use probe.defocus_nm (positive is underfocus)."
        orders = ("12", "21", "23", "30", "32", "34", "41", "43", "45", "50", "52", "54", "56")
        coefficients = [f"C{order}_nm" for order in orders]
        angles = [f"phi{order}_deg" for order in orders if order not in {"30", "50"}]
        near = difflib.get_close_matches(key, coefficients + angles, 1, 0.5)
        return (
            f"unknown aberration; {f'did you mean `{near[0]}`? A' if near else 'a'}llowed: {', '.join(coefficients)} "
            "and the angle of each but C30 and C50 as phi12_deg …"
        )
    near = difflib.get_close_matches(key, known, 1, 0.5)
    blocks = schema()["properties"].items()
    where_else = [f"{block}.{key}" for block, rule in blocks if key in rule["properties"] and [block] != path]
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
    grating = config["grating"]
    if grating["bandlimit_taper"] > grating["bandlimit"]:
        raise ConfigError(
            "grating.bandlimit_taper",
            f"got {grating['bandlimit_taper']}; it must not be wider than bandlimit = {grating['bandlimit']}.",
        )
    for axis in ("x", "y"):
        begin, end = config["scan"][axis]
        if end <= begin:
            raise ConfigError(f"scan.{axis}", f"got [{begin}, {end}]; the window must end after it begins.")
    for key in ("mem_mb", "runtime_min"):
        value = config["resources"][key]
        if value != "auto" and (isinstance(value, str) or value < 1):
            raise ConfigError(
                f"resources.{key}", f"got {_short(value)}; allowed is auto or a whole number of at least 1."
            )
    adf = config["adf"]
    for name, (inner, outer) in (adf["detectors"] or {}).items():
        if outer <= inner:
            raise ConfigError(f"adf.detectors.{name}", f"got [{inner}, {outer}]; inner must be smaller than outer.")
        if name in TAKEN_NAMES or name.endswith("_standard_error"):
            raise ConfigError(
                f"adf.detectors.{name}", "this name is taken by a variable or figure of the result; choose another."
            )
    if adf["max_mrad"] is not None and adf["max_mrad"] <= adf["min_mrad"]:
        raise ConfigError(
            "adf.max_mrad", f"got {adf['max_mrad']}; it must be larger than min_mrad = {adf['min_mrad']}."
        )
    if not adf["enabled"] and not config["cbed"]["enabled"]:
        raise ConfigError("adf.enabled", "adf and cbed are both off, so nothing would be computed; enable one.")
    phonons = config["frozen_phonon"]
    if phonons["snapshots"] is None:
        if phonons["configurations"] is None:
            raise ConfigError(
                "frozen_phonon.configurations",
                "null means all frames of a trajectory, but `snapshots` is not given; give a number.",
            )
        return
    if not phonons["enabled"]:
        raise ConfigError(
            "frozen_phonon.snapshots", "given while frozen_phonon.enabled is false; remove one of the two."
        )
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
        "probe.tilt_mrad": ([0.0, 0.0], [float(t) for t in config["probe"]["tilt_mrad"]]),
        "adf.segmented": ({}, config["adf"]["segmented"]),
        "plasmon_scattering.enabled": (False, config["plasmon_scattering"]["enabled"]),
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
