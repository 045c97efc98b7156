"""Scripts of the rules, called in the process of the test. A Python process for each call takes seconds."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from unittest.mock import patch

import pytest
from stemphony.orchestration.script import USER_ERROR, run


def refusal(main: Callable[[list[str]], None], *arguments: str) -> str:
    """Return what a script prints when it refuses its input. A traceback or another exit status fails the test."""
    errors = io.StringIO()
    with (
        patch.object(sys, "argv", ["script", *arguments]),
        patch.object(sys, "stderr", errors),
        pytest.raises(SystemExit) as ended,
    ):
        run(main)
    assert ended.value.code == USER_ERROR
    return errors.getvalue()
