"""Which tests run beside which, where pytest-xdist runs several processes of pytest, as `make test` does.

All tests of one file run in one process, so its module fixtures are made once. All tests that use one service of the
whole machine run in one process, one after the other. Long groups start first, so that short ones fill the gaps.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

pytest.register_assert_rewrite("support", "cluster.cluster")  # their assertions show what they compare, as in tests
from support.evidence import pytest_runtest_makereport as pytest_runtest_makereport  # noqa: E402 (a hook of pytest)

ALONE = ("cluster", "environments")
"""Folders whose tests share one service: the Slurm cluster, and conda with its channels and package cache."""

LONGEST_FIRST = ("cluster", "environments", "workflow", "monitor", "scripts", "physics", "unit", "golden")
"""Folders of `tests` by what one of their files costs."""


NEW_FILES = pytest.StashKey[set[str]]()
"""New files in the repository before the first test."""


def group_of(nodeid: str) -> str:
    """Name of the group of a test ``tests/folder/…/test_file.py::test_…``; one group runs in one process."""
    file = nodeid.partition("::")[0]
    folder = file.split("/")[1]
    return folder if folder in ALONE else file


class Groups(LoadScopeScheduling):
    """Hands whole groups to processes, in the order in which they were collected.

    Of three processes or more, the first runs the groups of `ALONE` before all others. Their tests mostly wait for a
    service, so they cost the other processes little.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def schedule(self) -> None:
        self.has_services = any(
            group_of(nodeid) in ALONE for nodeid in next(iter(self.registered_collections.values()))
        )
        super().schedule()

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.has_services and len(self.nodes) > 2:
            is_first = node is self.nodes[0]
            mine = [group for group in self.workqueue if (group in ALONE) == is_first]
            for group in reversed(mine):
                self.workqueue.move_to_end(group, last=False)
        super()._assign_work_unit(node)


# Groups by markers (`--dist loadgroup`) do nothing here: pytest-xdist 3.8 notes them where pytest 9.2 does not look.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {folder: number for number, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.nodeid.split("/")[1], len(rank)))


def new_files() -> set[str]:
    """Files of the repository that git neither has nor ignores; none outside a clone."""
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    return set(listed.stdout.splitlines())


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[NEW_FILES] = new_files()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a test left a file in the repository, because such a file can change later runs."""
    is_process_of_xdist = hasattr(session.config, "workerinput")
    left = new_files() - session.config.stash[NEW_FILES]
    # While tests are developed, a person makes files too.
    if left and not is_process_of_xdist and os.environ.get("STEMPHONY_REQUIRE_ALL"):
        listed = ", ".join(sorted(left))
        session.config.get_terminal_writer().line(f"\nTests left files in the repository: {listed}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def _own_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands write their records of runs and receivers into a folder of the tests, not into the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("STEMPHONY_COURIER_S", "0")  # a process that a run leaves behind would outlive its test
        yield


@pytest.fixture(scope="session", autouse=True)
def _ase_in_forks() -> Iterator[None]:
    """Structures that ASE reads in a process of its own are read in a fork, which is a second faster."""
    from stemphony.specimen import ase_process
    from support.forked_reader import FORKS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ase_process, "subprocess", FORKS)
        yield
