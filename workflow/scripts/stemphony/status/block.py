"""Check the block `http_reporting` of a config. Its schema is the only source of its keys, defaults and limits.

Messages never show a value of the block, because it may be a password or a token.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stemphony.errors import ConfigError
from stemphony.status.events import RESERVED_KEYS, clean_text

Scalar = str | int | float | bool

BLOCK: Final = "http_reporting"
"""Key of the block in a config."""
SCHEMA_FILE: Final = Path(__file__).resolve().parents[3] / "schemas" / "http_reporting.schema.yaml"
"""The schema of the block. It lies beside the schema of the whole config."""

MAX_PARAMETERS: Final = 50
MAX_PARAMETER_NAME: Final = 100
MAX_PARAMETER_TEXT: Final = 1000
MAX_PARAMETERS_BYTES: Final = 8192
"""Limits of the custom parameters: their number, the characters of a name and of a text, and the bytes of all
parameters together as JSON. Every event contains the parameters, and a receiver must accept the whole event."""

MAX_PARAMETER_INTEGER: Final = 2**63 - 1
"""Largest size of a whole number. Databases store whole numbers of 64 bits."""

_TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "string": ((str,), "text in quotes"),
    "boolean": ((bool,), "true or false"),
    "number": ((int, float), "a number"),
    "object": ((Mapping,), "names with values, or {}"),
}
"""For each type of the schema, the types of Python and the words for messages."""


def read_yaml(text: str) -> Any:
    """Return the content of the YAML `text`. If PyYAML has its C loader, using it saves a job about 10 ms.

    Raises
    ------
    yaml.YAMLError
        The text is no YAML, or exceeds a limit of `bounded_yaml`.
    """
    from stemphony import bounded_yaml

    return bounded_yaml.load(text)


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of the block."""
    rules: dict[str, Any] = read_yaml(SCHEMA_FILE.read_text(encoding="utf-8"))
    return rules


def keys() -> dict[str, Any]:
    """Return the keys of the block with the schema of each."""
    properties: dict[str, Any] = schema()["properties"]
    return properties


def completed(block: Mapping[str, Any]) -> dict[str, Any]:
    """Check `block`. Return it with the defaults of missing keys.

    Raises
    ------
    ConfigError
        A key is unknown, a value is not allowed, or two keys contradict each other.
    """
    if not isinstance(block, Mapping):
        raise ConfigError(BLOCK, f"got {kind(block)}. Allowed: the keys {', '.join(keys())}.")
    for key in block:
        if key not in keys():
            near = difflib.get_close_matches(str(key), keys(), n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"allowed here: {', '.join(keys())}."
            raise refusal(clean_text(str(key))[:MAX_PARAMETER_NAME], f"unknown key; {hint}")
    values = {key: rule["default"] if block.get(key) is None else block[key] for key, rule in keys().items()}
    for key, rule in keys().items():
        _require(key, values[key], rule)
    values["progress_min_interval_s"] = float(values["progress_min_interval_s"])
    values["parameters"] = _parameters(values["parameters"])
    given = [key for key in ("auth_pass", "auth_pass_env", "auth_pass_file") if values[key]]
    if len(given) > 1:
        raise refusal(given[1], f"stands beside `{given[0]}`. Give only one of them.")
    if values["url"]:
        _check_url(values["url"])
    return values


def refusal(key: str, what: str) -> ConfigError:
    """Return an error about `key` of the block. `what` says what is wrong and what to do."""
    return ConfigError(f"{BLOCK}.{key}", what)


def kind(value: object) -> str:
    """Name the type of `value` without showing the value."""
    return {bool: "true or false", int: "a number", float: "a number", str: "text"}.get(
        type(value), f"a value of type {type(value).__name__}"
    )


def _require(key: str, value: object, rule: Mapping[str, Any]) -> None:
    """Check one value against its schema: `enum`, `type`, `minimum` and `maximum`."""
    if "enum" in rule:
        if value not in rule["enum"]:
            raise refusal(key, f"has a value that is not allowed. Allowed: {', '.join(rule['enum'])}.")
        return
    types, words = _TYPES[rule["type"]]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise refusal(key, f"got {kind(value)}. Allowed: {words}.")
    if isinstance(value, str) and clean_text(value) != value:
        raise refusal(key, "contains a control character or a line end. Remove it.")
    least, most = rule.get("minimum", -math.inf), rule.get("maximum", math.inf)
    if isinstance(value, int | float) and not least <= value <= most:
        raise refusal(key, f"is out of range. Allowed: {least} to {most}.")


def _parameters(value: Mapping[Any, Any]) -> dict[str, Scalar]:
    """Check the custom parameters."""
    if len(value) > MAX_PARAMETERS:
        raise refusal("parameters", f"got {len(value)} entries. Allowed: at most {MAX_PARAMETERS}.")
    checked: dict[str, Scalar] = {}
    for name, entry in value.items():
        if not isinstance(name, str):
            raise refusal("parameters", f"got {kind(name)} as a name, must be text. Put the name in quotes.")
        if not name or len(name) > MAX_PARAMETER_NAME or clean_text(name) != name:
            raise refusal(
                "parameters",
                f"got a name of {len(name)} characters. Allowed: 1 to {MAX_PARAMETER_NAME} printable ones.",
            )
        if name in RESERVED_KEYS:
            raise refusal(f"parameters.{name}", "is the name of a key of status events. Choose another name.")
        checked[name] = _parameter(name, entry)
    size = len(json.dumps(checked))
    if size > MAX_PARAMETERS_BYTES:
        raise refusal("parameters", f"is {size} bytes as JSON. Allowed: at most {MAX_PARAMETERS_BYTES} in all.")
    return checked


def _parameter(name: str, value: object) -> Scalar:
    key = f"parameters.{name}"
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_PARAMETER_TEXT:
            raise refusal(key, f"has {len(value)} characters. Allowed: at most {MAX_PARAMETER_TEXT}.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise refusal(key, "contains half of a character pair, which is not valid text. Remove it.") from None
        if "\0" in value:
            raise refusal(key, "contains a zero character, which no database takes. Remove it.")
        return value
    if isinstance(value, int):
        if abs(value) > MAX_PARAMETER_INTEGER:
            raise refusal(key, "is an integer of more than 64 bits. Put it in quotes.")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise refusal(key, "is not a finite number, which JSON cannot say. Put it in quotes.")
        return value
    raise refusal(key, f"got {kind(value)}. Allowed: text, a finite number, true or false. Put other things in quotes.")


def _check_url(url: str) -> None:
    """Check the address of the receiver."""
    example = "Write http://host:port/path or https://…"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refusal("url", f"is not a URL (host or port cannot be read). {example}") from None
    if parts.scheme not in ("http", "https"):
        raise refusal("url", f"must begin with http:// or https://. {example}")
    if "@" in parts.netloc:
        raise refusal("url", "contains a user or password. Use `auth_user` and `auth_pass_env` or `auth_pass_file`.")
    if not host.strip(".") or port == 0:
        raise refusal("url", f"names no host, or port 0. {example}")
    if "\\" in url or any(letter.isspace() for letter in url):
        raise refusal("url", f"contains a space or a backslash. {example}")
    if parts.fragment:
        raise refusal("url", "contains `#`; what follows it is never sent. Remove it.")
    try:
        if ":" in host:
            ipaddress.IPv6Address(host.partition("%")[0])
        else:
            host.rstrip(".").encode("idna")
    except ValueError:
        raise refusal("url", f"names a host that cannot exist. {example}") from None
