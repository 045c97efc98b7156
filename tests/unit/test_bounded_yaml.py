"""A small YAML file cannot fill the memory, and a mistake in it quotes no value."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from stemphony import bounded_yaml, cli
from support.time_limit import require_within

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "[" * 60 + "]" * 60
VERY_DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text", ["a: 1\nb: [2, {c: d}]\n", "x: &x {a: 1}\ny: {<<: *x, b: 2}\nz: [*x, *x]\n", "", "# no\n"]
)
def test_bounded_yaml_reads_what_pyyaml_reads(text):
    assert bounded_yaml.load(text) == bounded_yaml.load(text, yaml.SafeLoader) == yaml.safe_load(text)


@pytest.mark.parametrize("text", [BOMB, DEEP, VERY_DEEP, "a: &a [*a]", "x" * (bounded_yaml.LARGEST_CHARACTERS + 1)])
def test_too_large_yaml_is_refused(text):
    with pytest.raises(yaml.YAMLError):
        bounded_yaml.load(text)
    with pytest.raises(yaml.YAMLError):
        bounded_yaml.load(text, yaml.SafeLoader)


@pytest.mark.parametrize("command", [("check",), ("report", "test"), ("run",)])
@pytest.mark.parametrize(
    "text", [BOMB, f"simulation: {{title: {DEEP}}}", f"a: {VERY_DEEP}"], ids=["bomb", "deep", "deeper"]
)
def test_a_command_refuses_it_with_a_message(tmp_path, capsys, monkeypatch, command, text):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text)
    assert cli.main([*command, "config.yaml"]) == 1
    said = capsys.readouterr().err
    assert "config.yaml is not " in said
    assert "YAML" in said


def test_a_number_to_the_base_of_60_is_read_quickly(tmp_path, capsys):
    """The attack: 800 kB took minutes."""
    file = tmp_path / "config.yaml"
    file.write_text(f"simulation: {{random_seed: 1{':1' * 400_000}}}")
    began = time.monotonic()
    assert cli.main(["check", str(file)]) == 1
    require_within(20, began, "reading 800 kB of a number to the base of 60")
    assert "a number has more than 400 characters" in capsys.readouterr().err


def test_an_expansion_bomb_fills_no_memory(tmp_path):
    """Before, `stemphony check` of these 500 bytes took 2.3 GB."""
    file = tmp_path / "config.yaml"
    file.write_text(BOMB)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from stemphony import cli; sys.exit(cli.main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(SCRIPTS), "check", str(file)],
        capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "aliases written out" in done.stderr
