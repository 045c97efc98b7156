"""Find out which credential a request has."""

from __future__ import annotations

import base64
import binascii
import hmac
import threading
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import TimeoutError as NoConnectionFree

from stemphony.monitor.database.connection import Database
from stemphony.monitor.database.credentials import Credential, digest, listed

FRESH_S: Final = 1.0
"""Longest time until a running monitor notices an added or revoked credential [s]."""

PATIENCE_S: Final = 0.5
"""Longest wait of a request for fresh credentials [s]. Then the request uses the credentials that were read last."""

FIRST_PATIENCE_S: Final = 10.0
"""Longest wait of a request for credentials before any were read [s]."""

_MAX_HEADER_CHARACTERS: Final = 1000
"""Longest header Authorization [characters]. The name of a credential has at most 64 characters, and its secret has
43."""


class Gate:
    """Find the credential that the header `Authorization` of a request proves.

    While the database has no credential, the gate is open to everyone. After it has seen a credential, it stays closed,
    because revoking the last credential must not open a monitor to the network.

    `database` has the credentials. `clock` gives seconds since a fixed moment, from which their age follows.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._known: list[Credential] | None = None
        self._ever_closed = False
        self._read_at = -FRESH_S
        self._reading: threading.Thread | None = None
        self._trouble: Exception | None = None

    def credentials(self) -> list[Credential]:
        """Return the credentials, read from the database at most `FRESH_S` ago.

        If the database does not answer, return the credentials that were read before. This is safe, because nothing can
        be read or stored meanwhile.

        Raises
        ------
        Exception
            The database does not answer, and has never answered.
        """
        with self._lock:
            if self._reading is None and self._clock() - self._read_at >= FRESH_S:
                # A separate thread reads, so that a database that does not answer cannot stop the request.
                self._reading = threading.Thread(target=self._read_again, name="stemphony-gate", daemon=True)
                self._reading.start()
            reading = self._reading
        if reading is not None:
            reading.join(PATIENCE_S if self._known is not None else FIRST_PATIENCE_S)
        if self._known is None:
            raise self._trouble or NoConnectionFree("the credentials cannot be read")
        return self._known

    def _read_again(self) -> None:
        known, trouble = None, None
        try:
            with self._database.reader.begin() as connection:
                known = listed(connection)
        except Exception as error:
            trouble = error
        with self._lock:
            if known is not None:
                self._known = known
                self._ever_closed = self._ever_closed or bool(known)
            self._trouble, self._read_at, self._reading = trouble, self._clock(), None

    def close(self) -> None:
        """Wait until no thread reads credentials. Closing the database would not close a connection that is in use."""
        with self._lock:
            reading = self._reading
        if reading is not None:
            reading.join(FIRST_PATIENCE_S)

    @property
    def is_open(self) -> bool:
        """Whether the database has no credential, and had no credential since this monitor started."""
        return not self.credentials() and not self._ever_closed

    def credential_of(self, header: str) -> Credential | None:
        """Return the credential that the header Authorization proves, or None.

        `header` is its value: `Basic` with name and secret in Base64, or `Bearer` with a secret.
        """
        name, secret = _read(header)
        if secret is None:
            return None
        hashed, found = digest(secret), None
        for credential in self.credentials():
            # The loop compares all secrets, so that its duration reveals nothing.
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
