"""A failed test shows what the objects that it had in hand say."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from support.evidence import LINES, in_hand, last_part


@dataclass
class Program:
    """An object with evidence, as the monitors and receivers of the tests are."""

    said: str

    @property
    def evidence(self) -> str:
        return f"it said {self.said}"


@dataclass
class Broken:
    """An object whose evidence cannot be read."""

    @property
    def evidence(self) -> str:
        raise OSError("the log is gone")


@dataclass
class Holder:
    """An object without evidence of its own."""

    program: Program


def test_evidence_of_variables_and_of_their_attributes_is_shown():
    variables = {"program": Program("a"), "holder": Holder(Program("b")), "number": 3}
    assert list(in_hand(variables, "assert number == 4")) == [
        ("program", "it said a"), ("holder.program", "it said b")
    ]  # fmt: skip


def test_exit_status_and_output_of_a_process_are_shown():
    done = subprocess.CompletedProcess(["program"], 2, stdout="first\n", stderr="last\n")
    ((name, shown),) = in_hand({"done": done}, "")
    assert (name, shown) == ("done", "exit status 2 of ['program']\nfirst\nlast")


def test_evidence_that_cannot_be_read_does_not_hide_the_failure():
    ((_, shown),) = in_hand({"broken": Broken()}, "")
    assert "the log is gone" in shown


def test_long_texts_are_shown_from_their_end_if_the_failed_line_names_them():
    output = "".join(f"line {number}\n" for number in range(LINES + 1))
    assert list(in_hand({"output": output}, "assert other")) == []
    ((_, shown),) = in_hand({"output": output}, "assert 'x' in output")
    assert shown == last_part(output)
    assert "line 0\n" not in shown
    assert f"line {LINES}" in shown
