"""The wheel holds the tree of a clone, so that Snakemake finds its files as in one; a .pth file makes it importable."""

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).resolve().parent
TREE = "stemphony_workflow"
# What a run needs. Tests, documentation and the developer's interface stay in the repository.
PARTS = ("Snakefile", "LICENSE", "workflow", "config", "profiles", "envs")
COMMIT = "COMMIT"
"""File that says which commit the tree is of."""


class Tree(build_py):
    """Copies the tree, where setuptools would copy the packages alone. An editable install needs no copy."""

    def run(self) -> None:
        """Fill the folder that becomes the wheel."""
        if self.editable_mode:
            super().run()
            return
        tree = Path(self.build_lib) / TREE
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        for part in PARTS:
            source = SOURCE / part
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, tree)
        (tree / COMMIT).write_text(_commit() + "\n", encoding="utf-8")
        # Python adds the folder that this file names to its path.
        (tree.parent / "stemphony.pth").write_text(f"{TREE}/workflow/scripts\n", encoding="utf-8")


def _commit() -> str:
    if not (SOURCE / ".git").exists():
        return ""
    words = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


setup(cmdclass={"build_py": Tree})
