"""Control characters in foreign texts are shown on a terminal and have no effect."""

from __future__ import annotations

import json

import pytest
from stemphony import cli
from stemphony.terminal import plain

CLEAR = "\x1b[2J\x1b]0;title\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Å × 3\tµm\n", "Å × 3\tµm\n"),
        ("\x1b[2Jdone", "\\x1b[2Jdone"),
        ("one\rtwo", "one\\rtwo"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("日本語 🙂", "日本語 🙂"),
    ],
)
def test_control_characters_are_shown_as_escapes(text, shown):
    assert plain(text) == shown


def test_a_structure_file_cannot_write_to_the_terminal(tmp_path, capsys):
    """An element's name with an escape sequence, in a file whose name has one too."""
    file = tmp_path / f"a{CLEAR}.vasp".replace("/", "")
    file.write_text(f"x\n1.0\n4 0 0\n0 4 0\n0 0 4\nS{CLEAR}\n1\nDirect\n0 0 0\n")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"simulation": {"name": "a"}, "specimen": {"file": str(file)}}))
    assert cli.main(["show", str(config)]) == 1
    told = "".join(capsys.readouterr())
    assert "\\x1b[2J" in told
    assert not set(told) & set("\x1b\x07\r")
