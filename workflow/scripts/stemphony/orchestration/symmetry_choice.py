"""Decide whether a campaign computes only one of several equal scan positions, and say so in the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stemphony.experiment.campaign import Campaign
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_symmetry import AUTO, Shared, hindrance, shared_operations
from stemphony.physics.plane_symmetry import PlaneGroup

if TYPE_CHECKING:
    from stemphony.specimen.specimen import Specimen


@dataclass(frozen=True)
class SymmetryChoice:
    """The symmetry that specimen and experiment share.

    Attributes
    ----------
    wanted : bool
        Whether `scan.symmetry` is auto.
    hindrance : str
        Why symmetry cannot be used; empty if it can.
    shared : Shared
    note : str
        Symmetry that was not searched for; empty if the search was complete.
    """

    wanted: bool
    hindrance: str
    shared: Shared
    note: str = ""

    @classmethod
    def of(cls, planned: Campaign, experiment: Experiment, specimen: Specimen) -> SymmetryChoice:
        """Find the symmetry that `specimen` and `experiment` share. `planned` and `experiment` do not have it yet."""
        from stemphony.results.job_file import slices_at_rest
        from stemphony.specimen.symmetry import slab_operations

        wanted = planned.config["scan"].get("symmetry") == AUTO
        why_not = hindrance(planned.config, planned.files)
        if why_not:
            return cls(wanted, why_not, Shared(None))
        found = slab_operations(
            specimen, slices_at_rest(specimen, experiment), experiment.cell_gpts,
            planned.config["frozen_phonon"]["enabled"],
        )  # fmt: skip
        shared = shared_operations(found.group, experiment)
        return cls(wanted, "", shared, found.note)

    @property
    def used(self) -> PlaneGroup | None:
        """The operations that jobs use; None if they compute every position."""
        return self.shared.group if self.wanted else None

    def rows(self, experiment: Experiment, configurations: int) -> list[tuple[str, str]]:
        """Rows of the plan.

        Parameters
        ----------
        experiment : Experiment
            The experiment of the campaign. Without detectors, there are no rows.
        configurations : int
            Number of thermal configurations; 0 for atoms at rest.

        Returns
        -------
        list of (str, str)
            Label and text of at most one row.
        """
        group = self.shared.group
        if not experiment.detects:
            return []
        if self.hindrance:
            return [("symmetry", f"not used: {self.hindrance}")] if self.wanted else []
        limits = [*([f"left out by {', '.join(self.shared.broken)}"] if self.shared.broken else [])]
        limits += [self.note] if self.note else []
        also = f" ({'; '.join(limits)})" if limits else ""
        if group is None:
            return [("symmetry", f"no two positions of the scan are equal{also}")] if self.wanted else []
        with_symmetry = replace(experiment, symmetry=group)
        few, all_positions = with_symmetry.computed.positions, experiment.positions
        saved = f"{few} of {all_positions} positions, {all_positions / few:.3g} times fewer"
        if not self.wanted:
            return [("symmetry", f"off; scan.symmetry: auto would compute {saved}{also}")]
        text = f"a job computes {saved}; the others are copies, turned where the signal has a direction{also}"
        if configurations:
            text += (
                ". Copies share their statistical error: each position keeps its standard error, and a mean over a "
                "region has as many independent positions as images/orbit has numbers there"
            )
        return [("symmetry", text)]
