"""A short-lived stand-in for a script of a rule, which the server of `support.forks` runs in a fork.

    python -I -S fork_client.py DOOR SCRIPT WORDS…

It passes signals on, and ends as the script ends. It imports little, because each job starts it.
"""

import array
import json
import os
import signal
import socket
import sys


def ask(door: str, words: list[str], env: dict[str, str], folder: str, streams: tuple[int, int, int]) -> socket.socket:
    """Ask the server for a process; it answers with its number and, at the end, its exit status, each in a line."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(door)
    request = json.dumps([words, env, folder]).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))]
    server.sendmsg([len(request).to_bytes(8, "big")], rights)
    server.sendall(request)
    return server


def main() -> None:
    folder = os.getcwd()  # noqa: PTH109  pathlib takes longer to import than the rest together
    answers = ask(sys.argv[1], sys.argv[2:], dict(os.environ), folder, (0, 1, 2)).makefile()
    child = int(answers.readline())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os.kill(child, number))
    status = int(answers.readline())
    if status < 0:
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
