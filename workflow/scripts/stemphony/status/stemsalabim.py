"""Translate the block `http_reporting` of STEMsalabim's parameter files from libconfig to YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stemphony.errors import ConfigError
from stemphony.status.block import BLOCK, keys
from stemphony.status.events import RESERVED_KEYS

PASSWORD_VARIABLE: Final = "STEM_PASSWORD"
"""Name of an environment variable. The YAML contains it instead of a password."""

NOT_SHOWN: Final = "…"
"""Replaces a secret in a message."""

_CREDENTIALS: Final = re.compile(r"(https?://)([^/?#]*)@", re.IGNORECASE)
"""User and password in an address."""
_BEGIN: Final = re.compile(rf"^[ \t]*{BLOCK}\s*[:=]\s*\{{", re.MULTILINE)
"""Begin of the block in the syntax of libconfig."""
_TEXT_OR_COMMENT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\#[^\n]*|//[^\n]*|/\*.*?\*/', re.DOTALL)
"""Texts in quotes and comments of libconfig. Braces in them do not count."""
_MOST_GROUPS: Final = 50
"""Most closing braces at which the end of the block is searched. STEMsalabim's own block has two braces."""


def refuse(file: Path, text: str) -> None:
    """Refuse the config `file` if its content `text` contains the block of STEMsalabim.

    Raises
    ------
    ConfigError
        The text has such a block. The message shows the YAML to use instead.
    """
    translated = yaml_in_place_of(text)
    if translated is not None:
        raise ConfigError(
            BLOCK, f"{file} has this block in the syntax of STEMsalabim. Replace it by this YAML:\n\n{translated}"
        )


def yaml_in_place_of(text: str) -> str | None:
    """Find the block of STEMsalabim in a config file and translate it to YAML for a message.

    The translation shows only host and port of an address, and only the names of credentials and custom parameters.

    Parameters
    ----------
    text : str
        A whole config file.

    Returns
    -------
    str or None
        None if there is no such block, or if it is not complete.
    """
    begin = _BEGIN.search(text)
    group = _first_group(text[begin.end() :]) if begin is not None else None
    return None if group is None else _yaml(group)


def _first_group(text: str) -> dict[str, Any] | None:
    """Return the settings before the first closing brace that ends a complete group."""
    import libconf

    for brace in list(re.finditer("}", text))[:_MOST_GROUPS]:
        settings = text[: brace.start()]
        # A flow mapping of YAML has braces too, but it has neither `=` nor `;` between its names and values.
        if not set(_TEXT_OR_COMMENT.sub("", settings)) & {"=", ";"}:
            continue
        try:
            group: dict[str, Any] = libconf.loads(settings)
        except (libconf.ConfigParseError, ValueError, RecursionError):
            continue
        return None if any(isinstance(value, list | tuple) for value in group.values()) else group
    return None


def _yaml(group: dict[str, Any]) -> str:
    lines = [f"{BLOCK}:"]
    group = _without_credentials_in_url(group)
    for name, value in group.items():
        if name == "parameters" and isinstance(value, dict):
            lines += ["  parameters:", *(_parameter(*entry) for entry in value.items())] if value else []
        elif name == "auth_pass":
            lines += _password(value)
        elif name in keys() and not isinstance(value, dict):
            lines.append(f"  {name}: {_shown(name, value)}")
        else:
            lines.append(f"  # {name}: not a key of Stemphony, left out")
    return "\n".join(lines) + "\n"


def _without_credentials_in_url(group: dict[str, Any]) -> dict[str, Any]:
    """Move user and password of `http://user:password@host` to keys of their own, because `url` must not have them."""
    found = _CREDENTIALS.match(group["url"]) if isinstance(group.get("url"), str) else None
    if found is None:
        return group
    # Even the part before a colon may be a token.
    own = {"auth_user": NOT_SHOWN, **({"auth_pass": NOT_SHOWN} if ":" in found[2] else {})}
    return {**group, "url": found[1] + group["url"][found.end() :], **{k: group.get(k) or v for k, v in own.items()}}


def _password(value: Any) -> list[str]:
    if not value:
        return []
    return [f"  auth_pass_env: {PASSWORD_VARIABLE}  # the password itself: export {PASSWORD_VARIABLE}=…"]


def _parameter(name: str, value: Any) -> str:
    if isinstance(value, dict) or name in RESERVED_KEYS:
        return f"    # {name}: cannot be a custom parameter, left out"
    return f'    {_key(name)}: "{NOT_SHOWN}"  # your value, which is not shown here'


def _shown(name: str, value: Any) -> str:
    """Return a value of the block as YAML. Only numbers, true, false and words of the schema are shown, because other
    values may be secret."""
    if name == "url":
        value = _address(str(value))
    elif not _is_harmless(value, keys()[name]):
        value = NOT_SHOWN
    remark = f"  # put your value for {NOT_SHOWN}, which is not shown here" if NOT_SHOWN in str(value) else ""
    return _quoted(value) + remark


def _is_harmless(value: Any, rule: Mapping[str, Any]) -> bool:
    """Whether a value cannot be a password, because the schema allows only harmless values at its place."""
    if isinstance(value, str):
        return value in rule.get("enum", ())
    return isinstance(value, bool) or (isinstance(value, int | float) and rule.get("type") == "number")


def _address(value: str) -> str:
    """Scheme, host and port of an address. The rest is left out, because it may be a token."""
    try:
        parts = urlsplit(value)
        is_plain = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in value
        # `port` raises ValueError if a part of a password stands at the place of the port.
        is_plain = (is_plain and parts.port is not None) or (":" not in parts.netloc and is_plain)
    except ValueError:
        is_plain = False
    if not is_plain:
        return NOT_SHOWN
    begin = f"{parts.scheme}://{parts.netloc}/"
    return begin if value.rstrip("/") == begin.rstrip("/") else begin + NOT_SHOWN


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else _quoted(name)


def _quoted(value: Any) -> str:
    """Return a scalar as YAML, which is the same as JSON for these types."""
    return json.dumps(value, ensure_ascii=False)
