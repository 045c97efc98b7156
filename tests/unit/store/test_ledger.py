"""Identity, runs and attempts: the first process makes each of them, and only once."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from pathlib import Path

import pytest
from stemphony import ordinary_files
from stemphony.errors import DamagedResultError, StorageError
from stemphony.paths import ResultPaths
from stemphony.store import ledger
from support.experiments import race

PROCESSES = 8


@pytest.fixture
def result(tmp_path):
    return ResultPaths(tmp_path / "results" / "a")


def racing(result: ResultPaths, expression: str) -> list[str]:
    """Let several processes evaluate an expression at the same moment, and return what they print."""
    imports = (
        "from stemphony.store import ledger\nfrom stemphony.paths import ResultPaths\n"
        f"result = ResultPaths(pathlib.Path({str(result.root)!r}))"
    )
    return race(imports, f"print({expression})", PROCESSES, result.root.parents[1])


# --- identity -----------------------------------------------------------------------------------------------------


def test_the_margin_of_the_first_run_is_kept(tmp_path):
    result = ResultPaths(tmp_path / "new")
    assert ledger.identity(result, 5, margin_nm=0.25).margin_nm == 0.25
    assert ledger.identity(result, 5, margin_nm=0.5).margin_nm == 0.25
    assert ledger.identity(ResultPaths(tmp_path / "old"), 5).margin_nm is None


@pytest.mark.slow
def test_racing_processes_make_one_identity(result):
    seen = racing(result, "[(i.id, i.seed, i.created) for i in [ledger.identity(result, 0)]]")
    assert len(seen) == PROCESSES
    assert len(set(seen)) == 1
    assert [file.name for file in result.root.iterdir()] == ["simulation.json"]


@pytest.mark.slow
@pytest.mark.parametrize("instance", [{}, {"instance": "ab", "originals": ["c"], "copied_from": "c"}])
def test_an_identity_that_is_lost_during_a_run_is_restored_from_its_plan(result, instance):
    """simulation.json is deleted while jobs run. Their events and seeds must stay those of one simulation."""
    ledger.identity(result, 0, margin_nm=0.25)
    result.identity.write_text(json.dumps({**json.loads(result.identity.read_text()), **instance}))
    first = ledger.identity(result, 0)
    run = ledger.claim_run(result)
    ledger.write_plan(result, ledger.noted_identity(result), run)
    for _ in range(2):
        result.identity.unlink()
        ledger.write_plan(result, ledger.noted_identity(result), run)  # as at the next round
        assert ledger.identity(result, 0, plan=ledger.read_plan(result, run)) == first
    result.identity.unlink()
    seen = racing(result, "[(i.id, i.seed) for i in [ledger.identity(result, 0, plan=ledger.read_plan(result))]]")
    assert set(seen) == {repr([(first.id, first.seed)])}


@pytest.mark.parametrize("kept", [None, [], {}, {"id": "x", "seed": 1}, {"id": str(uuid.uuid4()), "seed": []}, "x"])
def test_any_content_of_a_plan_is_safe_as_an_identity(result, kept):
    plan = {ledger.IDENTITY_KEY: kept}
    assert ledger.planned_identity(plan) is None
    assert ledger.identity(result, 5, plan=plan).seed == 5


def test_an_identity_never_changes(result):
    first = ledger.identity(result, 5)
    content = result.identity.read_bytes()
    assert ledger.identity(result, 6) == first
    assert result.identity.read_bytes() == content
    assert uuid.UUID(first.id).version == 4
    assert datetime.fromisoformat(first.created).tzinfo is not None
    assert json.loads(content)["seed"] == 5


def test_seed_zero_is_drawn_once_and_kept(result, tmp_path):
    drawn = ledger.identity(result, 0)
    assert drawn.seed > 0
    assert drawn.seed == float(drawn.seed)  # every JSON reader has it exactly
    assert ledger.identity(result, 0).seed == drawn.seed
    assert drawn.effective_seed(0) == drawn.seed
    others = {ledger.identity(ResultPaths(tmp_path / str(i)), 0).seed for i in range(5)}
    assert len(others | {drawn.seed}) == 6


def test_a_seed_of_the_config_wins_over_the_kept_one(result):
    assert ledger.identity(result, 5).effective_seed(7) == 7


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"id": "x", "seed": 1, "created": ""}', '{"id": "", "seed": "?"}', "\xff\x00"],
)
def test_a_damaged_identity_is_reported_and_not_replaced(result, content):
    result.root.mkdir(parents=True)
    result.identity.write_text(content, encoding="latin-1")
    with pytest.raises(DamagedResultError) as caught:
        ledger.identity(result, 1)
    for part in (str(result.identity), "is damaged", "id and seed", "another name"):
        assert part in str(caught.value)
    assert result.identity.read_text(encoding="latin-1") == content


def test_an_unreadable_identity_is_not_reported_as_damaged(result, monkeypatch):
    ledger.identity(result, 1)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ordinary_files, "read_text", refuse)
    with pytest.raises(StorageError, match=r"simulation\.json may not be read by this user\. Ask its owner"):
        ledger.identity(result, 1)


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StorageError, match="results"):
        ledger.identity(ResultPaths(tmp_path / "results" / "a"), 1)


# --- runs and attempts ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_racing_runs_have_different_numbers(result):
    result.root.mkdir(parents=True)
    assert sorted(map(int, racing(result, "ledger.claim_run(result)"))) == list(range(1, PROCESSES + 1))
    assert ledger.latest_run(result) == PROCESSES


@pytest.mark.slow
def test_racing_attempts_have_different_numbers(result):
    result.root.mkdir(parents=True)
    numbers = racing(result, "ledger.claim_attempt(result, 'p0d000', 3)")
    assert sorted(map(int, numbers)) == list(range(1, PROCESSES + 1))


def test_runs_and_attempts_go_on_counting(result):
    assert ledger.latest_run(result) == 0
    assert [ledger.claim_run(result) for _ in range(11)] == list(range(1, 12))
    (result.reports / "run-x").mkdir()
    assert ledger.latest_run(result) == 11
    assert [ledger.claim_attempt(result, "p0d000", 3) for _ in range(11)] == list(range(1, 12))
    assert ledger.claim_attempt(result, "p0d000", 13) == 1
    assert ledger.claim_attempt(result, "p1d000", 3) == 1
    result.attempt("p0d000", 3, 11).unlink()
    assert ledger.claim_attempt(result, "p0d000", 3) == 11


def test_a_run_that_is_missing_in_the_folder_is_not_begun_again(result):
    assert ledger.claim_run(result, known=4) == 5
    assert ledger.claim_run(result, known=4) == 6


def test_a_new_run_has_a_folder_for_its_reports(result):
    number = ledger.claim_run(result)
    assert {entry.name for entry in result.run(number).iterdir()} == {"progress", "events"}


# --- the plan -----------------------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written(result):
    result.root.mkdir(parents=True)
    plan = {"title": "Å", "num_defoci": 3, "budget_mb": 4000.0}
    ledger.write_plan(result, plan)
    assert ledger.read_plan(result) == plan
    ledger.write_plan(result, {"title": "b"})
    assert ledger.read_plan(result) == {"title": "b"}
    assert [entry.name for entry in result.root.iterdir()] == ["plan.json"]


def test_each_run_has_its_own_plan_and_the_last_one_is_the_default(result):
    first, second = ledger.claim_run(result), ledger.claim_run(result)
    ledger.write_plan(result, {"title": "first"}, first)
    ledger.write_plan(result, {"title": "second"}, second)
    assert ledger.read_plan(result, first) == {"title": "first"}
    assert ledger.read_plan(result, second) == ledger.read_plan(result) == {"title": "second"}
    result.plan_of(first).write_text("{")
    assert ledger.read_plan(result, first) == {"title": "second"}


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "null"])
def test_a_missing_or_damaged_plan_is_read_as_empty(result, content):
    result.root.mkdir(parents=True)
    if content is not None:
        Path(result.plan).write_text(content)
    assert ledger.read_plan(result) == {}


def test_a_lost_identity_comes_back_with_the_id_and_the_drawn_seed_of_the_job_files(tmp_path):
    result = ResultPaths.of("tiny", tmp_path)
    known = "6f0f9a3e-0b1c-4a57-9a47-0d0c5a1f2b3c"
    identity = ledger.identity(result, 0, (known, 4711))
    assert (identity.id, identity.effective_seed(0)) == (known, 4711)
    # Once it is there, it is never changed.
    assert ledger.identity(result, 0, ("00000000-0000-0000-0000-000000000000", 1)) == identity


def test_the_plan_of_another_run_does_not_replace_a_missing_one(tmp_path):
    """On a full disk under the reports, the default plan is used if it belongs to this run."""
    result = ResultPaths(tmp_path / "x")
    result.run(1).mkdir(parents=True)
    ledger.write_plan(result, {"run": 1, "of": "first"}, 1)
    result.plan_of(1).unlink()
    assert ledger.read_plan(result, 1)["of"] == "first"
    ledger.write_plan(result, {"run": 2, "of": "second"}, 2)
    assert ledger.read_plan(result, 1) == {}
    assert ledger.read_plan(result)["of"] == "second"


def test_a_plan_is_read_back_or_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ledger.read_plan(ResultPaths.of("a")) == {}
    Path("results/a").mkdir(parents=True)
    for content, expected in (('{"run": 1}', {"run": 1}), ("{", {}), ("[]", {})):
        Path("results/a/plan.json").write_text(content)
        assert ledger.read_plan(ResultPaths.of("a")) == expected
