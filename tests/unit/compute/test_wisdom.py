"""FFT plans on disk: made once, shared by all jobs, and never a reason for a job to fail."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyfftw
import pytest
from stemphony.compute import wisdom
from stemphony.physics.fft import Plan2D
from stemphony.physics.strips.plan import StripPlan
from stemphony.physics.strips.two_arrays import TwoArrayPlan
from support.experiments import finish, race, start
from support.time_limit import require_within

SHAPE = (8, 12)
LARGER = (40, 42)  # FFTW plans for half a second, and there are several good plans

TRANSFORM = f"""
import hashlib
import numpy as np
from functools import partial
from stemphony.physics.fft import Plan2D
from stemphony.compute.wisdom import prepare_plans
flag, source = prepare_plans(partial(Plan2D, {LARGER}, np.complex64))
plan = Plan2D({LARGER}, np.complex64, flag=flag)
plan.buffer[...] = np.random.default_rng(1).random({LARGER}) + 0.1j
plan.forward()
print(source, hashlib.sha256(plan.buffer.tobytes()).hexdigest())
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "folder"
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(folder))
    return folder


def planned(shape: tuple[int, int] = SHAPE, **settings: Any) -> tuple[str, str]:
    """Flag and source of the plans in a new process."""
    pyfftw.forget_wisdom()
    return wisdom.prepare_plans(partial(Plan2D, shape, np.complex64), **settings)


def cache_file(folder: Path) -> Path:
    (file,) = folder.glob("fftw-*.json")
    return file


def test_a_second_process_finds_the_fft_plans_of_the_first(cache):
    assert planned() == ("FFTW_PATIENT", "planned")
    assert planned() == ("FFTW_PATIENT", "cache")


@pytest.mark.slow
def test_two_processes_with_one_cache_compute_the_same_bits(cache):
    first, second = finish(start(TRANSFORM)).split(), finish(start(TRANSFORM)).split()
    assert [first[0], second[0]] == ["planned", "cache"]
    assert first[1] == second[1]


