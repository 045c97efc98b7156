"""Effects of a changed config on the existing job files."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony.cli import main
from stemphony.errors import ConfigError
from stemphony.experiment.campaign import Campaign
from stemphony.orchestration.standing import Standing
from stemphony.store import ledger
from support.experiments import FakeCampaign, planned

DEFOCI = {"defoci_nm": [0.0, 5.0]}


@pytest.fixture
def made(tmp_path: Path) -> FakeCampaign:
    """A finished simulation of 2 defoci × 2 configurations, and its plan."""
    made = FakeCampaign.of(tmp_path / "results", probe=DEFOCI, frozen_phonon={"configurations": 2})
    made.write_all(coordinates=False)
    made.merge()
    ledger.identity(made.result, 1)
    ledger.claim_run(made.result)
    write_plan(made, made.campaign)
    return made


def write_plan(made: FakeCampaign, of: Campaign) -> None:
    plan = {"config": dict(of.config), "files": vars(of.files), "num_configurations": of.configurations}
    ledger.write_plan(made.result, plan, 1)


def standing(made: FakeCampaign, **blocks) -> Standing:
    base = {"probe": {**DEFOCI, **blocks.pop("probe", {})},
            "frozen_phonon": {"configurations": 2, **blocks.pop("frozen_phonon", {})}}  # fmt: skip
    return Standing.of(planned(**base, **blocks), made.result)


def test_a_plan_that_is_done_has_nothing_to_do(made: FakeCampaign):
    same = standing(made)
    assert (len(same.fitting), same.to_do, same.leftovers, same.notes("")) == (4, frozenset(), (), [])
    assert same.share(shares_waves=False) == 0.0
    same.require_leave(same.fitting, "")


def test_more_configurations_cost_only_themselves(made: FakeCampaign):
    more = standing(made, frozen_phonon={"configurations": 5})
    assert (len(more.fitting), len(more.missing), len(more.replaced)) == (4, 6, 0)
    assert more.share(shares_waves=False) == pytest.approx(0.6)
    assert more.share(shares_waves=True) == pytest.approx(0.6)
    more.require_leave(more.missing, "")


def test_one_missing_defocus_of_shared_waves_costs_the_whole_configuration(made: FakeCampaign):
    made.result.job("p5d000", 1).unlink()
    lost = standing(made)
    assert lost.missing == {("p5d000", 1)}
    assert lost.share(shares_waves=False) == 0.25
    assert lost.share(shares_waves=True) == 0.5


def test_other_optics_replace_finished_pairs_only_with_permission(made: FakeCampaign):
    other = standing(made, probe={"semiangle_mrad": 19.0})
    assert (len(other.replaced), len(other.fitting)) == (4, 0)
    with pytest.raises(ConfigError) as caught:
        other.require_leave(other.replaced, "about 3 h of CPU")
    for part in (
        "probe.semiangle_mrad: 20.0 → 19.0", "4 of 4 pairs would be computed again (about 3 h of CPU)",
        "and their files and stem.nc replaced", "choose another simulation.name", "--replace",
        "snakemake: --config replace=true",
    ):  # fmt: skip
        assert part in str(caught.value)
    assert other.notes("about 3 h of CPU")[0] in str(caught.value)
    # Only jobs that this run would start count.
    other.require_leave((), "")
    with pytest.raises(ConfigError, match="1 of 4 pairs would be computed again"):
        other.require_leave([("p0d000", 0)], "")


def test_a_changed_merge_replaces_no_pair(made: FakeCampaign):
    assert not standing(made, probe={"source_fwhm_nm": 0.1, "defocus_weights": [1.0, 3.0]}).to_do


def test_a_file_without_a_checksum_is_not_judged(made: FakeCampaign):
    for file in made.result.root.glob("jobs/*/*.sha256"):
        file.unlink()
    assert not standing(made, probe={"semiangle_mrad": 19.0}).replaced


def test_a_goal_counts_files_of_further_rounds(made: FakeCampaign):
    goal = {"until": 0.01, "detectors": ["haadf"], "min": 4, "max": 6}
    made.write("p0d000", 5, coordinates=False)  # of a later round
    assert [file.name for file in standing(made).leftovers] == ["configuration_0005.nc"]
    now = Standing.of(planned(probe=DEFOCI, frozen_phonon={"configurations": goal}), made.result)
    assert now.leftovers == ()
    assert (now.pairs, len(now.to_do), len(now.fitting)) == (8, 4, 5)
    other = {"probe": {**DEFOCI, "semiangle_mrad": 19.0}, "frozen_phonon": {"configurations": goal}}
    with pytest.raises(ConfigError, match="5 of 8 pairs"):
        Standing.of(planned(**other), made.result).require_leave([("p0d000", 3)], "")


def test_leftovers_of_an_older_plan_are_named_and_removed_only_if_asked(made: FakeCampaign, capsys):
    fewer = {"probe": {"defoci_nm": [0.0]}, "frozen_phonon": {"configurations": 2}}
    left = Standing.of(planned(**fewer), made.result)
    gone = [made.result.job("p5d000", number) for number in (0, 1)]
    assert list(left.leftovers) == gone
    (note,) = left.notes("")
    assert "2 job files of an older plan" in note
    assert "stemphony clean --leftovers " in note
    assert note.endswith("The next merge replaces stem.nc by one without them.")
    write_plan(made, planned(**fewer))
    root = str(made.result.root)
    assert main(["clean", root]) == 0
    said = capsys.readouterr().out
    assert [file for file in gone if str(file) not in said] == []
    assert [file for file in gone if not file.exists()] == []
    assert main(["clean", "--leftovers", root]) == 0
    assert "removed 2 job files of an older plan" in capsys.readouterr().out
    assert not gone[0].parent.exists()
    assert {path.name for path in made.result.root.glob("jobs/*/*")} == {
        f"configuration_000{number}.nc{end}" for number in (0, 1) for end in ("", ".sha256")
    }
    assert made.result.merged.exists()
