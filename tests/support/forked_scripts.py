"""Scripts of the rules that start quickly: a process imports the packages once and forks for each script.

A script of a tiny campaign computes for milliseconds and imports for half a second. In a run of
`support.forked_snakemake`, the shell commands of the rules find a function `python` (bash reads `BASH_ENV`). For a
script of a rule it starts a small client, which hands its words, environment, folder and streams to the server here and
ends as the script ends. Everything else starts the real Python.

The forked process imports the program's own modules itself, so each script runs the code of its clone. If its client is
killed, it is killed. Runs of `Campaign.start`, on Slurm, in conda environments and of the tutorials start real scripts.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.forked_snakemake import ENDING

# Packages of others that scripts import. Nothing here starts a thread, which a fork would lose.
_PACKAGES = (
    "numpy.ma, netCDF4, scipy.fft, scipy.special, scipy.spatial, scipy.stats, pyfftw, requests, psutil, gemmi, "
    "jsonschema, ase.io.cif, matplotlib.figure, matplotlib.backends.backend_agg, multiprocessing.pool, "
    "concurrent.futures.process"
)

_CLIENT = """
import array, json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.connect(sys.argv[1])
request = json.dumps([sys.argv[2:], dict(os.environ), os.getcwd()]).encode()
streams = array.array("i", (0, 1, 2))
server.sendmsg([len(request).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(request)
answers = server.makefile()
child = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, lambda number, _: os.kill(child, number))
status = int(answers.readline())
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status not in (9, 19) else None
    os.kill(os.getpid(), -status)
sys.exit(status)
"""

_SERVER = f"""
import array, gc, json, os, runpy, selectors, signal, socket, sys
import {_PACKAGES}

{ENDING}
if sys.path[0] == "":
    del sys.path[0]  # each script puts its own folder there

def receive(client):
    first, rights, *_ = client.recvmsg(8, socket.CMSG_SPACE(12))
    streams = array.array("i")
    streams.frombytes(rights[0][2])
    rest = client.makefile("rb").read(int.from_bytes(first, "big"))
    return json.loads(rest), streams

def become(words, env, folder, streams):
    os.setsid()
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL),
                            (signal.SIGCHLD, signal.SIG_DFL)):
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for target, source in enumerate(streams):
        os.dup2(source, target)
        os.close(source)
    for opened in (door, woken, wake, events, *clients):
        opened.close()
    sys.argv = words

gc.collect()
gc.freeze()  # or the first collection of each fork would copy all pages
woken, wake = socket.socketpair()
for end in (woken, wake):
    end.setblocking(False)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
door.bind(sys.argv[1])
door.listen(64)
print("ready", flush=True)
events = selectors.DefaultSelector()
for source in (door, woken):
    events.register(source, selectors.EVENT_READ)
clients, children = {{}}, {{}}

while True:
    for key, _ in events.select():
        if key.fileobj is door:
            client = door.accept()[0]
            try:
                (words, env, folder), streams = receive(client)
            except (OSError, ValueError, IndexError):
                client.close()
                continue
            child = os.fork()
            if not child:
                client.close()
                become(words, env, folder, streams)
                end_as(lambda: runpy.run_path(words[0], run_name="__main__"))
            for stream in streams:
                os.close(stream)
            client.sendall(b"%d\\n" % child)
            children[child] = client
            clients[client] = child
            events.register(client, selectors.EVENT_READ)
        elif key.fileobj is woken:
            woken.recv(4096)
            while children:
                child, status = os.waitpid(-1, os.WNOHANG)
                if not child:
                    break
                client = children.pop(child)
                events.unregister(client)
                del clients[client]
                try:
                    client.sendall(b"%d\\n" % os.waitstatus_to_exitcode(status))
                except OSError:
                    pass
                client.close()
        elif key.fileobj in clients:  # the client has ended before its script: it was killed
            events.unregister(key.fileobj)
            os.kill(clients[key.fileobj], signal.SIGKILL)
"""

_BASH = """
python() {{
  case "$1" in
    */workflow/scripts/*.py) {client} "$@" ;;
    *) command python "$@" ;;
  esac
}}
"""

_folder: Path | None = None


def bash_env() -> Path:
    """The file for `BASH_ENV`, which defines `python` for the shell commands of rules; starts the server if needed."""
    global _folder
    if _folder is None:
        _folder = Path(tempfile.mkdtemp(prefix="scripts"))
        door = _folder / "door"
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, door], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/",
            env={**os.environ, "OMP_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"}, start_new_session=True,
        )  # fmt: skip
        atexit.register(_end, server, _folder)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        client = _folder / "client.py"
        client.write_text(_CLIENT)
        words = shlex.join([sys.executable, "-I", "-S", str(client), str(door)])
        (_folder / "python.sh").write_text(_BASH.format(client=words))
    return _folder / "python.sh"


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    server.kill()
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)
