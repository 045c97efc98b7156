"""Claims: if several processes need the same result, one computes it and the others wait.

A claim is a small file that its holder touches every few seconds. The others only check whether its time changes, so
clocks need not agree. On the same machine they also see at once that the holder is dead. If a claim fails, the work is
merely done twice: results appear atomically, and both processes compute the same result.

Processes are identified by files below /proc. psutil is not enough: it gives the start of a process as a time of day,
which changes when the clock is set. It gives neither the id of the boot nor the namespace of process ids.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from stemphony import ordinary_files

LARGEST_PID = 2**31 - 1
"""Largest process id that `os.kill` accepts. A claim with a larger one is damaged."""

_BEAT_NS = 1_000_000_000
"""Step by which each heartbeat moves the time of the file [ns]. File systems may store times in whole seconds."""


@dataclass(frozen=True)
class Timing:
    """Times of claims [s]. The holder uses `heartbeat_s`, a waiter uses `poll_s` and `stale_s`.

    Attributes
    ----------
    poll_s : float
        Pause between two looks of a waiter. A longer pause notices a release later, a shorter one costs more. The
        CPU time of a look is far below this pause. The load on a network file system was not measured.
    heartbeat_s : float
        Time between two touches by the holder. It is a ninth of `stale_s`, so the holder looks dead only if nine
        touches in a row fail or stay invisible.
    stale_s : float
        A claim without a heartbeat for so long is dead. The value is chosen, not measured. If it is too short for a
        network file system that shows a new time late, two processes compute the same. If it is longer, waiters wait
        longer for a holder that died on another machine.
    """

    poll_s: float = 0.5
    heartbeat_s: float = 5.0
    stale_s: float = 45.0


TIMING: Final = Timing()
"""The times of every run."""


@dataclass(frozen=True)
class Holder:
    """The process that a claim belongs to.

    Attributes
    ----------
    host, pid : str, int
        Shown to the user.
    boot, namespace : str
        Id of the boot and of the namespace of process ids. `pid` is valid only there. Containers, and machines with
        the same name, have other ids.
    started : str
        When the process started [clock ticks since the boot], because process ids are used again.
    token : str
        Different for each claim.
    """

    host: str
    pid: int
    boot: str
    namespace: str
    started: str
    token: str

    @classmethod
    def here(cls) -> Self:
        """This process, with a new token."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _boot(), _namespace(), process_start(pid), secrets.token_hex(8))

    @classmethod
    def of(cls, content: bytes) -> Self | None:
        """The holder that `content`, the bytes of a claim, names; None if they are damaged."""
        try:
            found = json.loads(content)
            texts = {name: str(found[name]) for name in ("host", "boot", "namespace", "started", "token")}
            pid = int(found["pid"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        return cls(pid=pid, **texts) if 1 < pid <= LARGEST_PID else None

    @property
    def is_gone(self) -> bool:
        """Whether the process is certainly dead; False if it cannot be seen from here."""
        if not self.boot or not self.started or (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False  # another user's process: only the heartbeat shows whether it lives
        return process_start(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Claim:
    """A claim that this process holds, with a thread for its heartbeat. `take` makes it."""

    def __init__(self, file: Path, holder: Holder, descriptor: int, heartbeat_s: float) -> None:
        self.file, self.holder = file, holder
        self._descriptor, self._heartbeat_s = descriptor, heartbeat_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(os.fstat(descriptor).st_mtime_ns,), daemon=True)
        self._thread.start()

    def _beat(self, time_ns: int) -> None:
        while not self._over.wait(self._heartbeat_s):
            # The time is counted, not read from a clock: if a clock is set back, the holder must not look dead.
            # The open file is touched, not its name, because another process may have taken the claim over.
            time_ns += _BEAT_NS
            with suppress(OSError):
                os.utime(self._descriptor, ns=(time_ns, time_ns))

    def release(self) -> None:
        """Remove the claim, unless another process has taken it over."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):
            os.close(self._descriptor)
        holder = holder_of(self.file)
        if holder is not None and holder.token == self.holder.token:
            with suppress(OSError):
                self.file.unlink()


def take(file: Path, timing: Timing = TIMING) -> Claim | None:
    """Make the file of a claim.

    Parameters
    ----------
    file : Path
        The file; its folder is made if it does not exist.
    timing : Timing
        How often the claim gets a heartbeat.

    Returns
    -------
    Claim or None
        None if another process holds the claim.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full. No file is left then.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    holder = Holder.here()
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    try:
        content = (json.dumps(asdict(holder)) + "\n").encode()
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)  # some file systems report a full disk only here
        return Claim(file, holder, descriptor, timing.heartbeat_s)
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            file.unlink()
        raise


def holder_of(file: Path) -> Holder | None:
    """The holder of the claim `file`; None if the file is missing, damaged or not readable."""
    try:
        return Holder.of(ordinary_files.read_bytes(file))
    except OSError:
        return None


def wait(file: Path, check: Callable[[], None] = lambda: None, timing: Timing = TIMING) -> bool:
    """Wait until a claim is released, or its process is dead; remove the claim of a dead process.

    Parameters
    ----------
    file : Path
        The file of the claim.
    check : callable
        Called at each look; it may raise to end the wait.
    timing : Timing
        How often this process looks, and when a claim without a heartbeat is dead.

    Returns
    -------
    bool
        Whether the caller should try `take` again; False if a dead claim cannot be removed.
    """
    seen, since = None, time.monotonic()
    while True:
        try:
            status = file.lstat()
        except FileNotFoundError:
            return True
        except OSError:
            pass  # a network file system may fail for a moment; this does not show that the claim is released
        else:
            now = (status.st_ino, status.st_mtime_ns)
            if now != seen:
                seen, since = now, time.monotonic()
        content = _content(file)
        holder = Holder.of(content)
        if (holder is not None and holder.is_gone) or time.monotonic() - since > timing.stale_s:
            try:
                _remove(file, content)
                return True
            except BlockingIOError:
                pass  # another waiter is removing it
            except OSError:
                return False
        check()
        time.sleep(timing.poll_s)


def _content(file: Path) -> bytes:
    """Content of a claim; empty if the file is not readable, as another user's may be. Its heartbeat stays visible."""
    try:
        return ordinary_files.read_bytes(file)
    except OSError:
        return b""


def _remove(file: Path, content: bytes) -> None:
    """Remove the dead claim with this content. A new claim that another waiter has made meanwhile stays.

    Raises
    ------
    BlockingIOError
        Another waiter is removing the claim.
    OSError
        The claim cannot be opened or removed.
    """
    with suppress(FileNotFoundError), ordinary_files.open_file(file) as stream:
        try:
            # Only one waiter removes the claim. The lock belongs to this file, not to a new file of the same name.
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system without locks
        if stream.read() == content and os.path.samestat(file.stat(), os.fstat(stream.fileno())):
            file.unlink()


def left_over(file: Path) -> str:
    """Return a message for the user about the dead claim in `file`, which cannot be removed, see `wait`."""
    return (
        f"the claim {file} has no heartbeat and cannot be removed. This process computes without a claim, so another "
        "process may compute the same. Check the owner and mode of the file and its folder, and remove the file."
    )


def process_start(pid: int) -> str:
    """When the process with the id `pid` started [clock ticks since the boot].

    Empty if the process is dead, or on a system without /proc.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rsplit(")", 1)[1].split()
    # A dead process stays in the table until its parent asks for its status; in a container that may never happen.
    return "" if fields[0] in "ZX" else fields[19]


def place() -> str:
    """Eight hexadecimal digits for the boot and the namespace of process ids; empty if these are unknown."""
    return hashlib.sha256(f"{_boot()} {_namespace()}".encode()).hexdigest()[:8] if _boot() and _namespace() else ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
