"""The pages of the documentation agree with the code, the schema and the examples."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from stemphony import cli
from stemphony.experiment import configuration
from stemphony.orchestration import preflight
from stemphony.orchestration.inputs import read_inputs

ROOT = Path(__file__).parents[2]


def script(name: str) -> Any:
    """A script of docs as a module."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look there
    try:
        specification.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def test_the_table_of_config_keys_is_that_of_the_schema():
    module = script("config_table")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/config_table.py"


def test_the_gallery_shows_every_example_with_its_picture():
    gallery = script("gallery")
    examples = {file.name for file in gallery.EXAMPLES.iterdir() if file.suffix in {".yaml", ".cfg"}}
    # `stemphony check` writes such a file beside a parameter file.
    assert set(gallery.ENTRIES) == {name for name in examples if not name.endswith(".stemphony.yaml")}
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page(), "run: python docs/gallery.py --page"
    for name, entry in gallery.ENTRIES.items():
        assert gallery.picture(name).read_bytes().startswith(b"\x89PNG"), name
        explains = (gallery.DOCS / entry.explained).read_text(encoding="utf-8")
        assert Path(name).stem in explains, f"{entry.explained} does not name {name}"
        assert not entry.picture or Path(entry.picture).name in explains, f"{entry.explained} does not show its picture"
    drawn = {gallery.picture(name) for name, entry in gallery.ENTRIES.items() if not entry.picture}
    assert set(gallery.PICTURES.glob("*.png")) == drawn
    assert [file for file in drawn if file.stat().st_size > gallery.LARGEST_BYTES] == []


def test_every_command_has_an_example_and_what_it_prints_or_draws():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    (commands,) = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert set(sections) == set(commands.choices)
    for name, text in sections.items():
        assert re.search(rf"^```sh.*\n(?:.*\n)*?stemphony {name}\b", text, re.MULTILINE), f"{name} has no example"
        assert re.search(r"^```(?:text)?\n[^`]+^```$", text, re.MULTILINE), f"{name} shows nothing that it prints"


def test_every_config_key_says_what_it_means():
    schema = configuration.schema()
    silent = [
        f"{block}.{key}"
        for block, rule in schema["properties"].items()
        for key, sub in rule["properties"].items()
        if not sub.get("description") and key not in {"name", "file"}
    ]
    assert silent == []


def test_every_equation_that_code_cites_is_on_the_page():
    page = (ROOT / "docs" / "physics.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"\bP(\d+)\b", page))
    for file in (ROOT / "workflow" / "scripts").rglob("*.py"):
        for group in re.findall(r"Eqs?\. \(P\d+\)[^.\n]*", file.read_text(encoding="utf-8")):
            for number in re.findall(r"\(P(\d+)\)", group):
                assert number in explained, f"{file.name} cites P{number}"


def test_links_and_files_that_pages_name_exist():
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "config").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links {target}"


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page in links, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]|[²³¹]", "", head.lower()).replace(" ", "-") for head in heads}


def test_headings_that_links_name_exist():
    pages = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "config").glob("*.md"))
    links = [
        (page, target, name)
        for page in pages
        for target, name in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert links
    broken = [
        f"{page.name}: {target}#{name}"
        for page, target, name in links
        if name not in anchors(page.parent / target if target else page)
    ]
    assert broken == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/physics.md", "docs/architecture.md"])
def test_modules_that_pages_name_exist(name):
    package = ROOT / "workflow/scripts/stemphony"
    places = (ROOT, package, package / "physics", ROOT / "tests/physics")
    for module in re.findall(r"`([\w/.-]+\.py)\b", (ROOT / name).read_text(encoding="utf-8")):
        assert any((place / module).exists() for place in places), f"{name} names {module}, which does not exist"


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_page_on_architecture_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "workflow" / "scripts" / "stemphony"
    rooms = {f"{entry.name}/" if entry.is_dir() else entry.name for entry in package.iterdir()}
    rooms = {room for room in rooms if room.endswith(("/", ".py")) and room != "__pycache__/"}
    rules = {file.stem for file in (ROOT / "workflow" / "rules").glob("*.smk")} - {"common"}
    others = {"Makefile", "slurm", "setup.py", "pyproject.toml", "profiles/", "envs/", "config/", "tests/", "docs/"}
    words = set(re.findall(r"[\w./]+", page))
    assert sorted(name for name in rooms | rules | others if name not in words) == []


def test_the_page_on_architecture_fits_on_one_screen():
    assert len((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_the_page_on_occupancy_shows_its_example_word_for_word():
    page = (ROOT / "docs/how-to/thermal-motion-and-occupancy.md").read_text(encoding="utf-8")
    assert f"\n{(ROOT / 'config/examples/algan.yaml').read_text(encoding='utf-8')}```\n" in page


def test_the_tutorial_shows_its_files_word_for_word():
    folder = ROOT / "docs" / "tutorials" / "first-image"
    page = folder.with_suffix(".md").read_text(encoding="utf-8")
    for name in ("rutile.cif", "config.yaml"):
        assert f"\n{(folder / name).read_text(encoding='utf-8')}```\n" in page, f"{folder.name}.md shows another {name}"


def test_the_page_for_users_of_abtem_shows_its_files_word_for_word():
    folder = ROOT / "docs" / "tutorials" / "from-abtem"
    page = folder.with_suffix(".md").read_text(encoding="utf-8")
    for name in ("abtem_script.py", "config.yaml"):
        assert f"\n{(folder / name).read_text(encoding='utf-8')}```\n" in page, f"{folder.name}.md shows another {name}"
    files = [folder / "config.yaml"]
    plan = preflight.check(read_inputs(configuration.load(files), files), Path("results"))
    assert "400 atoms in 15.62 × 15.62 × 19.525 Å (cif, read by gemmi: Å)\n" in "\n".join([*plan.lines(), ""])


def test_the_config_of_the_tutorial_is_valid():
    files = [ROOT / "docs/tutorials/first-image/config.yaml"]
    plan = preflight.check(read_inputs(configuration.load(files), files), Path("results"))
    page = (ROOT / "docs/tutorials/first-image.md").read_text(encoding="utf-8")
    shown = re.search(r"^simulation  .*?^picture", page, re.MULTILINE | re.DOTALL)
    assert shown is not None

    def steady(lines: list[str]) -> list[str]:
        """Lines without the rows that differ between machines."""
        return [line for line in lines if not line.startswith(("time of", "computing time", "FFT plans", "picture"))]

    assert steady(shown[0].splitlines()) == steady(plan.lines())


def percents(cells: list[str]) -> list[float]:
    return [float(cell.removesuffix(" %").replace("−", "-")) for cell in cells]


@pytest.mark.slow
def test_the_table_of_sampling_shows_what_its_script_computes():
    sampling = script("comparison/sampling")
    specimen = sampling.crystal()
    table = sampling.page.between(sampling.COMMAND, sampling.PAGE.read_text(encoding="utf-8"))
    shown = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    for points, factor, reference in ((768, 1, (sampling.FINEST_ALIKE, 1)), (*sampling.FINER[0], sampling.WIDEST)):
        expected = sampling.row(specimen, points, factor, sampling.signals(specimen, *reference)[0])
        (found,) = (cells for cells in shown if cells[:2] == expected[:2])
        assert found[2] == expected[2]
        assert percents(found[3:]) == pytest.approx(percents(expected[3:]), rel=0.05, abs=0.02)
