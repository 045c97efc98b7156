"""Frozen-phonon multislice STEM, one job per defocus and configuration. `docs/architecture.md` is the map."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

# The shipped config is the demo, not a base that a user's config is merged into.
if not workflow.overwrite_configfiles:

    configfile: str(Path(workflow.basedir) / "config" / "config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/merge.smk"
include: "workflow/rules/accuracy.smk"


if CAMPAIGN.goal is not None:

    include: "workflow/rules/rounds.smk"


localrules:
    all,
    prepare_specimen,
    merge_results,
    plot_results,


rule all:
    default_target: True
    input:
        FILES.merged,
        [FILES.figure(name) for name in CAMPAIGN.figures],
        # Snakemake does not notice a lost job file behind a present result, unless it is a target.
        JOB_FILES if CAMPAIGN.goal is None else lambda wildcards: SESSION.planned_jobs(checkpoints),


onstart:
    SESSION.run.start()


onsuccess:
    SESSION.run.success()


onerror:
    SESSION.run.error()
