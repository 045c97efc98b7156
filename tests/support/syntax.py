"""Syntax trees of Python files, parsed once for all tests of a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def tree_of(file: Path) -> ast.Module:
    """Syntax tree of a file. All callers share it, so none may change it."""
    return ast.parse(file.read_text(encoding="utf-8"))
