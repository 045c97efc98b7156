"""Conda channels on this disk, made of an interpreter of this machine and of the wheels that the pip locks name.

    python channel.py FOLDER PYTHON WHEEL…        (with the tools of tools.txt; patchelf on PATH)

`conda-forge` has all of it but Snakemake and its plugins, which are in `bioconda`, as in the real ones.

The names, versions and dependencies are those of PyPI, so what a test finds out about an environment from here is
whether it can be solved with its pins, created, activated and used. It says nothing of conda-forge's own builds.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any, NamedTuple

from conda_package_streaming.create import conda_builder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SUBDIR = "linux-64"
# conda's names of what PyPI calls otherwise.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "snakemake": "snakemake-minimal"}
# conda's package has in it what is an extra on PyPI.
EXTRAS = {"psycopg": "binary"}
# Parts of the standard library that no job needs; site-packages are the packages' own business.
LEFT_OUT = {"test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "__pycache__"}
# Stands for the environment's folder in what a package installs; conda writes the real one in its place.
PLACEHOLDER = b"/opt/stands/for/the/folder/of/the/environment"

Info = dict[str, Any]


class Entry(NamedTuple):
    """What is at one path of an environment: bytes, or the target of a link."""

    content: bytes | str
    mode: int = 0o644


class Interpreter(NamedTuple):
    """The Python of the channel."""

    minor: str
    version: str

    @property
    def site(self) -> str:
        return f"lib/python{self.minor}/site-packages/"


def conda_name(name: str) -> str:
    canonical = canonicalize_name(name)
    return CONDA_NAMES.get(canonical, canonical)


class Channel:
    """A folder of packages with its index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / SUBDIR
        self.folder.mkdir(parents=True)
        self.packages: dict[str, Info] = {}

    def write(self, info: Info, entries: dict[str, Entry], placeholder: bytes = PLACEHOLDER) -> None:
        """Write one package."""
        paths = []
        for path, entry in sorted(entries.items()):
            row = {"_path": path, "path_type": "softlink" if isinstance(entry.content, str) else "hardlink"}
            if isinstance(entry.content, bytes):
                row |= {"sha256": hashlib.sha256(entry.content).hexdigest(), "size_in_bytes": len(entry.content)}
                if placeholder in entry.content and b"\0" not in entry.content:
                    row |= {"prefix_placeholder": placeholder.decode(), "file_mode": "text"}
            paths.append(row)
        described = {
            "info/index.json": Entry(json.dumps(info).encode()),
            "info/paths.json": Entry(json.dumps({"paths": paths, "paths_version": 1}).encode()),
            "info/about.json": Entry(b"{}"),
            "info/files": Entry("".join(f"{path}\n" for path in sorted(entries)).encode()),
        }
        stem = f"{info['name']}-{info['version']}-{info['build']}"
        # The default level takes minutes for what level 1 does in seconds.
        with conda_builder(stem, self.folder, compression_level=1) as tar:
            for path, entry in [*described.items(), *sorted(entries.items())]:
                member = tarfile.TarInfo(path)
                member.mode = entry.mode
                if isinstance(entry.content, str):
                    member.type, member.linkname = tarfile.SYMTYPE, entry.content
                    tar.addfile(member)
                else:
                    member.size = len(entry.content)
                    tar.addfile(member, io.BytesIO(entry.content))
        written = (self.folder / f"{stem}.conda").read_bytes()
        digests = {"md5": hashlib.md5(written).hexdigest(), "sha256": hashlib.sha256(written).hexdigest()}
        self.packages[f"{stem}.conda"] = info | digests | {"size": len(written)}

    def write_index(self) -> None:
        """Write repodata.json of both platforms that conda asks for."""
        for subdir, packages in ((SUBDIR, self.packages), ("noarch", {})):
            folder = self.folder.parent / subdir
            folder.mkdir(exist_ok=True)
            index = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages, "repodata_version": 1}
            (folder / "repodata.json").write_text(json.dumps(index))


