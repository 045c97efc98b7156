"""Create, list and remove the credentials of senders and readers.

This module draws each secret from 256 random bits and stores only its SHA-256. A slow hash protects passwords that
people choose. Random secrets do not need it, and it would slow down every request.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import IntegrityError

from stemphony.errors import MonitorError
from stemphony.monitor.database import schema

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Allowed names of a credential: at most 64 characters, and no colon, which basic authentication cannot transport."""


class Role(StrEnum):
    """A writer may send events, a reader may see pages and the API."""

    WRITER = "writer"
    READER = "reader"


@dataclass(frozen=True)
class Credential:
    """A name, its role, and the `digest` of its secret. `created` is the time of creation [s since 1970]."""

    name: str
    role: Role
    digest: str
    created: float


def digest(secret: str) -> str:
    """Return the SHA-256 of a `secret`, which is all that the database stores of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def require_name(name: str) -> None:
    """Check the `name` of a credential.

    Raises
    ------
    MonitorError
        Basic authentication cannot transport the name.
    """
    if not _NAME.fullmatch(name):
        raise MonitorError(
            f"token: {name!r} cannot be a name. Allowed: 1 to 64 letters, digits, `.`, `_`, `-`. The first one is a "
            "letter or a digit."
        )


def add(connection: Connection, name: str, role: Role, now: float) -> str:
    """Create a credential and return its secret. The secret is stored nowhere.

    `connection` is an open transaction, `name` and `role` are those of the credential, and `now` is the time of
    creation [s since 1970].

    Raises
    ------
    MonitorError
        The name is taken, or basic authentication cannot transport it.
    """
    require_name(name)
    secret = secrets.token_urlsafe(32)
    row = {"name": name, "role": role.value, "digest": digest(secret), "created": now}
    try:
        connection.execute(schema.CREDENTIAL.insert(), row)
    except IntegrityError:
        raise MonitorError(f"token: {name!r} exists already. Revoke it first, or choose another name.") from None
    return secret


def revoke(connection: Connection, name: str) -> None:
    """Remove the credential `name` through `connection`, an open transaction. The monitor then refuses it.

    Raises
    ------
    MonitorError
        There is no credential of this name.
    """
    table = schema.CREDENTIAL
    if connection.execute(delete(table).where(table.c.name == name)).rowcount == 0:
        raise MonitorError(f"token: there is no credential {name!r}. `stemphony monitor token list` names them.")


def listed(connection: Connection) -> list[Credential]:
    """Return all credentials, ordered by name. `connection` is an open transaction."""
    table = schema.CREDENTIAL
    question = select(table.c.name, table.c.role, table.c.digest, table.c.created).order_by(table.c.name)
    return [
        Credential(name, Role(role), hashed, created) for name, role, hashed, created in connection.execute(question)
    ]
