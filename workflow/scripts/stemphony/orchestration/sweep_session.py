"""A planned sweep in the form that the rules of the Snakefile use. Wildcards name the member that answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stemphony import paths, provenance
from stemphony.experiment.sweeps import Sweep
from stemphony.orchestration.session import PLOT_RULE, FigureGroup, Session

if TYPE_CHECKING:
    from stemphony.orchestration.sweep_run import SweepRun


@dataclass(frozen=True)
class SweepSession:
    """All members of a sweep, for the rules and hooks.

    Attributes
    ----------
    files : SweepPaths
        Files that the members share.
    threads : int
        Threads of one job.
    member : callable
        Returns the session of a member by its label.
    sweep : Sweep or None
        The members; None in the process of a job, which knows only its own member.
    run : SweepRun or None
        This invocation of Snakemake; None in the process of a job.
    known : dict
        Sessions of members that were asked for, by label.
    """

    files: paths.SweepPaths
    threads: int
    member: Callable[[str], Session]
    sweep: Sweep | None = None
    run: SweepRun | None = None
    known: dict[str, Session] = field(default_factory=dict)
    is_sweep: ClassVar[bool] = True
    enter: ClassVar[str] = ""

    @property
    def result(self) -> paths.ResultPaths:
        """Paths of any member, with a wildcard in place of its label."""
        return self.files.member(paths.MEMBER)

    @property
    def labels(self) -> list[str]:
        """Labels of all members; empty in the process of a job."""
        return [] if self.sweep is None else [member.label for member in self.sweep.members]

    def of(self, label: str) -> Session:
        """The session of the member with this `label`. It is made at the first call."""
        if label not in self.known:
            self.known[label] = self.member(label)
        return self.known[label]

    @property
    def figure_groups(self) -> list[FigureGroup]:
        """One rule for each set of figures that members share. There is at least one rule, even without figures."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for label in self.labels:
            if figures := self.of(label).campaign.figures:
                groups.setdefault(figures, []).append(label)
        if not groups:
            return [FigureGroup(PLOT_RULE, ("none",))]  # a rule without output cannot have a wildcard
        return [
            FigureGroup(
                PLOT_RULE if number == 1 else f"{PLOT_RULE}_{number}", figures, "|".join(map(re.escape, labels))
            )
            for number, (figures, labels) in enumerate(groups.items(), start=1)
        ]

    def targets(self, checkpoints: Any) -> list[Any]:
        """Targets of a whole run, see `Session.targets` for `checkpoints`. In the process of a job, there are none."""
        if self.sweep is None:
            return []
        return [self.files.combined, self.files.figure, *(
            target for label in self.labels for target in self.of(label).targets(checkpoints)
        )]  # fmt: skip

    @property
    def merged_files(self) -> list[Path]:
        """The merged results of all members: the input of combine_sweep."""
        return [self.files.member(label).merged for label in self.labels]

    @property
    def combine_params(self) -> str:
        """Params of combine_sweep as one JSON text."""
        if self.sweep is None:
            return ""
        return provenance.canonical_json(
            {
                "members": [{"label": member.label, "values": member.values} for member in self.sweep.members],
                "axes": self.sweep.axes,
                "title": self.sweep.title,
            }
        )

    # --- questions of the rules, for one member --------------------------------------------------------------------

    def specimen_params(self, wildcards: Any) -> str:
        """See `Session.specimen_params`; `wildcards` name the member."""
        return self.of(wildcards.member).specimen_params(wildcards)

    def specimen_input(self, ancient: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """See `Session.specimen_input`, also for `ancient`.

        The function that this returns takes the wildcards of a member.
        """

        @cache  # Snakemake calls this for each job
        def of_member(label: str) -> Any:
            return self.of(label).specimen_input(ancient)

        return lambda wildcards: of_member(wildcards.member)

    def job_params(self, wildcards: Any) -> str:
        """See `Session.job_params`; `wildcards` name the member, too."""
        return self.of(wildcards.member).job_params(wildcards)

    def jobs_to_merge(self, wildcards: Any, checkpoints: Any) -> list[Path]:
        """See `Session.jobs_to_merge`, also for `checkpoints`; `wildcards` name the member."""
        return self.of(wildcards.member).jobs_to_merge(wildcards, checkpoints)

    def merge_params(self, wildcards: Any) -> str:
        """See `Session.merge_params`; `wildcards` name the member."""
        return self.of(wildcards.member).merge_params(wildcards)

    def mem_mb(self, wildcards: Any, attempt: int) -> int:
        """See `Session.mem_mb`, also for `attempt`; `wildcards` name the member."""
        return self.of(wildcards.member).mem_mb(wildcards, attempt)

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """See `Session.runtime`, also for `attempt`; `wildcards` name the member."""
        return self.of(wildcards.member).runtime(wildcards, attempt)

    def try_number(self, wildcards: Any, attempt: int) -> int:
        """See `Session.try_number` for `attempt`. It does not depend on `wildcards`."""
        return attempt
