"""The block `http_reporting` of a config: its values, checked, and its secrets, found."""

from __future__ import annotations

import difflib
import ipaddress
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from stemphony.errors import ConfigError
from stemphony.status.events import PROGRESS_EVENTS, RESERVED_KEYS, clean_text, names_a_secret

Scalar = str | int | float | bool

BLOCK: Final = "http_reporting"

DEFAULTS: Final[Mapping[str, Any]] = {
    "reporting": False,
    "url": "",
    "auth_user": "",
    "auth_pass": "",
    "auth_pass_env": "",
    "auth_pass_file": "",
    "ca_file": "",
    "via": "job",
    "progress_event": PROGRESS_EVENTS[0],
    "progress_min_interval_s": 0.0,
    "preview": False,
    "parameters": {},
}

VIA_JOB: Final = "job"
VIA_SUBMIT_HOST: Final = "submit_host"
VIA: Final = (VIA_JOB, VIA_SUBMIT_HOST)

MAX_PARAMETERS: Final = 50
MAX_NAME_CHARACTERS: Final = 100
MAX_TEXT_CHARACTERS: Final = 1000
MAX_PARAMETERS_BYTES: Final = 8192
MAX_INTEGER: Final = 2**63 - 1
MAX_INTERVAL_S: Final = 1e6
MAX_PASSWORD_FILE_BYTES: Final = 4096

_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class ReportingSettings:
    """What the sender must know. Its repr shows nothing that could be a secret.

    Attributes
    ----------
    reporting : bool
        False: nothing is recorded and nothing is sent.
    url, auth_user, auth_pass, ca_file : str
        Where to, as whom, and the certificates to trust instead of the public ones (empty: the public ones).
    via : str
        ``job``: each job sends; ``submit_host``: jobs only write their spool.
    progress_event : str
        Name of a progress report on the wire, PROGRESS or START_CONFIGURATION.
    progress_min_interval_s : float
        Shortest time between two progress reports of a job [s].
    preview : bool
        A job that finishes sends a small image.
    parameters : mapping
        Custom keys and values, added to an event when it is sent.
    warnings : tuple of str
        What the user should be told once; without secrets.
    """

    reporting: bool = False
    url: str = field(default="", repr=False)
    auth_user: str = field(default="", repr=False)
    auth_pass: str = field(default="", repr=False)
    ca_file: str = ""
    via: str = VIA_JOB
    progress_event: str = PROGRESS_EVENTS[0]
    progress_min_interval_s: float = 0.0
    preview: bool = False
    parameters: Mapping[str, Scalar] = field(default_factory=dict, repr=False, hash=False)
    warnings: tuple[str, ...] = ()


def resolve(block: Mapping[str, Any], config_folder: Path) -> ReportingSettings:
    """Check the block `http_reporting` and find its secrets.

    Parameters
    ----------
    block : mapping
        The block, with or without the defaults of the schema filled in.
    config_folder : Path
        Relative paths (`auth_pass_file`, `ca_file`) start here, else in the working directory.

    Returns
    -------
    ReportingSettings
        With ``reporting: false`` nothing is looked up and the password stays empty; types are checked all
        the same.

    Raises
    ------
    ConfigError
        Something is misspelt, of a wrong type, contradictory or missing. Its text never holds a value that
        could be a secret.
    """
    _refuse_unknown_keys(block)
    values = {key: default if block.get(key) is None else block[key] for key, default in DEFAULTS.items()}
    for key in ("url", "auth_user", "auth_pass", "auth_pass_env", "auth_pass_file", "ca_file"):
        _require_text(key, values[key])
    for key in ("reporting", "preview"):
        if not isinstance(values[key], bool):
            raise _error(key, f"got {_kind(values[key])}. Allowed: true, false.")
    _require_choice("via", values["via"], VIA)
    _require_choice("progress_event", values["progress_event"], PROGRESS_EVENTS)
    interval = _interval(values["progress_min_interval_s"])
    parameters = _parameters(values["parameters"])
    _refuse_two_passwords(values)
    common = {
        "via": values["via"],
        "progress_event": values["progress_event"],
        "progress_min_interval_s": interval,
        "preview": values["preview"],
        "parameters": parameters,
    }
    if values["url"]:
        _check_url(values["url"])
    if not values["reporting"]:
        return ReportingSettings(
            reporting=False,
            url=values["url"],
            auth_user=values["auth_user"],
            ca_file=values["ca_file"],
            **common,
        )
    if not values["url"]:
        raise _error(
            "url",
            "is empty. Give the address of the receiver, http://host:port/path.",
        )
    if ":" in values["auth_user"]:
        raise _error(
            "auth_user",
            "contains a colon, which HTTP basic authentication cannot transport. Use another user.",
        )
    password = _password(values, config_folder)
    ca_file = _file_of_certificates(values["ca_file"], config_folder) if values["ca_file"] else ""
    return ReportingSettings(
        reporting=True,
        url=values["url"],
        auth_user=values["auth_user"],
        auth_pass=password,
        ca_file=ca_file,
        warnings=tuple(_warnings(values, parameters)),
        **common,
    )


