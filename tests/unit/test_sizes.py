"""Functions and classes are short enough to be read at once."""

import ast
from pathlib import Path

from support.syntax import tree_of

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"

FUNCTION_LINES = 69
"""Most lines of a function, its docstring included: about one screen."""

CLASS_LINES = 250
"""Most lines of a class. A longer one does more than one thing."""


def longer_than(most, *kinds):
    """Functions or classes of the program that have more lines, as texts."""
    found = []
    for file in sorted(SCRIPTS.rglob("*.py")):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, kinds) and (lines := node.end_lineno - node.lineno + 1) > most:
                found.append(f"{file.relative_to(SCRIPTS)}:{node.lineno} {node.name} has {lines} lines, not {most}")
    return found


def test_no_function_is_too_long():
    found = longer_than(FUNCTION_LINES, ast.FunctionDef, ast.AsyncFunctionDef)
    assert not found, "Give a part of each a name of its own:\n" + "\n".join(found)


def test_no_class_is_too_long():
    found = longer_than(CLASS_LINES, ast.ClassDef)
    assert not found, "Split each into two things that a newcomer understands:\n" + "\n".join(found)
