"""Claims: of several processes that want the same thing computed, one computes and the others wait for it.

A claim is a small file that its holder touches every few seconds. Others see that it changes, whatever their clocks
say. Where holder and waiter run on the same machine, a dead holder is known at once. A claim keeps work from being done
twice; nothing is wrong when it fails to: results appear whole, and two processes compute the same one.
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
from typing import Self

POLL_S = 0.5
HEARTBEAT_S = 5.0
STALE_S = 45.0
"""A claim whose heartbeat is not seen for so long has lost its process (network file systems show it late)."""

_BEAT_NS = 1_000_000_000


@dataclass(frozen=True)
class Holder:
    """The process that a claim belongs to.

    Attributes
    ----------
    host, pid : str, int
        For people.
    boot, namespace : str
        Which kernel, since when, and which of its tables of processes: a number means nothing in another one, such as
        that of a container or of a machine with the same name.
    started : str
        When the process started, in clock ticks: numbers are used again.
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
        """Who holds a claim with this content, None if it does not tell."""
        try:
            found = json.loads(content)
            texts = {name: str(found[name]) for name in ("host", "boot", "namespace", "started", "token")}
            pid = int(found["pid"])
        except (ValueError, KeyError, TypeError):
            return None
        return cls(pid=pid, **texts) if pid > 1 else None

    @property
    def is_gone(self) -> bool:
        """Whether it is certain that the process lives no more; False for those that cannot be seen from here."""
        if not self.boot or not self.started or (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False  # another user's: the heartbeat tells
        return process_start(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Claim:
    """A claim that this process holds, with its heartbeat; see `take`."""

    def __init__(self, file: Path, holder: Holder, descriptor: int) -> None:
        self.file, self.holder, self._descriptor = file, holder, descriptor
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(os.fstat(descriptor).st_mtime_ns,), daemon=True)
        self._thread.start()

    def _beat(self, time_ns: int) -> None:
        while not self._over.wait(HEARTBEAT_S):
            # Counted, not read from a clock: one that is set back, or stands still, must not look like death. By the
            # open file: a claim that another process has taken over is not ours to touch.
            time_ns += _BEAT_NS
            with suppress(OSError):
                os.utime(self._descriptor, ns=(time_ns, time_ns))

    def release(self) -> None:
        """Give the claim back, unless another process has taken it over."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):
            os.close(self._descriptor)
        holder = holder_of(self.file)
        if holder is not None and holder.token == self.holder.token:
            with suppress(OSError):
                self.file.unlink()


def take(file: Path) -> Claim | None:
    """Claim a file's name; None if another process holds it.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full; no claim is left then.
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
        os.fsync(descriptor)  # where the file system writes late, a full disk shows itself here
        return Claim(file, holder, descriptor)
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            file.unlink()
        raise


def holder_of(file: Path) -> Holder | None:
    """Who holds a claim; None if nobody does, or the file does not tell."""
    try:
        return Holder.of(file.read_bytes())
    except OSError:
        return None


def wait(file: Path, check: Callable[[], None] = lambda: None) -> bool:
    """Wait until a claim is given back or its process is dead; a dead one's is removed.

    Parameters
    ----------
    check : callable
        Called at each look; may raise to end the waiting.

    Returns
    -------
    bool
        Whether it is worth while to claim again; False if a dead claim is there and cannot be removed.
    """
    seen, since = None, time.monotonic()
    while True:
        try:
            status = file.lstat()
        except FileNotFoundError:
            return True
        except OSError:
            pass  # a network file system that has hiccups, a folder that was closed: neither free nor a heartbeat
        else:
            now = (status.st_ino, status.st_mtime_ns)
            if now != seen:
                seen, since = now, time.monotonic()
        content = _content(file)
        holder = Holder.of(content)
        if (holder is not None and holder.is_gone) or time.monotonic() - since > STALE_S:
            try:
                _remove(file, content)
                return True
            except BlockingIOError:
                pass  # another waiter is removing it
            except OSError:
                return False
        check()
        time.sleep(POLL_S)


def _content(file: Path) -> bytes:
    """What stands in a claim; nothing if it cannot be read (another user's): its heartbeat tells all the same."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _remove(file: Path, content: bytes) -> None:
    """Remove the claim that was seen to be dead, not one that another waiter has made in its place meanwhile.

    Raises
    ------
    BlockingIOError
        Another waiter is at it.
    OSError
        It cannot be opened or removed.
    """
    with suppress(FileNotFoundError), file.open("rb") as stream:
        try:
            # Of those who see it dead one at a time; the lock belongs to this file, not to one of the same name.
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system without locks
        if stream.read() == content and os.path.samestat(file.stat(), os.fstat(stream.fileno())):
            file.unlink()


def left_over(file: Path) -> str:
    """What to say of a dead claim that cannot be removed; see `wait`."""
    return (
        f"the claim {file} has no heartbeat and cannot be removed (owner or mode of it or its folder?): computing "
        "without a claim, so another process may compute the same. Remove it."
    )


def process_start(pid: int) -> str:
    """When a process started, in the kernel's clock ticks; empty if it does not live, or there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rsplit(")", 1)[1].split()
    # A dead process stays in the table until its parent asks for it, in a container often for ever.
    return "" if fields[0] in "ZX" else fields[19]


def place() -> str:
    """Digits for the table of processes that this process is in; empty where there is no telling."""
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
