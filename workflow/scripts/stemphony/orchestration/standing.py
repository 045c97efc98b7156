"""Compare the job files of a simulation with its plan: they fit, would be replaced, or belong to no pair."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemphony import provenance
from stemphony.contract import REPLACES
from stemphony.counting import number_of
from stemphony.errors import ConfigError
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.mistakes import short
from stemphony.orchestration.dag import Pair
from stemphony.orchestration.outdated import is_merged
from stemphony.paths import ResultPaths
from stemphony.store import ledger

SHOWN_KEYS = 4
"""Largest number of changed keys that a message lists."""


@dataclass(frozen=True)
class Standing:
    """The existing job files, compared with a plan.

    Attributes
    ----------
    result : ResultPaths
        Paths of the simulation.
    configurations : int
        Number of configurations of the plan, without further rounds.
    fitting, replaced, missing : frozenset of (str, int)
        Pairs whose file fits the plan, is of another config, structure file or version, or does not exist.
    leftovers : tuple of Path
        Job files that belong to no pair of the plan.
    changed : tuple of str
        Keys of the config that differ from those of the last plan, with both values.
    has_rounds : bool
        Whether a goal decides the number of configurations. Then any existing file may be needed.
    drops_leftovers : bool
        Whether a stem.nc of another plan exists. The next merge replaces it by a file without the leftovers.
    """

    result: ResultPaths
    configurations: int
    fitting: frozenset[Pair]
    replaced: frozenset[Pair]
    missing: frozenset[Pair]
    leftovers: tuple[Path, ...]
    changed: tuple[str, ...]
    has_rounds: bool = False
    drops_leftovers: bool = False

    @classmethod
    def of(cls, planned: Campaign, result: ResultPaths) -> Standing:
        """Look at all job files of `result` for the campaign `planned`. Only their checksum files are read."""
        # Further rounds of a goal also use existing files beyond the current round.
        files = {result.job(d.id, number): (d.id, number) for d in planned.defoci for number in range(_most(planned))}
        there = _job_files(result)
        wanted = {pair for pair in files.values() if pair[1] < planned.configurations}
        missing = frozenset(pair for file, pair in files.items() if pair in wanted and file not in there)
        leftovers = tuple(sorted(there - files.keys()))
        present = {pair: file for file, pair in files.items() if file in there}
        replaced = frozenset(_of_another_plan(planned, present))
        changed = _changed(planned, ledger.read_plan(result).get("config", {})) if replaced else ()
        fitting = frozenset(present) - replaced
        return cls(
            result, planned.configurations, fitting, replaced, missing, leftovers, changed,
            has_rounds=planned.goal is not None,
            drops_leftovers=bool(leftovers) and result.merged.exists() and not is_merged(planned, result),
        )  # fmt: skip

    @property
    def pairs(self) -> int:
        """Number of pairs of the plan, without further rounds."""
        return sum(number < self.configurations for _, number in (*self.fitting, *self.replaced, *self.missing))

    @property
    def to_do(self) -> frozenset[Pair]:
        """Pairs that must be computed, without further rounds."""
        return frozenset(pair for pair in self.replaced | self.missing if pair[1] < self.configurations)

    def share(self, shares_waves: bool, pairs: Collection[Pair] | None = None) -> float:
        """Share of the whole work (0 to 1) that some pairs take, by default those that must be computed.

        Parameters
        ----------
        shares_waves : bool
            Whether one propagation serves all defoci of a configuration.

        Returns
        -------
        float
            0 to 1.
        """
        chosen = self.to_do if pairs is None else pairs
        if shares_waves:
            return len({configuration for _, configuration in chosen}) / max(1, self.configurations)
        return len(chosen) / max(1, self.pairs)

    def notes(self, cost: str) -> list[str]:
        """Notes for the plan; `cost` is the CPU time of the pairs that would be replaced, in words."""
        notes = [self._replacement(self.replaced, cost)] if self.replaced else []
        if self.leftovers:
            size = sum(file.stat().st_size for file in self.leftovers) / 1e6
            one = len(self.leftovers) == 1
            belong, are, them = ("belongs", "is", "it") if one else ("belong", "are", "them")
            merge = " The next merge replaces stem.nc by one without them." if self.drops_leftovers else ""
            notes.append(
                f"{number_of(len(self.leftovers), 'job file')} of an older plan ({size:.3g} MB) {belong} to no pair of "
                f"this one and {are} left alone; stemphony clean --leftovers {self._root} removes {them}.{merge}"
            )
        return notes

    def require_leave(self, scheduled: Collection[Pair], cost: str) -> None:
        """Refuse a run that would replace finished pairs.

        `cost` is the CPU time of the replaced pairs, in words.

        Raises
        ------
        ConfigError
            A pair that is scheduled has a file of another plan.
        """
        replaced = self.replaced & frozenset(scheduled)
        if scheduled and self.has_rounds:
            replaced = self.replaced  # later rounds are not scheduled yet
        if replaced:
            raise ConfigError("simulation.name", self._replacement(replaced, cost))

    def _replacement(self, replaced: Collection[Pair], cost: str) -> str:
        merged = " and stem.nc" if self.result.merged.exists() else ""
        why = f" ({'; '.join(self.changed)})" if self.changed else ""
        stay = f"{number_of(len(self.fitting), 'pair fits and stays', 'pairs fit and stay')}. " if self.fitting else ""
        return (
            f"{self._root} {REPLACES} another config, structure file or version{why}: {len(replaced)} of {self.pairs} "
            f"pairs would be computed again ({cost}), and their files{merged} replaced. {stay}Nothing is deleted yet. "
            "To keep them, choose another simulation.name; to replace them: --replace (snakemake: --config "
            "replace=true)."
        )

    @property
    def _root(self) -> str:
        return os.path.relpath(self.result.root)


def leftovers_of(planned: Campaign, result: ResultPaths) -> list[Path]:
    """Job files of `result` that belong to no pair of the campaign `planned`."""
    wanted = {result.job(d.id, number) for d in planned.defoci for number in range(_most(planned))}
    return sorted(_job_files(result) - wanted)


def _most(planned: Campaign) -> int:
    """Largest number of configurations that the plan may reach."""
    return planned.configurations if planned.goal is None else max(planned.goal.most, planned.configurations)


def _job_files(result: ResultPaths) -> set[Path]:
    return set(result.root.glob("jobs/defocus_*/configuration_*.nc"))


def _of_another_plan(planned: Campaign, present: Mapping[Pair, Path]) -> list[Pair]:
    """Pairs whose checksum file names other params than the plan. A file without a checksum file is not judged."""
    if not present:
        return []
    from stemphony.results.job_file import read_checksum

    found = []
    for pair, file in present.items():
        kept = read_checksum(file)
        if kept is not None and kept.job_digest not in ("", provenance.digest(planned.job_params(*pair))):
            found.append(pair)
    return found


def _changed(planned: Campaign, before: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys that decide the numbers of a job and differ from an earlier config, with both values."""
    if not before:
        return ()
    texts = []
    for block, now in (*planned.common_params.items(), ("specimen", planned.config["specimen"])):
        if not isinstance(now, Mapping):
            continue
        earlier = before.get(block, {})
        for key, value in planned.config[block].items():
            if key in now and key in earlier and earlier[key] != value:
                texts.append(f"{block}.{key}: {short(earlier[key])} → {short(value)}")
    more = [number_of(len(texts) - SHOWN_KEYS, "more key")] if len(texts) > SHOWN_KEYS else []
    return (*texts[:SHOWN_KEYS], *more)
