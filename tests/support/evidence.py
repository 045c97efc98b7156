"""What a person should look at after a test has failed: what its processes, monitors and receivers said, and where.

An assertion shows what it compared, and cuts long texts. Why a run went wrong stands in its whole output. So a failed
test also shows the `evidence` of every object that it had in hand: of variables of the test and of its helpers, of
their attributes if they are dataclasses, and long texts that the failed line names.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
LINES = 200
"""Lines of each text that are shown, from its end."""
CHARACTERS = 12_000
"""Characters of each text that are shown, because a page of HTML has few lines."""
LONGEST_EVENT = 300
"""Characters of one event that are shown, because previews hold images."""
CUT_BY_PYTEST = 200
"""A text of so many characters is not shown whole by an assertion."""


def last_part(text: str) -> str:
    """The end of a text."""
    lines = text.splitlines()
    shown = "\n".join(lines[-LINES:])[-CHARACTERS:]
    return shown if len(shown) >= len(text.rstrip("\n")) else f"[… {len(text) - len(shown)} characters before]\n{shown}"


def evidence_of(value: Any) -> str:
    """What an object shows after a failure; empty if it has nothing to show."""
    if isinstance(value, subprocess.CompletedProcess):
        parts = [part.decode(errors="replace") if isinstance(part, bytes) else part or "" for part in
                 (value.stdout, value.stderr)]  # fmt: skip
        return f"exit status {value.returncode} of {value.args}\n{last_part(''.join(parts))}"
    if isinstance(value, list) and value and all(isinstance(entry, dict) and "event" in entry for entry in value):
        lines = [json.dumps(entry, ensure_ascii=False, default=str)[:LONGEST_EVENT] for entry in value]
        return last_part("\n".join([f"{len(lines)} events:", *lines]))
    if not isinstance(getattr(type(value), "evidence", None), property):
        return ""
    try:
        return str(value.evidence)
    except Exception as error:  # whatever is broken here must not hide why the test failed
        return f"not available: {error!r}"


def in_hand(variables: Mapping[str, Any], line: str) -> Iterator[tuple[str, str]]:
    """Name and evidence of variables, and of the attributes of those that are dataclasses.

    Texts and lists of events are shown if the failed line names them, because a test has many.
    """
    for variable, value in variables.items():
        if variable.startswith("@py_format"):
            continue
        is_value = variable.startswith("@")  # pytest keeps the values within a failed assertion
        name = "a value of the assertion" if is_value else variable
        is_named = is_value or re.search(rf"\b{re.escape(variable)}\b", line) is not None
        if isinstance(value, str) and len(value) > CUT_BY_PYTEST and is_named:
            yield name, last_part(value)
        elif (not isinstance(value, list) or is_named) and (shown := evidence_of(value)):
            yield name, shown
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            attributes = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
            for attribute, content in attributes.items():
                if (not isinstance(content, list) or is_named) and (shown := evidence_of(content)):
                    yield f"{name}.{attribute}", shown


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.excinfo is not None:
        seen = set()
        for entry in call.excinfo.traceback:
            if TESTS not in Path(entry.path).parents:
                continue
            for name, shown in in_hand(entry.frame.f_locals, str(entry.statement)):
                if shown not in seen:
                    report.sections.append((f"{name} in {entry.name}", shown))
                seen.add(shown)
    return report
