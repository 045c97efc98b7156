"""The block `http_reporting: {…}` as STEMsalabim's parameter files have it, and the YAML to use in its place.

Those files are in the language of libconfig: ``name = value;`` in braces. Of it this reads what such a block holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from stemphony.errors import ConfigError
from stemphony.status.events import RESERVED_KEYS, names_a_secret
from stemphony.status.settings import BLOCK, DEFAULTS

PASSWORD_VARIABLE: Final = "STEM_PASSWORD"
"""Environment variable that the YAML names in place of a password."""

HIDDEN: Final = "…"
"""What stands in a message for a secret."""

_CREDENTIALS: Final = re.compile(r"(https?://)([^/?#]*)@", re.IGNORECASE)
_BEGIN: Final = re.compile(rf"^[ \t]*{BLOCK}\s*[:=]\s*\{{", re.MULTILINE)
_TOKEN: Final = re.compile(
    r"""
    (?P<space> \s+ | \#[^\n]* | //[^\n]* | /\*.*?\*/ )
  | (?P<text> "(?:[^"\\]|\\.)*" )
  | (?P<mark> [{}\[\]():=;,] )
  | (?P<word> [^\s{}\[\]():=;,"\#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_INTEGER: Final = re.compile(r"([+-]?[0-9]+|0[xX][0-9A-Fa-f]+)L{0,2}")
_FLOAT: Final = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][+-]?[0-9]+)?")
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "a": "\a", "b": "\b", "v": "\v"}


class _NotLibconfig(Exception):
    """The text goes on in another way than libconfig's."""


def refuse(file: Path, text: str) -> None:
    """Answer a config file with STEMsalabim's block in it with the YAML to use in its place.

    Raises
    ------
    ConfigError
        The text has such a block.
    """
    translated = yaml_in_place_of(text)
    if translated is not None:
        raise ConfigError(
            BLOCK, f"{file} has this block as STEMsalabim writes it; here it is YAML. In its place:\n\n{translated}"
        )


def yaml_in_place_of(text: str) -> str | None:
    """Find STEMsalabim's block in a config file and give the same in our YAML.

    Passwords, what stands behind the `?` of an address, and custom parameters whose name says that they are secret, are
    not in it: it is meant for a message.

    Parameters
    ----------
    text : str
        A whole config file.

    Returns
    -------
    str or None
        None if there is no such block, or it is not complete.
    """
    begin = _BEGIN.search(text)
    if begin is None:
        return None
    marks: set[str] = set()
    try:
        group = _group(_tokens(text, begin.end(), marks))
    except (_NotLibconfig, StopIteration, RecursionError):
        return None
    # YAML has braces too, with neither of these between its names and values.
    return _yaml(group) if marks & {"=", ";"} else None


def _tokens(text: str, begin: int, marks: set[str]) -> Iterator[tuple[str, str]]:
    while begin < len(text):
        token = _TOKEN.match(text, begin)
        if token is None or token.lastgroup is None:
            raise _NotLibconfig
        begin = token.end()
        if token.lastgroup == "mark":
            marks.add(token[0])
        if token.lastgroup != "space":
            yield token.lastgroup, token[0]


def _group(tokens: Iterator[tuple[str, str]]) -> dict[str, Any]:
    """Settings up to the closing brace; each ends with a semicolon, a comma or nothing."""
    settings: dict[str, Any] = {}
    kind, token = next(tokens)
    while token != "}":
        if token in (";", ","):
            kind, token = next(tokens)
            continue
        if kind != "word" or next(tokens)[1] not in ("=", ":"):
            raise _NotLibconfig
        name = token
        kind, token = next(tokens)
        if token == "{":
            settings[name] = _group(tokens)
            kind, token = next(tokens)
        elif kind == "text":
            # Texts that follow one another are one.
            whole = ""
            while kind == "text":
                whole += _unescaped(token[1:-1])
                kind, token = next(tokens)
            settings[name] = whole
        elif kind == "word":
            settings[name] = _scalar(token)
            kind, token = next(tokens)
        else:
            raise _NotLibconfig
    return settings


def _unescaped(text: str) -> str:
    def letter(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(int(code[1:], 16)) if len(code) == 3 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(letter, text)


def _scalar(word: str) -> bool | int | float:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if _INTEGER.fullmatch(word):
        return int(word.rstrip("L"), 0) if word[:2].lower() == "0x" else int(word.rstrip("L"))
    if _FLOAT.fullmatch(word):
        return float(word)
    raise _NotLibconfig


def _yaml(group: dict[str, Any]) -> str:
    lines = [f"{BLOCK}:"]
    group = _without_credentials_in_url(group)
    for name, value in group.items():
        if name == "parameters" and isinstance(value, dict):
            lines += ["  parameters:", *(_parameter(*entry) for entry in value.items())] if value else []
        elif name == "auth_pass":
            lines += _password(value)
        elif name in DEFAULTS and not isinstance(value, dict):
            lines.append(f"  {name}: {_shown(value, is_address=name == 'url')}")
        else:
            lines.append(f"  # {name}: not a key of ours, left out")
    return "\n".join(lines) + "\n"


def _without_credentials_in_url(group: dict[str, Any]) -> dict[str, Any]:
    """User and password of `http://user:password@host` become keys of their own; in our addresses they cannot stand."""
    found = _CREDENTIALS.match(group["url"]) if isinstance(group.get("url"), str) else None
    if found is None:
        return group
    # What stands there alone, or before a colon, may be a token as well.
    own = {"auth_user": HIDDEN, **({"auth_pass": HIDDEN} if ":" in found[2] else {})}
    return {**group, "url": found[1] + group["url"][found.end() :], **{k: group.get(k) or v for k, v in own.items()}}


def _password(value: Any) -> list[str]:
    if not value:
        return []
    return [f"  auth_pass_env: {PASSWORD_VARIABLE}  # the password itself: export {PASSWORD_VARIABLE}=…"]


def _parameter(name: str, value: Any) -> str:
    if isinstance(value, dict) or name in RESERVED_KEYS:
        return f"    # {name}: cannot be a custom parameter, left out"
    if names_a_secret(name):
        return f'    {_key(name)}: "{HIDDEN}"  # your value, which is not shown here'
    return f"    {_key(name)}: {_shown(value)}"


def _shown(value: Any, is_address: bool = False) -> str:
    """A value without what may be secret: of an address, what stands before `@` and behind `?` or `#`."""
    shown = _address(value) if isinstance(value, str) and (is_address or "://" in value) else value
    remark = f"  # {HIDDEN} is yours to put in; it is not shown here" if HIDDEN in str(shown) else ""
    return _quoted(shown) + remark


def _address(value: str) -> str:
    value = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", rf"\1{HIDDEN}@", value, flags=re.DOTALL)
    begin = re.search(r"[?#]", value)
    if begin is None:
        return value
    entries = (entry.partition("=") for entry in value[begin.end() :].split("&"))
    return value[: begin.end()] + "&".join(f"{name}={HIDDEN}" if equals else HIDDEN for name, equals, _ in entries)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else _quoted(name)


def _quoted(value: Any) -> str:
    """A scalar as YAML has it, which for these is what JSON has."""
    return json.dumps(value, ensure_ascii=False)