def load(config_files: Sequence[Path], reporting: bool | None = None) -> ReportingSettings:
    """Read the block `http_reporting` from config files, as a job or a hook does.

    Parameters
    ----------
    config_files : sequence of Path
        YAML or JSON. Of several, later ones override earlier ones key by key; `parameters` is replaced
        whole. Paths in the block are relative to the folder of the last file that has the block.
    reporting : bool or None
        In place of the key `reporting`, for who sends whether runs do or not; None: as it stands there.

    Raises
    ------
    ConfigError
        A file cannot be read, or the block is not valid (see `resolve`).
    """
    block, folder = _merged_block(config_files)
    return resolve(block if reporting is None else {**block, "reporting": reporting}, folder)


def load_in_job(config_files: Sequence[Path], warn: Callable[[str], None]) -> ReportingSettings:
    """Read the block where it must not fail anything: in a job of a run that reports.

    On a compute node the environment variable or file of the password may be missing. Then the job only
    writes its spool, as with ``via: submit_host``, and `warn` is told so once.

    Parameters
    ----------
    config_files : sequence of Path
        As for `load`.
    warn : callable
        Takes one line for the log of the job.
    """
    try:
        return load(config_files)
    except Exception as error:
        what = str(error) if isinstance(error, ConfigError) else type(error).__name__
        warn(f"status reports of this job are written, not sent: {what}")
    try:
        block, folder = _merged_block(config_files)
        readable = resolve({**block, "reporting": False}, folder)
    except Exception:
        readable = ReportingSettings()
    return replace(readable, reporting=True, via=VIA_SUBMIT_HOST)


def _error(key: str, what: str) -> ConfigError:
    return ConfigError(f"{BLOCK}.{key}", what)


def _kind(value: object) -> str:
    return {bool: "a truth value", int: "a number", float: "a number", str: "text"}.get(
        type(value), f"a value of type {type(value).__name__}"
    )


def _refuse_unknown_keys(block: Mapping[str, Any]) -> None:
    for key in block:
        if key not in DEFAULTS:
            near = difflib.get_close_matches(str(key), DEFAULTS, n=1)
            hint = f"Do you mean `{near[0]}`?" if near else f"Known: {', '.join(DEFAULTS)}."
            raise ConfigError(BLOCK, f"has no key `{clean_text(str(key))[:MAX_NAME_CHARACTERS]}`. {hint}")


def _require_text(key: str, value: object) -> None:
    if not isinstance(value, str):
        raise _error(key, f"got {_kind(value)}, must be text. Put it in quotes.")
    if clean_text(value) != value:
        raise _error(key, "contains a control character or a line end. Remove it.")


