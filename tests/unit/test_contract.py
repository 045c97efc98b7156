"""Only `contract.py` has the texts that the processes of a run send to each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from stemphony import contract
from support.syntax import tree_of

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "workflow/scripts/stemphony"
RULES = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "workflow/rules").glob("*.smk"))
SHARED = {name: value for name, value in vars(contract).items() if name.isupper()}
VARIABLES = {value for name, value in SHARED.items() if name.endswith("_VARIABLE")}


def strings(file: Path) -> set[str]:
    """Whole string constants of a file, and the constant pieces of its f-strings."""
    return {
        node.value for node in ast.walk(tree_of(file)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_no_other_module_repeats_a_text_of_the_contract():
    files = {*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py")} - {PACKAGE / "contract.py"}
    repeated = [
        f"{file.relative_to(PACKAGE.parent)}: {text!r}"
        for file in sorted(files)
        if "monitor" not in file.parts
        for text in strings(file)
        if re.fullmatch(r"STEMPHONY_\w+", text) or contract.RUN_PREFIX in text
    ]
    assert not repeated, "take these texts from contract.py:\n" + "\n".join(repeated)


def test_rules_use_variables_and_names_of_the_contract():
    assert set(re.findall(r"STEMPHONY_\w+", RULES)) <= VARIABLES
    assert {contract.MULTISLICE_RULE, contract.MERGE_RULE} <= set(re.findall(r"^rule (\w+):", RULES, re.MULTILINE))


def test_no_module_writes_the_prefix_of_the_hooks_with_other_capitals():
    prefix = contract.RUN_PREFIX.casefold()
    files = {*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py")}
    alike = {text for file in files for text in strings(file) if text.casefold().startswith(prefix)}
    assert alike == {contract.RUN_PREFIX}, "readers of the output would take these lines for lines of the hooks"


def test_a_member_of_a_sweep_has_its_own_value_of_a_variable_where_it_differs(monkeypatch):
    monkeypatch.setenv(contract.RUN_VARIABLE, "1")
    monkeypatch.setenv(contract.MEMBERS_VARIABLE, '{"probe.x_1": {"STEMPHONY_RUN": "7"}, "probe.x_2": {}}')
    assert [contract.variable(contract.RUN_VARIABLE, label) for label in ("probe.x_1", "probe.x_2", "")] == [
        "7",
        "1",
        "1",
    ]
