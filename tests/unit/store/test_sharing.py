"""Two users in one results folder: one user continues the work of the other, as far as the folder allows."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import shutil
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from stemphony.commands import report
from stemphony.commands.status import result_in
from stemphony.paths import ResultPaths
from stemphony.status import backlog, settings
from stemphony.status.events import Event
from stemphony.status.reporter import JobReporter, Reporter
from stemphony.store import ledger, own_runs, sharing
from stemphony.store.atomic import write_text_atomic
from support.status_server import EchoServer, closed_port

ALICE, BOB, GROUP = 60_001, 60_002, 60_100
IMPORTED = (requests, backlog, Event)  # the user of the test may be unable to read the files of modules

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for two users")


codecs.lookup("ascii")  # the other user may be unable to read the folder of this Python, which has the codec


def as_user(uid: int, folder: Path, act: Callable[[], None]) -> None:
    """Call a function in a process of another user, with a umask that takes the right to write from the group."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reads)
            os.setgroups([GROUP])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0o022)
            os.environ |= {"HOME": str(folder / f"home-{uid}"), "XDG_STATE_HOME": str(folder / f"home-{uid}")}
            os.chdir(folder / "work")
            act()
            os._exit(0)
        except BaseException:
            os.write(writes, traceback.format_exc().encode()[-4000:])
            os._exit(1)
    os.close(writes)
    with os.fdopen(reads) as stream:
        told = stream.read()
    assert os.waitpid(child, 0)[1] == 0, told


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder for both users; only root may enter pytest's folders."""
    folder = Path(tempfile.mkdtemp(prefix="stemphony-shared-"))
    folder.chmod(0o755)
    (folder / "work").mkdir()
    os.chown(folder / "work", 0, GROUP)
    (folder / "work").chmod(0o2775)
    for uid in (ALICE, BOB):
        home = folder / f"home-{uid}"
        home.mkdir()
        os.chown(home, uid, uid)
        home.chmod(0o700)
    yield folder
    shutil.rmtree(folder)


def config_for(folder: Path, uid: int, url: str) -> Path:
    file = folder / f"home-{uid}" / "config.yaml"
    file.write_text(json.dumps({"http_reporting": {"reporting": True, "url": url}}))
    os.chown(file, uid, uid)
    return file


def run_without_receiver(config: Path) -> None:
    """Write the files of a run and one of its jobs, with an absent receiver."""
    result = ResultPaths(Path("results/gan").absolute())
    sharing.follow(Path.cwd(), result.root)
    identity = ledger.identity(result, 1)
    number = ledger.claim_run(result)
    ledger.write_plan(result, {"run": number}, number)
    own_runs.note_own_run(identity.id, [config], result.root)
    common = {"id": identity.id, "num_threads": 1, "num_processors": 1, "num_defoci": 1, "num_configurations": 1}
    given = settings.load([config])
    reporter = Reporter(given, {**common, "run": number}, result.hook_events(number), warn=lambda text: None)
    reporter.emit(Event.START_SIMULATION, title="t")
    reporter.close(0)
    attempt = ledger.claim_attempt(result, "p0d000", 0)
    job = JobReporter(
        given, common, defocus_nm=0, defocus_index=0, configuration_index=0, run=number, attempt=attempt,
        job="p0d000/0000", reports_dir=result.events(number), marker_file=result.run(number) / "a.START_DEFOCUS.json",
        warn=lambda text: None,
    )  # fmt: skip
    job.start()
    job.finish()
    job.close(0)


@as_root
def test_one_user_replays_what_another_one_could_not_send_and_runs_again(shared):
    result = ResultPaths(shared / "work/results/gan")
    away = f"http://127.0.0.1:{closed_port()}/"
    as_user(ALICE, shared, lambda: run_without_receiver(config_for_user(shared, ALICE, away)))
    left = backlog.left_in(result)
    assert left >= 4
    with EchoServer() as server:
        config = config_for(shared, BOB, server.url)

        def replay() -> None:
            said: list[str] = []
            assert report.replay([result.root], config, said.append) == 0, said
            assert ledger.latest_run(result_in(result.root)) == 1

        as_user(BOB, shared, replay)
        assert len(server.events) == left
        assert backlog.left_in(result) == 0
        # A later run of the second user, and the first one's replay, find their places.
        as_user(BOB, shared, lambda: run_without_receiver(config_for_user(shared, BOB, away)))
        assert backlog.left_in(result) == left
        again = config_for(shared, ALICE, server.url)

        def replay_again() -> None:
            said: list[str] = []
            assert report.replay([result.root], again, said.append) == 0, said

        as_user(ALICE, shared, replay_again)
        assert len(server.events) == 2 * left
    assert backlog.left_in(result) == 0
    for path in [*result.root.rglob("*")]:
        status = path.stat()
        assert status.st_gid == GROUP, path
        assert status.st_mode & stat.S_IWGRP, path
        assert not status.st_mode & stat.S_IWOTH, path


def config_for_user(folder: Path, uid: int, url: str) -> Path:
    """A config as `config_for` makes it, written by the user."""
    file = folder / f"home-{uid}" / "own.yaml"
    file.write_text(json.dumps({"http_reporting": {"reporting": True, "url": url}}))
    return file


@as_root
def test_records_and_secrets_stay_private(shared):
    as_user(ALICE, shared, lambda: run_without_receiver(config_for_user(shared, ALICE, "http://127.0.0.1:9/")))
    kept = [path for path in (shared / f"home-{ALICE}/stemphony").rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if stat.S_IMODE(path.stat().st_mode) != 0o600] == []


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def made(folder: Path) -> int:
    write_text_atomic(folder / "made", "text")
    return stat.S_IMODE((folder / "made").stat().st_mode)


@pytest.mark.parametrize(
    ("mode", "mask", "expected"),
    [
        (0o2770, 0o022, 0o664),
        (0o2775, 0o077, 0o660),  # others get what the umask gives them
        (0o2755, 0o022, 0o644),  # the group may not write the folder
        (0o0700, 0o022, 0o644),
    ],
)
def test_the_group_gets_the_rights_of_the_folder(tmp_path, mode, mask, expected):
    tmp_path.chmod(mode)
    with umask(mask):
        sharing.follow(tmp_path, tmp_path / "results/gan")
        assert made(tmp_path) == expected


def test_a_folder_of_another_group_gives_nothing_away(tmp_path):
    """Without the set-group-ID bit, new files have the user's group, which has no rights in the folder."""
    tmp_path.chmod(0o775)
    if os.geteuid() == 0:
        os.chown(tmp_path, -1, GROUP)
        with umask(0o022):
            sharing.follow(tmp_path)
            assert made(tmp_path) == 0o644


def test_a_working_directory_that_is_not_shared_keeps_its_umask(tmp_path):
    """Snakemake trusts the records that it keeps in the working directory."""
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    own.mkdir()
    shared.chmod(0o2775)
    own.chmod(0o755)
    with umask(0o022):
        sharing.follow(own, shared)
        assert made(shared) == 0o644
