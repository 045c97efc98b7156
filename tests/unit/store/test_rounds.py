"""The files that say how the rounds of a goal ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stemphony.errors import DamagedResultError
from stemphony.paths import ResultPaths
from stemphony.store.rounds import delete_damaged, last_round, read_round

GOOD = {"configurations": 4, "next": None, "reached": True}


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"configurations": 4}', '{"configurations": "x", "next": null}'])
def test_a_damaged_round_is_judged_again(tmp_path: Path, text: str):
    result = ResultPaths(tmp_path)
    result.round(0).parent.mkdir()
    result.round(0).write_text(json.dumps(GOOD), encoding="utf-8")
    result.round(1).write_text(text, encoding="utf-8")
    with pytest.raises(DamagedResultError, match="round_01"):
        read_round(result, 1)
    (note,) = delete_damaged(result)
    assert note.startswith(str(result.round(1)))
    assert not result.round(1).exists()
    assert last_round(result, 4) == GOOD
    assert delete_damaged(result) == []