def test_only_one_of_two_processes_plans(cache, tmp_path):
    imports = "import numpy as np\nfrom stemphony.physics.fft import Plan2D\n"
    imports += "from stemphony.compute.wisdom import prepare_plans"
    action = f"print(prepare_plans(lambda flag: Plan2D({SHAPE}, np.complex64, flag))[1])"
    assert sorted(race(imports, action, 2, tmp_path)) == ["cache", "planned"]


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "other cpu", "list", "binary"])
def test_damaged_plans_are_planned_again(cache, damage):
    planned()
    file = cache_file(cache)
    good = file.read_text()
    content = json.loads(good)
    if damage == "flipped":
        part = content["wisdom"][1]
        assert part[40] != "A"
        content["wisdom"][1] = part[:40] + "A" + part[41:]
    elif damage == "other cpu":
        content["cpu"] = "another"
    text = {"truncated": good[: len(good) // 2], "empty": "", "list": "[]", "binary": "\0\1"}.get(damage)
    file.write_text(json.dumps(content) if text is None else text)
    assert planned() == ("FFTW_PATIENT", "planned")
    assert planned() == ("FFTW_PATIENT", "cache")


def test_a_cache_that_cannot_be_written_does_not_stop_the_job(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path / "file" / "folder"))
    flag, source = planned()
    assert flag == "FFTW_MEASURE"
    assert source.startswith("planned, not kept: ")
    Plan2D(SHAPE, np.complex64, flag=flag).forward()


def test_a_cache_on_a_full_disk_does_not_stop_the_job(cache, monkeypatch):
    def full(file: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wisdom, "_keep", full)
    assert planned() == ("FFTW_MEASURE", "planned, not kept: OSError")


def test_planning_is_short_if_plans_cannot_be_kept(cache):
    """Act like a full disk: folders and empty files can be made, but no data can be written."""
    code = f"""
import resource
import numpy as np
from stemphony.physics.fft import Plan2D
from stemphony.compute.wisdom import prepare_plans
asked = []
def plan(flag):
    asked.append(flag)
    return Plan2D({SHAPE}, np.complex64, flag=flag)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
print(*prepare_plans(plan), *asked)
"""
    assert finish(start(code)) == "FFTW_MEASURE planned, not kept: OSError FFTW_WISDOM_ONLY FFTW_WISDOM_ONLY"
    assert [file.suffix for file in cache.iterdir()] == [".lock"]


def test_the_trial_file_is_removed(cache):
    planned()
    assert sorted(file.suffix for file in cache.iterdir()) == [".json", ".lock"]


def test_the_lock_of_a_dead_process_is_free(cache):
    cache.mkdir(parents=True)
    lock = wisdom.wisdom_file().with_suffix(".lock")
    code = f"import fcntl, time; f = open({str(lock)!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
    holder = start(f"{code}; print('held', flush=True); time.sleep(60)")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    begin = time.monotonic()
    assert planned() == ("FFTW_PATIENT", "planned")
    require_within(20, begin, "planning after the holder of the lock has died")


def test_waiting_for_a_process_that_hangs_has_a_limit(cache):
    cache.mkdir(parents=True)
    clock = itertools.count(0.0, 100.0)
    with wisdom._lock(wisdom.wisdom_file().with_suffix(".lock")):
        assert planned(clock=lambda: next(clock)) == ("FFTW_MEASURE", "planned, not kept: TimeoutError")
    assert next(clock) == 500.0, "it waits 300 s and no longer"


def test_plans_of_several_shapes_are_kept_together(cache):
    for shape in (SHAPE, (8, 10)):
        assert planned(shape)[1] == "planned"
    for shape in (SHAPE, (8, 10)):
        assert planned(shape)[1] == "cache"


def test_environment_variables_choose_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert wisdom.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("STEMPHONY_CACHE_DIR")
    assert wisdom.cache_folder() == tmp_path / "xdg" / "stemphony"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wisdom.cache_folder() == tmp_path / ".cache" / "stemphony"


def test_the_cache_knows_cpu_and_fftw(monkeypatch, tmp_path):
    file = wisdom.wisdom_file(tmp_path)
    monkeypatch.setattr(wisdom, "cpu_model", lambda: "another")
    assert wisdom.wisdom_file(tmp_path) != file
    monkeypatch.undo()
    monkeypatch.setattr(wisdom.fft, "library_version", lambda: "FFTW 4")
    assert wisdom.wisdom_file(tmp_path) != file


@pytest.mark.slow
def test_slow_planning_is_repeated_and_the_fastest_plan_is_kept(cache, monkeypatch):
    sought: list[wisdom.fft.Wisdom] = []

    def plan(flag: str) -> StripPlan:
        made = TwoArrayPlan((48, 64), 20, np.complex64, flag)
        if flag == "FFTW_PATIENT":
            sought.append(wisdom.fft.wisdom())
        return made

    def seconds(plans: Sequence[StripPlan]) -> list[float]:
        assert len({id(plan) for plan in plans}) == 3
        return [3.0, 1.0, 2.0]

    monkeypatch.setattr(wisdom, "_seconds", seconds)
    pyfftw.forget_wisdom()
    # By this clock, each plan takes 15 s. The third one is ready after the 40 s that are enough.
    clock = lambda: 15.0 * len(sought)  # noqa: E731
    assert wisdom.prepare_plans(plan, clock=clock, cpu_clock=clock) == ("FFTW_PATIENT", "planned")
    assert len(sought) == 3
    assert sorted(wisdom.fft.wisdom()[1].split()) == sorted(sought[1][1].split())


def test_timing_finds_the_slower_of_two_plans(monkeypatch):
    quick, slow = (TwoArrayPlan((n, n), n // 3, np.complex64, "FFTW_ESTIMATE") for n in (32, 256))
    assert np.argsort(wisdom._seconds([slow, quick, slow])).tolist()[0] == 1


@pytest.mark.parametrize("machine", ["idle", "busy"])
def test_quick_planning_is_not_repeated(cache, machine):
    """On the busy machine each plan takes 15 s by the clock, but 1 s of CPU. Repeating it would take 40 s."""
    calls: list[str] = []

    def plan(flag: str) -> object:
        made = TwoArrayPlan((16, 16), 5, np.complex64, flag)
        calls.append(flag)
        return made

    busy = {"clock": lambda: 15.0 * len(calls), "cpu_clock": lambda: 1.0 * len(calls)}
    pyfftw.forget_wisdom()
    wisdom.prepare_plans(plan, **(busy if machine == "busy" else {}))
    assert calls == ["FFTW_PATIENT"]
