"""A planned campaign in the form that the rules of the Snakefile use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from stemphony import paths, provenance
from stemphony.accuracy import refinements
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.stopping import Goal
from stemphony.orchestration import dag, extension, hooks, outdated

SNAKEMAKE_MB = 300
"""Memory for the two Snakemake processes of a job on a cluster [MB]."""
PLOT_RULE = "plot_results"


@dataclass(frozen=True)
class FigureGroup:
    """A rule that makes the same figures for each of its simulations.

    Attributes
    ----------
    rule : str
        Name of the rule.
    figures : tuple of str
        Names of the figures.
    members : str
        Regular expression for the labels of its members. Without a sweep, it matches any label.
    """

    rule: str
    figures: tuple[str, ...]
    members: str = ".+"


@dataclass(frozen=True)
class Session:
    """A planned campaign for the rules and hooks.

    The Snakefile calls the methods with the `wildcards` of a job, with its object `checkpoints`, and with `attempt`:
    the number of Snakemake's try at a job, from 1.

    Attributes
    ----------
    planned, result : Campaign, ResultPaths
        The campaign as it was planned, and the paths of its files.
    base_mem_mb, base_runtime_min : int
        Memory [MB] and time [min] of one job at its first try.
    run : Run or None
        This invocation of Snakemake; None in the process of a job, and in a module.
    enter : str
        Shell code that sets the environment of a job; empty, except in a module.
    require : callable or None
        Only in a module: called before Snakemake decides which jobs run. It may raise.
    """

    planned: Campaign
    result: paths.ResultPaths
    base_mem_mb: int
    base_runtime_min: int
    run: hooks.Run | None
    enter: str = ""
    require: Callable[[], None] | None = None
    is_sweep: ClassVar[bool] = False

    @property
    def campaign(self) -> Campaign:
        """The campaign, with the configurations of the current round."""
        return self.planned if self.run is None else self.run.campaign

    @property
    def figure_groups(self) -> list[FigureGroup]:
        """The one rule that makes the figures."""
        return [FigureGroup(PLOT_RULE, self.campaign.figures)]

    def targets(self, checkpoints: Any) -> list[Any]:
        """Targets of a whole run: files, and functions of wildcards that return files.

        `checkpoints` is the object of this name in the Snakefile, which the functions need for further rounds.
        """
        # If stem.nc exists, Snakemake notices a lost job file only if this file is a target.
        jobs = self.job_files if self.campaign.goal is None else lambda wildcards: self.planned_jobs(checkpoints)
        return [self.result.merged, *(self.result.figure(name) for name in self.campaign.figures), jobs]

    def specimen_params(self, wildcards: Any) -> str:
        """Params of prepare_specimen as one JSON text. They do not depend on `wildcards`."""
        return provenance.canonical_json(self.campaign.specimen_params)

    def specimen_input(self, ancient: Callable[[Any], Any]) -> Any:
        """The input specimen.nc of jobs, marked with Snakemake's `ancient` unless it will be made again."""
        return self.result.specimen if self.specimen_is_outdated else ancient(self.result.specimen)

    def job_params(self, wildcards: Any) -> str:
        """Params of the job with the defocus id and the configuration of `wildcards` as one JSON text."""
        return provenance.canonical_json(self.campaign.job_params(wildcards.defocus, int(wildcards.configuration)))

    @property
    def job_files(self) -> list[Path]:
        """Result files of all jobs."""
        campaign = self.campaign
        return [self.result.job(d.id, index) for d in campaign.defoci for index in range(campaign.configurations)]

    def jobs_to_merge(self, wildcards: Any, checkpoints: Any) -> list[Path]:
        """Result files of all jobs: the input of the merge. Snakemake calls this before it decides which jobs run.

        The files do not depend on `wildcards`. In a module, the check of the simulation may raise.

        Parameters
        ----------
        checkpoints : snakemake.checkpoints.Checkpoints
            The object `checkpoints` of the Snakefile.

        Returns
        -------
        list of Path
            One file for each planned pair.
        """
        if self.require is not None:
            self.require()
        if self.run is not None:
            self.run.force_outdated()
        return self.planned_jobs(checkpoints)

    def planned_jobs(self, checkpoints: Any) -> list[Path]:
        """Result files of all jobs. With a goal, this call extends the campaign by each further round.

        `checkpoints` is the object of this name in the Snakefile; see `extension.total_of` for the errors.
        """
        if self.campaign.goal is not None and self.run is not None:
            self.run.extend(extension.last_total(self.campaign.goal, self.result, checkpoints))
        return self.job_files

    def jobs_of_round(self, wildcards: Any, checkpoints: Any) -> list[Path]:
        """Result files that the round of `wildcards` judges: the input of judge_round.

        `checkpoints` is the object of this name in the Snakefile; see `extension.total_of` for the errors.
        """
        total = extension.total_of(int(wildcards.round), self._goal, self.result, checkpoints)
        if self.run is not None:
            self.run.extend(total)
        return [self.result.job(d.id, index) for d in self.campaign.defoci for index in range(total)]

    def judge_params(self, wildcards: Any) -> str:
        """Params of judge_round, for the round of `wildcards`, as one JSON text."""
        number = int(wildcards.round)
        total = extension.total_of(number, self._goal, self.result)
        return provenance.canonical_json({"merge": self.campaign.extended(total).merge_params, "round": number})

    @property
    def _goal(self) -> Goal:
        assert self.campaign.goal is not None  # the rule judge_round exists only with a goal
        return self.campaign.goal

    def merge_params(self, wildcards: Any) -> str:
        """Params of merge_results as one JSON text. They do not depend on `wildcards`."""
        return provenance.canonical_json(self.campaign.merge_params)

    @property
    def accuracy_params(self) -> str:
        """Params of prepare_accuracy as one JSON text."""
        return provenance.canonical_json(refinements.params_of(self.campaign))

    def variant_params(self, wildcards: Any) -> str:
        """Params of run_variant, for the variant of `wildcards`, as one JSON text."""
        return provenance.canonical_json({"variant": wildcards.variant, **refinements.params_of(self.campaign)})

    @property
    def budget_params(self) -> str:
        """Params of merge_accuracy as one JSON text."""
        config, params = self.campaign.config, refinements.params_of(self.campaign)
        return provenance.canonical_json(
            {
                "common": params["common"],
                "defocus_nm": params["defocus_nm"],
                "title": config["simulation"]["title"],
                "without": refinements.not_applicable(config),
            }
        )

    @property
    def variant_files(self) -> list[Path]:
        """Files of all variants of the error budget."""
        return [self.result.variant(name) for name in refinements.variants(self.campaign.config)]

    def variant_mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory of one variant on a cluster [MB], times `attempt`. It does not depend on `wildcards`.

        The finest grid has (9/4)² ≈ 5 times as many points as the config's. Four times the memory of a job is enough,
        because a part of it does not grow with the grid.
        """
        return (4 * self.base_mem_mb + SNAKEMAKE_MB) * attempt

    def variant_runtime(self, wildcards: Any, attempt: int) -> int:
        """Time limit of one variant [min], times `attempt`. It does not depend on `wildcards`.

        A variant is a scan of a few positions, at most on the finest grid.
        """
        return 4 * self.base_runtime_min * attempt

    @property
    def specimen_is_outdated(self) -> bool:
        """Whether Snakemake will make specimen.nc again: it is of another specimen, or a killed run was making it."""
        if not self.result.specimen.exists():
            return False
        # A damaged file that could not be made again does not count as outdated. Otherwise it would be an ordinary
        # input, newer than the job files, and Snakemake would delete all of these. The first job that reads the file
        # says that it is damaged.
        return dag.is_incomplete(self.result.specimen) or outdated.is_of_another_specimen(self.campaign, self.result)

    @property
    def threads(self) -> int:
        """Threads of one job."""
        return int(self.campaign.config["resources"]["threads"])

    def mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory of one job on a cluster [MB], times `attempt`. It does not depend on `wildcards`.

        The second try gets twice as much, the third three times.
        """
        return (self.base_mem_mb + SNAKEMAKE_MB) * attempt

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """Time limit of one job [min], times `attempt`. It does not depend on `wildcards`.

        The second try gets twice as much, the third three times.
        """
        return self.base_runtime_min * attempt

    def try_number(self, wildcards: Any, attempt: int) -> int:
        """Number `attempt` of this try of a job, from 1, for all `wildcards`.

        It counts Snakemake's tries in this run.
        """
        return attempt
