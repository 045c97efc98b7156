"""Executes a page of the documentation: writes its files, runs its commands, and compares what they print.

The kind of a fenced block decides what is done with it:

- ```` ```yaml NAME ```` (any language with a name): the text is written into the file NAME;
- ```` ```sh ````: each line is run, in the order of the page;
- ```` ```python ````: a Python process runs the text;
- ```` ``` ```` without a language: lines that an earlier command of the page must have printed, whatever their numbers;
- ```` ```sh once ````: not run, because a test cannot (it installs something, or needs another machine).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stemphony import cli

from support.campaign import DEADLINE_S, PROGRAMS, REPOSITORY, wait_for
from support.evidence import last_part

FENCE = re.compile(r"^```(\w*) ?(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
NUMBER = re.compile(r"\d[\d.,]*(?: ?(?:ms|s|min|h|MB|GB|kB)\b)?")
SMALLER = ("check", "run", "show")
"""Commands that get the entries which make a page small."""
OWN_PROCESS = ("run", "rerun", "accuracy", "monitor")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, the rest of its first line, and its text."""

    language: str
    name: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(text: str) -> list[list[str]]:
    """Words of each line of a block of commands, without comments; a line that ends with a backslash goes on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def masked(line: str) -> str:
    """A line without its numbers and widths of gaps, which differ at a small size."""
    return " ".join(NUMBER.sub("#", line).split())


@dataclass
class Executed:
    """One page that is executed in an empty folder.

    Attributes
    ----------
    small : sequence of str
        Entries `key=value` that every check, run and show of the page gets, so that it costs seconds.
    stand_ins : mapping
        Text of the page to what replaces it before anything else, such as the path of the clone.
    pythons : mapping
        Import of a Python block to the interpreter that has it.
    """

    page: Path
    folder: Path
    env: Mapping[str, str]
    small: Sequence[str] = ()
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    pythons: Mapping[str, Path] = field(default_factory=dict)
    printed: str = ""
    directory: Path = field(init=False)
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.directory = self.folder

    @property
    def evidence(self) -> str:
        return f"{self.page} in {self.folder}:\n{last_part(self.printed)}"

    def execute(self) -> None:
        """Execute the page. The first failure raises AssertionError."""
        try:
            self._execute()
        finally:
            for process in self.background:
                process.terminate()
                process.wait(DEADLINE_S)

    def _execute(self) -> None:
        for block in blocks(self.page):
            text = block.text
            for shown, real in {"CLONE": str(REPOSITORY), **self.stand_ins}.items():
                text = text.replace(shown, real)
            if block.language == "sh":
                if not block.name:
                    for words in commands(text):
                        self.command(words)
            elif block.language == "python" and not block.name:
                self.python(text)
            elif block.name:
                self.write(block.name, text)
            elif not block.language:
                self.compare(text)

    def write(self, name: str, text: str) -> None:
        """Write a file of the page."""
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def command(self, words: list[str]) -> None:
        """Run one line."""
        if words[-1] == "&":
            self.start(words[:-1])
        elif words[0] == "cd":
            self.directory = (self.directory / words[1]).resolve()
        elif words[0] in ("source", "make"):
            pass  # the tests' environment is that of the page
        elif words[0] == "stemphony":
            smaller = ["--config", *self.small] if words[1] in SMALLER and self.small else []
            cores = ["--cores", "2"] if words[1] == "run" and "--profile" not in words else []
            self.stemphony([*words[1:], *cores, *smaller])
        elif words[0] == "python":
            self.process([sys.executable, *words[1:]])
        else:
            self.process(words)

    def stemphony(self, words: list[str]) -> None:
        """Run a command of Stemphony; in this process, unless the command needs one of its own."""
        if words[0] in OWN_PROCESS:
            self.process([str(PROGRAMS / "stemphony"), *words])
            return
        said = io.StringIO()
        with (
            contextlib.chdir(self.directory), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
        ):  # fmt: skip
            warnings.simplefilter("ignore")  # of xarray's optional parts
            status = cli.main(words)
        self.printed += said.getvalue()
        assert status == 0, f"{self.page.name}: stemphony {shlex.join(words)}: {said.getvalue()}"

    def python(self, text: str) -> None:
        """Run a block of Python in a process of the interpreter that has what it imports."""
        found = [python for imported, python in self.pythons.items() if f"import {imported}" in text]
        self.process([str(found[0]) if found else sys.executable, "-W", "ignore", "-c", text])

    def start(self, words: list[str]) -> None:
        """Start a server, which prints its address when it listens. It ends with the page."""
        log = self.folder / "background.log"
        with log.open("wb") as stream:
            self.background.append(
                subprocess.Popen(words, cwd=self.directory, env=self.own_env, stdout=stream, stderr=stream)
            )
        wait_for(lambda: "http://" in log.read_text(errors="replace"), f"{words} to listen")

    @property
    def own_env(self) -> dict[str, str]:
        """Environment of processes: the tests' programs come first, and pictures need no screen."""
        return {**self.env, "MPLBACKEND": "Agg", "PATH": f"{PROGRAMS}{os.pathsep}{self.env.get('PATH', '')}"}

    def process(self, words: list[str]) -> None:
        """Run a process to its end."""
        done = subprocess.run(
            words, cwd=self.directory, env=self.own_env, text=True, timeout=DEADLINE_S, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.printed += done.stdout
        assert done.returncode == 0, f"{self.page.name}: {shlex.join(words)}: {done.stdout[-4000:]}"

    def compare(self, text: str) -> None:
        """Check that each line of the page was printed before, apart from its numbers."""
        said = {masked(line) for line in self.printed.splitlines()}
        missing = [line for line in text.splitlines() if line.strip(" .…") and masked(line) not in said]
        assert not missing, f"{self.page.name} shows {missing}; the commands printed:\n{self.printed}"