def python_package(channel: Channel, executable: str) -> Interpreter:
    """Package an interpreter: program, shared library and standard library."""
    asked = (
        "import json, sys, sysconfig; v = sys.version_info; print(json.dumps([sys.base_prefix, '%d.%d' % v[:2], "
        "'%d.%d.%d' % v[:3], sysconfig.get_config_var('INSTSONAME')]))"
    )
    prefix, minor, version, library = json.loads(subprocess.check_output([executable, "-c", asked], text=True))
    root, program = Path(prefix), f"bin/python{minor}"
    entries = {f"bin/{name}": Entry(f"python{minor}", 0o777) for name in ("python", "python3")}
    with tempfile.TemporaryDirectory() as folder:
        movable = Path(folder, "python")
        movable.write_bytes((root / program).read_bytes())
        subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", str(movable)], check=True)
        entries[program] = Entry(movable.read_bytes(), 0o755)
    if library and library.startswith("libpython") and ".so" in library:
        entries[f"lib/{library}"] = Entry((root / "lib" / library).read_bytes(), 0o755)
    for folder, folders, names in os.walk(root / "lib" / f"python{minor}"):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink() and path.suffix not in (".pyc", ".a"):
                mode = 0o755 if ".so" in path.name else 0o644
                entries[str(path.relative_to(root))] = Entry(path.read_bytes(), mode)
    interpreter = Interpreter(minor, version)
    entries[f"{interpreter.site}README.txt"] = Entry(b"")
    channel.write(info_of("python", version, "local_0", [], "PSF-2.0"), entries, str(root).encode())
    return interpreter


def wheel_package(channel: Channel, wheel: Path, python: Interpreter) -> None:
    """Package a wheel: its files, its console scripts, and its requirements as conda's dependencies."""
    archive = zipfile.ZipFile(wheel)
    names = [name for name in archive.namelist() if not name.endswith("/")]
    described = next(name.split("/")[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
    data = described.removesuffix(".dist-info") + ".data/"
    schemes = {
        "purelib": python.site, "platlib": python.site, "data": "", "scripts": "bin/",
        "headers": f"include/python{python.minor}/",
    }  # fmt: skip
    entries = {}
    for name in names:
        content, target, mode = archive.read(name), python.site + name, 0o755 if ".so" in name else 0o644
        if name.startswith(data):
            scheme, _, rest = name[len(data) :].partition("/")
            target = schemes[scheme] + rest
            if scheme == "scripts":
                mode = 0o755
                if content.startswith(b"#!python"):
                    content = b"#!" + PLACEHOLDER + b"/bin/python" + content[len(b"#!python") :]
        entries[target] = Entry(content, mode)
    entries[f"{python.site}{described}/INSTALLER"] = Entry(b"conda\n")
    if f"{described}/entry_points.txt" in names:
        for name, script in console_scripts(archive.read(f"{described}/entry_points.txt").decode()):
            entries[f"bin/{name}"] = Entry(script, 0o755)
    metadata = Parser().parsestr(archive.read(f"{described}/METADATA").decode())
    depends = [python_range(python), *requirements(metadata, python)]
    build = f"py{python.minor.replace('.', '')}_0"
    info = info_of(conda_name(metadata["Name"]), metadata["Version"], build, depends, metadata["License"] or "")
    channel.write(info, entries)


def console_scripts(entry_points: str) -> Iterator[tuple[str, bytes]]:
    """Name and text of each program of a wheel."""
    section = ""
    for line in (line.strip() for line in entry_points.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[console_scripts]" and "=" in line:
            name, _, target = (part.strip() for part in line.partition("="))
            module, _, function = target.split("[")[0].strip().partition(":")
            text = f"/bin/python\nimport sys\nfrom {module} import {function.split('.')[0]}\nsys.exit({function}())\n"
            yield name, b"#!" + PLACEHOLDER + text.encode()


def python_range(python: Interpreter) -> str:
    major, minor = python.minor.split(".")
    return f"python >={python.minor},<{major}.{int(minor) + 1}.0a0"


def requirements(metadata: Message, python: Interpreter) -> Iterator[str]:
    """What a wheel requires on this machine, in conda's words."""
    extra = EXTRAS.get(canonicalize_name(metadata["Name"]), "")
    markers = {"python_version": python.minor, "python_full_version": python.version, "extra": extra}
    for text in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(markers):
            yield f"{conda_name(requirement.name)} {requirement.specifier}".strip()


def info_of(name: str, version: str, build: str, depends: list[str], license_name: str) -> Info:
    return {
        "name": name, "version": version, "build": build, "build_number": 0, "depends": depends, "subdir": SUBDIR,
        "arch": "x86_64", "platform": "linux", "license": license_name,
    }  # fmt: skip


def main(arguments: list[str]) -> None:
    """Make the channels."""
    folder, executable, *wheels = arguments
    forge, bio = Channel(Path(folder, "conda-forge")), Channel(Path(folder, "bioconda"))
    python = python_package(forge, executable)
    for wheel in map(Path, wheels):
        wheel_package(bio if wheel.name.startswith("snakemake") else forge, wheel, python)
    for channel in (forge, bio):
        channel.write_index()


if __name__ == "__main__":
    main(sys.argv[1:])
