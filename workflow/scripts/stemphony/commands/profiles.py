"""`stemphony profile`: copy the Snakemake profiles of `profiles/` into other folders."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from stemphony.errors import StorageError

ALWAYS = "default"
"""Name of the profile that Snakemake always applies, because it is beside the Snakefile."""


def searched() -> tuple[Path, ...]:
    """Folders in which Snakemake searches for a profile by its name, after the working directory."""
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    system = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)
    return tuple(folder / "snakemake" for folder in (own, *(Path(name) for name in system if name)))


def shipped(repository: Path) -> list[str]:
    """Names of the profiles in the folder `repository` of Stemphony that can be installed, in alphabetical order."""
    return sorted(folder.name for folder in (repository / "profiles").iterdir() if folder.name != ALWAYS)


def install(repository: Path, name: str, folder: Path, replace: bool, say: Callable[[str], None]) -> None:
    """Copy the profile `name` of the folder `repository` of Stemphony into `folder`.

    `snakemake --profile NAME` finds it in the folder of the user's profiles. With `replace`, an edited copy is
    replaced, and its files are kept beside the new ones. `say` prints one line.

    Raises
    ------
    StorageError
        There is no such profile. Or the folder is a profile, or has the name of one. Or the copy in the folder was
        edited and `replace` is False. Or the folder is not writable.
    """
    if name not in shipped(repository):
        raise StorageError(f"there is no profile {name!r}. Choose one of: {', '.join(shipped(repository))}.")
    source, target = repository / "profiles" / name, folder / name
    contents = {file.name: file.read_bytes() for file in sorted(source.iterdir()) if file.is_file()}
    _require_no_profile(repository, folder)
    if target.resolve() == source.resolve():
        say(f"{target} is the profile itself: nothing to install. Edit it where it is.")
        return
    try:
        different = [target / own for own, text in contents.items() if _differs(target / own, text)]
        if different and not replace:
            raise StorageError(
                f"{different[0]} differs from the profile of this version: it was edited, or it is of another version. "
                "It is kept. With --replace it is replaced, and the old file is kept beside it."
            )
        target.mkdir(parents=True, exist_ok=True)
        for file in different:
            kept = _free_name(file)
            file.rename(kept)
            say(f"{file} is replaced; the old file is kept as {kept.name}")
        for own, text in contents.items():
            (target / own).write_bytes(text)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}. Choose another folder.") from None
    say(f"wrote {target}")


def _require_no_profile(repository: Path, folder: Path) -> None:
    """Refuse a folder that is a profile, and the name of a profile in place of a folder.

    If a profile contains a file with the name of an entry's value, Snakemake uses the path of this file as the value.
    So a copy `slurm/slurm` turns the entry `executor: slurm` of the outer profile into `slurm/slurm`, which is no
    executor.
    """
    if any(folder.glob("config*.yaml")):
        raise StorageError(f"{folder} is a profile, and a profile inside it would break it. Choose another folder.")
    if folder.name in shipped(repository) and not folder.exists():
        name = folder.name
        raise StorageError(
            f"there is no folder {folder}. To install the profile {name} here: stemphony profile install --name {name}"
        )


def missing_plugin(repository: Path, executor: str) -> str:
    """Advice for a run with an `executor` that Snakemake does not know. A profile or the command line names it.

    `repository` is the folder of Stemphony, whose lock files name versions of the plugins.
    """
    package = f"snakemake-executor-plugin-{executor}"
    locks = (repository / "envs" / f"{name}.lock.txt" for name in ("controller", "executors"))
    lock = next((file for file in locks if f"\n{package}==" in f"\n{file.read_text(encoding='utf-8')}"), None)
    if lock is None:
        return (
            f"Snakemake has no executor {executor!r}, and no lock file in envs has a plugin for it. Check the spelling "
            f"in the profile. If it is right, install a version of {package} that works with this Snakemake."
        )
    install = shlex.join([sys.executable, "-m", "pip", "install", "--require-hashes", "-r", str(lock)])
    return f"the executor {executor!r} needs Snakemake's plugin {package}, which is not installed. Do: {install}"


def _differs(file: Path, text: bytes) -> bool:
    return file.exists() and file.read_bytes() != text


def _free_name(file: Path) -> Path:
    """A free name beside `file` that Snakemake does not read as a config."""
    number = 1
    while (kept := file.with_name(f"{file.name}.kept{number}")).exists():
        number += 1
    return kept
