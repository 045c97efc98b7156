"""Imports: they point down the list of rooms, and heavy packages are imported only where they are needed."""

from __future__ import annotations

import ast
import fnmatch
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from support.syntax import tree_of

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow/scripts"
PACKAGE = SCRIPTS / "stemphony"


@dataclass(frozen=True)
class Import:
    """One import: the file, the module, and whether it runs when the file is imported or only for types."""

    file: str
    module: str
    at_once: bool
    for_types: bool = False

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def imports(file: Path) -> Iterator[Import]:
    """Imports of a file."""
    name = file.relative_to(SCRIPTS).as_posix()

    def walk(node: ast.AST, at_once: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, at_once, for_types)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                path = SCRIPTS / whole.replace(".", "/")
                is_module = path.is_dir() or path.with_suffix(".py").is_file()
                yield Import(name, whole if is_module else str(node.module), at_once, for_types)
        for_types = for_types or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_once and not is_function and not for_types, for_types)

    yield from walk(tree_of(file), True, False)


FILES = [*sorted(SCRIPTS.glob("*.py")), *sorted(PACKAGE.rglob("*.py"))]


@cache
def all_imports() -> list[Import]:
    """Imports of all files. Read once, by the first test that needs them and not while tests are collected."""
    return [found for file in FILES for found in imports(file)]


def importers(top: str, at_once: bool = False) -> set[str]:
    """Files that import a package at any time or, with `at_once`, when they are imported themselves."""
    seen = (found for found in all_imports() if found.top == top and not found.for_types)
    return {found.file for found in seen if found.at_once or not at_once}


def outside(files: set[str], *allowed: str) -> set[str]:
    return {file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in allowed)}


NETCDF_FILES = ("stemphony/results/*.py", "stemphony/specimen/specimen_file.py")

# --- packages of others -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("snakemake", ()),
        ("ase", ("stemphony/specimen/*.py",)),
        ("gemmi", ("stemphony/specimen/*.py",)),
        ("spglib", ("stemphony/specimen/*.py",)),
        (
            "matplotlib",
            (
                "stemphony/figures/*.py",
                "stemphony/specimen/drawing.py",
                "stemphony/accuracy/figure.py",
                "stemphony/results/convergence_figure.py",
                "stemphony/commands/plot.py",
            ),
        ),
        (
            "psutil",
            (
                "stemphony/commands/snakemake_process.py",
                "stemphony/commands/status.py",
                "stemphony/specimen/ase_process.py",
            ),
        ),
        ("requests", ("stemphony/status/transport.py",)),
        ("urllib3", ("stemphony/status/transport.py",)),
        (
            "netCDF4",
            (
                "stemphony/results/*.py",
                "stemphony/specimen/specimen_file.py",
                "stemphony/provenance.py",
            ),
        ),
        ("pyfftw", ("stemphony/physics/fft.py",)),
        ("jsonschema", ("stemphony/experiment/configuration.py",)),
        ("libconf", ("stemphony/experiment/stemsalabim_parameters.py", "stemphony/status/stemsalabim.py")),
        ("xarray", ("stemphony/interface/arrays.py", "stemphony/export/zarr_store.py", "stemphony/export/waves.py")),
        ("zarr", ("stemphony/export/zarr_store.py", "stemphony/export/waves.py")),
        ("dask", ("stemphony/export/lazy.py", "stemphony/export/zarr_store.py", "stemphony/export/waves.py")),
        ("rsciio", ("stemphony/export/hspy.py", "stemphony/export/waves.py")),
        ("emdfile", ("stemphony/export/emd.py",)),
        ("mrcfile", ("stemphony/export/mrc.py",)),
        ("tifffile", ("stemphony/experiment/tiff.py", "stemphony/export/tiff.py")),
        ("flask", ("stemphony/monitor/web/*.py",)),
        ("sqlalchemy", tuple(f"stemphony/monitor/{room}/*.py" for room in ("database", "intake", "notify", "web"))),
        ("waitress", ("stemphony/monitor/web/lanes.py",)),
    ],
)
def test_a_package_is_imported_only_where_it_belongs(package, allowed):
    wrong = outside(importers(package), *allowed)
    assert not wrong, f"{package} is imported in {wrong}; the table above says where it may be"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("ase", ()),
        ("gemmi", ()),
        ("libconf", ()),
        ("spglib", ()),
        ("matplotlib", ()),
        ("jsonschema", ()),
        ("xarray", ()),
        ("zarr", ()),
        ("dask", ()),
        ("rsciio", ()),
        ("emdfile", ()),
        ("mrcfile", ()),
        ("tifffile", ()),
        ("netCDF4", NETCDF_FILES),
        ("pyfftw", ()),
        ("scipy", ()),
    ],
)
def test_a_slow_package_is_imported_when_it_is_used(package, allowed):
    wrong = outside(importers(package, at_once=True), *allowed)
    assert not wrong, f"{wrong} import {package} at once; it is slow, so import it in the function that uses it"


