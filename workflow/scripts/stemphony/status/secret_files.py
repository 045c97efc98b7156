"""Find the password and the certificates that the block `http_reporting` names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stemphony.status.block import refusal
from stemphony.status.events import clean_text

MAX_PASSWORD_FILE_BYTES: Final = 4096
"""Largest file of a password [bytes]. A larger file is not a password in one line."""

_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""A name that an environment variable of a shell can have."""


def password(values: Mapping[str, Any], config_folder: Path) -> str:
    """Return the password that the block contains or names, or an empty text.

    Parameters
    ----------
    values : mapping
        The checked block with all its keys.
    config_folder : Path
        A relative `auth_pass_file` is searched in this folder, then in the working directory.

    Returns
    -------
    str
        The password; empty if the block has none.

    Raises
    ------
    ConfigError
        The environment variable or file is missing, or its content is not a password in one line.
    """
    if values["auth_pass_env"]:
        return _password_from_environment(values["auth_pass_env"])
    if values["auth_pass_file"]:
        return _password_from_file(values["auth_pass_file"], config_folder)
    return str(values["auth_pass"])


def _password_from_environment(name: str) -> str:
    """Read the password. Messages do not show the name, because some users write the password itself there."""
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise refusal(
            "auth_pass_env",
            "must be the name of an environment variable (letters, digits, _), not its value.",
        )
    password = os.environ.get(name, "")
    if not password:
        raise refusal(
            "auth_pass_env",
            "names an environment variable that is not set or empty. Export it before the run.",
        )
    if clean_text(password) != password:
        raise refusal("auth_pass_env", "names an environment variable with a control character or line end. Remove it.")
    return password


def _password_from_file(name: str, config_folder: Path) -> str:
    path = _find_file(name, config_folder)
    if path is None:
        places = " and ".join(dict.fromkeys((str(config_folder.resolve()), str(Path.cwd()))))
        raise refusal(
            "auth_pass_file",
            f"names a file that does not exist; looked in {places}. Write the password into a file of mode 0600.",
        )
    try:
        # With O_NONBLOCK, opening a named pipe does not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise refusal("auth_pass_file", "is not a regular file. Name a file that holds the password.")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise refusal("auth_pass_file", f"can be read by others (mode {mode:04o}). Do: chmod 600 on that file.")
            content = os.read(descriptor, MAX_PASSWORD_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise refusal("auth_pass_file", f"cannot be read ({type(error).__name__}). Check its owner and mode.") from None
    try:
        password = content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise refusal("auth_pass_file", "is not text in UTF-8. Write the password again.") from None
    if not password or len(content) > MAX_PASSWORD_FILE_BYTES or clean_text(password) != password:
        raise refusal("auth_pass_file", "must hold the password in one line and nothing else.")
    return password


def _find_file(name: str, config_folder: Path) -> Path | None:
    path = Path(name).expanduser() if name.startswith("~/") else Path(name)
    places = [path] if path.is_absolute() else [config_folder / path, Path.cwd() / path]
    try:
        return next((place.resolve() for place in places if place.exists()), None)
    except OSError:
        return None


def _existing_file(key: str, name: str, config_folder: Path) -> Path:
    path = _find_file(name, config_folder)
    if path is None or not path.is_file() or not os.access(path, os.R_OK):
        places = " and ".join(dict.fromkeys((str(config_folder.resolve()), str(Path.cwd()))))
        raise refusal(key, f"names no readable file; tried in {places}. Give a file of certificates in PEM format.")
    return path


def file_of_certificates(name: str, config_folder: Path) -> str:
    """Return the path of the file of certificates. `name` is the value of `ca_file`.

    A relative `name` is searched in `config_folder`, then in the working directory.

    Raises
    ------
    ConfigError
        The file is missing, or TLS cannot read a certificate in it. This is checked now, because later, while sending,
        the error would look like any other error of TLS.
    """
    # The import is here, because it takes 10 to 20 ms, and most jobs have no file of certificates.
    import ssl

    path = _existing_file("ca_file", name, config_folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
        known = context.cert_store_stats()["x509"]
    except (OSError, ValueError):
        known = 0
    if not known:
        raise refusal(
            "ca_file",
            f"holds no certificate that can be read: {path}. Allowed: certificates in PEM format, each between the"
            " lines -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----. To make such a file of DER:"
            " openssl x509 -inform der -in FILE -out FILE.pem",
        )
    return str(path)
