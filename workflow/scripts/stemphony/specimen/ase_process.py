"""Read structures with ASE in a separate process that has limited memory and CPU time.

Many readers of ASE make arrays of the size that a file announces. A reader of a damaged file may loop forever. The
limits grow with the size of the file. Extended XYZ is read in the main process, because `ase_reader` counts its rows
and columns first.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from stemphony.errors import SpecimenError
from stemphony.interpreters import KEEP_OUT
from stemphony.specimen import ase_reader, source
from stemphony.specimen.structure import Structure


@dataclass(frozen=True)
class ReadingLimits:
    """Limits of memory and CPU time for reading one file.

    Attributes
    ----------
    free_bytes : int
        Memory that every file may need, beside that of the program [bytes].
    bytes_per_byte : int
        Further memory per byte of the unpacked file. A line of 60 bytes becomes about 1,000 bytes of Python objects.
    free_s : int
        CPU time that every file may need [s].
    bytes_per_s : int
        Bytes of the unpacked file for each further second. The slowest readers of ASE read about 1 MB/s.
    """

    free_bytes: int = 1_000_000_000
    bytes_per_byte: int = 40
    free_s: int = 120
    bytes_per_s: int = 200_000

    def of(self, size: int) -> tuple[int, int]:
        """Memory [bytes] and CPU time [s] for a file of this size [bytes]."""
        return self.free_bytes + self.bytes_per_byte * size, self.free_s + size // self.bytes_per_s


LIMITS: Final = ReadingLimits()
IN_THIS_PROCESS: Final = ("extxyz",)
_CODE: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from stemphony.specimen import ase_process; "
    "ase_process.serve(*sys.argv[2:])"
)
# Kinds of answers of the process: a structure, the text of a refusal, or that there was too little memory.
_FRAME, _REFUSED, _NO_MEMORY = "frame", "refused", "no memory"


def read_first(file: Path) -> tuple[Structure, int]:
    """The first structure, and the number of structures. If counting needs reading, it stops at 2.

    Raises
    ------
    SpecimenError
        ASE cannot read the file, or finds no structure in it.
    """
    found = ase_reader.required_format(file)
    count = ase_reader.require_whole_xyz(file) if found == "extxyz" else 0
    frames = read_frames(file, "0:2" if ase_reader.has_frames(found) and not count else "0")
    first = next(frames, None)
    if first is None:
        raise SpecimenError(file, "ASE finds no structure in it. Export the structure again.")
    return first, count or 1 + sum(1 for _ in frames)


def read_frames(file: Path, index: str, limits: ReadingLimits = LIMITS) -> Iterator[Structure]:
    """Structures of a file.

    Parameters
    ----------
    file : Path
        A file in a format that ASE reads.
    index : str
        A number or a slice, in the syntax of ASE.
    limits : ReadingLimits
        Limits for formats that are read in a separate process.

    Yields
    ------
    Structure
        One for each frame, in the order of the file; lengths in Å.

    Raises
    ------
    SpecimenError
        A frame cannot be read, or needs more memory or time than the limits allow. The text names the frame.
    """
    found = ase_reader.required_format(file)
    if found in IN_THIS_PROCESS:
        yield from ase_reader.frames(file, index, found)
        return
    size = source.require_size(file)
    memory, seconds = limits.of(size)
    folder = str(Path(__file__).resolve().parents[2])
    words = [sys.executable, KEEP_OUT, "-c", _CODE, folder, str(file), index, found, str(memory), str(seconds)]
    # One thread only: each further thread of BLAS would reserve address space.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None  # by construction: it is a pipe
        try:
            yield from _received(file, process.stdout, memory)
            if process.wait():
                raise SpecimenError(file, _ended(process.returncode, size, memory, seconds))
        finally:
            process.kill()


def _received(file: Path, stream: IO[bytes], memory: int) -> Iterator[Structure]:
    while True:
        try:
            what, content = pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            return
        if what == _REFUSED:
            raise SpecimenError(file, content)
        if what == _NO_MEMORY:
            raise SpecimenError(file, _too_large(source.require_size(file), memory))
        yield content


def _too_large(size: int, memory: int) -> str:
    return (
        f"reading its {size:,} bytes takes more than {memory / 1e9:.1f} GB, the limit for a file of this size. It "
        "announces more atoms than it has, or it is damaged: export it again."
    )


def _ended(status: int, size: int, memory: int, seconds: int) -> str:
    if -status in (signal.SIGXCPU, signal.SIGKILL):
        return (
            f"reading its {size:,} bytes takes more than {seconds} s of CPU time, the limit for a file of this size. "
            "It is damaged: export it again."
        )
    return (
        f"ASE crashes on it (status {status}, within {memory / 1e9:.1f} GB of memory). It is damaged: export it again."
    )


# --- in the process -------------------------------------------------------------------------------------------------


def serve(file: str, index: str, format_ase: str, memory: str, seconds: str) -> None:
    """Read `file` and write its structures to the standard output; `read_frames` runs this in a separate process.

    All arguments are words of its command line: `index` and `format_ase` in the syntax of ASE, the `memory` [bytes]
    that reading may use, and its CPU time `seconds` [s].
    """
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # if a reader prints, its text must not get into the answer
    ase_reader.load()
    _limit(resource.RLIMIT_AS, _own_bytes() + int(memory))
    _limit(resource.RLIMIT_CPU, int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + int(seconds))
    answer: tuple[str, Any]
    try:
        for structure in ase_reader.frames(Path(file), index, format_ase):
            pickle.dump((_FRAME, structure), stream)
            stream.flush()
        return
    except SpecimenError as error:
        answer = (_REFUSED, error.what)
    except MemoryError:
        answer = (_NO_MEMORY, None)
    pickle.dump(answer, stream)
    stream.flush()


def _limit(what: int, most: int) -> None:
    """Set a limit of this process, if the system has such a limit and allows it."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _own_bytes() -> int:
    """Address space of this process [bytes]."""
    import psutil

    return int(psutil.Process().memory_info().vms)