# --- physics ------------------------------------------------------------------------------------------------------


def test_physics_knows_numbers_only():
    """No files (except its own tables), no clock, no log, no configuration, and no module outside physics."""
    allowed = {
        "__future__", "abc", "collections", "dataclasses", "functools", "itertools", "math", "typing", "numpy", "scipy",
    }  # fmt: skip
    for found in all_imports():
        if not found.file.startswith("stemphony/physics/"):
            continue
        extra = {"fft": {"pyfftw", "sys"}, "scattering": {"json", "importlib"}}.get(Path(found.file).stem, set())
        ours = found.module.startswith("stemphony.physics")
        assert ours or found.top in allowed | extra, found


# --- our own modules ----------------------------------------------------------------------------------------------

# Rooms from the ground up: a room imports itself and the rooms that it names. Modules of the top level are rooms too.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "paths": set(),
    "contract": set(),
    "interpreters": set(),
    "terminal": set(),
    "bounded_yaml": set(),
    "ordinary_files": set(),
    "counting": set(),
    "physics": set(),
    "provenance": {"version", "contract", "ordinary_files", "physics"},
    "store": {"errors", "paths", "ordinary_files"},
    "status": {"errors", "paths", "bounded_yaml", "store"},
    "specimen": {"errors", "counting", "interpreters", "provenance", "physics", "store"},
    "experiment": {"errors", "paths", "ordinary_files", "bounded_yaml", "provenance", "physics", "status"},
    "compute": {"errors", "paths", "contract", "physics", "store", "specimen", "experiment"},
    "accuracy": {"errors", "paths", "ordinary_files", "physics", "store", "specimen", "experiment", "compute"},
    "results": {
        "errors", "paths", "contract", "interpreters", "ordinary_files", "provenance", "physics", "store", "specimen",
        "experiment", "compute", "accuracy",
    },
    "figures": {"errors", "physics", "specimen", "experiment", "results"},
    "export": {"errors", "physics", "store", "experiment", "results"},
    "orchestration": {
        "errors", "paths", "contract", "interpreters", "terminal", "ordinary_files", "counting", "provenance",
        "physics", "store", "status", "specimen", "experiment", "compute", "accuracy", "results",
    },
    "commands": {
        "errors", "paths", "contract", "ordinary_files", "counting", "provenance", "physics", "store", "status",
        "specimen", "experiment", "compute", "accuracy", "results", "figures", "export", "orchestration",
    },
    "monitor": {"version", "errors", "paths", "interpreters", "counting", "status"},
    "interface": {
        "errors", "paths", "store", "experiment", "compute", "results", "figures", "orchestration", "commands",
    },
    # Notebooks and scripts import it; the package does not.
    "__init__": {"errors", "version", "interface"},
    "cli": {
        "version", "errors", "paths", "contract", "interpreters", "terminal", "store", "experiment", "compute",
        "results", "figures", "export", "orchestration", "commands", "monitor",
    },
    "__main__": {"interpreters", "cli"},
}  # fmt: skip


# The rooms of the monitor, in the same way.
MONITOR_ROOMS: dict[str, set[str]] = {
    "__init__": set(),
    "words": set(),
    "packages": set(),
    "records": set(),
    "state": {"records"},
    "database": {"records", "state"},
    "intake": {"records", "database"},
    "notify": {"records", "state", "words", "database", "intake"},
    "web": {"records", "state", "words", "database", "intake"},
    "server": {"state", "database", "intake", "notify", "web"},
    "demonstration": {"server"},
    "simulation_command": {"packages", "state", "database", "intake"},
    "command": {"packages", "database", "server", "demonstration", "simulation_command"},
}
TABLES = {"stemphony": ROOMS, "stemphony.monitor": MONITOR_ROOMS}


def room(module: str, package: str = "stemphony") -> str:
    """The room of a dotted module of a package, or of a file of it; the package's `__init__` is a room too."""
    parts = module.removesuffix(".py").replace("/", ".").removeprefix(package).split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_by(upper: str, package: str) -> set[str]:
    """Rooms of a package that the files of one of its rooms import."""
    folder = package.replace(".", "/") + "/"
    seen = [found for found in all_imports() if found.file.startswith(folder) and room(found.file, package) == upper]
    return {room(found.module, package) for found in seen if f"{found.module}.".startswith(f"{package}.")} - {upper}


