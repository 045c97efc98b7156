"""Messages about mistakes that the schema finds in a config: where, what was found, what is allowed, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stemphony.experiment.aberration_names import ALIASES
from stemphony.status.secret_places import may_be_secret, may_hold_secret

TYPE_WORDS = {
    "object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false", "integer": "a whole number",
    "number": "a number", "null": "null",
}  # fmt: skip
"""Words for the types of JSON Schema."""

LIMIT_WORDS = {
    "minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than",
    "minItems": "at least", "maxItems": "at most", "minLength": "at least", "maxLength": "at most",
}  # fmt: skip
"""Words for the limits of JSON Schema."""


def dotted(path: Sequence[Any]) -> str:
    """Write `path`, the keys and indices that lead to a value, with dots, as messages show it: `probe.defoci_nm[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def kind(value: Any) -> str:
    """Name the kind of `value` in words."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing (null)"}
    return names.get(type(value), "a number")


def short(value: Any) -> str:
    """Write `value` as the config file has it, in at most 60 characters. Of a mapping, write only the keys.

    If a mapping stands at a wrong place, its values may be passwords. A text with an address or the name of a secret
    may hold a password too, so it is not written.
    """
    if isinstance(value, dict):
        value = f"a mapping with {', '.join(map(str, value)) or 'no key'}"
        return value if len(value) <= 60 else value[:57] + "…"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if isinstance(value, str | int | float | list | dict) else str(value)
    if isinstance(value, str | list) and may_hold_secret(text):
        return "a text" if isinstance(value, str) else f"a list of {len(value)}"
    return text if len(text) <= 60 else text[:57] + "…"


def _type_hint(value: Any, allowed: Sequence[str]) -> str:
    """Advice for a value that YAML reads in another way than the user meant; empty if there is none."""
    if value is None:
        return " Give a value, or remove the line to use the default."
    if "string" in allowed and not isinstance(value, dict | list):
        return " Put it in quotes."
    if isinstance(value, str) and {"number", "integer"} & set(allowed):
        # YAML 1.1 reads a number with an exponent only if it has a point and a sign.
        parts = re.fullmatch(r"([+-]?\d+)(\.\d*)?e([+-]?)(\d+)", value.strip(), re.IGNORECASE)
        if parts:
            number = f"{parts[1]}{parts[2] or '.0'}e{parts[3] or '+'}{parts[4]}"
            return f" YAML reads {value} as text: write {number}."
    return ""


def _about(place: list[Any], rule: Any, blocks: Mapping[str, Any]) -> str:
    """Description, in brackets, of the rule at a place of the schema. For an item of a list, that of the list."""
    if isinstance(rule, Mapping) and "description" in rule:
        return f" ({rule['description']})"
    if "items" not in place or place[:1] != ["properties"]:
        return ""
    whole: Any = blocks
    for part in place[1 : len(place) - place[::-1].index("items") - 1]:
        whole = whole[part]
    return f" ({whole['description']})" if "description" in whole else ""


def explain(mistake: Any, blocks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Explain one mistake to the user.

    Parameters
    ----------
    mistake : jsonschema.ValidationError
    blocks : mapping
        Schema of each block of the config.

    Yields
    ------
    where, what : str
        Dotted path of the key, and a message about it.
    """
    path, value, rule = list(mistake.absolute_path), mistake.instance, mistake.schema
    where, keyword = dotted(path), mistake.validator
    got = f"got {kind(value) if may_be_secret(where) else short(value)}; "
    about = _about(list(mistake.absolute_schema_path), rule, blocks)
    if keyword == "additionalProperties":
        known = list(rule.get("properties", {}))
        patterns = list(rule.get("patternProperties", {}))
        for key in value:
            if key in known or any(re.search(p, key) for p in patterns):
                continue
            yield dotted([*path, key]), _unknown_key(key, value[key], path, known, blocks)
    elif keyword == "required":
        for key in rule["required"]:
            if key not in value:
                yield dotted([*path, key]), "this key is required and missing; add it."
    elif keyword == "type":
        allowed = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        hint = _type_hint(value, allowed)
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
        # The message of the validator is not used, because it quotes the whole value.
        yield where, f"{got}not allowed by `{keyword}: {short(rule.get(keyword))}`{about}."


def _unknown_key(key: str, value: Any, path: list[Any], known: list[str], blocks: Mapping[str, Any]) -> str:
    if path in (["probe"], ["probe", "aberrations"]) and (meant := _meant_aberration(key, value, path)):
        return meant
    if path == ["probe", "aberrations"]:
        orders = ("12", "21", "23", "30", "32", "34", "41", "43", "45", "50", "52", "54", "56")
        coefficients = [f"C{order}_nm" for order in orders]
        angles = [f"phi{order}_deg" for order in orders if order not in {"30", "50"}]
        near = difflib.get_close_matches(key, coefficients + angles, 1, 0.5)
        return (
            f"unknown aberration; {f'did you mean `{near[0]}`? A' if near else 'a'}llowed: {', '.join(coefficients)} "
            "and the angle of each but C30 and C50 as phi12_deg …; also Cs, A1, B2 … and the units um, mm, angstrom."
        )
    near = difflib.get_close_matches(key, known, 1, 0.5)
    where_else = [f"{block}.{key}" for block, rule in blocks.items() if key in rule["properties"] and [block] != path]
    if where_else:
        return f"unknown key here; it belongs to {' or '.join(where_else)}."
    if near:
        return f"unknown key; did you mean `{near[0]}`?"
    return f"unknown key; allowed here: {', '.join(known)}."


_IN_NM = {"": 1.0, "nm": 1.0, "mm": 1e6, "um": 1e3, "µm": 1e3, "angstrom": 0.1, "a": 0.1, "m": 1e9}
"""Units of length that users append to names, in nm. Without a unit, the value is not converted."""


_KNOWN = {name.lower(): meant for name, meant in ALIASES.items()}
"""For each name of an aberration in small letters: Krivanek's coefficient, and the factor that gives its value."""


def _meant_aberration(key: str, value: Any, path: list[Any]) -> str:
    """Advice for an aberration with a wrong name, unit or place; empty if the key is no aberration."""
    name, _, unit = key.partition("_")
    name, unit = name.lower(), unit.lower()
    if unit not in _IN_NM:
        return ""
    if name in {"c1", "c10", "df"}:
        return "C10 is the defocus with the opposite sign; use probe.defocus_nm (positive is underfocus)."
    symbol, factor = _KNOWN.get(name, ("", 1.0))
    if not symbol:
        return ""
    here = "" if path[-1:] == ["aberrations"] else "probe.aberrations: "
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"unknown key; use `{here}{symbol}_nm`, in nm."
    converted = f"{float(value) * factor * _IN_NM[unit]:.12g}"
    # YAML reads 1e+20 as text.
    converted = converted if "e" not in converted or "." in converted else converted.replace("e", ".0e")
    given = f" (from {value:g} {unit})" if _IN_NM[unit] != 1.0 else " (the value is in nm)" if not unit else ""
    line = f"{symbol}_nm: {converted}"
    return f"unknown key; write `{f'aberrations: {{{line}}}' if here else line}`{given}."
