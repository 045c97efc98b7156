"""The process behind `support.forks`. It imports the packages once and forks for each program.

    python fork_server.py DOOR PROGRAMS

DOOR is the socket where it takes requests: the words of a program, its environment, folder and streams. It answers with
the number of the process and, at its end, with the exit status. If the client goes away before, the process is killed
with its session. PROGRAMS is the folder of the real `python`, `snakemake` and `stemphony`.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fork_client

# Third-party packages that runs, scripts and commands import; Snakemake imports its submodules by itself.
PACKAGES = (
    "snakemake.cli", "snakemake.api", "snakemake.scheduling.job_scheduler", "multiprocessing.pool", "requests",
    "snakemake_interface_executor_plugins.registry", "concurrent.futures.process", "jsonschema", "gemmi", "psutil",
    "netCDF4", "numpy.ma", "scipy.fft", "scipy.special", "scipy.spatial", "scipy.sparse", "pyfftw", "ase.io.cif",
    "matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_agg",
)  # fmt: skip
PATH = list(sys.path[1:])
_run = subprocess.run


class Server:
    """Takes requests at a socket, and forks for each."""

    def __init__(self, door: str) -> None:
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.door.bind(door)
        self.door.listen(64)
        self.woken, self.wake = socket.socketpair()
        for end in (self.woken, self.wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake.fileno(), warn_on_full_buffer=False)
        self.events = selectors.DefaultSelector()
        self.events.register(self.door, selectors.EVENT_READ)
        self.events.register(self.woken, selectors.EVENT_READ)
        self.events.register(sys.stdin, selectors.EVENT_READ)
        self.clients: dict[int, socket.socket] = {}

    def serve(self) -> None:
        """Take requests until the tests end."""
        while True:
            for key, _ in self.events.select():
                if key.fileobj is self.door:
                    self.admit(self.door.accept()[0])
                elif key.fileobj is sys.stdin:  # its end is closed: the tests have ended, or were killed
                    return
                elif key.fileobj is self.woken:
                    self.woken.recv(4096)
                    self.tell_ends()
                else:  # a client that has gone
                    self.events.unregister(key.fileobj)
                    os.killpg(key.data, signal.SIGKILL)

    def admit(self, client: socket.socket) -> None:
        """Fork for a new client."""
        try:
            first, rights, *_ = client.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
            streams = array.array("i", rights[0][2])
            words, env, folder = json.loads(client.makefile("rb").read(int.from_bytes(first, "big")))
        except (OSError, ValueError, IndexError):  # the client was killed before it sent its request
            client.close()
            return
        child = os.fork()
        if not child:
            client.close()
            self.close()
            os.setsid()
            become(streams, env, folder)
            subprocess.run = run
            end_as(program_of(words))
        for stream in streams:
            os.close(stream)
        self.clients[child] = client
        self.events.register(client, selectors.EVENT_READ, child)
        client.sendall(b"%d\n" % child)

    def tell_ends(self) -> None:
        """Tell the clients whose processes have ended."""
        while self.clients:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            client = self.clients.pop(child)
            if client in {key.fileobj for key in self.events.get_map().values()}:
                self.events.unregister(client)
                client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            client.close()

    def close(self) -> None:
        """Close, in a fork, what belongs to the server."""
        signal.set_wakeup_fd(-1)
        for opened in (self.door, self.woken, self.wake, self.events, *self.clients.values()):
            opened.close()  # type: ignore[attr-defined]


def become(streams: Sequence[int], env: Mapping[str, str], folder: str) -> None:
    """Give this fork the streams, the environment, the folder and the signals of a new process."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGCHLD, signal.SIG_DFL),
    ):
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for target, source in enumerate(streams):
        os.dup2(source, target)
    for source in {*streams} - {0, 1, 2}:
        os.close(source)


def program_of(words: Sequence[str]) -> Callable[[], object]:
    """Return the function that runs `snakemake …`, `python -m stemphony …` or a script."""
    if words[0] == "snakemake":
        return lambda: snakemake(words[1:])
    if words[:2] == ["-m", "stemphony"]:
        sys.argv = words[1:]
        sys.path.insert(0, str(Path.cwd()))
        subprocess.Popen = Popen  # type: ignore[misc]
        return lambda: runpy.run_module("stemphony", run_name="__main__", alter_sys=True)
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        return lambda: exec(words[1], {"__name__": "__main__"})
    sys.argv = [*words]  # a script, which puts its own folder into the path
    return lambda: runpy.run_path(words[0], run_name="__main__")


def snakemake(words: Sequence[str]) -> None:
    """Run Snakemake, which imports the program's own modules itself, so each run sees the code of its clone."""
    import snakemake.cli

    for name in [name for name in sys.modules if name.partition(".")[0] == "stemphony"]:
        del sys.modules[name]
    sys.path[:] = PATH if "PYTHONSAFEPATH" in os.environ else [str(PROGRAMS), *PATH]
    sys.argv = [str(PROGRAMS / "snakemake"), *words]
    sys.exit(snakemake.cli.main(sys.argv[1:]))


def run(words: Any, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a process as always, but `python -P -c`, with which results are read, in a fork of the server.

    A fork of this process would lack its threads, and what they hold.
    """
    if not isinstance(words, list) or words[:3] != [sys.executable, "-P", "-c"]:
        return _run(words, *arguments, **options)
    with tempfile.TemporaryFile() as output, Path(os.devnull).open("r+b") as nothing:
        streams = (nothing.fileno(), output.fileno(), nothing.fileno())
        with fork_client.ask(DOOR, words[2:], dict(os.environ), str(Path.cwd()), streams) as asked:
            status = int(asked.makefile().readlines()[1])
        output.seek(0)
        done = subprocess.CompletedProcess(words, status, output.read().decode(), "")
    if options.get("check"):
        done.check_returncode()
    return done


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """Start processes as usual, except the Snakemake of `stemphony run`, which is a fork of this process."""

    def __new__(cls, command: Any, *arguments: Any, **options: Any) -> Any:
        is_run = options.keys() == {"stdout", "stderr", "env"} and command[0] == str(PROGRAMS / "snakemake")
        return Forked(command[1:], **options) if is_run else super().__new__(cls)


class Forked:
    """The part of a process that `stemphony run` uses."""

    def __init__(self, words: Sequence[str], stdout: Any, stderr: int, env: Mapping[str, str]) -> None:
        assert stderr == subprocess.STDOUT
        self.status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            become((os.open(os.devnull, os.O_RDONLY), stdout.fileno(), stdout.fileno()), env, ".")
            subprocess.Popen = Popen.__base__  # type: ignore[misc]
            end_as(lambda: snakemake(words))

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.status is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("snakemake", timeout)
            else:
                time.sleep(0.005)
        return self.status


def end_as(program: Callable[[], object]) -> None:
    """Run a program, and end as Python does, but without freeing all that was imported before the fork."""
    status = 0
    try:
        program()
    except SystemExit as end:
        is_text = end.code is not None and not isinstance(end.code, int)
        status = 1 if is_text else int(end.code or 0)
        if is_text:
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    DOOR, PROGRAMS = sys.argv[1], Path(sys.argv[2])
    del sys.path[0]
    for package in PACKAGES:
        __import__(package)
    server = Server(DOOR)
    gc.collect()
    gc.freeze()  # otherwise the first collection of each fork would copy all pages
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve()