@pytest.mark.parametrize("package", TABLES)
def test_every_module_has_a_room(package):
    files = (SCRIPTS / package.replace(".", "/")).rglob("*.py")
    assert {room(file.relative_to(SCRIPTS).as_posix(), package) for file in files} == TABLES[package].keys()


@pytest.mark.parametrize(("package", "upper"), [(package, upper) for package in TABLES for upper in TABLES[package]])
def test_imports_point_down(package, upper):
    above = imported_by(upper, package) - TABLES[package][upper]
    assert not above, f"{package}.{upper} imports from {above}, which it may not; see {Path(__file__).name}"


@pytest.mark.parametrize("package", TABLES)
def test_a_room_imports_only_rooms_that_are_listed_before_it(package):
    """This order excludes a circle between rooms."""
    names = list(TABLES[package])
    for upper, below in TABLES[package].items():
        assert below <= set(names[: names.index(upper)]), upper


def test_modules_have_no_circle():
    """Within rooms too, the imports of a module (at once, later or for types) never lead back to it."""
    arrows: dict[str, set[str]] = {}
    for found in all_imports():
        if found.top == "stemphony":
            module = found.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            arrows.setdefault(module, set()).add(found.module)
    done: set[str] = set()
    while rest := {name for name in arrows if name not in done}:
        ready = {name for name in rest if not (arrows[name] - {name}) & rest}
        assert ready, f"these modules import each other: {sorted(rest)}"
        done |= ready


def test_imports_of_own_modules_are_absolute():
    for file in FILES:
        relative = [node for node in ast.walk(tree_of(file)) if getattr(node, "level", 0)]
        assert not relative, f"{file.relative_to(SCRIPTS)} imports with leading dots; write the whole name"


def test_the_monitor_is_imported_by_the_command_line_alone():
    """The command imports only light modules, so that other commands and jobs never load Flask and SQLAlchemy."""
    outside_it = {f for f in all_imports() if ".monitor" in f.module and not f.file.startswith("stemphony/monitor/")}
    assert {(found.file, found.module) for found in outside_it} == {("stemphony/cli.py", "stemphony.monitor.command")}
    at_once = {f.module for f in all_imports() if f.file == "stemphony/monitor/command.py" and f.at_once}
    at_once |= {f.module for f in all_imports() if f.file == "stemphony/monitor/simulation_command.py" and f.at_once}
    light = {name for name in at_once if name.split(".")[0] in sys.stdlib_module_names | {"__future__"}}
    assert at_once - light == {
        "stemphony.counting", "stemphony.errors", "stemphony.monitor.packages", "stemphony.monitor.simulation_command",
    }  # fmt: skip
    assert not {f for f in all_imports() if f.file == "stemphony/monitor/__init__.py"}


def test_the_monitor_shares_only_names_of_events_with_status():
    assert {
        f.module for f in all_imports() if f.file.startswith("stemphony/monitor/") and room(f.module) == "status"
    } == {"stemphony.status.events"}


def test_jobs_never_check_the_plan_again():
    scripts = {found for found in all_imports() if "/" not in found.file and found.top == "stemphony"}
    upper = {found.module for found in scripts if room(found.module) in {"orchestration", "commands", "cli", "monitor"}}
    of_jobs = ("attempt", "job", "job_log", "module_run", "preview_image", "script", "stopwatch")
    assert upper == {f"stemphony.orchestration.{name}" for name in of_jobs}


def test_rules_import_only_the_snakefile_module():
    files = [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    found = re.findall(r"^\s*(?:from|import)\s+(stemphony[.\w]*)(?:\s+import\s+(.+))?", text, re.MULTILINE)
    assert found == [("stemphony.orchestration", "snakefile")]


def test_no_import_is_hidden_from_this_test():
    for file in FILES:
        assert not re.search(r"__import__\(|importlib\.import_module|exec\(", file.read_text(encoding="utf-8")), file


def test_every_third_party_package_of_the_code_is_known():
    known = {"numpy", "scipy", "pyfftw", "netCDF4", "requests", "urllib3", "yaml", "jsonschema", "ase", "gemmi"}
    known |= {
        "matplotlib",
        "mpl_toolkits",
        "spglib",
        "psutil",
        "libconf",
        "xarray",
        "zarr",
        "dask",
        "tifffile",
        "rsciio",
        "emdfile",
        "mrcfile",
    }
    monitor = {"flask", "waitress", "sqlalchemy", "werkzeug", "markupsafe"}
    third_party = {found.top for found in all_imports()} - set(sys.stdlib_module_names) - {"stemphony"}
    assert third_party <= known | monitor
