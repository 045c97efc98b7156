"""Read the block `http_reporting` from config files: checked values, and the secrets that it names."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from stemphony.errors import ConfigError
from stemphony.status.block import BLOCK, Scalar, completed, keys, kind, read_yaml, refusal
from stemphony.status.events import names_a_secret
from stemphony.status.secret_files import file_of_certificates, password

VIA_JOB: Final = "job"
"""Value of `via` with which each job sends its own events."""
VIA_SUBMIT_HOST: Final = "submit_host"
"""Value of `via` with which jobs only write their events, and the machine of Snakemake sends them."""

_SAME_KEYS: Final = (
    "reporting", "url", "auth_user", "via", "progress_event", "progress_min_interval_s", "preview", "parameters",
)  # fmt: skip
"""Keys of the block that become attributes without a change."""


def _from_schema(key: str, **options: Any) -> Any:
    """Make a field whose default is that of the schema. The schema is read only if no value is given."""
    return field(default_factory=lambda: completed({})[key], **options)


@dataclass(frozen=True)
class ReportingSettings:
    """Everything that a sender needs. Its repr shows nothing that could be a secret.

    A key of the block that is not given has the default of the schema.

    Attributes
    ----------
    reporting : bool
        False: events are neither recorded nor sent.
    url, auth_user, auth_pass, ca_file : str
        Address of the receiver, credentials, and a file of certificates to trust (empty: the public ones).
    via : str
        ``job``: each job sends; ``submit_host``: jobs only write their spool.
    progress_event : str
        Name of a progress report in a request, PROGRESS or START_CONFIGURATION.
    progress_min_interval_s : float
        Shortest time between two progress reports of a job [s].
    preview : bool
        True: a finished job sends a small image of each detector.
    parameters : mapping
        Custom keys and values, which are added to each event.
    warnings : tuple of str
        Advice for the user, without secrets.
    """

    reporting: bool = _from_schema("reporting")
    url: str = _from_schema("url", repr=False)
    auth_user: str = _from_schema("auth_user", repr=False)
    auth_pass: str = _from_schema("auth_pass", repr=False)
    ca_file: str = _from_schema("ca_file")
    via: str = _from_schema("via")
    progress_event: str = _from_schema("progress_event")
    progress_min_interval_s: float = _from_schema("progress_min_interval_s")
    preview: bool = _from_schema("preview")
    parameters: Mapping[str, Scalar] = _from_schema("parameters", repr=False, hash=False)
    warnings: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Scheme, host and port of the receiver. Path and query are left out, because they may hold tokens."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


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
        With ``reporting: false`` the password stays empty and no file is read. The block is still checked.

    Raises
    ------
    ConfigError
        A key is unknown, a value is not allowed, or a password or file is missing. The message shows no value of
        the block.
    """
    values = completed(block)
    common = {key: values[key] for key in _SAME_KEYS}
    if not values["reporting"]:
        return ReportingSettings(ca_file=values["ca_file"], **common)
    if not values["url"]:
        raise refusal("url", "is empty. Give the address of the receiver, http://host:port/path.")
    if ":" in values["auth_user"]:
        raise refusal(
            "auth_user", "contains a colon, which HTTP basic authentication cannot transport. Use another user."
        )
    return ReportingSettings(
        auth_pass=password(values, config_folder),
        ca_file=file_of_certificates(values["ca_file"], config_folder) if values["ca_file"] else "",
        warnings=tuple(_warnings(values)),
        **common,
    )


def load(config_files: Sequence[Path], reporting: bool | None = None) -> ReportingSettings:
    """Read the block `http_reporting` from config files, as a job or a hook does.

    Parameters
    ----------
    config_files : sequence of Path
        YAML or JSON. A later file overrides an earlier one key by key, but replaces `parameters` as a whole. Paths in
        the block are relative to the folder of the last file that has the block.
    reporting : bool or None
        Replaces the key `reporting`, for commands that always send. None: the value in the files.

    Returns
    -------
    ReportingSettings
        Validated settings with the password.

    Raises
    ------
    ConfigError
        A file cannot be read, or the block is not valid (see `resolve`).
    """
    block, folder = _merged_block(config_files)
    return resolve(block if reporting is None else {**block, "reporting": reporting}, folder)


def load_in_job(config_files: Sequence[Path], warn: Callable[[str], None]) -> ReportingSettings:
    """Read the block in a job of a run that reports. An error must not stop the job.

    On a compute node the environment variable or file of the password may be missing. Then the job only
    writes its spool, as with ``via: submit_host``, and `warn` gets one line.

    Parameters
    ----------
    config_files : sequence of Path
        As for `load`.
    warn : callable
        Takes one line for the log of the job.

    Returns
    -------
    ReportingSettings
        The settings. If they cannot be read, reports are only written to the spool.
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


def _warnings(values: Mapping[str, Any]) -> list[str]:
    parts = urlsplit(values["url"])
    in_query = any(names_a_secret(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    warnings = []
    if values["auth_pass"]:
        warnings.append(
            "http_reporting.auth_pass stands in the config file, which is easily copied and shared;"
            " use auth_pass_env or auth_pass_file instead."
        )
    if values["auth_user"] and not (values["auth_pass"] or values["auth_pass_env"] or values["auth_pass_file"]):
        warnings.append("http_reporting.auth_user is given without a password: an empty password is sent.")
    if not values["auth_user"] and (values["auth_pass"] or values["auth_pass_env"] or values["auth_pass_file"]):
        warnings.append("http_reporting has a password but no auth_user: neither is sent.")
    if in_query:
        warnings.append(
            "http_reporting.url seems to carry a secret after the `?`, and servers write that to their logs;"
            " http_reporting.parameters is a better place."
        )
    secrets = values["auth_user"] or in_query or any(map(names_a_secret, values["parameters"]))
    if parts.scheme == "http" and secrets and not _is_loopback(parts.hostname or ""):
        warnings.append(
            "http_reporting sends credentials over plain http to another host; others may read them. Use https."
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
        config = read_yaml(config_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "", f"the file {config_file} cannot be read ({type(error).__name__}). Give a file that you may read."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        # The parser's own text quotes the line, which may hold the password.
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError("", f"the file {config_file} is not YAML{line}. Check quotes and indentation.") from None
    if config is None:
        return None
    if not isinstance(config, Mapping):
        raise ConfigError(
            "", f"the file {config_file} holds {kind(config)}; it must hold blocks with keys, as a config does."
        )
    block = config.get(BLOCK)
    if block is not None and not isinstance(block, Mapping):
        raise ConfigError(BLOCK, f"got {kind(block)} in {config_file}. Allowed: the keys {', '.join(keys())}.")
    return block
