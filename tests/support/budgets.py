"""Error budgets without Snakemake: the functions of the rules' scripts, called one after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import prepare_accuracy
import pytest
from stemphony.accuracy import refinements
from stemphony.accuracy.budget import Budget, budget_of
from stemphony.accuracy.positions import RULE
from stemphony.accuracy.variant import run_variant
from stemphony.errors import ConfigError, SpecimenError
from stemphony.experiment import campaign, configuration
from stemphony.specimen.structures import content_sha256

ROOT = Path(__file__).parents[2]
SRTIO3 = ROOT / "config/srtio3.cif"
SRTIO3_U = {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275}


def params_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Params of the rules of a config's error budget, and the validated config."""
    complete = configuration.validate(dict(config))
    files = campaign.InputFiles(content_sha256(Path(complete["specimen"]["file"])))
    return {**refinements.params_of(campaign.plan(complete, files)), "config": complete}


def prepare(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the files of prepare_accuracy in a folder, and return the params."""
    params = params_of(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMPHONY_SPECIMEN_FILE", str(config["specimen"]["file"]))
        prepare_accuracy.prepare_accuracy(params, folder / "specimen.nc", folder / "larger.nc")
    return params


def variant(params: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """Record of one variant, or its reason."""
    try:
        return run_variant({**params, "variant": name}, folder / "specimen.nc", folder / "larger.nc", 1)
    except (ConfigError, SpecimenError) as error:
        return {"variant": name, "reason": str(error)}


def budget(config: Mapping[str, Any], folder: Path, terms: Collection[str] = ()) -> Budget:
    """Error budget of a config; with `terms`, of these alone."""
    params = prepare(config, folder)
    without = dict(refinements.not_applicable(params["config"]))
    if terms:
        without |= {term.name: "not asked" for term in refinements.TERMS if term.name not in terms}
    names = [name for term in refinements.TERMS if term.name not in without for name in term.variants]
    records = {name: variant(params, name, folder) for name in (refinements.REFERENCE, *names)}
    origin = {"defocus_nm": params["defocus_nm"], "seed": 1, "positions": RULE}
    return budget_of(records, without, "digest", origin)
