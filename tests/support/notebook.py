"""Executes the cells of a notebook in this process, and keeps what they show as a notebook does."""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def execute(notebook: dict[str, Any], folder: Path) -> None:
    """Run all code cells in a working directory, and replace their outputs. An error of a cell is raised."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    plt.close("all")  # a figure of an earlier test would be shown
    names: dict[str, Any] = {"__name__": "__main__"}
    with _inside(folder), warnings.catch_warnings():
        # Optional parts of xarray complain about each other's versions while it is imported.
        warnings.simplefilter("ignore")
        number = 0
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number += 1
                cell["execution_count"] = number
                cell["outputs"] = _outputs("".join(cell["source"]), names, number)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    import matplotlib.pyplot as plt

    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    is_silent = source.rstrip().endswith(";")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        value = None if last is None else eval(compile(last, "<cell>", "eval"), names)
    if is_silent:
        value = None
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    picture = value._repr_png_() if hasattr(value, "_repr_png_") else None
    if picture is None and plt.get_fignums():
        buffer = io.BytesIO()
        plt.gcf().savefig(buffer, format="png", dpi=80, bbox_inches="tight")
        plt.close("all")
        picture = buffer.getvalue()
    if picture is not None:
        data = {"image/png": base64.b64encode(picture).decode("ascii")}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    elif value is not None:
        data = {"text/plain": _lines(repr(value))}
        outputs.append({"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}})
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
