"""Names and versions in the files of `envs`, in one spelling for conda and pip."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ENVS = Path(__file__).parents[2] / "envs"
NAMES = ("controller", "simulation", "monitor")
# conda's names of what pip calls otherwise.
OF_CONDA = {"snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib"}


def canonical(name: str) -> str:
    """One spelling of a package's name, that of pip."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    return OF_CONDA.get(name, name)


def of_conda(file: Path) -> dict[str, str]:
    """Versions of a conda environment, as its yaml pins them.

    With `==`, because conda takes 2.4.6.1 for `=2.4.6`; of Python the minor version.
    """
    listed = yaml.safe_load(file.read_text(encoding="utf-8"))["dependencies"]
    pins = {}
    for entry in listed:
        found = re.fullmatch(r"(python) =(\d+\.\d+)|(?!python )([\w.-]+) ==([\w.]+)", entry)
        assert found, f"{entry} is no exact version"
        name, version = filter(None, found.groups())
        pins[canonical(name)] = version
    return pins


def of_pip(file: Path) -> dict[str, str]:
    """Versions of a requirements file and of those it includes."""
    pins: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip().removesuffix("\\").strip()
        if line.startswith("-r "):
            pins |= of_pip(file.parent / line[3:])
        elif line and not line.startswith("--hash"):
            name, _, version = line.partition(";")[0].partition("==")
            assert version.strip(), f"{line} is no exact version"
            pins[canonical(name.partition("[")[0].strip())] = version.strip()
    return pins


def of_pin_file(file: Path) -> dict[str, str]:
    """Versions in a platform's pin file: URLs of packages, each with its MD5."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert lines, f"{file.name} is empty"
    assert lines[0] == "@EXPLICIT", f"{file.name} is no list of exact packages"
    pins = {}
    for line in lines[1:]:
        found = re.fullmatch(r"https?://\S+/([^/]+)-([^-/]+)-[^-/]+\.(?:conda|tar\.bz2)#[0-9a-f]{32}", line)
        assert found, f"{line} is no package with a checksum"
        pins[canonical(found[1])] = found[2]
    return pins


def missing_from(pins: dict[str, str], found: dict[str, str]) -> dict[str, str]:
    """Pins that `found` lacks or has at another version; 3.12.13 fits `python =3.12`."""
    return {
        name: version
        for name, version in pins.items()
        if found.get(name) != version and not (name == "python" and found.get(name, "").startswith(f"{version}."))
    }