def _require_choice(key: str, value: object, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        got = f"`{clean_text(value)[:40]}`" if isinstance(value, str) else _kind(value)
        raise _error(key, f"got {got}. Allowed: {', '.join(allowed)}.")


def _interval(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _error("progress_min_interval_s", f"got {_kind(value)}. Allowed: a number of seconds from 0.")
    if not 0 <= value <= MAX_INTERVAL_S:
        raise _error("progress_min_interval_s", f"is out of range. Allowed: 0 to {MAX_INTERVAL_S:.0f} seconds.")
    return float(value)


def _parameters(value: object) -> dict[str, Scalar]:
    """Check the custom parameters. Their values are in no message: they may be tokens."""
    if not isinstance(value, Mapping):
        raise _error("parameters", f"got {_kind(value)}. Allowed: names with values, or {{}}.")
    if len(value) > MAX_PARAMETERS:
        raise _error("parameters", f"got {len(value)} entries. Allowed: at most {MAX_PARAMETERS}.")
    checked: dict[str, Scalar] = {}
    for name, entry in value.items():
        if not isinstance(name, str):
            raise _error("parameters", f"got {_kind(name)} as a name, must be text. Put the name in quotes.")
        if not name or len(name) > MAX_NAME_CHARACTERS or clean_text(name) != name:
            raise _error(
                "parameters",
                f"got a name of {len(name)} characters. Allowed: 1 to {MAX_NAME_CHARACTERS} printable ones.",
            )
        if name in RESERVED_KEYS:
            raise _error(f"parameters.{name}", "is a key that every receiver expects from us. Choose another name.")
        checked[name] = _parameter(name, entry)
    size = len(json.dumps(checked))
    if size > MAX_PARAMETERS_BYTES:
        raise _error("parameters", f"is {size} bytes as JSON. Allowed: at most {MAX_PARAMETERS_BYTES} in all.")
    return checked


def _parameter(name: str, value: object) -> Scalar:
    key = f"parameters.{name}"
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARACTERS:
            raise _error(key, f"has {len(value)} characters. Allowed: at most {MAX_TEXT_CHARACTERS}.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _error(key, "contains half of a character pair, which is not text. Remove it.") from None
        if "\0" in value:
            raise _error(key, "contains a zero character, which no database takes. Remove it.")
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise _error(key, "is an integer of more than 64 bits. Put it in quotes.")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _error(key, "is not a finite number, which JSON cannot say. Put it in quotes.")
        return value
    raise _error(key, f"got {_kind(value)}. Allowed: text, a finite number, true or false. Put other things in quotes.")


def _check_url(url: str) -> None:
    """Refuse what is no address of a receiver. The text itself is in no message: it may hold a password."""
    example = "Write http://host:port/path or https://…"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _error("url", f"is not a URL (host or port cannot be read). {example}") from None
    if parts.scheme not in ("http", "https"):
        raise _error("url", f"must begin with http:// or https://. {example}")
    if "@" in parts.netloc:
        raise _error("url", "contains a user or password. Use `auth_user` and `auth_pass_env` or `auth_pass_file`.")
    if not host.strip(".") or port == 0:
        raise _error("url", f"names no host, or port 0. {example}")
    if "\\" in url or any(letter.isspace() for letter in url):
        raise _error("url", f"contains a space or a backslash. {example}")
    if parts.fragment:
        raise _error("url", "contains `#`; what follows it is never sent. Remove it.")
    try:
        if ":" in host:
            ipaddress.IPv6Address(host.partition("%")[0])
        else:
            host.rstrip(".").encode("idna")
    except ValueError:
        raise _error("url", f"names a host that cannot exist. {example}") from None


def _refuse_two_passwords(values: Mapping[str, Any]) -> None:
    given = [key for key in ("auth_pass", "auth_pass_env", "auth_pass_file") if values[key]]
    if len(given) > 1:
        raise _error(given[1], f"stands beside `{given[0]}`. Give one of them.")


def _password(values: Mapping[str, Any], config_folder: Path) -> str:
    if values["auth_pass_env"]:
        return _password_from_environment(values["auth_pass_env"])
    if values["auth_pass_file"]:
        return _password_from_file(values["auth_pass_file"], config_folder)
    return str(values["auth_pass"])


def _password_from_environment(name: str) -> str:
    """Read the password; the name is in no message, because some will write the password itself there."""
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise _error(
            "auth_pass_env",
            "must be the name of an environment variable (letters, digits, _), not its value.",
        )
    password = os.environ.get(name, "")
    if not password:
        raise _error(
            "auth_pass_env",
            "names an environment variable that is not set or empty. Export it before the run.",
        )
    if clean_text(password) != password:
        raise _error("auth_pass_env", "names an environment variable with a control character or line end in it.")
    return password


def _password_from_file(name: str, config_folder: Path) -> str:
    path = _find_file(name, config_folder)
    if path is None:
        places = " and ".join(dict.fromkeys((str(config_folder.resolve()), str(Path.cwd()))))
        raise _error(
            "auth_pass_file",
            f"names no file; tried in {places}. Write the password into a file of mode 0600.",
        )
    try:
        # Without O_NONBLOCK a named pipe in its place would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _error("auth_pass_file", "is not a regular file.")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise _error("auth_pass_file", f"can be read by others (mode {mode:04o}). Do: chmod 600 on that file.")
            content = os.read(descriptor, MAX_PASSWORD_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _error("auth_pass_file", f"cannot be read ({type(error).__name__}). Check its owner and mode.") from None
    try:
        password = content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise _error("auth_pass_file", "is not text in UTF-8.") from None
    if not password or len(content) > MAX_PASSWORD_FILE_BYTES or clean_text(password) != password:
        raise _error("auth_pass_file", "must hold the password in one line and nothing else.")
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
        places = " and ".join(dict.fromkeys((str(config_folder.resolve() / name), str(Path.cwd() / name))))
        raise _error(key, f"is no readable file; tried {places}. Give a file of certificates in PEM format.")
    return path


def _file_of_certificates(name: str, config_folder: Path) -> str:
    """Find `ca_file` and see that TLS can read a certificate in it: at sending, all that went wrong looks alike."""
    # Here, because it takes 10 to 20 ms, which a job without a file of certificates need not spend.
    import ssl

    path = _existing_file("ca_file", name, config_folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
        known = context.cert_store_stats()["x509"]
    except (OSError, ValueError):
        known = 0
    if not known:
        raise _error(
            "ca_file",
            f"holds no certificate that can be read: {path}. Allowed: certificates in PEM format, each between the"
            " lines -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----. To make such a file of DER:"
            " openssl x509 -inform der -in FILE -out FILE.pem",
        )
    return str(path)


def _warnings(values: Mapping[str, Any], parameters: Mapping[str, Scalar]) -> list[str]:
    parts = urlsplit(values["url"])
    in_query = any(names_a_secret(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    warnings = []
    if values["auth_pass"]:
        warnings.append(
            "http_reporting.auth_pass stands in the config file, which is easily copied and shared;"
            " auth_pass_env or auth_pass_file keep it apart."
        )
    if values["auth_user"] and not (values["auth_pass"] or values["auth_pass_env"] or values["auth_pass_file"]):
        warnings.append("http_reporting.auth_user is given without a password: an empty one is sent.")
    if not values["auth_user"] and (values["auth_pass"] or values["auth_pass_env"] or values["auth_pass_file"]):
        warnings.append("http_reporting has a password but no auth_user: neither is sent.")
    if in_query:
        warnings.append(
            "http_reporting.url seems to carry a secret after the `?`, and servers write that to their logs;"
            " http_reporting.parameters is a better place."
        )
    secrets = values["auth_user"] or in_query or any(map(names_a_secret, parameters))
    if parts.scheme == "http" and secrets and not _is_loopback(parts.hostname or ""):
        warnings.append(
            "http_reporting sends credentials over plain http to another host, readable on the way. Use https."
        )
    return warnings


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _merged_block(config_files: Sequence[Path]) -> tuple[dict[str, Any], Path]:
    block: dict[str, Any] = {}
    folder = Path(config_files[-1]).parent if config_files else Path()
    for config_file in map(Path, config_files):
        part = _block_of(config_file)
        if part is not None:
            block.update(part)
            folder = config_file.parent
    return block, folder


def _block_of(config_file: Path) -> Mapping[str, Any] | None:
    import yaml

    try:
        config = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("", f"the file {config_file} cannot be read ({type(error).__name__}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The parser's own text quotes the line, which may hold the password.
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError("", f"the file {config_file} is not YAML{line}. Check quotes and indentation.") from None
    if config is None:
        return None
    if not isinstance(config, Mapping):
        raise ConfigError("", f"the file {config_file} must hold names with values at its top.")
    block = config.get(BLOCK)
    if block is not None and not isinstance(block, Mapping):
        raise ConfigError(BLOCK, f"got {_kind(block)} in {config_file}. Allowed: the keys {', '.join(DEFAULTS)}.")
    return block
