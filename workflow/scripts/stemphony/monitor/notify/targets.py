"""Read the file of `--notify`: the recipients of notifications, their events and their channels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from stemphony.errors import MonitorError
from stemphony.monitor.state import State
from stemphony.status.events import clean_text

FORMATS: Final = ("json", "slack", "mattermost", "email")
"""Formats of messages that a target may have."""
KINDS: Final = (State.FINISHED.value, State.FAILED.value, State.CANCELLED.value, State.STALE.value)
"""States of a simulation that can cause a notification."""
DEFAULT_KINDS: Final = (State.FINISHED.value, State.FAILED.value, State.STALE.value)
"""States that cause a notification if `when` is not given. CANCELLED is not among them, because a user has caused
it."""
MAX_TARGETS: Final = 50
"""Most targets of a file. Each target has one thread, and a second thread during a delivery."""

_TEXT_KEYS: Final = (
    "name", "format", "url", "url_env", "host", "from", "user", "password_env", "security", "ca_file",
)  # fmt: skip
"""Keys of a target whose values are texts."""
_KEYS: Final = frozenset({*_TEXT_KEYS, "port", "to", "when"})
"""All keys that a target may have."""
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
"""Values of `security`, and the usual port of each."""


@dataclass(frozen=True)
class Target:
    """One recipient of notifications. Its repr hides what may be secret, such as the address of a webhook.

    Attributes
    ----------
    name, format : str
        Name in the log and in the database, and one of `FORMATS`.
    kinds : frozenset of str
        Values of `KINDS` that cause a notification.
    url : str
        Address of a webhook.
    host, port, security, sender, recipients, user, password
        Mail server and mail addresses.
    ca_file : str
        File with the certificates to trust. Empty: those of the system.
    """

    name: str
    format: str
    kinds: frozenset[str]
    url: str = field(default="", repr=False)
    host: str = ""
    port: int = 0
    security: str = "starttls"
    sender: str = ""
    recipients: tuple[str, ...] = ()
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca_file: str = ""


@dataclass(frozen=True)
class TargetSettings:
    """The content of the file.

    Attributes
    ----------
    targets : tuple of Target
        All recipients.
    page : str
        Address of the monitor in a reader's browser. Links in notifications begin with it.
    """

    targets: tuple[Target, ...] = ()
    page: str = ""

    @classmethod
    def read(cls, file: Path, environment: Mapping[str, str] = os.environ) -> Self:
        """Read and check the file.

        Parameters
        ----------
        file : Path
            YAML; docs/monitor.md describes it.
        environment : mapping
            Environment variables, for `url_env` and `password_env`.

        Returns
        -------
        TargetSettings
            The targets, and the address of the monitor without a slash at its end.

        Raises
        ------
        MonitorError
            The file cannot be read, or a key in it is unknown, missing or has a wrong value.
        """
        import yaml

        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise MonitorError(
                f"--notify {file} cannot be read ({error.strerror}). Give a YAML file that you may read."
            ) from None
        except (yaml.YAMLError, ValueError, RecursionError):
            raise MonitorError(f"--notify {file} is not YAML. Check quotes and indentation.") from None
        if not isinstance(content, Mapping) or not isinstance(content.get("targets"), list):
            raise MonitorError(f"--notify {file}: must have a list `targets`; docs/monitor.md has examples.")
        _refuse_unknown(f"--notify {file}", content, {"targets", "page"})
        page = content.get("page") or ""
        if not isinstance(page, str) or (page and not page.startswith(("http://", "https://"))):
            raise MonitorError(f"--notify {file}: `page` must be the monitor's address, http://… or https://…")
        number = len(content["targets"])
        if number > MAX_TARGETS:
            raise MonitorError(
                f"--notify {file}: `targets` has {number} entries. Allowed: at most {MAX_TARGETS}."
                " One mail can have many recipients."
            )
        targets = tuple(
            _target(f"--notify {file}: target {number}", entry, environment)
            for number, entry in enumerate(content["targets"], 1)
        )
        names = [target.name for target in targets]
        if len(set(names)) < len(names):
            raise MonitorError(f"--notify {file}: two targets have the same name. Give each its own `name`.")
        return cls(targets, page.rstrip("/"))


def _refuse_unknown(where: str, content: Mapping[Any, Any], known: set[str] | frozenset[str]) -> None:
    for key in content:
        if key not in known:
            name = clean_text(str(key))[:80]
            raise MonitorError(f"{where}: there is no key {name!r}. Known keys: {', '.join(sorted(known))}.")


def _target(where: str, entry: Any, environment: Mapping[str, str]) -> Target:
    if not isinstance(entry, Mapping):
        raise MonitorError(f"{where}: must be a block of keys: {', '.join(sorted(_KEYS))}.")
    _refuse_unknown(where, entry, _KEYS)
    for key in _TEXT_KEYS:
        if key in entry and not isinstance(entry[key], str):
            kind_found = type(entry[key]).__name__  # the value may be secret
            raise MonitorError(f"{where}: `{key}` is a value of kind {kind_found}, and must be text. Put it in quotes.")
    kind = entry.get("format", "json")
    if kind not in FORMATS:
        raise MonitorError(f"{where}: `format` is {kind!r}. Allowed: {', '.join(FORMATS)}.")
    wanted = entry.get("when", list(DEFAULT_KINDS))
    if not isinstance(wanted, list) or not wanted or not set(map(str, wanted)) <= set(KINDS):
        raise MonitorError(f"{where}: `when` is {wanted!r}. Allowed is a list of: {', '.join(KINDS)}.")
    common = {"name": entry.get("name") or kind, "format": kind, "kinds": frozenset(wanted)}
    if kind == "email":
        return _mail_target(where, entry, environment, common)
    url = _secret(where, entry.get("url_env"), environment) if "url_env" in entry else entry.get("url", "")
    if not _is_webhook(url):
        raise MonitorError(
            f"{where}: give the address of the webhook, http://… or https://… without a user name in it, as `url`, or"
            " as `url_env`, the name of an environment variable."
        )
    return Target(**common, url=url, ca_file=entry.get("ca_file", ""))


def _is_webhook(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


def _mail_target(
    where: str, entry: Mapping[str, Any], environment: Mapping[str, str], common: dict[str, Any]
) -> Target:
    recipients = entry.get("to", [])
    recipients = [recipients] if isinstance(recipients, str) else recipients
    are_addresses = isinstance(recipients, list) and all(isinstance(to, str) and "@" in to for to in recipients)
    if not are_addresses or not recipients:
        raise MonitorError(f"{where}: `to` must be one mail address or a list of them.")
    for key in ("host", "from"):
        if not entry.get(key):
            raise MonitorError(f"{where}: `{key}` is missing. A mail needs host, from and to.")
    security = entry.get("security", "starttls")
    if security not in _PORTS:
        raise MonitorError(f"{where}: `security` is {security!r}. Allowed: {', '.join(_PORTS)}.")
    port = entry.get("port", _PORTS[security])
    if type(port) is not int or not 0 < port < 65_536:
        raise MonitorError(f"{where}: `port` must be a whole number from 1 to 65535.")
    if any("\n" in text or "\r" in text for text in [*recipients, entry["from"]]):
        raise MonitorError(f"{where}: a mail address has a line end. Remove it.")
    password = _secret(where, entry["password_env"], environment) if "password_env" in entry else ""
    return Target(
        **common, host=entry["host"], port=port, security=security, sender=entry["from"],
        recipients=tuple(recipients), user=entry.get("user", ""), password=password, ca_file=entry.get("ca_file", ""),
    )  # fmt: skip


def _secret(where: str, variable: Any, environment: Mapping[str, str]) -> str:
    value = environment.get(str(variable), "")
    if not value:
        # The name is not shown, because some users write the secret itself there.
        raise MonitorError(f"{where} names an environment variable that is not set or is empty. Export it first.")
    return value
