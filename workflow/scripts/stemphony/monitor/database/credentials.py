"""Who may send events and who may look at them.

The secrets are drawn here, 256 bits each, and only their SHA-256 is stored: a slow hash would protect passwords that
people think of, and cost each request what it is meant to cost an attacker.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import IntegrityError

from stemphony.errors import MonitorError
from stemphony.monitor.database import tables
from stemphony.monitor.database.connection import Database

FRESH_S: Final = 1.0
"""A credential that is added or revoked counts after this time, in a monitor that runs too."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_HEADER_CHARACTERS: Final = 1000


class Role(StrEnum):
    """What a credential is good for."""

    WRITER = "writer"
    READER = "reader"


@dataclass(frozen=True)
class Credential:
    """A name, what it may do, and the hash of its secret."""

    name: str
    role: Role
    digest: str
    created: float


def digest(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def require_name(name: str) -> None:
    """See that a credential can have this name.

    Raises
    ------
    MonitorError
        Basic authentication cannot carry it.
    """
    if not _NAME.fullmatch(name):
        raise MonitorError(
            f"token: {name!r} cannot be a name. Allowed: 1 to 64 letters, digits, `.`, `_`, `-`, not a sign first."
        )


def add(connection: Connection, name: str, role: Role, now: float) -> str:
    """Make a credential and give its secret, which is shown once and stored nowhere.

    Raises
    ------
    MonitorError
        The name is taken, or none that basic authentication can carry.
    """
    require_name(name)
    secret = secrets.token_urlsafe(32)
    row = {"name": name, "role": role.value, "digest": digest(secret), "created": now}
    try:
        connection.execute(tables.CREDENTIAL.insert(), row)
    except IntegrityError:
        raise MonitorError(f"token: there is a {name!r} already. Revoke it first, or take another name.") from None
    return secret


def revoke(connection: Connection, name: str) -> None:
    """Remove a credential; whoever uses it is refused from then on."""
    table = tables.CREDENTIAL
    if connection.execute(delete(table).where(table.c.name == name)).rowcount == 0:
        raise MonitorError(f"token: there is no {name!r}. `stemphony monitor token list` names them.")


def listed(connection: Connection) -> list[Credential]:
    """All credentials, by name."""
    table = tables.CREDENTIAL
    question = select(table.c.name, table.c.role, table.c.digest, table.c.created).order_by(table.c.name)
    return [
        Credential(name, Role(role), hashed, created) for name, role, hashed, created in connection.execute(question)
    ]


class Gate:
    """Decide by the header `Authorization` who asks. Without any credential in the database everybody may do all.

    But not after one has been seen: who revokes the last one of a monitor that others reach wants nobody to enter.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._known: list[Credential] = []
        self._ever_closed = False
        self._read_at = -FRESH_S

    def credentials(self) -> list[Credential]:
        """Credentials, at most one second old."""
        with self._lock:
            if self._clock() - self._read_at >= FRESH_S:
                with self._database.reader.begin() as connection:
                    self._known = listed(connection)
                self._read_at = self._clock()
                self._ever_closed = self._ever_closed or bool(self._known)
            return self._known

    @property
    def is_open(self) -> bool:
        """Whether there is no credential at all, and has been none since this monitor started."""
        return not self.credentials() and not self._ever_closed

    def who(self, header: str) -> Credential | None:
        """The credential that a header names, if its secret is right: `Basic name:secret` or `Bearer secret`."""
        name, secret = _read(header)
        if secret is None:
            return None
        hashed, found = digest(secret), None
        for credential in self.credentials():
            # All are compared, so that the time tells nothing.
            same = hmac.compare_digest(credential.digest, hashed)
            if same and name in (None, credential.name):
                found = credential
        return found


def _read(header: str) -> tuple[str | None, str | None]:
    scheme, _, rest = header.strip().partition(" ")
    if len(header) > _MAX_HEADER_CHARACTERS:
        return None, None
    if scheme.lower() == "bearer":
        return None, rest.strip() or None
    if scheme.lower() != "basic":
        return None, None
    try:
        decoded = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None, None
    name, colon, secret = decoded.partition(":")
    return (name, secret) if colon and secret else (None, None)
